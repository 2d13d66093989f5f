/* expect 12
1 5 -16 fedcba9876
15
2 10
dcba987600
1
1 16
*/
#include <stdio.h>
#include <string.h>

struct flags { unsigned ready : 1, mode : 3; int level : 5; unsigned : 0; unsigned long long stamp : 40; };

int main(void)
{
    struct flags f;
    memset(&f, 0, sizeof f);
    f.ready = 3;
    f.mode = 13;
    f.level = -16;
    f.stamp = 0xfedcba9876ULL;
    printf("%d %d %d %llx\n", f.ready, f.mode, f.level, (unsigned long long)f.stamp);
    f.level--;
    printf("%d\n", f.level);
    f.mode += 5;
    f.level = f.mode | 8;
    printf("%d %d\n", f.mode, f.level);
    f.stamp <<= 8;
    printf("%llx\n", (unsigned long long)f.stamp);
    printf("%d\n", f.ready - 2 < 0);
    int got = (f.mode = 9);
    printf("%d %zu\n", got, sizeof f);
    got = f.mode++;
    return got * 10 + f.mode;
}
