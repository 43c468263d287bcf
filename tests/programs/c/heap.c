/* malloc, realloc and free, heavily: a hash table with chains, a binary search tree, lists, blocks of many sizes, a check on their bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next;
    int value;
    char key[];
};
static struct entry *buckets[31];
static unsigned hash(const char *s) {
    unsigned h = 2166136261u;
    while (*s)
        h = (h ^ (unsigned char)*s++) * 16777619u;
    return h;
}
static int *lookup(const char *key) {
    struct entry **at = &buckets[hash(key) % 31];
    for (; *at; at = &(*at)->next)
        if (!strcmp((*at)->key, key))
            return &(*at)->value;
    *at = malloc(sizeof(struct entry) + strlen(key) + 1);
    (*at)->next = NULL;
    (*at)->value = 0;
    strcpy((*at)->key, key);
    return &(*at)->value;
}
struct node {
    struct node *left, *right;
    int key;
};
static struct node *insert(struct node *n, int key) {
    if (!n) {
        n = calloc(1, sizeof *n);
        n->key = key;
    } else if (key < n->key)
        n->left = insert(n->left, key);
    else if (key > n->key)
        n->right = insert(n->right, key);
    return n;
}
static int height(const struct node *n) {
    if (!n)
        return 0;
    int l = height(n->left), r = height(n->right);
    return 1 + (l > r ? l : r);
}
static long walk(struct node *n, long sum) {
    if (!n)
        return sum;
    sum = walk(n->left, sum) * 3 % 1000003 + n->key;
    sum = walk(n->right, sum);
    free(n);
    return sum;
}

int main(void) {
    unsigned seed = 7;
    for (int i = 0; i < 250; i++) {
        char key[16];
        seed = seed * 1664525u + 1013904223u;
        snprintf(key, sizeof key, "k%u", (seed >> 20) % 60);
        ++*lookup(key);
    }
    int used = 0, most = 0;
    for (int i = 0; i < 31; i++)
        for (struct entry *e = buckets[i], *next; e; e = next) {
            next = e->next;
            used++;
            if (e->value > most)
                most = e->value;
            free(e);
        }
    printf("%d keys, most %d\n", used, most);
    struct node *root = NULL;
    for (int i = 0; i < 150; i++) {
        seed = seed * 1664525u + 1013904223u;
        root = insert(root, (int)(seed >> 18) % 500);
    }
    printf("height %d", height(root));
    printf(", walk %ld\n", walk(root, 0));
    unsigned char *blocks[24] = {0};
    size_t sizes[24] = {0};
    int wrong = 0;
    for (int round = 0; round < 160; round++) {
        seed = seed * 1664525u + 1013904223u;
        int i = (int)(seed >> 16) % 24;
        size_t size = 1 + (seed >> 8) % 300;
        for (size_t j = 0; j < sizes[i]; j++)
            wrong += blocks[i][j] != (unsigned char)(i * 7);
        blocks[i] = realloc(blocks[i], size);
        memset(blocks[i], i * 7, size);
        sizes[i] = size;
    }
    for (int i = 0; i < 24; i++)
        free(blocks[i]);
    printf("wrong %d\n", wrong);
    return 0;
}
