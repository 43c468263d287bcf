// 450: the solar system: doubles, square roots, nested loops over structs
#include "kernel.h"

struct body {
    double x, y, z, vx, vy, vz, mass;
};
static struct body sky[5];

static NOINLINE void advance(double dt) {
    for (int i = 0; i < 5; i++) {
        struct body *a = &sky[i];
        for (int j = i + 1; j < 5; j++) {
            struct body *b = &sky[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double square = dx * dx + dy * dy + dz * dz;
            double magnitude = dt / (square * __builtin_sqrt(square));
            a->vx -= dx * b->mass * magnitude;
            a->vy -= dy * b->mass * magnitude;
            a->vz -= dz * b->mass * magnitude;
            b->vx += dx * a->mass * magnitude;
            b->vy += dy * a->mass * magnitude;
            b->vz += dz * a->mass * magnitude;
        }
    }
    for (int i = 0; i < 5; i++) {
        sky[i].x += dt * sky[i].vx;
        sky[i].y += dt * sky[i].vy;
        sky[i].z += dt * sky[i].vz;
    }
    PAUSE();
}

int run(int turns) {
    for (int i = 0; i < 5; i++)
        sky[i] = (struct body){i * 4.8 + 0.1, -i * 1.1, i * 0.3, 0.6 - i * 0.2, i * 1.7, 0.01 * i, i ? 0.03 / i : 39.4};
    for (int i = 0; i < turns; i++)
        for (int step = 0; step < 10000; step++)
            advance(0.0001);
    double sum = 0;
    for (int i = 0; i < 5; i++)
        sum += sky[i].x + sky[i].vy;
    return (int)(sum * 1e6);
}
