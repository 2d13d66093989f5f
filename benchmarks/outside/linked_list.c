/* expect 5
25->16->9->4->1->0
0->1->4->5->8->9
0->0->1->1->4->4->5->8->9->9->16->25
1->1->5->9->9->25
*/
#include <stdio.h>
#include <stdlib.h>

struct list { struct list *next; int value; };

static struct list *push(struct list *l, int v) { struct list *n = malloc(sizeof *n); *n = (struct list){ l, v }; return n; }
static struct list *reverse(struct list *l) { struct list *r = NULL; while (l) { struct list *n = l->next; l->next = r; r = l; l = n; } return r; }
static void insert(struct list **at, int v) { while (*at && (*at)->value < v) at = &(*at)->next; *at = push(*at, v); }
static void drop(struct list **at, int (*bad)(int))
{
    while (*at)
        if (bad((*at)->value)) { struct list *gone = *at; *at = gone->next; free(gone); }
        else at = &(*at)->next;
}
static struct list *merge(struct list *a, struct list *b)
{
    struct list head, *tail = &head;
    while (a && b) { struct list **least = a->value <= b->value ? &a : &b; tail = tail->next = *least; *least = (*least)->next; }
    tail->next = a ? a : b;
    return head.next;
}
static int even(int x) { return x % 2 == 0; }
static int all(int x) { return x | 1; }
static void show(const struct list *l) { for (; l; l = l->next) printf("%d%s", l->value, l->next ? "->" : "\n"); }

int main(void)
{
    struct list *a = NULL, *b = NULL;
    for (int i = 0; i < 6; i++) { a = push(a, i * i); insert(&b, i * 37 % 11); }
    show(a);
    show(b);
    a = merge(reverse(a), b);
    show(a);
    drop(&a, even);
    show(a);
    int last = a->next->next->value;
    drop(&a, all);
    return a ? 1 : last;
}
