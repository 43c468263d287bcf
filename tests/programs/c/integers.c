/* 64-bit and 128-bit integers: wrapping, division, rotations, bit counts, modular powers, primes, gcd. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

static uint64_t mulmod(uint64_t a, uint64_t b, uint64_t m) { return (uint64_t)((unsigned __int128)a * b % m); }
static uint64_t powmod(uint64_t a, uint64_t e, uint64_t m) {
    uint64_t r = 1;
    for (a %= m; e; e >>= 1, a = mulmod(a, a, m))
        if (e & 1)
            r = mulmod(r, a, m);
    return r;
}
static int is_prime(uint64_t n) {
    static const uint64_t bases[] = {2, 3, 5, 7, 11, 13, 17};
    if (n < 2)
        return 0;
    for (int i = 0; i < 7; i++)
        if (n % bases[i] == 0)
            return n == bases[i];
    uint64_t d = n - 1;
    int s = 0;
    while (!(d & 1))
        d >>= 1, s++;
    for (int i = 0; i < 7; i++) {
        uint64_t x = powmod(bases[i], d, n);
        if (x == 1 || x == n - 1)
            continue;
        int round = 1;
        for (; round < s; round++)
            if ((x = mulmod(x, x, n)) == n - 1)
                break;
        if (round == s)
            return 0;
    }
    return 1;
}
static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }
static uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

int main(void) {
    uint64_t x = 0x9e3779b97f4a7c15u;
    for (int i = 1; i < 8; i++) {
        x = rotate(x * 0xbf58476d1ce4e5b9u, i * 7) ^ (x >> 31);
        printf("%016" PRIx64 " pop %d clz %d ctz %d\n", x, __builtin_popcountll(x), __builtin_clzll(x), __builtin_ctzll(x));
    }
    int64_t a = -9223372036854775807LL;
    printf("%" PRId64 " %" PRId64 " %" PRId64 "\n", a / 10, a % 10, a >> 5);
    printf("%" PRIu64 " %" PRIu64 "\n", (uint64_t)a / 1000003, (uint64_t)a % 1000003);
    printf("gcd %" PRId64 "\n", gcd(1234567890123456789LL, 987654321098765432LL));
    uint64_t found = 0, n = (1ull << 61) - 20;
    for (; found < 3; n++)
        if (is_prime(n))
            found++, printf("prime %" PRIu64 "\n", n);
    unsigned __int128 big = 1;
    for (int i = 1; i <= 30; i++)
        big *= (unsigned)i;
    printf("30! = %" PRIx64 "%016" PRIx64 "\n", (uint64_t)(big >> 64), (uint64_t)big);
    int8_t small = -128;
    int16_t medium = (int16_t)0x8001;
    printf("%d %d %d\n", small >> 1, medium >> 3, (int)(uint8_t)small);
    return 0;
}
