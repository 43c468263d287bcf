/* The calls that an agent makes of its station, for C and C++ (ABI version 1 of the imports `portcall`).
 *
 * Each portcall_X below takes NUL-terminated strings and returns what the import of the same name returns: a
 * result below 0 is minus an error number of WASI (PORTCALL_E...). A function that fills a buffer returns the full
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
PORTCALL_IMPORT(accept) int32_t portcall_accept(void *buffer, uint32_t capacity, int32_t timeout_ms);
PORTCALL_IMPORT(reply)
int32_t portcall_import_reply(const char *id, uint32_t size, const void *response, uint32_t response_size);
PORTCALL_IMPORT(sleep) int32_t portcall_sleep(uint32_t ms);
PORTCALL_IMPORT(clone) int32_t portcall_clone(char *id, uint32_t capacity);
PORTCALL_IMPORT(fork) int32_t portcall_fork(uint32_t count, char *ids, uint32_t capacity);
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

/* Answer the request `id` of a client, which portcall_accept gave: a response of HTTP/1.1, without Content-Length. */
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
