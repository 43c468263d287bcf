// 1500: bytes of text: copying, lengths, comparing, case, word counts
#include "kernel.h"

static char source[8192], target[8192];

static NOINLINE unsigned length(const char *s) {
    const char *p = s;
    while (*p)
        p++;
    return (unsigned)(p - s);
}
static NOINLINE int compare(const char *a, const char *b) {
    for (; *a && *a == *b; a++, b++)
        ;
    return *a - *b;
}
static NOINLINE int words(const char *s) {
    int count = 0, inside = 0;
    for (; *s; s++) {
        int letter = *s > ' ';
        count += letter && !inside;
        inside = letter;
    }
    PAUSE();
    return count;
}
static NOINLINE void upper(char *s) {
    for (; *s; s++)
        if (*s >= 'a' && *s <= 'z')
            *s = (char)(*s - 32);
}

int run(int turns) {
    int sum = 0;
    for (int i = 0; i < 8191; i++)
        source[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 26);
    for (int t = 0; t < turns; t++)
        for (int i = 0; i < 10; i++) {
            __builtin_memcpy(target, source, sizeof target);
            source[(t * 10 + i) % 8000] ^= 1;
            sum = sum * 3 + (int)length(target) + compare(target, source) + words(target);
            upper(target);
            __builtin_memmove(target + 5, target, 4000);
            sum += target[77];
        }
    return sum;
}
