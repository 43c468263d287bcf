// 1500: n queens: recursion with a loop and an array in memory
#include "kernel.h"

static int column[16];

static int safe(int row) {
    for (int i = 0; i < row; i++) {
        int d = column[i] - column[row];
        if (d == 0 || d == row - i || d == i - row)
            return 0;
    }
    return 1;
}

static NOINLINE int place(int row, int n) {
    if (row == n) {
        PAUSE();
        return 1;
    }
    int found = 0;
    for (int c = 0; c < n; c++) {
        column[row] = c;
        if (safe(row))
            found += place(row + 1, n);
    }
    return found;
}

int run(int turns) {
    int sum = 0;
    for (int i = 0; i < turns; i++)
        sum = sum * 31 + place(0, 8);
    return sum;
}
