#include <portcall.h>
#include <stdio.h>

int main(void) {
    const char *stations[] = {"alpha", "beta", "gamma"};
    char route[64] = "", name[32];
    for (int i = 0, stops = 0; i < 3; i++) {
        int error = portcall_go(stations[i]); /* the next line runs there */
        if (error < 0) {
            printf("%s cannot be reached: error %d\n", stations[i], -error);
            continue;
        }
        printf("stop %d: %s\n", ++stops, portcall_here_text(name, sizeof name));
        if (stops > 1)
            strcat(route, " ");
        strcat(route, name);
    }
    return portcall_report("route", route, strlen(route)) < 0;
}
