/* expect 0
first 7, 7
first 1, 93
first -1, 45.5
first -1, 8.58994e+09
*/
#include <stdarg.h>
#include <stdio.h>

static double total(const char *kinds, ...)
{
    va_list args, again;
    double sum = 0;
    va_start(args, kinds);
    va_copy(again, args);
    for (const char *k = kinds; *k; k++)
        switch (*k) {
        case 'i': sum += va_arg(args, int); break;
        case 'l': sum += va_arg(args, long); break;
        case 'd': sum += va_arg(args, double); break;
        case 's': for (const char *s = va_arg(args, const char *); *s; s++) sum += *s - '0'; break;
        }
    va_end(args);
    printf("first %d, ", *kinds == 'i' ? va_arg(again, int) : -1);
    va_end(again);
    return sum;
}

int main(void)
{
    short two = 2;
    float half = 0.5f;
    printf("%g\n", total("i", 7));
    printf("%g\n", total("iiiiiiii", 1, two, 3, 4, 5, 6, 7, 'A'));
    printf("%g\n", total("dddddddddd", half, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0));
    printf("%g\n", total("idlsidlsid", -1, 0.25, 1L << 33, "123", 5, 1e3, -4L, "9", 6, 1.25));
    return 0;
}
