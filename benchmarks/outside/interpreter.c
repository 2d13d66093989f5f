/* expect 115
3628800
-48
*/
#include <stdio.h>

enum op { PUSH, ADD, SUB, MUL, DUP, SWAP, JNZ, JMP, PRINT, LOAD, STORE, CALL, RET, HALT };

static const int program[] = {
    PUSH, 10, STORE, 0, PUSH, 1, STORE, 1,
    LOAD, 1, LOAD, 0, MUL, STORE, 1,
    LOAD, 0, PUSH, 1, SUB, DUP, STORE, 0, JNZ, 8,
    LOAD, 1, PRINT, PUSH, 7, CALL, 36, PRINT, HALT, 0, 0,
    DUP, MUL, PUSH, 1, SWAP, SUB, RET,
};

static int run(const int *code)
{
    int stack[32], calls[8], memory[4] = { 0 }, *sp = stack, depth = 0, steps = 0;
    for (const int *pc = code; ; steps++)
        switch ((enum op)*pc++) {
        case PUSH: *sp++ = *pc++; break;
        case ADD: sp--; sp[-1] += *sp; break;
        case SUB: sp--; sp[-1] -= *sp; break;
        case MUL: --sp; sp[-1] *= sp[0]; break;
        case DUP: *sp = sp[-1]; sp++; break;
        case SWAP: { int t = sp[-1]; sp[-1] = sp[-2]; sp[-2] = t; } break;
        case JNZ: pc = *--sp ? code + *pc : pc + 1; break;
        case JMP: pc = code + *pc; break;
        case PRINT: printf("%d\n", *--sp); break;
        case LOAD: *sp++ = memory[*pc++]; break;
        case STORE: memory[*pc++] = *--sp; break;
        case CALL: calls[depth++] = (int)(pc + 1 - code); pc = code + *pc; break;
        case RET: pc = code + calls[--depth]; break;
        case HALT: return steps;
        }
}

int main(void) { return run(program) % 256; }
