/* expect 3
300 44 1
-201 4294967095
0 1
196605 4294836225
-1
4294967295
44 156 -156
15 -1
*/
#include <stdio.h>

int main(void)
{
    unsigned char a = 200, b = 100;
    signed char small = -1;
    unsigned short top = 65535;
    unsigned int u = 0;
    unsigned char sum = a + b;
    printf("%d %d %d\n", a + b, sum, (a + b) > 255);
    printf("%d %u\n", ~a, ~(unsigned)a);
    printf("%d %d\n", small < u, small < (int)u);
    printf("%u %lld\n", top * 3u, (long long)top * top);
    printf("%d\n", (char)384 + (signed char)'\x7f');
    printf("%u\n", u - 1 > 0 ? u - 1 : 7);
    a += 100;
    b = -b;
    printf("%d %d %d\n", a, b, -b);
    u = small;
    printf("%u %d\n", u >> 28, small >> 3);
    return (unsigned char)(a * 2) == 88 ? 3 : 4;
}
