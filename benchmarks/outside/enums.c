/* expect 16
0 6 -2 -1 16
80 33
blue red
0 1
41 40
red - - - - green 
*/
#include <stdio.h>

enum color { RED, GREEN = 5, BLUE, DARK = -2, DARKER, BLACK = GREEN * 2 + BLUE };
typedef enum { OFF, ON } toggle;
enum { WIDTH = sizeof(int) * 4, HEIGHT = WIDTH / 3, BIT = 1 << 5 };

static enum color next(enum color c) { return c == BLUE ? RED : c + 1; }
static const char *const names[] = { [RED] = "red", [GREEN] = "green", [BLUE] = "blue" };

int main(void)
{
    char field[HEIGHT][WIDTH];
    toggle t = OFF;
    enum color c = GREEN;
    printf("%d %d %d %d %d\n", RED, BLUE, DARK, DARKER, BLACK);
    printf("%zu %d\n", sizeof field, BIT | ON);
    c = next(c);
    printf("%s %s\n", names[c], names[next(c)]);
    t = !t;
    t ^= ON;
    printf("%d %d\n", t, DARK < RED);
    {
        enum color { RED = 40, PINK };
        enum color inner = PINK;
        printf("%d %d\n", inner, RED);
    }
    for (c = RED; c <= GREEN; c++)
        printf("%s ", names[c] ? names[c] : "-");
    printf("\n");
    return BLACK + RED;
}
