/* Structs by value, in and out, nested, in arrays; unions, bit fields, flexible layouts, comparison by bytes. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct vector {
    double x, y, z;
};
struct body {
    struct vector at, speed;
    char name[8];
    float mass;
};
union number {
    uint32_t bits;
    float value;
    uint8_t bytes[4];
};
struct flags {
    unsigned ready : 1, kind : 3, level : 7;
    signed shift : 5;
    uint64_t wide : 40;
};

static struct vector add(struct vector a, struct vector b) { return (struct vector){a.x + b.x, a.y + b.y, a.z + b.z}; }
static struct vector scale(struct vector a, double k) { return (struct vector){a.x * k, a.y * k, a.z * k}; }
static struct body moved(struct body b, double time) {
    b.at = add(b.at, scale(b.speed, time));
    b.name[0]++;
    return b;
}
static struct vector centre(const struct body *bodies, int n) {
    struct vector sum = {0};
    double mass = 0;
    for (int i = 0; i < n; i++) {
        sum = add(sum, scale(bodies[i].at, (double)bodies[i].mass));
        mass += (double)bodies[i].mass;
    }
    return scale(sum, 1 / mass);
}
struct matrix {
    int cell[3][3];
};
static struct matrix times(struct matrix a, struct matrix b) {
    struct matrix r = {0};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++)
                r.cell[i][j] += a.cell[i][k] * b.cell[k][j];
    return r;
}
static struct matrix raised(struct matrix a, int n) {
    if (n == 1)
        return a;
    struct matrix half = raised(a, n / 2), whole = times(half, half);
    return n % 2 ? times(whole, a) : whole;
}

int main(void) {
    struct body bodies[3] = {{{0, 0, 0}, {1, 0, 0}, "alpha", 1}, {{1, 2, 3}, {0, -1, 0.5}, "beta", 2}, {{-4, 0, 1}, {0.25, 0, 0}, "gamma", 4}};
    for (int step = 0; step < 5; step++)
        for (int i = 0; i < 3; i++)
            bodies[i] = moved(bodies[i], 0.5);
    for (int i = 0; i < 3; i++)
        printf("%s %.3f %.3f %.3f\n", bodies[i].name, bodies[i].at.x, bodies[i].at.y, bodies[i].at.z);
    struct vector c = centre(bodies, 3);
    printf("centre %.6f %.6f %.6f\n", c.x, c.y, c.z);
    struct matrix fibonacci = raised((struct matrix){{{1, 1, 0}, {1, 0, 0}, {0, 0, 1}}}, 40);
    printf("%d %d %d\n", fibonacci.cell[0][0], fibonacci.cell[0][1], fibonacci.cell[1][1]);
    union number u = {.value = 1.5f};
    printf("%08x %u %u\n", u.bits, u.bytes[3], u.bytes[2]);
    struct flags f = {1, 5, 100, -3, 0xabcdef0123};
    f.level += 40;
    printf("%u %u %u %d %llx\n", f.ready, f.kind, f.level, f.shift, (unsigned long long)f.wide);
    struct body copy = bodies[1];
    printf("%d", memcmp(&copy.at, &bodies[1].at, sizeof copy.at));
    copy.speed.z = 9;
    printf(" %.1f %.1f\n", copy.speed.z, bodies[1].speed.z);
    return 0;
}
