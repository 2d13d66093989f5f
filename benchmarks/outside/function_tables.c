/* expect 42
add 13 1
sub 10 0
mul 30 0
12 64
-8 42
15
called
*/
#include <stdio.h>

typedef int (*binary)(int, int);
static int add(int a, int b) { return a + b; }
static int sub(int a, int b) { return a - b; }
static int mul(int a, int b) { return a * b; }
static binary choose(char c) { return c == '+' ? add : c == '-' ? &sub : *mul; }
static int twice(binary f, int x) { return (*f)(f(x, x), x); }
static int (*(*pick(int n))(char))(int, int) { (void)n; return choose; }

struct command { const char *name; binary run; int (*check)(const char *, ...); };

int main(void)
{
    static const struct command table[] = { { "add", add, printf }, { "sub", sub, 0 }, { .run = mul, .name = "mul" } };
    binary row[2][2] = { { add, sub }, { mul, 0 } };
    int value = 10;
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
        value = table[i].run(value, 3);
        printf("%s %d %d\n", table[i].name, value, table[i].check != 0);
    }
    printf("%d %d\n", twice(choose('+'), 4), twice(choose('*'), 4));
    printf("%d %d\n", pick(0)('-')(1, 9), (row[1][0] ? row[1][0] : add)(6, 7));
    printf("%d\n", (!row[1][1])[row[0]](20, 5));
    table[0].check("%s\n", "called");
    return (***choose)('+')(40, 2);
}
