/* One instance as the guardian knows it: requests, frames, descriptors, and whether its addresses are here. */
#ifndef PYCARP_INSTANCE_H
#define PYCARP_INSTANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "gate.h"
#include "protocol.h"
#include "route.h"

/* The engine's last sign of life for an instance. */
struct beat {
    int64_t at, boot;                  /* CLOCK_MONOTONIC and CLOCK_BOOTTIME, ns */
    int64_t next_beat, takeover_after; /* ns after it */
};

struct instance {
    struct instance *next;
    uint32_t index;

    /* The description, in memory of our own: a program that gave up root cannot change it. */
    uint8_t *blob;
    struct batch batches[BATCHES];
    const uint8_t *frames; /* each: 16 bits of length, then this many octets */
    uint32_t frames_length;
    uint32_t essential; /* this many of the last requests decide whether a take succeeded */
    struct gate gate;
    uint32_t lease;     /* that stands in the batches */
    bool mute_is_all;   /* `mute` removes every address: none is IPv6, which goes with the link */
    int link;           /* the interface that `drop` takes down, or 0 */
    int packet, lock;   /* descriptors: a socket that sends, and one that is only kept open */

    bool taken; /* its addresses are here, or on their way */
    struct beat beat;
    bool stale;          /* the latest sign of life was too old when it was read */
    int64_t late_until;  /* CLOCK_MONOTONIC, ns: not overdue before, since the guardian was late itself; 0: none */
    bool leaving;        /* to be released now */
    int64_t link_due;    /* CLOCK_MONOTONIC, ns: its link goes down then; 0: it is down, or stays up */

    bool waiting; /* `order`, a TAKE, RENEW or DROP, is to be carried out */
    bool muted;   /* the quick part of a waiting drop has been done */
    int64_t late_due;        /* CLOCK_MONOTONIC, ns: the rest of the late batch goes out from then on; 0: nothing is left */
    struct cursor late_done; /* what of it has been carried out */
    struct order order;
    /* REMOVE, RESTORE and FORGET wait until no other order does: which were asked for, and the numbers to tell. */
    bool asked[ORDER_RESTORE + 1];
    uint32_t numbers[ORDER_RESTORE + 1];

    struct instance *bowout_next;
    int64_t bowout_at;
    atomic_bool silent; /* nobody is answered for its addresses any longer */
};

/* Read a description into a fresh instance: 0 or an errno. After an error the descriptors stay the caller's. */
int instance_read(struct instance *instance, int blob);

/* Put `fresh` (by value, its memory and descriptors with it) under its index; one that was there keeps its state. */
int instance_put(struct instance **instances, const struct instance *fresh);

struct instance *instance_find(struct instance *instances, uint32_t index);

/* Close its descriptors and free it. */
void instance_remove(struct instance **instances, struct instance *instance);

/* ns since the engine's sign of life, by the clock that has gone further. */
int64_t beat_age(const struct beat *beat);

#endif
