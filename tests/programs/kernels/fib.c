// 400: plain recursion: calls and returns and nothing else
#include "kernel.h"

static NOINLINE int fib(int n) {
    if (n < 2) {
        if (n < 0)
            sched_yield();
        return n;
    }
    return fib(n - 1) + fib(n - 2);
}

int run(int turns) {
    int sum = 0;
    for (int i = 0; i < turns; i++)
        sum += fib(27 - (i & 1));
    return sum;
}
