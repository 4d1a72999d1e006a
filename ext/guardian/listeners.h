/* Other programs that listen for addresses. Each has room for so many notices: where many takes come together, each
 * further one waits while such a program is behind, or the kernel leaves notices out (ENOBUFS), after which some never
 * look again. The links of dropped instances wait longer. */
#ifndef PYCARP_LISTENERS_H
#define PYCARP_LISTENERS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    LISTENERS = 16, /* that are behind; what further ones hold is not looked at */
    LINES = 4096,
};

/* One that is behind. */
struct listener {
    uint32_t port;
    int32_t queued; /* octets, at the last look */
    int64_t read;   /* CLOCK_MONOTONIC, ns: when it had read something for the last time, as far as is known */
};

struct listeners {
    int file;             /* the kernel's list of netlink sockets in this network namespace; -1: it cannot be read */
    int64_t filled_until; /* CLOCK_MONOTONIC, ns: each notice moves it on; far ahead, there were many of late */
    int64_t look_at;      /* CLOCK_MONOTONIC, ns: the next look */
    int64_t looked;       /* CLOCK_MONOTONIC, ns: the last one */
    struct listener behind[LISTENERS];
    int count;
};

/* In the caller's network namespace, before calls are confined. */
void listeners_open(struct listeners *listeners);

/* A take, or a drop, gives them so many notices. */
void listeners_note(struct listeners *listeners, uint32_t notices);

/* Whether none is behind, as far as is known. Where one is, `look_at` is when to ask again. */
bool listeners_read(struct listeners *listeners);

/* Whether another take may be carried out now: there were not many of late, or none is behind. Where not, `look_at` is
 * when to ask again. */
bool listeners_keep_up(struct listeners *listeners);

#endif
