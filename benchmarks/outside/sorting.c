/* expect 16
16 607 1023 1232277806
0
*/
#include <stdio.h>
#include <string.h>

typedef unsigned short item;
static unsigned seed = 12345;
static item next(void) { seed = seed * 1103515245u + 12345u; return seed >> 16 & 0x3ff; }

static void quick(item *a, int lo, int hi)
{
    if (lo >= hi) return;
    item pivot = a[(lo + hi) / 2];
    int i = lo, j = hi;
    do {
        while (a[i] < pivot) i++;
        while (pivot < a[j]) j--;
        if (i <= j) { item t = a[i]; a[i++] = a[j]; a[j--] = t; }
    } while (i <= j);
    quick(a, lo, j);
    quick(a, i, hi);
}

static void heap(item a[], int n)
{
    for (int end = n, start = n / 2; end > 1; ) {
        if (start) start--; else { end--; item t = a[0]; a[0] = a[end]; a[end] = t; }
        for (int root = start, child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && a[child] < a[child + 1]) child++;
            if (a[root] >= a[child]) break;
            a[root] ^= a[child]; a[child] ^= a[root]; a[root] ^= a[child];
        }
    }
}

int main(void)
{
    item a[100], b[100];
    for (int i = 0; i < 100; i++) a[i] = b[i] = next();
    quick(a, 0, 99);
    heap(b, 100);
    unsigned check = 0;
    for (int i = 0; i < 100; i++) check = check * 31 + a[i];
    printf("%d %d %d %u\n", a[0], a[50], a[99], check);
    printf("%d\n", memcmp(a, b, sizeof a));
    return a[1] & 255;
}
