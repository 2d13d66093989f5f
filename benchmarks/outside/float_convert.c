/* expect 42
2 -2 1000000000000000
255 3
18000000000000000000 42
4000000000.0 4000000000.0
18446744073709551616.0 9007199254740992.0
16777216.0 -5.0
10
97 3 1 0
1 1
-12
*/
#include <stdio.h>

static long whole(double d) { return d; }
static unsigned char byte(float f) { return f; }
static unsigned long long huge(double d) { return d; }

int main(void)
{
    printf("%ld %ld %ld\n", whole(2.99), whole(-2.99), whole(1e15 + 0.5));
    printf("%d %d\n", byte(255.9f), byte(3.5f));
    printf("%llu %llu\n", huge(1.8e19), huge(42.7));
    unsigned u = 4000000000u;
    unsigned long long big = 18446744073709551615ULL;
    long long near = 9007199254740993LL;
    printf("%.1f %.1f\n", (double)u, (float)u + 0.0);
    printf("%.1f %.1f\n", (double)big, (double)near);
    printf("%.1f %.1f\n", (double)(float)16777217, (double)-5);
    int i = 7;
    i *= 1.5;
    i += 0.9;
    printf("%d\n", i);
    i = 'a' + 0.75;
    char c = 3.99f;
    _Bool yes = 0.25, no = 0.0;
    printf("%d %d %d %d\n", i, c, yes, no);
    printf("%d %d\n", 3000000000u > 2e9, -1 < 0.5f);
    short s = (short)-12.75;
    printf("%d\n", s);
    return (int)(0.1 + 41.95);
}
