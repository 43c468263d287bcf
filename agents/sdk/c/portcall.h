/* The calls that an agent makes of its station, for C and C++ (ABI version 1 of the imports `portcall`).
 *
 * Each portcall_X below takes NUL-terminated strings and returns what the import of the same name returns: a
 * result below 0 is minus an error number of WASI, as <errno.h> has them. A function that fills a buffer returns the full
 * length of what there is: when it is larger than the capacity, call again with more room. Buffers are not
 * NUL-terminated, except by the functions that say so.
 *
 * Nothing is linked: this header is all. `portcall pack agent.c` finds it by itself.
 */
#ifndef PORTCALL_H
#define PORTCALL_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PORTCALL_IMPORT(name) __attribute__((import_module("portcall"), import_name(#name)))

/* The imports themselves: strings are pointer and length. */
PORTCALL_IMPORT(go) int32_t portcall_import_go(const char *host, uint32_t size);
PORTCALL_IMPORT(go_wait) int32_t portcall_import_go_wait(const char *host, uint32_t size, int32_t wait_ms);
PORTCALL_IMPORT(go_at)
int32_t portcall_import_go_at(const char *host, uint32_t size, const char *entry, uint32_t entry_size);
PORTCALL_IMPORT(here) int32_t portcall_here(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(me) int32_t portcall_me(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(next_stop) int32_t portcall_next_stop(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(call)
int32_t portcall_import_call(const char *service, uint32_t size, const void *request, uint32_t request_size,
                             void *reply, uint32_t capacity);
PORTCALL_IMPORT(send)
int32_t portcall_import_send(const char *to, uint32_t size, const void *message, uint32_t message_size);
PORTCALL_IMPORT(recv) int32_t portcall_recv(void *buffer, uint32_t capacity, int32_t timeout_ms);
PORTCALL_IMPORT(sender) int32_t portcall_sender(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(select)
int32_t portcall_import_select(const char *sender, uint32_t size, const char *topic, uint32_t topic_size, void *buffer,
                               uint32_t capacity, int32_t timeout_ms);
PORTCALL_IMPORT(about) int32_t portcall_import_about(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(ask)
int32_t portcall_import_ask(const char *to, uint32_t size, const char *topic, uint32_t topic_size, const void *question,
                            uint32_t question_size, int32_t timeout_ms, char *id, uint32_t capacity);
PORTCALL_IMPORT(answer)
int32_t portcall_import_answer(const char *id, uint32_t size, void *buffer, uint32_t capacity, int32_t timeout_ms);
PORTCALL_IMPORT(subscribe) int32_t portcall_import_subscribe(const char *topic, uint32_t size);
PORTCALL_IMPORT(unsubscribe) int32_t portcall_import_unsubscribe(const char *topic, uint32_t size);
PORTCALL_IMPORT(publish)
int32_t portcall_import_publish(const char *topic, uint32_t size, const void *message, uint32_t message_size,
                                int32_t everywhere);
PORTCALL_IMPORT(offer)
int32_t portcall_import_offer(const char *service, uint32_t size, const char *attributes, uint32_t attributes_size);
PORTCALL_IMPORT(withdraw) int32_t portcall_import_withdraw(const char *service, uint32_t size);
PORTCALL_IMPORT(find)
int32_t portcall_import_find(const char *service, uint32_t size, const char *label, uint32_t label_size,
                             int32_t everywhere, char *buffer, uint32_t capacity);
PORTCALL_IMPORT(send_here)
int32_t portcall_import_send_here(const char *to, uint32_t size, const void *message, uint32_t message_size);
PORTCALL_IMPORT(accept) int32_t portcall_accept(void *buffer, uint32_t capacity, int32_t timeout_ms);
PORTCALL_IMPORT(reply)
int32_t portcall_import_reply(const char *id, uint32_t size, const void *response, uint32_t response_size);
PORTCALL_IMPORT(sleep) int32_t portcall_sleep(uint32_t ms);
PORTCALL_IMPORT(clone) int32_t portcall_clone(char *id, uint32_t capacity);
PORTCALL_IMPORT(fork) int32_t portcall_fork(uint32_t count, char *ids, uint32_t capacity);
PORTCALL_IMPORT(notice) int32_t portcall_notice(char *buffer, uint32_t capacity);
PORTCALL_IMPORT(report)
int32_t portcall_import_report(const char *key, uint32_t size, const void *value, uint32_t value_size);
PORTCALL_IMPORT(log) int32_t portcall_import_log(uint32_t level, const char *text, uint32_t size);
PORTCALL_IMPORT(lookup)
int32_t portcall_import_lookup(const char *service, uint32_t size, char *buffer, uint32_t capacity);
PORTCALL_IMPORT(exit) __attribute__((noreturn)) void portcall_exit(uint32_t code);

/* Move to the station `host`, with the whole stack. 0: this is the destination. Below 0: still here. */
static inline int32_t portcall_go(const char *host) {
    return portcall_import_go(host, (uint32_t)strlen(host));
}

/* The same; sleeps up to wait_ms (below 0: for ever) while the station cannot be reached or is full. */
static inline int32_t portcall_go_wait(const char *host, int32_t wait_ms) {
    return portcall_import_go_wait(host, (uint32_t)strlen(host), wait_ms);
}

/* Move to `host` without the stack; the export `entry` is called there. Returns only when it fails. */
static inline int32_t portcall_go_at(const char *host, const char *entry) {
    return portcall_import_go_at(host, (uint32_t)strlen(host), entry, (uint32_t)strlen(entry));
}

/* Ask the station's service `service`; the result is the length of its reply. */
static inline int32_t portcall_call(const char *service, const void *request, uint32_t request_size, void *reply,
                                    uint32_t capacity) {
    return portcall_import_call(service, (uint32_t)strlen(service), request, request_size, reply, capacity);
}

/* Hand a message over for delivery to the agent `to`. */
static inline int32_t portcall_send(const char *to, const void *message, uint32_t size) {
    return portcall_import_send(to, (uint32_t)strlen(to), message, size);
}

/* The next message of the agent or station `sender`, about `topic` (empty: any); its length. Waits at most timeout_ms,
 * for ever below 0. */
static inline int32_t portcall_select(const char *sender, const char *topic, void *buffer, uint32_t capacity,
                                      int32_t timeout_ms) {
    return portcall_import_select(sender, (uint32_t)strlen(sender), topic, (uint32_t)strlen(topic), buffer, capacity,
                                  timeout_ms);
}

/* What is known of a message, NUL-terminated: who sent it, its topic (may be empty), and the id with which
 * portcall_reply answers it (empty if it is no question). */
typedef struct {
    char sender[1025], topic[257], id[129];
} portcall_message;

/* The same of the message received last; 0, or below 0 when it cannot be had. */
static inline int32_t portcall_about(portcall_message *message) {
    char text[sizeof *message], *part = text;
    char *places[] = {message->sender, message->topic, message->id};
    const size_t rooms[] = {sizeof message->sender, sizeof message->topic, sizeof message->id};
    int32_t size = portcall_import_about(text, sizeof text - 1);
    if (size < 0)
        return size;
    text[(size_t)size < sizeof text ? (size_t)size : sizeof text - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        size_t length = strcspn(part, "\n");
        size_t fits = length < rooms[i] ? length : rooms[i] - 1;
        memcpy(places[i], part, fits);
        places[i][fits] = '\0';
        part += part[length] ? length + 1 : length;
    }
    return 0;
}

#define PORTCALL_QUESTION_SIZE 65 /* room for the name of a question and a NUL */

/* Ask the agent `to`, about `topic` (may be empty). `id` is then the question's name, NUL-terminated, for
 * portcall_answer. An answer that comes after timeout_ms is dropped; below 0: after 7 days. */
static inline int32_t portcall_ask(const char *to, const char *topic, const void *question, uint32_t size,
                                   int32_t timeout_ms, char id[PORTCALL_QUESTION_SIZE]) {
    int32_t length = portcall_import_ask(to, (uint32_t)strlen(to), topic, (uint32_t)strlen(topic), question, size,
                                         timeout_ms, id, PORTCALL_QUESTION_SIZE - 1);
    id[length < 0 ? 0 : length < PORTCALL_QUESTION_SIZE ? length : PORTCALL_QUESTION_SIZE - 1] = '\0';
    return length;
}

/* The answer to the question `id`, once, here or at a later station; its length. Waits at most timeout_ms, below 0 as
 * long as it may come. */
static inline int32_t portcall_answer(const char *id, void *buffer, uint32_t capacity, int32_t timeout_ms) {
    return portcall_import_answer(id, (uint32_t)strlen(id), buffer, capacity, timeout_ms);
}

/* Receive what is published to `topic`, from now on and wherever this agent goes. */
static inline int32_t portcall_subscribe(const char *topic) {
    return portcall_import_subscribe(topic, (uint32_t)strlen(topic));
}

/* Receive it no more. */
static inline int32_t portcall_unsubscribe(const char *topic) {
    return portcall_import_unsubscribe(topic, (uint32_t)strlen(topic));
}

/* Send a message to the other agents here that subscribe to `topic`, and if `everywhere` is not 0 to those at the other
 * stations; how many got it here. */
static inline int32_t portcall_publish(const char *topic, const void *message, uint32_t size, int32_t everywhere) {
    return portcall_import_publish(topic, (uint32_t)strlen(topic), message, size, everywhere);
}

/* Offer a service to other agents while this one is here; they are told `attributes` of it. */
static inline int32_t portcall_offer(const char *service, const char *attributes) {
    return portcall_import_offer(service, (uint32_t)strlen(service), attributes, (uint32_t)strlen(attributes));
}

/* Offer it no more. */
static inline int32_t portcall_withdraw(const char *service) {
    return portcall_import_withdraw(service, (uint32_t)strlen(service));
}

/* The other agents here that offer `service` and have `label` (empty: any), if `everywhere` is not 0 also those at other
 * stations: lines for portcall_next_found, NUL-terminated if there is room. A length that is not below the capacity did
 * not fit. */
static inline int32_t portcall_find(const char *service, const char *label, int32_t everywhere, char *buffer,
                                    uint32_t capacity) {
    int32_t size = portcall_import_find(service, (uint32_t)strlen(service), label, (uint32_t)strlen(label), everywhere,
                                        buffer, capacity ? capacity - 1 : 0);
    if (capacity)
        buffer[size < 0 ? 0 : (uint32_t)size < capacity ? (uint32_t)size : capacity - 1] = '\0';
    return size;
}

/* An agent that was found, and what it says of its service. */
typedef struct {
    char *id, *station, *label, *attributes;
} portcall_found;

/* Take the first agent off the lines that portcall_find gave, and cut it up there; 0 when there is none left.
 * `lines` is moved on. */
static inline int portcall_next_found(char **lines, portcall_found *found) {
    char *line = *lines, **parts[] = {&found->id, &found->station, &found->label, &found->attributes};
    size_t length = strcspn(line, "\n");
    if (!length)
        return 0;
    *lines = line + length + (line[length] != '\0');
    line[length] = '\0';
    for (int i = 0; i < 4; i++) {
        size_t size = strcspn(line, "\t");
        *parts[i] = line;
        line += size;
        if (*line)
            *line++ = '\0';
    }
    return 1;
}

/* Send a message to the agent `to`, which is here; -EHOSTUNREACH when it is not. Its messages come with portcall_select. */
static inline int32_t portcall_send_here(const char *to, const void *message, uint32_t size) {
    return portcall_import_send_here(to, (uint32_t)strlen(to), message, size);
}

/* Answer the request `id` of a client, which portcall_accept gave: a response of HTTP/1.1, without Content-Length. Or
 * answer the question of an agent, whose id portcall_about gave. */
static inline int32_t portcall_reply(const char *id, const void *response, uint32_t size) {
    return portcall_import_reply(id, (uint32_t)strlen(id), response, size);
}

/* Append a result to this agent's signed chain. */
static inline int32_t portcall_report(const char *key, const void *value, uint32_t size) {
    return portcall_import_report(key, (uint32_t)strlen(key), value, size);
}

/* One line for the station's log: level 0 error, 1 warning, 2 information, 3 detail. */
static inline int32_t portcall_log(uint32_t level, const char *text) {
    return portcall_import_log(level, text, (uint32_t)strlen(text));
}

/* Names of stations that offer `service`, best first, a line each. */
static inline int32_t portcall_lookup(const char *service, char *buffer, uint32_t capacity) {
    return portcall_import_lookup(service, (uint32_t)strlen(service), buffer, capacity);
}

/* Defines what the station calls at an event of this agent's life: PORTCALL_ON(arrived) { ... }. The events: departing,
 * arrived, sleeping, woken, cloned, message, retracted, budget_low. No call in it can wait. */
#ifdef __cplusplus
#define PORTCALL_ON(event) extern "C" __attribute__((export_name("portcall_on_" #event))) void portcall_on_##event(void)
#else
#define PORTCALL_ON(event) __attribute__((export_name("portcall_on_" #event))) void portcall_on_##event(void)
#endif

/* This station's name in `buffer`, cut to `capacity` and always NUL-terminated; returns `buffer`. */
static inline const char *portcall_here_text(char *buffer, uint32_t capacity) {
    int32_t size = portcall_here(buffer, capacity ? capacity - 1 : 0);
    if (capacity)
        buffer[size < 0 ? 0 : (uint32_t)size < capacity ? (uint32_t)size : capacity - 1] = '\0';
    return buffer;
}

#ifdef __cplusplus
}
#endif
#endif
