/* expect 63
16 32 17
5 1 16
20 31 30
-8:0 -7:1 1:1 1:0 
6 4
*/
#include <stdio.h>

struct pixel { unsigned short red : 5, green : 6, blue : 5; };
struct cell { signed char age : 4; _Bool alive : 1; };

static struct pixel blend(struct pixel a, struct pixel b)
{
    struct pixel c = { (a.red + b.red) / 2, (a.green + b.green) / 2, (a.blue + b.blue) / 2 };
    return c;
}

int main(void)
{
    struct pixel row[] = { { 31, 63, 31 }, { 1, 2, 3 }, { .blue = 30, .red = 10 } };
    struct cell cells[4] = { { 7, 1 }, { -8, 0 }, [3] = { .alive = 5 } };
    for (unsigned i = 0; i < 3; i++) {
        struct pixel p = blend(row[i], row[(i + 1) % 3]);
        printf("%d %d %d\n", p.red, p.green, p.blue);
    }
    for (int i = 0; i < 4; i++) {
        cells[i].age++;
        cells[i].alive ^= 1;
        printf("%d:%d ", cells[i].age, cells[i].alive);
    }
    printf("\n%zu %zu\n", sizeof row, sizeof cells);
    return row[0].green;
}
