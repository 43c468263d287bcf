// 550: matrices of doubles: three nested loops over memory
#include "kernel.h"

enum { N = 96 };
static double a[N][N], b[N][N], c[N][N];

static NOINLINE void multiply(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    PAUSE();
}

int run(int turns) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = (i * 7 + j) % 13 - 6, b[i][j] = (i + j * 5) % 11 - 5;
    for (int t = 0; t < turns; t++) {
        multiply();
        a[t % N][0] += c[0][t % N] > 0 ? 1 : -1;
    }
    return (int)c[3][5];
}
