// 250: a small VM whose instructions are functions in a table: an indirect call for each
#include "kernel.h"

struct vm {
    const struct instruction *pc;
    unsigned r[8];
    int halted;
};
struct instruction {
    void (*run)(struct vm *, int, int, int);
    int a, b, c;
};
static NOINLINE void set(struct vm *v, int a, int b, int c) { v->r[a] = (unsigned)b; (void)c; }
static NOINLINE void add(struct vm *v, int a, int b, int c) { v->r[a] = v->r[b] + v->r[c]; }
static NOINLINE void mul(struct vm *v, int a, int b, int c) { v->r[a] = v->r[b] * v->r[c]; }
static NOINLINE void xor_shift(struct vm *v, int a, int b, int c) { v->r[a] = v->r[b] ^ v->r[b] >> c; }
static NOINLINE void less(struct vm *v, int a, int b, int c) { v->r[a] = v->r[b] < v->r[c]; }
static NOINLINE void branch(struct vm *v, int a, int b, int c) { if (v->r[a]) v->pc += b; (void)c; }
static NOINLINE void halt(struct vm *v, int a, int b, int c) { v->halted = 1; (void)a; (void)b; (void)c; }
static NOINLINE void nap(struct vm *v, int a, int b, int c) { sched_yield(); (void)v; (void)a; (void)b; (void)c; }

static const struct instruction program[] = {
    {set, 0, 0, 0}, {set, 1, 1, 0}, {set, 2, 15000, 0}, {set, 3, 31, 0},
    {mul, 4, 4, 3}, {add, 4, 4, 0}, {xor_shift, 4, 4, 5}, {add, 0, 0, 1}, {less, 5, 0, 2}, {branch, 5, -6, 0}, {halt, 0, 0, 0}, {nap, 0, 0, 0},
};

int run(int turns) {
    struct vm v = {program, {0}, 0};
    for (int i = 0; i < turns; i++) {
        v.pc = program + (pausing ? 11 : 0);
        v.halted = 0;
        while (!v.halted) {
            const struct instruction *now = v.pc++;
            now->run(&v, now->a, now->b, now->c);
        }
    }
    return (int)v.r[4];
}
