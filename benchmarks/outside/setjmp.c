/* expect 6
back from 6
try 0
try 1
1
try 0
try 1
try 2
-3
*/
#include <setjmp.h>
#include <stdio.h>

static jmp_buf top;
static int depth;

static void dive(int n)
{
    char pad[64];
    pad[0] = n;
    depth++;
    if (n == 0) longjmp(top, depth);
    dive(n - 1);
    printf("never %d\n", pad[0]);
}

static int guarded(int (*work)(int), int x)
{
    jmp_buf saved;
    volatile int tries = 0;
    if (setjmp(saved) != 0 && ++tries >= 3) return -tries;
    printf("try %d\n", tries);
    if (work(x + tries) % 2) longjmp(saved, x + tries + 1);
    return tries;
}

static int same(int x) { return x; }
static int odd(int x) { return x | 1; }

int main(void)
{
    switch (setjmp(top)) {
    case 0: dive(5); break;
    case 6: printf("back from %d\n", depth); break;
    default: puts("wrong");
    }
    printf("%d\n", guarded(same, 1));
    printf("%d\n", guarded(odd, 4));
    if (setjmp(top) == 0) longjmp(top, 0);
    return depth;
}
