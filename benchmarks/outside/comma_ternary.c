/* expect 80
3 4 0 6
124078
2
yes 4
4294967295
0.5
9 7
*/
#include <stdio.h>

static int log_of[8], used;
static int note(int x) { log_of[used++ & 7] = x; return x; }

int main(void)
{
    int a = (note(1), note(2), 3), b = a > 2 ? note(4) : note(5);
    int c = (note(0) && note(9)) || (note(7) && !note(8));
    printf("%d %d %d %d\n", a, b, c, used);
    for (int i = 0; i < used; i++)
        printf("%d", log_of[i]);
    printf("\n%d\n", a == 3 ? b == 5 ? 1 : 2 : b == 4 ? 3 : 4);
    const char *text = a ? "yes" : 0;
    printf("%s %zu\n", text, sizeof(1 ? (char)1 : (short)1));
    long long mixed = a < 5 ? -1 : 1u;
    printf("%lld\n", mixed);
    double d = b ? 1 : 2.5;
    printf("%.1f\n", d / 2);
    int i, j;
    for (i = 0, j = 10; i < j; i += 3, j--)
        ;
    printf("%d %d\n", i, j);
    *(a ? &i : &j) = 77;
    (void)(i > 5 ? note(1) : note(2));
    return i + (j, a);
}
