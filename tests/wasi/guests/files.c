/* Files as a C program uses them: every call prints its result and errno, the contents are printed at the end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHOW(call)                                                                                                     \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result = (long)(call);                                                                                    \
        printf("%s = %ld%s%s\n", #call, result, result < 0 ? " " : "", result < 0 ? strerror(errno) : "");             \
    } while (0)

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void tree(const char *path, int depth) {
    DIR *folder = opendir(path);
    if (!folder) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    char *names[256];
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) && count < 256;)
        names[count++] = strdup(entry->d_name);
    closedir(folder);
    qsort(names, count, sizeof *names, by_name);
    for (int i = 0; i < count; i++) {
        char inner[512];
        struct stat info;
        snprintf(inner, sizeof inner, "%s/%s", path, names[i]);
        if (lstat(inner, &info)) {
            printf("%s: %s\n", inner, strerror(errno));
        } else if (S_ISDIR(info.st_mode)) {
            printf("%*s%s/\n", depth, "", names[i]);
            if (strcmp(names[i], ".") && strcmp(names[i], ".."))
                tree(inner, depth + 2);
        } else if (S_ISLNK(info.st_mode)) {
            char text[256] = {0};
            long length = readlink(inner, text, sizeof text - 1);
            printf("%*s%s -> %s (%ld)\n", depth, "", names[i], text, length);
        } else {
            printf("%*s%s %lld bytes, %d links\n", depth, "", names[i], (long long)info.st_size, (int)info.st_nlink);
        }
        free(names[i]);
    }
}

static void contents(const char *path) {
    FILE *file = fopen(path, "rb");
    printf("%s:", path);
    for (int c; file && (c = getc(file)) != EOF;)
        printf(c >= 32 && c < 127 ? " %c" : " %02x", c);
    printf("\n");
    if (file)
        fclose(file);
}

int main(void) {
    char buffer[64] = {0};
    struct stat info;
    int fd = open("a.txt", O_CREAT | O_RDWR | O_TRUNC, 0644);
    SHOW(fd >= 0);
    SHOW(write(fd, "0123456789", 10));
    SHOW(lseek(fd, -4, SEEK_END));
    SHOW(read(fd, buffer, 10));
    printf("%.4s\n", buffer);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwrite(fd, "XY", 2, 3));
    SHOW(pread(fd, buffer, 5, 1));
    printf("%.5s\n", buffer);
    SHOW(ftruncate(fd, 6));
    SHOW(fstat(fd, &info));
    SHOW(info.st_size);
    SHOW(lseek(fd, 12, SEEK_SET));
    SHOW(write(fd, "end", 3));
    SHOW(lseek(fd, -1, SEEK_SET));
    SHOW(fsync(fd));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    SHOW(close(fd));
    SHOW(close(fd));
    SHOW(write(fd, "x", 1));

    FILE *log = fopen("log", "a+");
    fputs("one\n", log);
    rewind(log);
    fgets(buffer, sizeof buffer, log);
    fputs("two\n", log);
    fclose(log);
    log = fopen("log", "r+");
    fseek(log, 2, SEEK_SET);
    fputc('E', log);
    fseek(log, 0, SEEK_CUR);
    printf("then '%c'\n", getc(log));
    ungetc('!', log);
    printf("again '%c' at %ld\n", getc(log), ftell(log));
    fclose(log);

    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d/e/f", 0755));
    SHOW(mkdir("d/e", 0755));
    SHOW(rename("a.txt", "d/e/b.txt"));
    SHOW(rename("nothing", "x"));
    SHOW(rename("d", "d/e/inside"));
    SHOW(link("d/e/b.txt", "hard"));
    SHOW(symlink("e/b.txt", "d/soft"));
    SHOW(symlink("soft", "d/soft2"));
    SHOW(symlink("loop", "loop"));
    SHOW(open("loop", O_RDONLY));
    SHOW(open("d/soft2", O_RDONLY | O_NOFOLLOW));
    SHOW(stat("d/soft2", &info));
    SHOW(info.st_size);
    SHOW(lstat("d/soft2", &info));
    SHOW(info.st_size);
    SHOW(unlink("d"));
    SHOW(rmdir("d"));
    SHOW(rmdir("log"));
    SHOW(open("d", O_WRONLY));
    SHOW(open("log/x", O_RDONLY));
    SHOW(open("new", O_CREAT | O_EXCL | O_WRONLY, 0600) >= 0);
    SHOW(open("new", O_CREAT | O_EXCL | O_WRONLY, 0600));
    SHOW(access("new", R_OK));
    SHOW(access("none", F_OK));
    SHOW(truncate("new", 5));
    SHOW(open("../outside", O_RDONLY));

    DIR *folder = opendir(".");
    int count = 0;
    while (readdir(folder))
        count++;
    long middle = 0;
    rewinddir(folder);
    readdir(folder);
    middle = telldir(folder);
    struct dirent *second = readdir(folder);
    char name[64];
    strcpy(name, second->d_name);
    while (readdir(folder))
        ;
    seekdir(folder, middle);
    printf("%d names; the second again: %d\n", count, strcmp(readdir(folder)->d_name, name));
    closedir(folder);

    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "d/many-%03d", i);
        FILE *file = fopen(name, "w");
        fprintf(file, "%d\n", i * i);
        fclose(file);
    }
    for (int i = 0; i < 100; i += 3) {
        snprintf(name, sizeof name, "d/many-%03d", i);
        unlink(name);
    }
    tree(".", 0);
    contents("d/e/b.txt");
    contents("hard");
    contents("log");
    contents("d/soft2");
    contents("new");
    contents("none");
    return 7;
}
