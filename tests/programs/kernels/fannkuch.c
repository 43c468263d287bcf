// 270: permutations of small arrays: short loops with unpredictable ends
#include "kernel.h"

static NOINLINE int fannkuch(int n) {
    int order[12], flipped[12], counts[12], most = 0, r = n;
    for (int i = 0; i < n; i++)
        order[i] = i;
    for (;;) {
        for (; r != 1; r--)
            counts[r - 1] = r;
        for (int i = 0; i < n; i++)
            flipped[i] = order[i];
        int flips = 0;
        for (int first = flipped[0]; first; first = flipped[0], flips++)
            for (int i = 0, j = first; i < j; i++, j--) {
                int t = flipped[i];
                flipped[i] = flipped[j], flipped[j] = t;
            }
        if (flips > most) {
            most = flips;
            PAUSE();
        }
        for (;; r++) {
            if (r == n)
                return most;
            int first = order[0];
            for (int i = 0; i < r; i++)
                order[i] = order[i + 1];
            order[r] = first;
            if (--counts[r] > 0)
                break;
        }
    }
}

int run(int turns) {
    int sum = 0;
    for (int i = 0; i < turns; i++)
        sum = sum * 31 + fannkuch(7 + (i & 1));
    return sum;
}
