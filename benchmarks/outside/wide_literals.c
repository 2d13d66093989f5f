/* expect 4
6 4
77 69 64 263a 65 
3 1 1
78 10ffff 0
1 0
233
c3 a9 
*/
#include <stddef.h>
#include <stdio.h>
#include <wchar.h>

static wchar_t word[] = L"wid\x263a" L"e";

int main(void)
{
    const wchar_t *p = L"abc";
    wchar_t pair[3] = { L'x', 0x10ffff };
    printf("%zu %zu\n", sizeof word / sizeof *word, sizeof(wchar_t));
    for (int i = 0; word[i]; i++)
        printf("%lx ", (unsigned long)word[i]);
    printf("\n%zu %d %d\n", wcslen(p), wcscmp(p, L"abd") < 0, p[3] == 0);
    printf("%lx %lx %lx\n", (unsigned long)pair[0], (unsigned long)pair[1], (unsigned long)pair[2]);
    printf("%d %d\n", L'\377' == 255, '\377' == 255);
    printf("%d\n", (int)(L"\u00e9"[0]));
    for (const char *s = u8"\u00e9"; *s; s++)
        printf("%x ", (unsigned char)*s);
    printf("\n");
    return (int)(wcschr(word, L'e') - word);
}
