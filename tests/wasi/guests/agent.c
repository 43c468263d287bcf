/* The calls as files, through C's buffered streams: nothing is linked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *ask(const char *name) {
    static char text[256];
    char path[128];
    snprintf(path, sizeof path, "/portcall/%s", name);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = 0;
    if (file)
        fclose(file);
    return text;
}

static int tell(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "/portcall/%s", name);
    FILE *file = fopen(path, "w");
    if (!file)
        return errno;
    fprintf(file, "%s\n", text);
    int failed = fclose(file) ? errno : 0; /* the buffer is written here, and so the agent moves here */
    return failed;
}

int main(void) {
    const char *stops[] = {"beta", "nowhere", "gamma"};
    int visited = 0;
    printf("%s at ", ask("me"));
    printf("%s\n", ask("here"));
    for (int i = 0; i < 3; i++) {
        int error = tell("go", stops[i]);
        visited += !error;
        printf("%s: %s, at %s, visited %d\n", stops[i], error ? strerror(error) : "ok", ask("here"), visited);
    }
    FILE *service = fopen("/portcall/call/echo", "r+");
    char reply[64] = {0};
    fputs("hello", service);
    fseek(service, 0, SEEK_SET);
    fgets(reply, sizeof reply, service);
    printf("echo: %s\n", reply);
    fclose(service);
    printf("send: %d, nobody: %s\n", tell("send/bob", "hi"), strerror(tell("send/nobody", "hi")));
    printf("report: %d, sleep: %d, bad: %s\n", tell("report/k", "v"), tell("sleep", "10"), strerror(tell("sleep", "x")));
    printf("inbox: %s from ", ask("inbox"));
    printf("%s\n", ask("sender"));
    printf("clone: %s\n", ask("clone"));
    printf("write to here: %s\n", strerror(tell("here", "x")));
    return visited;
}
