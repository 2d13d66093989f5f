/* expect 19
31 15
321
9 1
ok y
07 17 48
*/
#include <stdio.h>

struct node { int value; const struct node *next; };
struct span { const int *at; int count; };

static const struct node *fixed = &(struct node){ 1, &(struct node){ 2, &(struct node){ 3, 0 } } };
static int *global = (int[]){ 4, 5, [4] = 6 };

static int total(struct span s) { int sum = 0; for (int i = 0; i < s.count; i++) sum += s.at[i]; return sum; }
static int length(const struct node *n) { return n ? n->value + 10 * length(n->next) : 0; }

int main(void)
{
    int base = 5;
    int *p = (int[]){ base, base * 2, base * 3 };
    p[1]++;
    printf("%d %d\n", total((struct span){ p, 3 }), total((struct span){ .at = global, .count = 5 }));
    printf("%d\n", length(fixed));
    struct node copy = (struct node){ .value = (int){ 8 } };
    struct node *q = &copy;
    *q = (struct node){ q->value + 1, q };
    printf("%d %d\n", copy.value, copy.next == &copy);
    printf("%s %c\n", (char[]){ 'o', 'k', 0 }, "xyz"[(int){ 1 }]);
    for (int i = 0; i < 2; i++) {
        int *fresh = (int[2]){ i };
        fresh[1] += 7;
        printf("%d%d ", fresh[0], fresh[1]);
    }
    printf("%zu\n", sizeof(struct node[3]){ { 0 } });
    return ((struct span){ 0, 19 }).count;
}
