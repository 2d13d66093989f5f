/* expect 1
-5 -4 -1
8000000 2
80000001 000000c0 00006000 00300000 18000000 
-1205632706 -1205632705 -203
16777214
10000000000
-3 2147483644
1 -1
2c 34
*/
#include <stdio.h>

static unsigned rotate(unsigned x, int n) { return n ? x << n | x >> (32 - n) : x; }

int main(void)
{
    int minus = -17;
    unsigned u = 0x80000001u;
    long long wide = -1234567890123LL;
    printf("%d %d %d\n", minus >> 2, minus / 4, minus % 4);
    printf("%x %x\n", u >> 4, u << 1);
    for (int n = 0; n < 32; n += 7)
        printf("%08x ", rotate(u, n));
    printf("\n%lld %lld %lld\n", wide >> 10, wide / 1024, wide % 1024);
    printf("%llu\n", (unsigned long long)wide >> 40);
    printf("%lx\n", 1L << 40);
    printf("%d %u\n", -7 / 2, -7u / 2);
    printf("%d %d\n", 7 % -3, -7 % 3);
    unsigned char c = 0x96;
    c <<= 1;
    printf("%x %x\n", c, (c ^ 0xff) >> 2);
    u >>= 31;
    return u;
}
