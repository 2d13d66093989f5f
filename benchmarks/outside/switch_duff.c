/* expect 0
a.........
abc.......
abcde.....
abcdefg...
abcdefghi.
30 1003 1003 1003 3 2 1003 5
4
*/
#include <stdio.h>

static void copy(char *to, const char *from, int count)
{
    int n = (count + 3) / 4;
    switch (count % 4) {
    case 0: do { *to++ = *from++;
    case 3:      *to++ = *from++;
    case 2:      *to++ = *from++;
    case 1:      *to++ = *from++;
            } while (--n > 0);
    }
}

static int fall(int x)
{
    int sum = 0;
    switch (x) {
    default: sum += 1000;
    case 1: sum += 1;
    case 2: { sum += 2; break; }
    case -3: sum += 30; if (x < 0) break;
    case 'a': sum += 5;
    }
    return sum;
}

int main(void)
{
    char out[12] = "..........";
    for (int n = 1; n <= 9; n += 2) {
        copy(out, "abcdefghijk", n);
        puts(out);
    }
    for (int x = -3; x < 4; x++)
        printf("%d ", fall(x));
    printf("%d\n", fall('a'));
    switch (7) { int unreached; case 7: unreached = 4; printf("%d\n", unreached); }
    return 0;
}
