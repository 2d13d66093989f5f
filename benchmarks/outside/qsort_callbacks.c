/* expect 42
-77 -3 0 5 8 42 99 
99 42 8 5 0 -3 -77 
1
[][apple][fig][figs][pear] Dee Bob Cid Ann
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct person { char name[12]; short age; double score; };
static int order = 1;

static int by_int(const void *a, const void *b) { int x = *(const int *)a, y = *(const int *)b; return order * ((x > y) - (x < y)); }
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int by_age(const void *a, const void *b)
{
    const struct person *p = a, *q = b;
    return p->age != q->age ? p->age - q->age : p->score < q->score ? 1 : -1;
}

int main(void)
{
    int v[] = { 5, -3, 99, 0, 42, -77, 8 };
    const char *words[] = { "pear", "fig", "apple", "figs", "" };
    struct person all[] = { { "Ann", 31, 1.5 }, { "Bob", 25, 9 }, { "Cid", 31, 2.5 }, { "Dee", 19, 0 } };
    for (order = 1; order >= -1; order -= 2) {
        qsort(v, 7, sizeof *v, by_int);
        for (int i = 0; i < 7; i++) printf("%d ", v[i]);
        puts("");
    }
    order = -1;
    int key = 42, *hit = bsearch(&key, v, 7, sizeof *v, by_int);
    printf("%d\n", (int)(hit - v));
    qsort(words, sizeof words / sizeof *words, sizeof *words, by_text);
    for (int i = 0; i < 5; i++) printf("[%s]", words[i]);
    qsort(all, 4, sizeof all[0], by_age);
    for (struct person *p = all; p < all + 4; p++) printf(" %s", p->name);
    puts("");
    return hit ? *hit : 1;
}
