/* expect 42
7 3
2.0312
8
*/
#include <ctype.h>
#include <stdio.h>

static const char *at;
static double sum(void);

static double atom(void)
{
    while (*at == ' ') at++;
    if (*at == '-') return at++, -atom();
    if (*at == '(') { at++; double v = sum(); at += *at == ')'; return v; }
    double v = 0, unit = 1;
    while (isdigit((unsigned char)*at)) v = v * 10 + (*at++ - '0');
    if (*at == '.') while (isdigit((unsigned char)*++at)) v += (*at - '0') * (unit /= 10);
    while (*at == ' ') at++;
    return v;
}

static double product(void)
{
    double v = atom();
    for (;;)
        if (*at == '*') at++, v *= atom();
        else if (*at == '/') { ++at; v /= atom(); }
        else return v;
}

static double sum(void)
{
    double v = product();
    while (*at == '+' || *at == '-') { int sign = *at++ == '+' ? 1 : -1; v += sign * product(); }
    return v;
}

static double value(const char *text) { at = text; return sum(); }

int main(void)
{
    printf("%g %g\n", value("1 + 2 * 3"), value("(1+2) * -(3 - 10) / 2"));
    printf("%.4f\n", value("3.25 * (0.5 + 1/8) - --2"));
    printf("%g\n", value("((((8)))) / 2 / 2 - 1 - 1"));
    return (int)value("6*7");
}
