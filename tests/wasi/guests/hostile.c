/* Wants more of everything than there is, and prints which error stops it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char block[1 << 20];

static void say(const char *what, long long count) {
    fprintf(stderr, "%s: %lld, %s\n", what, count, strerror(errno));
}

int main(void) {
    long long count = 0;
    char name[600];
    memset(block, 'x', sizeof block);

    int fd = open("big", O_CREAT | O_RDWR, 0600);
    for (long long got; count < 4LL << 30 && (got = write(fd, block, sizeof block)) > 0;)
        count += got;
    say("bytes", count);
    lseek(fd, 1LL << 40, SEEK_SET);
    say("far", write(fd, "x", 1));
    say("sparse", ftruncate(fd, 1LL << 40));
    close(fd);
    unlink("big");

    for (count = 0; count < 100000; count++) {
        snprintf(name, sizeof name, "file-%lld", count);
        if ((fd = open(name, O_CREAT | O_WRONLY, 0600)) < 0)
            break;
        close(fd);
    }
    say("files", count);
    for (count = 0; open("file-0", O_RDONLY) >= 0; count++)
        ;
    say("descriptors", count);
    for (fd = 3; fd < 1000; fd++)
        if (fcntl(fd, F_GETFL) >= 0 && fd > 4)
            close(fd);

    memset(name, 'n', 300);
    name[300] = 0;
    say("long name", open(name, O_CREAT | O_WRONLY, 0600));
    say("no text", open("caf\xe9", O_CREAT | O_WRONLY, 0600));
    unlink("file-1");
    symlink("loop", "loop");
    say("loop", open("loop", O_RDONLY));
    say("out", open("../../../../etc/passwd", O_RDONLY));
    say("above", open("/../etc/passwd", O_RDONLY));

    for (count = 0; count < 1 << 30;) {
        long long got = write(1, block, sizeof block);
        if (got <= 0)
            break;
        count += got;
    }
    return errno == ENOSPC && count < 1 << 30 ? 42 : 1; /* there is no room left to say it */
}
