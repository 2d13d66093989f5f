/* expect 0
-1.5 2.25
10.75 7
70 5.375
4 9
4.5 10.5 -6
-2 5.5 -3
3
*/
#include <stdio.h>

struct point { float x, y; };
struct mixed { double weight; int id; };
struct swapped { long id; float weight; };
struct pair { double a, b; };
struct big { double a, b, c; };
struct three { float x, y, z; };

static struct point turn(struct point p) { return (struct point){ -p.y, p.x }; }
static struct mixed heavier(struct mixed m, double by) { m.weight += by; m.id++; return m; }
static struct swapped other(struct mixed m) { return (struct swapped){ m.id * 10L, (float)m.weight / 2 }; }
static struct pair order(struct pair p) { return p.a > p.b ? (struct pair){ p.b, p.a } : p; }
static struct big grow(int k, struct big b, double d) { b.a *= k; b.b += d; b.c = b.a - b.b; return b; }
static struct three cross(struct three a, struct three b)
{
    return (struct three){ a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x };
}

int main(void)
{
    struct point p = turn(turn((struct point){ 1.5f, -2.25f }));
    struct mixed m = heavier((struct mixed){ 10.5, 6 }, 0.25);
    struct swapped s = other(m);
    struct pair q = order((struct pair){ 9, 4 });
    struct big b = grow(3, (struct big){ 1.5, 2, 0 }, 8.5);
    struct three t = cross((struct three){ 1, 2, 3 }, (struct three){ 4, 5, 6.5f });
    printf("%g %g\n%g %d\n%ld %g\n", p.x, p.y, m.weight, m.id, s.id, s.weight);
    printf("%g %g\n%g %g %g\n%g %g %g\n", q.a, q.b, b.a, b.b, b.c, t.x, t.y, t.z);
    printf("%g\n", order((struct pair){ 3, 2 }).b);
    return 0;
}
