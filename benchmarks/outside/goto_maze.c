/* expect 4
inner 3
inner 17
inner 31
3 33 4
3210
*/
#include <stdio.h>

int main(void)
{
    int x = 0, y = 0, steps = 0;
start:
    if (++steps > 40) goto out;
    if (x < 3) { x++; goto start; }
    for (;;) {
        for (int i = 0; i < 5; i++) {
            y += i;
            if (y % 7 == 3) goto inner;
            if (y > 30) goto out;
        }
        y++;
        continue;
    inner:
        printf("inner %d\n", y);
        y += 2;
    }
out:
    printf("%d %d %d\n", x, y, steps);
    {
        int n = 3;
    again:
        printf("%d", n);
        if (n--) goto again;
        else goto end;
    }
    puts("never");
end:
    putchar('\n');
    return steps;
}
