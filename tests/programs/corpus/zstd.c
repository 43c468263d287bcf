/* zstd compresses made-up text at three levels and decompresses it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zstd.h"

enum { SIZE = 1 << 20 };

int main(void) {
    char *text = malloc(SIZE), *back = malloc(SIZE), *packed = malloc(ZSTD_compressBound(SIZE));
    unsigned seed = 1;
    for (int at = 0; at < SIZE; at++) {
        seed = seed * 1664525 + 1013904223;
        text[at] = at > 4000 && seed >> 28 ? text[at - 1 - (seed >> 8) % 97 % (at / 40 + 1)] : 'a' + (seed >> 16) % 26;
    }
    for (int level = 1; level <= 7; level += 3) {
        size_t size = ZSTD_compress(packed, ZSTD_compressBound(SIZE), text, SIZE, level);
        if (ZSTD_isError(size) || ZSTD_decompress(back, SIZE, packed, size) != SIZE || memcmp(text, back, SIZE)) return 1;
        printf("%zu ", size);
    }
    puts("");
    return 0;
}
