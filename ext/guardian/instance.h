/* One virtual host as the guardian knows it: requests, frames, descriptors, and whether its addresses are here. */
#ifndef PYCARP_HOST_H
#define PYCARP_HOST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"
#include "route.h"

/* The engine's last sign of life for a host. */
struct life {
    int64_t at, boot;       /* CLOCK_MONOTONIC and CLOCK_BOOTTIME, ns */
    int64_t hold, patience; /* ns after it */
};

struct host {
    struct host *next;
    uint32_t index;

    /* What was handed over, in memory of our own: who gave up root must not be able to change it. */
    uint8_t *blob;
    struct batch batches[BATCHES];
    const uint8_t *frames; /* each: 16 bits of length, then so many octets */
    uint32_t frames_length;
    uint32_t essential; /* so many of the last requests decide whether a take succeeded */
    uint32_t lease;     /* that stands in the batches */
    bool mute_is_all;   /* `mute` removes every address: there is no IPv6 that only goes with the link */
    int link;           /* the interface that `drop` takes down, or 0 */
    int packet, lock;   /* descriptors: a socket that sends, and one that is only kept open */

    bool mastered; /* its addresses are here, or on their way */
    struct life life;
    bool stale;        /* the latest sign of life was too old when it was read */
    int64_t respite;   /* CLOCK_MONOTONIC, ns: not overdue before, since we were late ourselves; 0: none */
    bool leaving;      /* to be released now */

    /* CLOCK_MONOTONIC, ns: its addresses have gone, its link goes then; 0: it is down, or to stay up. */
    int64_t link_due;

    bool waiting; /* `order`, a TAKE, RENEW or DROP, is to be carried out */
    bool muted;   /* the quick part of a waiting drop has been done */
    struct order order;
    /* REMOVE, RESTORE and FORGET wait until nothing else does: those that were asked for, and the numbers to tell. */
    bool asked[ORDER_RESTORE + 1];
    uint32_t numbers[ORDER_RESTORE + 1];

    struct host *farewell_next;
    int64_t farewell_at;
    atomic_bool silent; /* nobody is answered for its addresses any more */
};

/* Read what ADD hands over into a fresh host: 0 or an errno. Descriptors stay the caller's after an error. */
int host_read(struct host *host, int blob);

/* Put `fresh` (by value, its memory and descriptors with it) under its index; what was there keeps its state. */
int host_put(struct host **hosts, const struct host *fresh);

struct host *host_find(struct host *hosts, uint32_t index);

/* Close its descriptors and free it. */
void host_remove(struct host **hosts, struct host *host);

/* How long ago the engine gave a sign of life, by the clock that has gone further, ns. */
int64_t life_age(const struct life *life);

#endif
