// 250: a bytecode interpreter in one switch: the loop that is every interpreter
#include "kernel.h"

enum { PUSH, ADD, SUB, MUL, XOR, AND, LESS, JUMP, JUMP0, LOAD, STORE, DUP, SHIFT, PAUSED, HALT };
/* i = 0; h = seed; while (i < 20000) { h = (h * 31 + i) ^ (h >> 5); if (h & 1) h = h + 3; i = i + 1 } */
static int program[] = {PUSH, 0, STORE, 0, LOAD, 0, PUSH, 20000, LESS, JUMP0, 50, LOAD, 1, PUSH, 31, MUL, LOAD, 0, ADD,
                        LOAD, 1, PUSH, 5, SHIFT, XOR, STORE, 1, LOAD, 1, PUSH, 1, AND, JUMP0, 41, LOAD, 1, PUSH, 3, ADD, STORE, 1,
                        LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4, HALT};

static NOINLINE unsigned interpret(const int *pc0, unsigned seed) {
    unsigned stack[32], cells[4] = {0, seed, 0, 0}, *sp = stack;
    const int *pc = pc0;
    for (;;) {
        switch (*pc++) {
        case PUSH: *sp++ = (unsigned)*pc++; break;
        case ADD: sp--; sp[-1] += sp[0]; break;
        case SUB: sp--; sp[-1] -= sp[0]; break;
        case MUL: sp--; sp[-1] *= sp[0]; break;
        case XOR: sp--; sp[-1] ^= sp[0]; break;
        case AND: sp--; sp[-1] &= sp[0]; break;
        case LESS: sp--; sp[-1] = sp[-1] < sp[0]; break;
        case JUMP: pc = pc0 + *pc; break;
        case JUMP0: pc = *--sp ? pc + 1 : pc0 + *pc; break;
        case LOAD: *sp++ = cells[*pc++]; break;
        case STORE: cells[*pc++] = *--sp; break;
        case DUP: *sp = sp[-1]; sp++; break;
        case SHIFT: sp--; sp[-1] >>= sp[0]; break;
        case PAUSED: sched_yield(); break;
        case HALT: return cells[1];
        }
    }
}

int run(int turns) {
    unsigned seed = 1;
    for (int i = 0; i < turns; i++) {
        program[7] = 20000 + (int)(seed & 1);
        seed = interpret(program, seed + 1);
    }
    return (int)seed;
}
