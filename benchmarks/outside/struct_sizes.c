/* expect 0
1: 3 0
3: 28 11
8: 458 196
12: 1510 638
16: 3538 1480
17: 4235 1768
40: 54122 22100
*/
#include <stdio.h>

#define SIZES(X) X(1) X(3) X(8) X(12) X(16) X(17) X(40)
#define MAKE(n) \
    struct s##n { unsigned char at[n]; }; \
    static struct s##n fill##n(int from) { struct s##n s; for (int i = 0; i < n; i++) s.at[i] = from + i; return s; } \
    static int sum##n(int before, struct s##n s, int after) \
    { int sum = before - after; for (int i = 0; i < n; i++) sum += s.at[i] * (i + 1); s.at[0] = 99; return sum; }
#define USE(n) { struct s##n v = fill##n(n); printf("%d: %d %d\n", n, sum##n(5, v, 3), sum##n(0, fill##n(1), v.at[0])); }

SIZES(MAKE)

int main(void)
{
    SIZES(USE)
    return 0;
}
