// 150: a tight loop of integers: the worst case of a poll at each turn
#include "kernel.h"

int run(int turns) {
    unsigned most = 0;
    for (int t = 0; t < turns; t++) {
        for (unsigned start = 1; start < 10000; start++) {
            unsigned steps = 0;
            for (unsigned n = start; n != 1; steps++)
                n = n & 1 ? n * 3 + 1 : n / 2;
            if (steps > most)
                most = steps;
        }
        PAUSE();
    }
    return (int)most + turns;
}
