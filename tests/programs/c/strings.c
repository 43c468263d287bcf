/* Strings: a growing buffer, splitting, searching, reversing words, run lengths, base 64, caesar, Levenshtein. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *data;
    size_t length, room;
};
static void append(struct text *t, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int need = vsnprintf(NULL, 0, format, list);
    va_end(list);
    while (t->length + (size_t)need + 1 > t->room)
        t->data = realloc(t->data, t->room = t->room ? t->room * 2 : 8);
    va_start(list, format);
    vsnprintf(t->data + t->length, (size_t)need + 1, format, list);
    va_end(list);
    t->length += (size_t)need;
}
static void base64(struct text *t, const unsigned char *data, size_t n) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)data[i] << 16 | (i + 1 < n ? data[i + 1] : 0u) << 8 | (i + 2 < n ? data[i + 2] : 0u);
        append(t, "%c%c%c%c", letters[v >> 18], letters[v >> 12 & 63], i + 1 < n ? letters[v >> 6 & 63] : '=', i + 2 < n ? letters[v & 63] : '=');
    }
}
static int distance(const char *a, const char *b) {
    int row[40], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], cost = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < cost)
                cost = above + 1;
            if (row[j - 1] + 1 < cost)
                cost = row[j - 1] + 1;
            diagonal = above;
            row[j] = cost;
        }
    }
    return row[n];
}

int main(void) {
    struct text t = {0};
    for (int i = 0; i < 12; i++)
        append(&t, "%s%d:%c", i ? "," : "", i * i, 'a' + i);
    puts(t.data);
    printf("%zu letters, room %zu\n", t.length, t.room);
    char *rest = t.data, *piece;
    int count = 0;
    while ((piece = strsep(&rest, ",")))
        if (strchr(piece, '4'))
            printf("[%s]", piece), count++;
    printf(" %d\n", count);
    char words[] = "the quick brown fox jumps over the lazy dog";
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) {
        size_t n = strlen(w);
        for (size_t i = 0; i < n / 2; i++) {
            char c = w[i];
            w[i] = w[n - 1 - i];
            w[n - 1 - i] = c;
        }
        w[0] = (char)toupper(w[0]);
        printf("%s ", w);
    }
    t.length = 0;
    base64(&t, (const unsigned char *)"any carnal pleas", 16);
    printf("\n%s\n", t.data);
    printf("%d %d %d\n", distance("kitten", "sitting"), distance("", "abc"), distance("intention", "execution"));
    printf("%s %ld %.3f\n", strstr("haystack with needle in it", "needle"), strtol("-7fz", NULL, 16), atof("2.5e3x"));
    free(t.data);
    return 0;
}
