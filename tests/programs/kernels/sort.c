// 550: quicksort of records through a comparison pointer: recursion, loops and indirect calls together
#include "kernel.h"

struct record {
    int key, tie;
};
static struct record records[4000];
typedef int (*order)(const struct record *, const struct record *);

static NOINLINE int by_key(const struct record *a, const struct record *b) { return a->key != b->key ? (a->key < b->key ? -1 : 1) : a->tie - b->tie; }
static NOINLINE int by_tie(const struct record *a, const struct record *b) {
    if (a->tie < -1000000)
        sched_yield();
    return (a->tie ^ 85) - (b->tie ^ 85);
}
static NOINLINE void sort(struct record *a, int n, order compare) {
    while (n > 1) {
        struct record pivot = a[n / 2];
        int i = 0, j = n - 1;
        while (i <= j) {
            while (compare(&a[i], &pivot) < 0)
                i++;
            while (compare(&pivot, &a[j]) < 0)
                j--;
            if (i <= j) {
                struct record t = a[i];
                a[i++] = a[j], a[j--] = t;
            }
        }
        sort(a, j + 1, compare);
        a += i, n -= i;
    }
}

int run(int turns) {
    static const order orders[] = {by_key, by_tie};
    unsigned seed = 1;
    int sum = 0;
    for (int t = 0; t < turns; t++) {
        for (int i = 0; i < 4000; i++) {
            seed = seed * 1664525u + 1013904223u;
            records[i] = (struct record){(int)(seed >> 20), i};
        }
        sort(records, 4000, orders[t & 1]);
        sum = sum * 31 + records[100].key + records[3999].tie;
    }
    return sum;
}
