/* expect 42
0 101 -101 881 18 -249029 248931 
1438356476 4479 719178738
-3074457345618258602 -291172004 -9223372036854775807
1844674407370955161 5 4294967295
32768 128 -28
-10922 -28
-1 2147483648
*/
#include <limits.h>
#include <stdio.h>

static int by_const(int x) { return x / 7 + x % 10 * 100 + x / -8 * 3 + x % 16; }
static unsigned ubits(unsigned x) { return x / 3 + x % 1000 + x / 641; }

int main(void)
{
    int tried[] = { 0, 1, -1, 99, -100, INT_MAX / 2, INT_MIN / 2 };
    for (int i = 0; i < 7; i++)
        printf("%d ", by_const(tried[i] / 1000) + by_const(tried[i] % 1000));
    printf("\n%u %u %u\n", ubits(UINT_MAX), ubits(12345), ubits(2147483648u));
    long long a = LLONG_MIN, b = LLONG_MAX;
    printf("%lld %lld %lld\n", a / 3, a % 1000000007, b / -1);
    unsigned long long c = ULLONG_MAX;
    printf("%llu %llu %llu\n", c / 10, c % 10, c / 4294967297ULL);
    short s = -32768;
    signed char t = -128;
    printf("%d %d %d\n", s / -1, t / -1, t % 100);
    s /= 3;
    t %= 50;
    printf("%d %d\n", s, t);
    printf("%d %lld\n", INT_MIN + INT_MAX, (long long)INT_MIN * -1);
    return 1000 / 7 % 100;
}
