/* expect 0
0 zero: 0(0,8,0) 0(0,0,9) 3
98 one: 1(2,3,4) 5(6,7,8) 9
99 two: 1(2,3,4) 5(6,0,0) 7
0 3 0 0 0 1 2 4 5 
100 002 345 670 
4 1 7 3
*/
#include <stdio.h>

struct inner { int a, b[3]; };
struct outer { char tag; struct inner in[2]; union { int i; float f; } u; const char *name; };

static struct outer all[] = {
    [2] = { 'c', { { 1, { 2, 3, 4 } }, { 5, { 6 } } }, { 7 }, "two" },
    [0] = { .name = "zero", .in[1].b[2] = 9, .u.f = 1.5f, .in[0] = { .b = { [1] = 8 } } },
    { 'b', 1, 2, 3, 4, 5, 6, 7, 8, { 9 }, "one" },
};
static int sparse[] = { [5] = 1, 2, [1] = 3, [7] = 4, 5 };
static int square[][3] = { { 1 }, { [2] = 2 }, 3, 4, 5, { 6, 7 } };

int main(void)
{
    for (int i = 0; i < 3; i++) {
        printf("%d %s:", all[i].tag, all[i].name);
        for (int j = 0; j < 2; j++)
            printf(" %d(%d,%d,%d)", all[i].in[j].a, all[i].in[j].b[0], all[i].in[j].b[1], all[i].in[j].b[2]);
        printf(" %d\n", i ? all[i].u.i : (int)(all[i].u.f * 2));
    }
    for (unsigned i = 0; i < sizeof sparse / sizeof *sparse; i++)
        printf("%d ", sparse[i]);
    printf("\n");
    for (unsigned i = 0; i < sizeof square / sizeof *square; i++)
        printf("%d%d%d ", square[i][0], square[i][1], square[i][2]);
    struct inner over = { 1, { 1, 2, 3 }, .b[1] = 7, .a = 4 };
    printf("\n%d %d %d %d\n", over.a, over.b[0], over.b[1], over.b[2]);
    return 0;
}
