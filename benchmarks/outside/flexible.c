/* expect 16
2 2 8 ible
8 8
c=1 b=0.5 a=0 8
*/
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text { short length; char at[]; };
struct table { unsigned count; struct { char key; double value; } rows[]; };

static struct text *make(const char *s)
{
    struct text *t = malloc(sizeof *t + strlen(s) + 1);
    t->length = strlen(s);
    memcpy(t->at, s, t->length + 1);
    return t;
}

int main(void)
{
    struct text *t = make("flexible");
    printf("%zu %zu %d %s\n", sizeof *t, offsetof(struct text, at), t->length, t->at + 4);
    printf("%zu %zu\n", sizeof(struct table), offsetof(struct table, rows));
    struct table *m = calloc(1, sizeof *m + 3 * sizeof m->rows[0]);
    for (m->count = 0; m->count < 3; m->count++) {
        m->rows[m->count].key = 'a' + m->count;
        m->rows[m->count].value = m->count / 2.0;
    }
    for (unsigned i = m->count; i-- > 0; )
        printf("%c=%g ", m->rows[i].key, m->rows[i].value);
    struct text head = *t;
    printf("%d\n", head.length);
    free(t);
    free(m);
    return sizeof m->rows[0];
}
