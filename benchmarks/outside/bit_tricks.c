/* expect 45
80000000 1e6a2c48
cbf43926
32767 -32768 -5
135 134 130 131 129 128 
f00f fc ff0
8040201008040201 1
*/
#include <stdint.h>
#include <stdio.h>

static uint32_t reverse(uint32_t x)
{
    x = (x & 0x55555555) << 1 | (x >> 1 & 0x55555555);
    x = (x & 0x33333333) << 2 | (x >> 2 & 0x33333333);
    x = (x & 0x0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f);
    return x << 24 | (x & 0xff00) << 8 | (x >> 8 & 0xff00) | x >> 24;
}

static uint32_t crc(const char *s)
{
    uint32_t c = ~0u;
    for (; *s; s++) {
        c ^= (uint8_t)*s;
        for (int i = 0; i < 8; i++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
    }
    return ~c;
}

static int16_t clip(int32_t x) { return x > INT16_MAX ? INT16_MAX : x < INT16_MIN ? INT16_MIN : x; }
static uint8_t gray(uint8_t x) { return x ^ x >> 1; }

int main(void)
{
    printf("%08x %08x\n", reverse(1), reverse(0x12345678));
    printf("%08x\n", crc("123456789"));
    printf("%d %d %d\n", clip(40000), clip(-40000), clip(-5));
    for (int i = 250; i < 256; i++) printf("%d ", gray(i));
    uint16_t h = 0xff00;
    h = ~h >> 4;
    int8_t b = (int8_t)0xf0;
    printf("\n%x %x %x\n", h, (uint8_t)(b >> 2), (unsigned)b & 0xfff);
    uint64_t m = 0;
    for (int i = 0; i < 64; i += 9) m |= UINT64_C(1) << i;
    printf("%llx %d\n", (unsigned long long)m, (int)((m & -m) == 1));
    return (gray(200) ^ 1) & 127;
}
