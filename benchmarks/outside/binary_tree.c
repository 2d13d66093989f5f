/* expect 16
   4   6   7   9  14  16  21  22  23  25  26  29  30  32  35  36  38  40  46  49
16236 8 20
*/
#include <stdio.h>
#include <stdlib.h>

struct tree { int key; struct tree *kid[2]; };
static struct tree pool[64];
static int used;

static struct tree *insert(struct tree *t, int key)
{
    if (!t) { t = &pool[used++]; t->key = key; return t; }
    if (key != t->key) t->kid[key > t->key] = insert(t->kid[key > t->key], key);
    return t;
}

static int height(const struct tree *t)
{
    if (!t) return 0;
    int l = height(t->kid[0]), r = height(t->kid[1]);
    return 1 + (l > r ? l : r);
}

static void walk(const struct tree *t, void (*visit)(int, void *), void *with)
{
    for (; t; t = t->kid[1]) {
        walk(t->kid[0], visit, with);
        visit(t->key, with);
    }
}

static void show(int key, void *with) { printf("%*d", *(int *)with, key); }
static void add(int key, void *with) { *(long *)with += key * key; }

int main(void)
{
    struct tree *root = NULL;
    int width = 4;
    long sum = 0;
    for (int i = 0, v = 7; i < 20; i++, v = (v * 31 + 11) % 53)
        root = insert(root, v);
    walk(root, show, &width);
    walk(root, add, &sum);
    printf("\n%ld %d %d\n", sum, height(root), used);
    return root->kid[1]->key;
}
