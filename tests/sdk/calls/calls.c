#include <portcall.h>
#include <stdio.h>
#include <stdlib.h>

static char a[8192], b[8192], c[8192], line[8192];
#define TELL(...) (snprintf(line, sizeof line, __VA_ARGS__), portcall_log(2, line))
#define FILL(call, buffer) (buffer[check(call)] = '\0', buffer)

static void expect(int what) {
    if (!what)
        abort();
}

static int check(int result) {
    expect(result >= 0);
    return result;
}

int main(void) {
    TELL("%s %s [%s]", portcall_here_text(a, sizeof a), FILL(portcall_me(b, sizeof b), b),
         FILL(portcall_next_stop(c, sizeof c), c));
    TELL("%s", FILL(portcall_call("clock", "please", 6, a, sizeof a), a));
    int size = portcall_call("large", "", 0, a, 10);
    expect(size == portcall_call("large", "", 0, a, size));
    TELL("%d", size);
    TELL("oracle error %d", -portcall_call("oracle", "", 0, a, sizeof a));
    FILL(portcall_lookup("clock", a, sizeof a), a);
    *strchr(a, '\n') = ' ';
    TELL("%s [%s]", a, FILL(portcall_lookup("oracle", b, sizeof b), b));
    check(portcall_send("friend", "hi", 2));
    TELL("send error %d", -portcall_send("nobody", "hi", 2));
    FILL(portcall_recv(a, sizeof a, -1), a);
    TELL("%s from %s", a, FILL(portcall_sender(b, sizeof b), b));
    size = portcall_recv(a, 10, -1);
    expect(size == portcall_recv(a, size, -1));
    TELL("%d from %s", size, FILL(portcall_sender(b, sizeof b), b));
    TELL("recv error %d", -portcall_recv(a, sizeof a, 250));
    expect(portcall_accept(a, 10, -1) > 10);
    check(portcall_accept(a, sizeof a, -1));
    TELL("%.3s", a);
    check(portcall_reply("alpha.7", "hi", 2));
    TELL("reply error %d", -portcall_reply("alpha.7", "hi", 2));
    TELL("accept error %d", -portcall_accept(a, sizeof a, 250));
    portcall_message about;
    size = check(portcall_select("friend", "news", b, sizeof b, -1));
    check(portcall_about(&about));
    TELL("%.*s from %s about %s", size, b, about.sender, about.topic);
    check(portcall_reply(about.id, "ok", 2));
    TELL("receive error %d", -portcall_select("", "", b, sizeof b, 250));
    char id[PORTCALL_QUESTION_SIZE];
    check(portcall_ask("friend", "price?", "how much", 8, 30000, id));
    expect(strlen(id) == 64 && portcall_answer(id, b, 10, -1) == 700);
    TELL("%d", portcall_answer(id, b, sizeof b, -1));
    check(portcall_ask("friend", "", "more", 4, 250, id));
    TELL("answer error %d", -portcall_answer(id, b, sizeof b, 250));
    TELL("ask error %d", -portcall_ask("nobody", "", "", 0, -1, id));
    expect(!*id);
    check(portcall_subscribe("news"));
    check(portcall_unsubscribe("news"));
    expect(portcall_publish("news", "sale", 4, 0) == 2);
    expect(portcall_publish("news", "sale", 4, 1) == 2);
    check(portcall_offer("shop", "price=12"));
    check(portcall_withdraw("shop"));
    check(portcall_find("shop", "books", 1, b, sizeof b));
    char *lines = b;
    portcall_found found;
    while (portcall_next_found(&lines, &found))
        TELL("%s %s %s %s", found.id, found.station, found.label, found.attributes);
    lines = b;
    expect(portcall_find("", "", 0, b, sizeof b) == 0 && !portcall_next_found(&lines, &found));
    check(portcall_send_here("friend", "hi", 2));
    TELL("here error %d", -portcall_send_here("nobody", "hi", 2));
    check(portcall_sleep(1500));
    expect(portcall_clone(a, sizeof a) == 1);
    TELL("%s", a);
    expect(portcall_fork(2, a, sizeof a) == 0);
    *strchr(a, '\n') = ' ';
    TELL("0 %s", a);
    expect(portcall_notice(a, sizeof a) == 0);
    check(portcall_report("answer", "42", 2));
    TELL("closed error %d", -portcall_go("closed"));
    TELL("nowhere error %d", -portcall_go(""));
    TELL("shut error %d", -portcall_go_wait("shut", 250));
    check(portcall_go("beta"));
    TELL("at %s", portcall_here_text(a, sizeof a));
    portcall_log(1, "careful");
    if (a[0] == 'x')
        portcall_go_at("beta", "entry");
    portcall_exit(5);
}
