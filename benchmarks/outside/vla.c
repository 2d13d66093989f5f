/* expect 10
15 826 119
6 10
159
2.5 1
*/
#include <stdio.h>

static int trace(int n, int m[n][n]) { int t = 0; for (int i = 0; i < n; i++) t += m[i][i]; return t; }

static long fill(int rows, int cols)
{
    int grid[rows][cols], (*p)[cols] = grid;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            grid[i][j] = i * 10 + j;
    long sum = 0;
    for (int i = 0; i < rows; i++, p++)
        sum = sum * 7 % 99991 + (*p)[i % cols];
    return sum + (long)sizeof grid + (long)sizeof *p;
}

int main(void)
{
    int n = 3, square[3][3] = { { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 } };
    printf("%d %ld %ld\n", trace(n, square), fill(4, 5), fill(2, 9));
    char name[n * 2];
    n = 10;
    printf("%zu %d\n", sizeof name, n);
    int steps = 0;
    for (int size = 1; size < 6; size++) {
        short work[size];
        work[0] = size;
        for (int i = 1; i < size; i++) work[i] = work[i - 1] * 2;
        steps += work[size - 1] + (int)sizeof work;
        if (size == 4) continue;
    }
    printf("%d\n", steps);
    double two[2][10] = { { 1 }, { 0, 2.5 } }, (*column)[n] = two;
    printf("%g %g\n", column[1][1], column[0][0]);
    return sizeof(int[n]) / 4;
}
