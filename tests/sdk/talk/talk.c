#include <portcall.h>
#include <stdio.h>
#include <stdlib.h>

static char a[4096], b[4096], line[8192];

static int check(int result) {
    if (result < 0)
        abort();
    return result;
}

static const char *text(char *buffer, int size) {
    buffer[check(size)] = '\0';
    return buffer;
}

static void shop(void) {
    portcall_message question, late, other;
    check(portcall_subscribe("news"));
    check(portcall_offer("shop", "price=12"));
    int size = snprintf(line, sizeof line, "%s", text(a, portcall_select("", "price?", a, sizeof a, -1)));
    check(portcall_about(&question));
    check(portcall_reply(question.id, b, snprintf(b, sizeof b, "%s: 12", a)));
    size += snprintf(line + size, sizeof line - size, "|%s", text(a, portcall_select("", "news", a, sizeof a, -1)));
    check(portcall_about(&other));
    size += snprintf(line + size, sizeof line - size, " about %s", other.topic);
    check(portcall_unsubscribe("news"));
    text(a, portcall_select(question.sender, "", a, sizeof a, -1));
    size += snprintf(line + size, sizeof line - size, "|%s", a);
    check(portcall_withdraw("shop"));
    text(a, portcall_select("", "", a, sizeof a, -1));
    check(portcall_about(&late));
    check(portcall_go("beta"));
    portcall_here_text(b, sizeof b);
    check(portcall_reply(late.id, a, snprintf(a, sizeof a, "from %s", b)));
    check(portcall_report("heard", line, size));
    check(portcall_report("told", a, check(portcall_select(question.sender, "", a, sizeof a, -1))));
}

static void customer(void) {
    portcall_found found;
    char id[PORTCALL_QUESTION_SIZE], *lines = a;
    while (check(portcall_find("shop", "", 0, a, sizeof a)) == 0)
        check(portcall_sleep(10));
    if (!portcall_next_found(&lines, &found))
        abort();
    check(portcall_ask(found.id, "price?", "nuts", 4, 30000, id));
    text(b, portcall_answer(id, b, sizeof b, -1));
    int size = snprintf(line, sizeof line, "%s|%s|%s", found.station, found.attributes, b);
    if (portcall_publish("news", "sale", 4, 0) != 1)
        abort();
    check(portcall_send_here(found.id, "I am here", 9));
    while (check(portcall_find("shop", "", 0, b, sizeof b)))
        check(portcall_sleep(10));
    check(portcall_ask(found.id, "", "late?", 5, 30000, id));
    check(portcall_go("beta"));
    size += snprintf(line + size, sizeof line - size, "|%s", text(b, portcall_answer(id, b, sizeof b, -1)));
    check(portcall_go("home"));
    size += snprintf(line + size, sizeof line - size, "|%d", -portcall_send_here(found.id, "still?", 6));
    check(portcall_send(found.id, line, size));
}

int main(void) {
    if (check(portcall_fork(1, a, sizeof a)) == 0)
        shop();
    else
        customer();
}
