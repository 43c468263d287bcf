/* Function pointers: tables, a state machine whose states return the next state, callbacks with context, closures by hand. */
#include <stdio.h>
#include <string.h>

typedef long (*binary)(long, long);
static long add(long a, long b) { return a + b; }
static long sub(long a, long b) { return a - b; }
static long mul(long a, long b) { return a * b; }
static long power(long a, long b) { return b <= 0 ? 1 : a * power(a, b - 1); }
static const struct {
    const char *name;
    binary apply;
} table[] = {{"add", add}, {"sub", sub}, {"mul", mul}, {"pow", power}};

struct state;
typedef struct state *(*step)(struct state *, char);
struct state {
    step next;
    int words, letters, digits;
};
static struct state *between(struct state *s, char c);
static struct state *in_word(struct state *s, char c) {
    if (c == ' ')
        s->next = between;
    else
        s->letters++;
    return s;
}
static struct state *in_number(struct state *s, char c) {
    if (c == ' ')
        s->next = between;
    else
        s->digits++;
    return s;
}
static struct state *between(struct state *s, char c) {
    if (c == ' ')
        return s;
    s->words++;
    s->next = (c >= '0' && c <= '9') ? in_number : in_word;
    return s->next(s, c);
}

static void each(const int *items, int count, void (*call)(void *, int), void *context) {
    for (int i = 0; i < count; i++)
        call(context, items[i]);
}
static void summing(void *context, int item) { *(long *)context += item; }
static void largest(void *context, int item) {
    if (item > *(int *)context)
        *(int *)context = item;
}

static double trapezoid(double (*f)(double), double from, double to, int steps) {
    double width = (to - from) / steps, area = 0;
    for (int i = 0; i < steps; i++)
        area += (f(from + i * width) + f(from + (i + 1) * width)) / 2 * width;
    return area;
}
static double square(double x) { return x * x; }
static double cubic(double x) { return x * x * x - 2 * x; }

int main(void) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (long a = 2; a < 5; a++)
            printf("%s %ld %ld = %ld\n", table[i].name, a, a + 3, table[i].apply(a, a + 3));
    struct state machine = {between, 0, 0, 0}, *s = &machine;
    for (const char *p = "nine 9 lives of 7777 cats  and 12 dogs"; *p; p++)
        s = s->next(s, *p);
    printf("%d words, %d letters, %d digits\n", s->words, s->letters, s->digits);
    int items[] = {4, -2, 99, 17, 0, 31}, most = -1;
    long sum = 0;
    each(items, 6, summing, &sum);
    each(items, 6, largest, &most);
    printf("sum %ld, largest %d\n", sum, most);
    printf("%.6f %.6f\n", trapezoid(square, 0, 3, 40), trapezoid(cubic, -1, 2, 40));
    binary chosen = table[strlen("xyz") % 4].apply;
    printf("%ld %d\n", chosen(3, 7), chosen == power);
    return 0;
}
