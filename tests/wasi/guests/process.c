/* Arguments, environment, streams, clocks and sleeping. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        printf("argument %d: [%s]\n", i, argv[i]);
    for (char **entry = environ; *entry; entry++)
        printf("environment: [%s]\n", *entry);
    printf("HOME is %s\n", getenv("HOME") ? getenv("HOME") : "nowhere");

    char line[32];
    while (fgets(line, sizeof line, stdin))
        printf("input: %s%s", line, strchr(line, '\n') ? "" : "...\n");
    printf("end of input: %d, error: %d\n", !!feof(stdin), !!ferror(stdin));

    struct timespec before, after, pause = {0, 20 * 1000 * 1000}, now;
    clock_gettime(CLOCK_MONOTONIC, &before);
    printf("nanosleep: %d\n", nanosleep(&pause, NULL));
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long passed = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    printf("slept long enough: %d\n", passed >= 20 * 1000 * 1000);
    clock_gettime(CLOCK_REALTIME, &now);
    printf("after 2020: %d\n", now.tv_sec > 1577836800);
    printf("usleep: %d\n", usleep(1000));
    struct timespec until = after;
    until.tv_nsec += 1000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    printf("until: %d\n", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    struct pollfd wanted = {.fd = 1, .events = POLLOUT};
    printf("poll: %d", poll(&wanted, 1, 1000));
    printf(" %d\n", !!(wanted.revents & POLLOUT));
    printf("yield: %d\n", sched_yield());

    unsigned char random[300] = {0};
    printf("random: %d\n", getentropy(random, 256));
    int distinct = 0, seen[256] = {0};
    for (int i = 0; i < 256; i++)
        distinct += !seen[random[i]]++;
    printf("distinct enough: %d\n", distinct > 100);
    fprintf(stderr, "to standard error\n");
    fflush(stdout);
    write(1, "unbuffered\n", 11);
    exit(argc);
}
