/* expect 0
3fc00000 3f 0 3fc0
bfc000ef -1.50003
bfc000f0 bfc000ef
-5
text
3,-4
4 16
*/
#include <stdint.h>
#include <stdio.h>

union word { uint32_t u; float f; uint8_t b[4]; struct { uint16_t low, high; }; };
struct value { enum { NUMBER, TEXT, PAIR } kind; union { long n; const char *s; struct { short a, b; } p; }; };

static struct value number(long n) { return (struct value){ NUMBER, { n } }; }

static void show(struct value v)
{
    switch (v.kind) {
    case NUMBER: printf("%ld\n", v.n); break;
    case TEXT: printf("%s\n", v.s); break;
    case PAIR: printf("%d,%d\n", v.p.a, v.p.b); break;
    }
}

int main(void)
{
    union word w = { .f = 1.5f };
    printf("%x %x %x %x\n", w.u, w.b[3], w.low, w.high);
    w.b[0] = 0xef;
    w.high ^= 0x8000;
    printf("%08x %g\n", w.u, w.f);
    union word copy = w, *p = &copy;
    p->low++;
    printf("%x %x\n", copy.u, w.u);
    show(number(-5));
    show((struct value){ .kind = TEXT, .s = "text" });
    struct value pair = { PAIR, .p = { 3, -4 } };
    show(pair);
    printf("%zu %zu\n", sizeof w, sizeof pair);
    return p->b[1];
}
