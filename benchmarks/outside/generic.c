/* expect 2
char int short int
string const string pointer
unsigned long ulong llong
float double ldouble float
other int other
int unsigned int
2.5 3
*/
#include <stdio.h>

#define NAME(x) _Generic((x), char: "char", signed char: "schar", short: "short", int: "int", unsigned: "unsigned", \
    long: "long", unsigned long: "ulong", long long: "llong", float: "float", double: "double", \
    long double: "ldouble", char *: "string", const char *: "const string", void *: "pointer", default: "other")
#define ABS(x) _Generic((x), double: fabs_, default: abs_)(x)

static double fabs_(double x) { return x < 0 ? -x : x; }
static int abs_(int x) { return x < 0 ? -x : x; }
struct s { int a; };

int main(void)
{
    char c = 'c';
    short h = 1;
    const char *text = "t";
    struct s s = { 1 };
    printf("%s %s %s %s\n", NAME(c), NAME('c'), NAME(h), NAME(h + h));
    printf("%s %s %s\n", NAME("lit"), NAME(text), NAME((void *)0));
    printf("%s %s %s %s\n", NAME(1u), NAME(1L), NAME(sizeof 1), NAME(1LL));
    printf("%s %s %s %s\n", NAME(1.f), NAME(1.), NAME(1.L), NAME(1.f * 2));
    printf("%s %s %s\n", NAME(s), NAME(s.a), NAME(&s));
    printf("%s %s %s\n", NAME(c << 1L), NAME(1 ? 1 : 1u), NAME(-(unsigned char)1));
    printf("%g %d\n", ABS(-2.5), ABS(-3));
    return _Generic(h, int: 1, short: 2, default: 3);
}
