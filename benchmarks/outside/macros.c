/* expect 31
VERSION 4.2 "a\n" 'b' + c
10 3 7
|spaced out|"x"
9 4 6
100 8 11
6
FIVE + 1 123 38
*/
#include <stdio.h>

#define TEXT(x) #x
#define WIDE(x) TEXT(x)
#define JOIN(a, b) a##b
#define NAME(a, b) JOIN(a, b)
#define VERSION 4.2
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define FIVE FIVE + 1
#define CALL(f, ...) f(__VA_ARGS__)
#define EMPTY
#define SWAP(t, x, y) do { t NAME(tmp, __LINE__) = x; x = y; y = NAME(tmp, __LINE__); } while (0)
#define f(x) (x * 2)
#define g f

int JOIN(val, ue) = 10, xVERSION = 3;

int main(void)
{
    int one = 1, a = 3, b = 9, f = 100;
    static const int five = 5;
    printf("%s %s %s\n", TEXT(VERSION), WIDE(VERSION), TEXT("a\n" 'b'  +  c));
    printf("%d %d %d\n", value, JOIN(x, VERSION), MAX(a++, b - 2));
    printf("%s|%s|%s\n", TEXT(), TEXT( spaced   out ), WIDE(TEXT(x)));
    SWAP(int, a, b);
    printf("%d %d %d\n", a, b, one + five);
    printf("%d %d %d\n", f, f(4), g(a + 1));
    printf("%d\n", CALL(MAX, CALL(f, 3), EMPTY 5));
    printf("%s %s %d\n", WIDE(FIVE), WIDE(NAME(1, NAME(2, 3))), __LINE__);
    return JOIN(0x, 1f);
}
