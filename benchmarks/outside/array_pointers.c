/* expect 3
21 14 16
7 8
12 2
6 7 12
48 16 8 48
48 40
21264
x
y
*/
#include <stdio.h>

static int grid[3][4] = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 }, { 9, 10, 11, 12 } };

static int column(int (*rows)[4], int n, int at) { int sum = 0; while (n--) sum += (*rows++)[at]; return sum; }
static int corner(int all[3][4]) { return all[2][3] + sizeof(*all) / sizeof(**all); }
static int (*middle(void))[4] { return &grid[1]; }

int main(void)
{
    int (*whole)[3][4] = &grid, *flat = *grid, *ends[2] = { flat, flat + 12 };
    int cube[2][3][2] = { { { 1, 2 }, { 3 } }, { { 4 }, [2] = { 5, 6 } } };
    printf("%d %d %d\n", column(grid, 3, 2), column(grid + 1, 2, 0), corner(grid));
    printf("%d %d\n", (*whole)[1][2], (*middle())[3]);
    printf("%d %d\n", (int)(ends[1] - ends[0]), (int)(&grid[2] - &grid[0]));
    printf("%d %d %d\n", flat[5], *(*(grid + 1) + 2), 3[grid[2]]);
    printf("%zu %zu %zu %zu\n", sizeof grid, sizeof *grid, sizeof &grid, sizeof *whole);
    printf("%d %d\n", (int)((char *)(&grid + 1) - (char *)grid), (int)((char *)&cube[1][2] - (char *)cube));
    int sum = 0;
    for (int (*plane)[2] = cube[0]; plane < cube[1]; plane++)
        sum = sum * 10 + (*plane)[0] + (*plane)[1];
    for (int i = 0; i < 6; i++)
        sum = sum * 2 + cube[1][i / 2][i % 2];
    printf("%d\n", sum);
    char *names[] = { "x", "yy" }, **p = names;
    puts(*p++);
    printf("%c\n", **p);
    return *++flat + (*p)[1] % 10;
}
