/* expect 24
32 16 24 12
16 8 16
21 8 5 8
4 4 4
3 0
1 4 4 8
16 8
1 0
3 4
8 8 1
9 5
*/
#include <stddef.h>
#include <stdio.h>

struct padded { char a; int b; char c; double d; char e; };
struct nested { char a; struct { short b; char c; } in[3]; char *p; };
struct empty_tail { int n; char c; };
union wide { char c[9]; long l; };
typedef char row[7];
static int evaluated;

int main(void)
{
    row rows[3];
    char text[] = "four";
    int n = 3, *p = &n;
    printf("%zu %zu %zu %zu\n", sizeof(struct padded), offsetof(struct padded, d), sizeof(struct nested), offsetof(struct nested, in[2].c));
    printf("%zu %zu %zu\n", sizeof(union wide), sizeof(struct empty_tail), sizeof(struct empty_tail[2]));
    printf("%zu %zu %zu %zu\n", sizeof rows, sizeof(row *), sizeof text, sizeof &text);
    printf("%zu %zu %zu\n", sizeof n++, sizeof(evaluated = 5), sizeof *p);
    printf("%d %d\n", n, evaluated);
    printf("%zu %zu %zu %zu\n", sizeof(char), sizeof('a' + 'b'), sizeof(1.0f + 1), sizeof(1.0f + 1.0));
    printf("%zu %zu\n", sizeof(long double), sizeof(int (*)(void)));
    printf("%d %d\n", sizeof(int) - 5 > 0, (int)sizeof(int) - 5 > 0);
    printf("%zu %zu\n", sizeof(struct { char a[3]; }), sizeof "a\0b");
    printf("%zu %zu %zu\n", _Alignof(double), _Alignof(struct nested), _Alignof(row));
    printf("%zu %zu\n", sizeof(int) * 2 + 1, sizeof (char) + sizeof n);
    return sizeof(int[sizeof(short)][3]);
}
