/* printf with every kind of conversion, widths and precisions from arguments, wide output in many small writes. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    printf("[%d] [%5d] [%-5d] [%05d] [%+d] [% d]\n", 42, 42, 42, 42, 42, 42);
    printf("[%x] [%X] [%#x] [%o] [%#o] [%u]\n", 48879, 48879, 48879, 511, 511, 4000000000u);
    printf("[%lld] [%llu] [%llx] [%hhd] [%hd]\n", INT64_MIN, UINT64_MAX, UINT64_MAX, 300, 70000);
    printf("[%f] [%.0f] [%10.3f] [%-10.2f] [%+.1f]\n", 3.14159265, 2.5, 2.71828, 1.5, -0.05);
    printf("[%e] [%.2E] [%g] [%g] [%G]\n", 12345.678, 0.00012, 0.0001, 1e10, 1e-10);
    printf("[%a] [%.3a]\n", 1.0, 3.14159);
    printf("[%s] [%10s] [%-10s] [%.2s] [%*s] [%.*s]\n", "abc", "abc", "abc", "abc", 6, "abc", 1, "abc");
    printf("[%c] [%5c] [%%] [%p]\n", 'x', 'y', (void *)0);
    for (int i = 0; i < 20; i++)
        printf("%*d%s", 4, i * i * i, i % 5 == 4 ? "\n" : "");
    for (const char *p = "one write for each letter\n"; *p; p++) {
        putchar(*p);
        fflush(stdout);
    }
    char line[64];
    int n = snprintf(line, 10, "%s-%d", "truncated", 12345);
    printf("%d %s\n", n, line);
    int a = 0;
    unsigned b = 0;
    double c = 0;
    char word[16];
    int got = sscanf("17 beef 2.75 word rest", "%d %x %lf %15s", &a, &b, &c, word);
    printf("%d: %d %u %.2f %s\n", got, a, b, c, word);
    fputs("to stderr as well\n", stderr);
    fflush(stdout);
    return 0;
}
