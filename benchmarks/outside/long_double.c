/* expect 11
0.33333333333333333334
57.6650 9223372036854775808
5.187377517639620
3 0
2.5 4611686018427387904
18446744073709551615 18446744073709551615
2.500 b 32
101
2.666666666666666667
*/
#include <stdio.h>

static long double power(long double x, int n) { long double r = 1; while (n-- > 0) r *= x; return r; }
struct boxed { char c; long double v; };
static struct boxed box(long double v) { struct boxed b = { 'b', v / 4 }; return b; }

int main(void)
{
    long double third = 1.0L / 3, sum = 0;
    printf("%.20Lf\n", third);
    printf("%.4Lf %.0Lf\n", power(1.5L, 10), power(2, 63));
    for (int i = 1; i <= 100; i++)
        sum += 1.0L / i;
    printf("%.15Lf\n", sum);
    printf("%d %d\n", (int)(third * 9), third == (double)third);
    printf("%Lg %lld\n", -sum * 0.0L + 2.5f, (long long)power(2, 62));
    unsigned long long top = (unsigned long long)(power(2, 64) - 1);
    printf("%llu %.0Lf\n", top, (long double)top);
    printf("%.3Lf %c %zu\n", box(10).v, box(1).c, sizeof(struct boxed));
    printf("%d%d%d\n", third < 0.34, third >= 1, -third < third);
    sum = 7;
    sum++;
    sum /= 3;
    printf("%.18Lf\n", sum);
    return !!third + (sum ? 10 : 0);
}
