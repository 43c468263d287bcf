// 700: a 64-bit hash over a buffer: multiplications and rotations in a tight loop
#include "kernel.h"

static uint64_t buffer[4096];

static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }
static NOINLINE uint64_t mix(uint64_t seed) {
    uint64_t a = seed, b = ~seed;
    for (int i = 0; i < 4096; i += 2) {
        a = rotate(a ^ buffer[i] * 0x9e3779b97f4a7c15u, 29) * 0xbf58476d1ce4e5b9u;
        b = rotate(b + buffer[i + 1], 37) ^ a;
        buffer[i] = b;
    }
    PAUSE();
    return a ^ b;
}

int run(int turns) {
    uint64_t h = 1;
    for (int i = 0; i < 4096; i++)
        buffer[i] = (uint64_t)i * i + 7;
    for (int t = 0; t < turns; t++)
        for (int i = 0; i < 100; i++)
            h = mix(h);
    return (int)(h ^ h >> 32);
}
