/* expect 30
1 1 1 4
30 31
500 renamed.c
main 1
int has 32 bits
after comments
*/
#include <limits.h>
#include <stdio.h>

#define A 3
#define B(x) (x + A)
#if defined A && !defined(C) && B(2) == 5
#define ONE 1
#elif A
#error "not this one"
#else
#define ONE 2
#endif
#if (-1 > 0u) && (2147483647 + 1 > 0) && ('a' < 'b') && (1 ? 2 : 1/0)
#define TWO 1
#endif
#ifdef TWO
# undef A
# define A 30
#endif
#ifndef UNKNOWN
# if UNKNOWN == 0 && ~0 < 0 && -7 / 2 == -3 && (1 << 4 | 3) == 19
#  define THREE 1
# endif
#endif
#if 0
 this is no C at all ) ) @
# if 1
  neither
# else
# endif
#else
static int four = 4;
#endif

int main(void)
{
    printf("%d %d %d %d\n", ONE, TWO, THREE, four);
    printf("%d %d\n", A, B(1));
#line 500 "renamed.c"
    printf("%d %s\n", __LINE__, __FILE__);
    printf("%s %d\n", __func__, __STDC__);
#if INT_MAX == 0x7fffffff && __STDC_VERSION__ >= 199901L
    puts("int has 32 bits");
#endif
    /* a comment // not nested */ puts("after" /* inside */ " comments"); // done \
    puts("never");
    return A;
}
