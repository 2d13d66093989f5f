/* expect 5
hello, world|dlrow ,olleh|12
0 -1 1
world ld
HELLO, WORLD! 0
HEHELLOWORLD 6
31 z -42 0.250
3 17 abc -3
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ctype.h>

static size_t length(const char *s) { const char *p = s; while (*p++) ; return p - s - 1; }
static char *copy(char *to, const char *from) { char *start = to; while ((*to++ = *from++)) ; return start; }
static int compare(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return (unsigned char)*a - (unsigned char)*b; }
static char *reverse(char *s) { for (char *e = s + length(s) - 1, t; s < e; *s++ = *e, *e-- = t) t = *s; return s; }

int main(void)
{
    char text[32], other[32], *end;
    copy(text, "hello, world");
    reverse(copy(other, text));
    printf("%s|%s|%zu\n", text, other, length(text));
    printf("%d %d %d\n", compare("abc", "abc"), compare("abc", "abd"), compare("\xff", "a") > 0);
    printf("%s %s\n", strstr(text, "wor"), strrchr(text, 'l'));
    for (char *p = text; *p; p++) *p = toupper((unsigned char)*p);
    strncat(strcpy(other, text), "!?", 1);
    printf("%s %d\n", other, memcmp(other, text, 12));
    memmove(text + 2, text, 5);
    printf("%s %zu\n", text, strspn(text, "HEL"));
    long hex = strtol("0x1fz", &end, 0);
    printf("%ld %s %d %.3f\n", hex, end, atoi("-42abc"), strtod("2.5e-1", NULL));
    int a, b;
    char word[8];
    int read = sscanf("17:abc -3", "%d:%7s %d", &a, word, &b);
    printf("%d %d %s %d\n", read, a, word, b);
    return sprintf(other, "%05.1f", 3.14159);
}
