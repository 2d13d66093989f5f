/* expect 1
info: plain
warn: 3 of four
a, "b,c" , (d, e)

1 3 2
7 9
100
gamma=3 alpha=1 beta=2 
*/
#include <stdio.h>

#define LOG(level, ...) printf(level ": " __VA_ARGS__)
#define SHOW(...) puts(#__VA_ARGS__)
#define COUNT(...) COUNT_(__VA_ARGS__, 5, 4, 3, 2, 1, 0)
#define COUNT_(a, b, c, d, e, n, ...) n
#define FIRST(x, ...) x
#define REST(x, ...) __VA_ARGS__
#define ARRAY(...) (int[]){ __VA_ARGS__ }, sizeof((int[]){ __VA_ARGS__ }) / sizeof(int)
#define MAP1(m, x) m(x)
#define MAP2(m, x, ...) m(x) MAP1(m, __VA_ARGS__)
#define MAP3(m, x, ...) m(x) MAP2(m, __VA_ARGS__)
#define CAT(a, b) CAT_(a, b)
#define CAT_(a, b) a##b
#define MAP(m, ...) CAT(MAP, COUNT(__VA_ARGS__))(m, __VA_ARGS__)
#define FIELD(name) int name;
#define PRINT(name) printf(#name "=%d ", s.name);

struct made { MAP(FIELD, alpha, beta, gamma) };

static int sum(const int *v, int n) { int s = 0; while (n--) s += v[n]; return s; }

int main(void)
{
    struct made s = { 1, 2, 3 };
    LOG("info", "plain\n");
    LOG("warn", "%d of %s\n", 3, "four");
    SHOW(a, "b,c" , (d, e));
    SHOW();
    printf("%d %d %d\n", COUNT(1), COUNT(x, y, z), COUNT((1, 2), 3));
    printf("%d %d\n", FIRST(7, 8, 9), (REST(7, 8, 9)));
    printf("%d\n", sum(ARRAY(10, 20, 30, 40)));
    MAP(PRINT, gamma, alpha)
    MAP(PRINT, beta)
    puts("");
    return COUNT(MAP(FIRST, a, b));
}
