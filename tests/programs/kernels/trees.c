// 4500: binary trees: allocation from a free list, recursion over pointers
#include "kernel.h"

struct node {
    struct node *left, *right;
};
static struct node pool[1 << 14], *unused;
static int fresh;

static struct node *take(void) {
    struct node *n = unused;
    if (n)
        unused = n->left;
    else
        n = &pool[fresh++];
    if (fresh >= 1 << 14)
        sched_yield(), fresh = 0;
    return n;
}
static NOINLINE struct node *grow(int depth) {
    struct node *n = take();
    n->left = depth ? grow(depth - 1) : 0;
    n->right = depth ? grow(depth - 1) : 0;
    return n;
}
static NOINLINE int count(const struct node *n) {
    if (!n->left) {
        PAUSE();
        return 1;
    }
    return 1 + count(n->left) + count(n->right);
}
static NOINLINE void drop(struct node *n) {
    if (n->left) {
        drop(n->left);
        drop(n->right);
    }
    n->left = unused;
    unused = n;
}

int run(int turns) {
    int sum = 0;
    for (int i = 0; i < turns; i++) {
        struct node *n = grow(12 - (i & 1));
        sum = sum * 31 + count(n);
        drop(n);
    }
    return sum;
}
