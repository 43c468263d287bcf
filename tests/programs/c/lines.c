/* Reads lines from standard input (fd_read suspends), with arguments and environment, and counts words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    char line[80];
    int lines = 0, words = 0;
    for (int i = 1; i < argc; i++)
        printf("argument %d is %s\n", i, argv[i]);
    const char *home = getenv("PORT");
    printf("PORT=%s\n", home ? home : "(none)");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int here = 0;
        for (char *save, *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
            printf("%s%s", here++ ? "-" : "> ", w);
        printf(" (%d)\n", here);
        fflush(stdout);
        lines++, words += here;
    }
    printf("%d lines, %d words\n", lines, words);
    return lines == 3 ? 0 : 4;
}
