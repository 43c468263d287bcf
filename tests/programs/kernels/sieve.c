// 370: the sieve of Eratosthenes: tight loops with one store each
#include "kernel.h"

enum { N = 200000 };
static uint8_t composite[N];

int run(int turns) {
    int sum = 0;
    for (int t = 0; t < turns; t++) {
        int count = 0;
        for (int i = 0; i < N; i++)
            composite[i] = 0;
        for (int i = 2; i < N; i++) {
            if (composite[i])
                continue;
            count++;
            for (int j = i + i; j < N; j += i)
                composite[j] = 1;
        }
        PAUSE();
        sum = sum * 31 + count + t;
    }
    return sum;
}
