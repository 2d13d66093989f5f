/* expect 35
68 215 90 128
128 283 125 232
104 128 33 36
35 90 32 33
2 32
*/
#include <stdio.h>
#include <string.h>

#define N 4
typedef double matrix[N][N];

static void multiply(matrix to, double (*a)[N], const double b[][N])
{
    matrix made;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            made[i][j] = 0;
            for (int k = 0; k < N; k++)
                made[i][j] += a[i][k] * b[k][j];
        }
    memcpy(to, made, sizeof made);
}

static double determinant(int n, double m[n][n])
{
    if (n == 1) return m[0][0];
    double sum = 0, minor[n - 1][n - 1];
    for (int c = 0; c < n; c++) {
        for (int i = 1; i < n; i++)
            for (int j = 0, to = 0; j < n; j++)
                if (j != c) minor[i - 1][to++] = m[i][j];
        sum += (c & 1 ? -1 : 1) * m[0][c] * determinant(n - 1, minor);
    }
    return sum;
}

int main(void)
{
    matrix a = { { 2, 1 }, { 0, 3, 1 }, { [2] = 1, 4 }, { 1, 0, 0, 1 } }, p = { { 1 }, { 0, 1 }, { 0, 0, 1 }, { 0, 0, 0, 1 } };
    for (int i = 0; i < 5; i++)
        multiply(p, p, (const double (*)[N])a);
    for (int i = 0; i < N; i++)
        printf("%g %g %g %g\n", p[i][0], p[i][1], p[i][2], p[i][3]);
    printf("%g %g\n", determinant(N, a), determinant(N, p));
    return (int)p[3][0];
}
