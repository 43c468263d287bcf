/* setjmp and longjmp: out of nested calls, out of loops, through a function pointer, and more than once. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf outer, inner;

static void dig(int depth, int goal) {
    if (depth == goal)
        longjmp(inner, depth);
    dig(depth + 1, goal);
    printf("never printed %d\n", depth);
}

static int attempt(int goal) {
    volatile int before = goal * 3;
    int code = setjmp(inner);
    if (code == 0) {
        dig(0, goal);
        return -1;
    }
    return before + code;
}

static void thrower(int n) {
    if (n % 3 == 0)
        longjmp(outer, n + 100);
}

static void visit(void (*call)(int), int n) {
    call(n);
    printf("passed %d\n", n);
}

struct handler {
    jmp_buf at;
    struct handler *up;
};
static struct handler *top;

static void raise_code(int code) {
    struct handler *here = top;
    top = here->up;
    longjmp(here->at, code);
}

static int guarded(int depth) {
    struct handler here;
    volatile int sum = depth;
    here.up = top;
    int code = setjmp(here.at);
    if (code == 0) {
        top = &here;
        if (depth == 0)
            raise_code(7);
        sum += guarded(depth - 1);
        if (depth % 2 == 0)
            raise_code(depth);
        top = here.up;
        return sum;
    }
    return sum * 10 + code;
}

int main(void) {
    for (int goal = 1; goal < 6; goal++)
        printf("attempt %d -> %d\n", goal, attempt(goal));
    volatile int round = 0;
    int code = setjmp(outer);
    if (code)
        printf("caught %d in round %d\n", code, round);
    while (++round < 9)
        visit(thrower, round);
    printf("guarded %d %d %d\n", guarded(0), guarded(3), guarded(6));
    printf("stack is %s\n", top == NULL ? "empty" : "not empty");
    return 0;
}
