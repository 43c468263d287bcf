/* Memory growth: malloc until the memory has grown several times, memory.grow by hand, old contents checked after each growth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct block {
    struct block *previous;
    size_t size;
    unsigned char first, last;
};

int main(void) {
    size_t before = __builtin_wasm_memory_size(0);
    struct block *list = NULL;
    for (int i = 1; i <= 12; i++) {
        size_t size = (size_t)i * 20000;
        struct block *b = malloc(sizeof *b + size);
        unsigned char *body = (unsigned char *)(b + 1);
        body[0] = (unsigned char)i;
        body[size - 1] = (unsigned char)(i * 3);
        *b = (struct block){list, size, body[0], body[size - 1]};
        list = b;
        int wrong = 0;
        for (struct block *p = list; p; p = p->previous)
            wrong += ((unsigned char *)(p + 1))[0] != p->first || ((unsigned char *)(p + 1))[p->size - 1] != p->last;
        printf("%d: %d wrong\n", i, wrong);
    }
    size_t grown = __builtin_wasm_memory_size(0);
    printf("grown %s\n", grown > before ? "yes" : "no");
    size_t old = __builtin_wasm_memory_grow(0, 3);
    unsigned char *fresh = (unsigned char *)(old * 65536);
    int zero = 1;
    for (int i = 0; i < 3 * 65536; i += 4099)
        zero &= fresh[i] == 0;
    fresh[3 * 65536 - 1] = 77;
    printf("grow %d, zero %d, last %d\n", old == grown, zero, fresh[3 * 65536 - 1]);
    printf("too much %d\n", (int)__builtin_wasm_memory_grow(0, 65536));
    while (list) {
        struct block *p = list->previous;
        free(list);
        list = p;
    }
    return 0;
}
