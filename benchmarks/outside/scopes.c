/* expect 9
9 1254
1255 12
inner 10 q
1 4
2
*/
#include <stdio.h>

int x = 1;
static int shadow(int x) { { int x = 7; x++; } return x; }
typedef int number;
struct tag { int a; };

static int outer(void)
{
    int x = 2, sum = x;
    for (int x = 10; x < 12; x++) {
        int x = 100;
        sum += x++;
    }
    { extern int x; sum += x * 1000; }
    if (x) { static int x = 50; sum += x++; }
    return sum + x;
}

int main(void)
{
    number number = 5;
    int tag = 3;
    struct tag t = { 4 };
    printf("%d %d\n", shadow(9), outer());
    printf("%d %d\n", outer(), number + tag + t.a);
    {
        struct tag { char a[10]; } t = { "inner" };
        typedef char x;
        x c = 'q';
        printf("%s %zu %c\n", t.a, sizeof(struct tag), c);
    }
    printf("%d %zu\n", x, sizeof(struct tag));
    int y = 5;
label:
    { int label = 1; y -= label; if (y > 2) goto label; }
    printf("%d\n", y);
    x = shadow(8);
    return x + 1;
}
