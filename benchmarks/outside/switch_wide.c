/* expect 33
zero
minus one
unsigned minus one
two to 32
least
other
4584 1234
*/
#include <limits.h>
#include <stdio.h>

static const char *name(long long v)
{
    switch (v) {
    case LLONG_MIN: return "least";
    case -1: return "minus one";
    case 0xffffffffLL: return "unsigned minus one";
    case 1LL << 32: return "two to 32";
    case 0: return "zero";
    }
    return "other";
}

static int bucket(unsigned char c)
{
    switch (c) {
    case '0': case '1': case '2': case '3': case '4': return 1;
    case 'x': case 'X': return 2;
    case 255: return 3;
    case 128: switch (c & 3) { case 0: break; default: return 9; } return 4;
    default: return 0;
    }
}

int main(void)
{
    long long tried[] = { 0, -1, 4294967295LL, 4294967296LL, LLONG_MIN, 8589934592LL };
    for (int i = 0; i < 6; i++)
        puts(name(tried[i]));
    int found = 0;
    for (int c = 0; c < 256; c++)
        found = found * 3 % 10007 + bucket(c);
    printf("%d %d%d%d%d\n", found, bucket('3'), bucket('X'), bucket(-1), bucket(128));
    int loops = 0;
    for (int i = 0; i < 10; i++)
        switch (i % 3) { case 0: continue; case 1: loops += 10; break; case 2: loops++; }
    return loops;
}
