/* expect 6
abcd 4
one	twoAB 9 hidden
tail\"? 8
121 0 0
10 65 126 0
1 4 4
ick
this
1 ac
a line continued
*/
#include <stdio.h>
#include <string.h>

static char fixed[4] = "abcd";
static const char *joined = "one\t" "two" "\x41" "B\0hidden";
char open[] = "tail\\\"\?";

int main(void)
{
    char local[8] = "xy";
    printf("%.4s %zu\n", fixed, sizeof fixed);
    printf("%s %zu %s\n", joined, strlen(joined), joined + strlen(joined) + 1);
    printf("%s %zu\n", open, sizeof open);
    printf("%d %d %d\n", local[1], local[2], local[7]);
    printf("%d %d %d %d\n", '\n', '\101', '\x7e', '\0');
    printf("%zu %zu %zu\n", sizeof "", sizeof "a" "bc", sizeof 'a');
    printf("%c%c%c\n", "pick"[1], 2["pick"], *("pick" + 3));
    printf("%s\n", &"skipped this"[8]);
    const char *rows[] = { "a", [2] = "c" };
    printf("%d %s%s\n", rows[1] == NULL, rows[0], rows[2]);
    puts("a line \
continued");
    return sizeof local - strlen(local);
}
