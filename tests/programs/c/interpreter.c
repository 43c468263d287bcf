/* A stack machine in one big switch, with calls, jumps and memory of its own; it runs three programs. */
#include <stdint.h>
#include <stdio.h>

enum { PUSH, ADD, SUB, MUL, MOD, LESS, JUMP, JUMP0, LOAD, STORE, CALL, RET, DUP, SWAP, DROP, PRINT, HALT };

static int run(const int32_t *code, int32_t *cells) {
    int32_t stack[64], returns[32];
    int sp = 0, rp = 0, pc = 0, count = 0;
    for (;;) {
        count++;
        switch (code[pc++]) {
        case PUSH: stack[sp++] = code[pc++]; break;
        case ADD: sp--; stack[sp - 1] += stack[sp]; break;
        case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
        case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
        case MOD: sp--; stack[sp - 1] %= stack[sp]; break;
        case LESS: sp--; stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
        case JUMP: pc = code[pc]; break;
        case JUMP0: pc = stack[--sp] ? pc + 1 : code[pc]; break;
        case LOAD: stack[sp++] = cells[code[pc++]]; break;
        case STORE: cells[code[pc++]] = stack[--sp]; break;
        case CALL: returns[rp++] = pc + 1; pc = code[pc]; break;
        case RET: pc = returns[--rp]; break;
        case DUP: stack[sp] = stack[sp - 1]; sp++; break;
        case SWAP: { int32_t t = stack[sp - 1]; stack[sp - 1] = stack[sp - 2]; stack[sp - 2] = t; break; }
        case DROP: sp--; break;
        case PRINT: printf("%d ", stack[--sp]); break;
        case HALT: return count;
        default: return -1;
        }
    }
}

int main(void) {
    /* squares from 0 below 8 */
    static const int32_t squares[] = {PUSH, 0, STORE, 0, LOAD, 0, PUSH, 8, LESS, JUMP0, 23, LOAD, 0, DUP, MUL, PRINT,
                                      LOAD, 0, PUSH, 1, ADD, JUMP, 2, HALT};
    /* 7! through a call that calls itself: [n] -> [n!] at 6 */
    static const int32_t factorial[] = {PUSH, 7, CALL, 6, PRINT, HALT, DUP, PUSH, 2, LESS, JUMP0, 13, RET,
                                        DUP, PUSH, 1, SUB, CALL, 6, MUL, RET};
    /* gcd(252, 198) by remainders */
    static const int32_t divisor[] = {PUSH, 252, STORE, 0, PUSH, 198, STORE, 1, LOAD, 1, JUMP0, 25, LOAD, 0, LOAD, 1, MOD,
                                      LOAD, 1, STORE, 0, STORE, 1, JUMP, 8, LOAD, 0, PRINT, HALT};
    int32_t cells[8] = {0};
    printf("| %d steps\n", run(squares, cells));
    printf("| %d steps\n", run(factorial, cells));
    printf("| %d steps\n", run(divisor, cells));
    return 0;
}
