/* Variable arguments: walking va_list by a format, passing it on, copying it, mixed widths, structs through it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct pair {
    int a;
    double b;
};

static long long total(const char *kinds, ...) {
    va_list list;
    long long sum = 0;
    va_start(list, kinds);
    for (; *kinds; kinds++) {
        switch (*kinds) {
        case 'i': sum += va_arg(list, int); break;
        case 'l': sum += va_arg(list, long long); break;
        case 'd': sum += (long long)(va_arg(list, double) * 100); break;
        case 's': sum += (long long)strlen(va_arg(list, const char *)); break;
        case 'p': {
            struct pair p = va_arg(list, struct pair);
            sum += p.a + (long long)p.b;
            break;
        }
        }
    }
    va_end(list);
    return sum;
}

static int twice(char *out, size_t room, const char *format, ...) {
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int first = vsnprintf(out, room, format, list);
    int second = vsnprintf(out + first, room - (size_t)first, format, again);
    va_end(again);
    va_end(list);
    return first + second;
}

static void report(int level, const char *format, ...) {
    va_list list;
    printf("%*s", level * 2, "");
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    if (level < 3)
        report(level + 1, "nested %d of %s", level + 1, "three");
}

int main(void) {
    char buffer[200];
    struct pair p = {40, 2.9};
    printf("%lld\n", total("iil", 1, 2, 3000000000000LL));
    printf("%lld\n", total("disdp", 1.25, -5, "hello", 99.99, p));
    printf("%lld\n", total(""));
    int n = twice(buffer, sizeof buffer, "<%s %d %.3f %llx>", "x", -7, 3.14159, 0xdeadbeefcafeULL);
    printf("%d %s\n", n, buffer);
    report(0, "start %c%c%c %5.2f|%-6s|%06d", 'a', 'b', 'c', 2.5, "left", 42);
    return 0;
}
