/* expect 8
5 100
6 101
8 103
165580141 79
job-c
8
*/
#include <stdio.h>

static int counter(int step)
{
    static int count = 5;
    static const int *where = &count;
    count += step;
    return *where;
}

static int fib(int n)
{
    static int known[50] = { 1, 1 }, calls;
    if (n < 0)
        return calls;
    calls++;
    if (!known[n])
        known[n] = fib(n - 1) + fib(n - 2);
    return known[n];
}

static char *next_name(void)
{
    static char name[] = "job-a";
    name[4]++;
    return name;
}

int main(void)
{
    for (int i = 0; i < 3; i++) {
        static int i2 = 100;
        printf("%d %d\n", counter(i), i2 += i);
    }
    printf("%d", fib(40));
    printf(" %d\n", fib(-1));
    next_name();
    puts(next_name());
    { static int count = 1; count <<= 3; printf("%d\n", count); }
    return counter(0);
}
