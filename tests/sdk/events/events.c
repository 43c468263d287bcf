#include <portcall.h>
#include <stdio.h>

static char seen[512], name[64], buffer[2048];

static void note(const char *event) {
    size_t size = strlen(seen);
    snprintf(seen + size, sizeof seen - size, "%s%s@%s", size ? " " : "", event, portcall_here_text(name, sizeof name));
}

PORTCALL_ON(departing) { note("departing"); }
PORTCALL_ON(arrived) { note("arrived"); }
PORTCALL_ON(sleeping) { note("sleeping"); }
PORTCALL_ON(woken) { note("woken"); }
PORTCALL_ON(cloned) { note("cloned"); }
PORTCALL_ON(message) { note("message"); }
PORTCALL_ON(budget_low) { note("budget_low"); }
PORTCALL_ON(retracted) { note("retracted"); }

int main(void) {
    char me[128];
    portcall_go("beta");
    portcall_sleep(10);
    me[portcall_me(me, sizeof me)] = '\0';
    portcall_send(me, "hello", 5);
    portcall_recv(buffer, sizeof buffer, -1);
    if (portcall_fork(1, buffer, sizeof buffer) != 0)
        return 0;
    portcall_log(2, "ready");
    do
        portcall_here_text(name, sizeof name);
    while (strcmp(name, "home"));
    portcall_report("seen", seen, strlen(seen));
}
