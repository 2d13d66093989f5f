/* expect 21
0.99999999999999989 0
0 0.100000001
-74.093750
0 0.25 3.5
12 1e-310
6 53
1 1
1 0 1 1
4.000
0
*/
#include <float.h>
#include <stdio.h>

static float mean(const float *v, int n) { float s = 0; for (int i = 0; i < n; i++) s += v[i]; return s / n; }

int main(void)
{
    float v[] = { 1, 2.5f, -3e2f, .125f };
    double d = 0.1, sum = 0;
    float f = 0.1f;
    for (int i = 0; i < 10; i++)
        sum += d;
    printf("%.17g %d\n", sum, sum == 1.0);
    printf("%d %.9g\n", f == d, (double)f);
    printf("%.6f\n", mean(v, 4));
    printf("%d %g %g\n", 1 / 4, 1 / 4.0, 7.0f / 2);
    printf("%g %g\n", 0x1.8p3, 1e-300 * 1e-10);
    printf("%d %d\n", FLT_DIG, DBL_MANT_DIG);
    printf("%d %d\n", -0.0 == 0.0, 1e-320 > 0);
    double inf = 1e308 * 10, nan = inf - inf;
    printf("%d %d %d %d\n", inf > DBL_MAX, nan == nan, nan != nan, !(nan < 1));
    printf("%.3f\n", (d > 0.05 ? 1 : 2.5) + (f ? 3 : 0));
    f += 1e8;
    f -= 100000000;
    printf("%g\n", f);
    d *= 3, d -= 0.3;
    return d > 0 && d < 1e-15 ? 21 : 22;
}
