/* expect 61
21 11
8419
adcb bcda cabd dbac 24
*/
#include <stdio.h>

static int ackermann(int m, int n) { return !m ? n + 1 : ackermann(m - 1, n ? ackermann(m, n - 1) : 1); }
static int is_odd(unsigned n);
static int is_even(unsigned n) { return n == 0 || is_odd(n - 1); }
static int is_odd(unsigned n) { return n != 0 && is_even(n - 1); }

static int moves;
static void hanoi(int n, int from, int to, int by)
{
    if (n == 0) return;
    hanoi(n - 1, from, by, to);
    moves = (moves * 3 + from * 10 + to) % 100003;
    hanoi(n - 1, by, to, from);
}

static void permute(char *s, int at, int end, int *seen)
{
    if (at == end) { if (++*seen % 5 == 0) printf("%s ", s); return; }
    for (int i = at; i <= end; i++) {
        char c = s[at]; s[at] = s[i]; s[i] = c;
        permute(s, at + 1, end, seen);
        c = s[at]; s[at] = s[i]; s[i] = c;
    }
}

int main(void)
{
    char word[] = "abcd";
    int seen = 0;
    printf("%d %d%d\n", ackermann(2, 9), is_even(1000), is_odd(77));
    hanoi(10, 1, 3, 2);
    printf("%d\n", moves);
    permute(word, 0, 3, &seen);
    printf("%d\n", seen);
    return ackermann(3, 3);
}
