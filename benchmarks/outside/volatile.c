/* expect 26
10 14 12
8
10 1248
7.59375
*/
#include <stdio.h>

static volatile int ticks;
static volatile const int fixed = 12;
struct port { volatile unsigned char status; volatile unsigned data; };

static int tick(void) { ticks = ticks + 1; return ticks; }

int main(void)
{
    volatile int local = 3, *p = &local;
    int *volatile q = (int[]){ 7, 8 };
    struct port port = { 0x80, 0 };
    volatile struct port *io = &port;
    while (tick() < 10)
        ;
    *p += 4;
    local <<= 1;
    printf("%d %d %d\n", ticks, local, fixed);
    q++;
    printf("%d\n", *q);
    for (io->status = 1; !(io->status & 0x10); io->status <<= 1)
        io->data = io->data << 4 | io->status;
    printf("%x %x\n", port.status, port.data);
    volatile double d = 1.0;
    for (volatile int i = 0; i < 5; i++)
        d = d * 1.5;
    printf("%g\n", d);
    ticks;
    return (volatile char)fixed + local--;
}
