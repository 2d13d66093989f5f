/* expect 69
669 0 4999 34 4330
*/
#include <stdio.h>
#include <string.h>

enum { LIMIT = 5000 };
static unsigned bits[LIMIT / 32 + 1];
#define MARK(n) (bits[(n) >> 5] |= 1u << ((n) & 31))
#define MARKED(n) (bits[(n) / 32] >> (n) % 32 & 1)

static int popcount(unsigned x) { int n = 0; for (; x; x &= x - 1) n++; return n; }

int main(void)
{
    _Bool plain[LIMIT + 1];
    memset(plain, 1, sizeof plain);
    for (int n = 2; n * n <= LIMIT; n++) {
        if (!MARKED(n))
            for (int m = n * n; m <= LIMIT; m += n) MARK(m);
        if (plain[n])
            for (int m = n + n; m <= LIMIT; m += n) plain[m] = 0;
    }
    int count = 0, differ = 0, last = 0, gap = 0;
    for (int n = 2; n <= LIMIT; n++) {
        differ += plain[n] == MARKED(n);
        if (MARKED(n)) continue;
        count++;
        if (last && n - last > gap) gap = n - last;
        last = n;
    }
    int set = 0;
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) set += popcount(bits[i]);
    printf("%d %d %d %d %d\n", count, differ, last, gap, set);
    return count % 100;
}
