// 270: a fractal: a loop of doubles with an early exit
#include "kernel.h"

static NOINLINE int escape(double cr, double ci) {
    double r = 0, i = 0;
    for (int n = 0; n < 200; n++) {
        double rr = r * r, ii = i * i;
        if (rr + ii > 4)
            return n;
        i = 2 * r * i + ci;
        r = rr - ii + cr;
    }
    PAUSE();
    return 200;
}

int run(int turns) {
    int sum = 0;
    for (int t = 0; t < turns; t++)
        for (int y = 0; y < 64; y++)
            for (int x = 0; x < 96; x++)
                sum += escape(x / 32.0 - 2.2, (y + t % 3) / 32.0 - 1);
    return sum;
}
