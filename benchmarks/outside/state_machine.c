/* expect 3
3 words, 4 numbers, total 214
*/
#include <stdio.h>

typedef struct machine machine;
typedef void (*state)(machine *, char);
struct machine { state now; int words, numbers, value; long total; };

static void blank(machine *, char), word(machine *, char), digits(machine *, char);

static void blank(machine *m, char c)
{
    if (c >= '0' && c <= '9') m->value = 0, m->now = digits, digits(m, c);
    else if (c != ' ' && c) m->words++, m->now = word;
}

static void word(machine *m, char c) { if (c == ' ') m->now = blank; }

static void digits(machine *m, char c)
{
    switch (c) {
    case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        m->value = m->value * 10 + c - '0'; return;
    case ' ': case 0: m->numbers++; m->total += m->value; m->now = blank; return;
    default: m->words++; m->now = word;
    }
}

int main(void)
{
    machine m = { blank };
    for (const char *s = "12 monkeys 3 4x4 99  bottles 100"; ; s++) {
        m.now(&m, *s);
        if (!*s) break;
    }
    printf("%d words, %d numbers, total %ld\n", m.words, m.numbers, m.total);
    return m.now == blank ? m.words : 0;
}
