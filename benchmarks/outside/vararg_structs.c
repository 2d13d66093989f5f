/* expect 0
s1,-2 r0.5,1.5 m1099511627776,-3.25 l7,1 i42 
i1 i2 i3 i4 m1099511627776,-3.25 i5 s1,-2 
r0.5,1.5 r0.5,1.5 r0.5,1.5 r0.5,1.5 m1099511627776,-3.25 r0.5,1.5 i-1 
l7,1 s1,-2 l7,1 
*/
#include <stdarg.h>
#include <stdio.h>

struct small { int a, b; };
struct real { double x, y; };
struct mixed { long n; double x; };
struct large { int a[7]; };

static void show(const char *kinds, ...)
{
    va_list args;
    va_start(args, kinds);
    for (; *kinds; kinds++) {
        if (*kinds == 's') { struct small s = va_arg(args, struct small); printf("s%d,%d ", s.a, s.b); }
        if (*kinds == 'r') { struct real r = va_arg(args, struct real); printf("r%g,%g ", r.x, r.y); }
        if (*kinds == 'm') { struct mixed m = va_arg(args, struct mixed); printf("m%ld,%g ", m.n, m.x); }
        if (*kinds == 'l') { struct large l = va_arg(args, struct large); printf("l%d,%d ", l.a[0], l.a[6]); }
        if (*kinds == 'i') printf("i%d ", va_arg(args, int));
    }
    va_end(args);
    printf("\n");
}

int main(void)
{
    struct small s = { 1, -2 };
    struct real r = { 0.5, 1.5 };
    struct mixed m = { 1L << 40, -3.25 };
    struct large l = { { 7, 6, 5, 4, 3, 2, 1 } };
    show("srmli", s, r, m, l, 42);
    show("iiiimis", 1, 2, 3, 4, m, 5, s);
    show("rrrrmri", r, r, r, r, m, r, -1);
    show("lsl", l, s, l);
    return 0;
}
