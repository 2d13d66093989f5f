/* expect 91
x=-5; 3.14|ab    |000042|abc%-9000000000 18446744073709551615 0xff 10abc     7 1.234568e+04
91 1
*/
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char buffer[200];

static int append(const char *format, ...)
{
    va_list args;
    size_t used = strlen(buffer);
    va_start(args, format);
    int n = vsnprintf(buffer + used, sizeof buffer - used, format, args);
    va_end(args);
    return n;
}

int main(void)
{
    int n = append("%s=%d;", "x", -5);
    n += append("%5.2f|%-6s|%06d|", 3.14159, "ab", 42);
    n += append("%c%c%c%%", 'a', 98, '\143');
    n += append("%lld %llu %#x %o", -9000000000LL, 18446744073709551615ULL, 255, 8);
    n += append("%.3s %*d %e", "abcdef", 5, 7, 12345.678);
    puts(buffer);
    printf("%d %d\n", n, n == (int)strlen(buffer));
    return n & 127;
}
