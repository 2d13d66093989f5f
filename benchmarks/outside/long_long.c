/* expect 6
ff51afd017d8f272 9553999caa9cccc
64935414
-81985529216486895 -81985529216486896
1 19088743 162254319
-6528350289913
0 1
7034535277573963776
0
*/
#include <stdint.h>
#include <stdio.h>

static uint64_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdULL; x ^= x >> 29; return x; }
static uint64_t power(uint64_t b, unsigned e, uint64_t m) { uint64_t r = 1; for (; e; e >>= 1, b = b * b % m) if (e & 1) r = r * b % m; return r; }
static long long many(char a, long long b, int c, long long d, short e, long long f, int g, long long h, long long i)
{
    return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9;
}

int main(void)
{
    printf("%llx %llx\n", (unsigned long long)mix(1), (unsigned long long)mix(UINT64_MAX));
    printf("%llu\n", (unsigned long long)power(3, 1000000, 1000000007));
    long long big = 0x123456789abcdefLL;
    printf("%lld %lld\n", -big, ~big);
    printf("%d %d %d\n", big > INT32_MAX, (int)(big >> 32), (int)(big & 0x7fffffff));
    printf("%lld\n", many(-1, 1LL << 40, 2, -(1LL << 41), -3, 7, 8, 1LL << 33, -9));
    printf("%d %d\n", !big, !(big - big));
    uint64_t u = 1;
    for (int i = 1; i <= 25; i++) u *= i;
    printf("%llu\n", (unsigned long long)u);
    printf("%lld\n", (long long)(int)0x80000000u + (long long)0x80000000u);
    big = -1;
    big >>= 63;
    return big + 0x100LL == 255 ? 6 : 7;
}
