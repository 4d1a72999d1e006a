/* The socket between engine and guardian: packets of one size each way, in this machine's byte order, and the memory
 * that comes with ORDER_ADD. src/pycarp/_python/guardian/protocol.py says the same for Python; a test compares them. */
#ifndef PYCARP_PROTOCOL_H
#define PYCARP_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

enum kind {
    ORDER_TAKE,
    ORDER_RENEW,
    ORDER_DROP,
    ORDER_BEAT,
    ORDER_ADD,
    ORDER_FORGET,
    ORDER_QUIET,
    ORDER_REMOVE,
    ORDER_RESTORE,
    REPLY_HELLO = 16,
    REPLY_RELEASED,
};

/* A lease that does not end. */
#define LEASE_FOREVER UINT32_MAX
/* The index of no instance: an order for it is answered at once. */
#define ORDER_NOBODY UINT32_MAX
/* A reply's flag: another order came before this one could be carried out. */
#define REPLY_SUPERSEDED 1

/* The ports of engines' own netlink sockets that hear of addresses begin so. They have much room, and nobody waits for
 * them. The kernel chooses no such port. */
#define WATCH_PORT 0x70630000
#define WATCH_PORT_MASK 0xFFFF0000

struct order {
    uint8_t kind, flags;
    uint16_t zero;
    uint32_t index;
    int64_t at;                 /* CLOCK_MONOTONIC, ns: when the engine decided, or sent the advert that goes with it */
    uint32_t lease;             /* seconds that addresses live without another renewal, or LEASE_FOREVER;
                                 * ms from `at` on that a gate stays open without one */
    uint32_t next_beat_ms;      /* the next TAKE, RENEW or BEAT comes within this time of `at` */
    uint32_t takeover_after_ms; /* from this time after `at` on others may have taken over: no bow-out then */
    uint32_t number;            /* the engine's own, for the reply */
    int64_t boot;               /* CLOCK_BOOTTIME, ns: the same moment as `at` */
};

struct reply {
    uint8_t kind, flags;
    uint16_t zero;
    uint32_t index;
    int32_t error; /* 0 or an errno */
    uint32_t number;
    int64_t started, finished; /* CLOCK_MONOTONIC, ns */
    uint64_t extra;            /* HELLO: the guardian's pid; RELEASED: ns since the last sign of life */
};

/* LATE: what a take leaves for later; it is carried out after the take is answered, bit by bit, and not answered. */
/* UP: what comes before TAKE where there is a gate, which opens in between. */
enum { BATCH_TAKE, BATCH_RENEW, BATCH_DROP, BATCH_MUTE, BATCH_REMOVE, BATCH_RESTORE, BATCH_LATE, BATCH_UP, BATCHES };

#define DESCRIPTION_VERSION 4

/* The head of the memory that comes with ORDER_ADD; batches, frames and gate follow in this order. */
struct description {
    uint32_t version, index;
    uint32_t essential; /* this many of the last requests of `take` decide whether it succeeded; 0: all */
    uint32_t link;      /* the interface that `drop` takes down, or 0 */
    uint32_t ipv6;      /* whether an address needs that: `mute` removes all others, and IPv6 ones go with the link */
    uint32_t frame_count;
    uint32_t gate; /* octets of what is said of the gate, or 0 */
    uint32_t lengths[BATCHES + 1]; /* octets of each batch, and of all frames: each has 16 bits of length before it */
};

/* A key: a frame with which the guardian opens and shuts a gate, and where in it stands what it asks for. */
enum { KEY_WHAT = 16, KEY_LENGTH = 60 };
enum { KEY_SHUT, KEY_DISARM, KEY_FIRST_STEP };
/* The number of the last request of a transaction. */
enum { GATE_LAST = 1 };

/* The head of what is said of a gate: the steps (ms, from the shortest, 32 bits each) and two transactions follow. */
struct gate_description {
    uint32_t device; /* the interface that keys go by */
    uint32_t made;   /* whether the engine has made this table */
    uint32_t steps;  /* how many */
    uint32_t create, remove; /* octets */
    uint8_t key[KEY_LENGTH];
};

static_assert(sizeof(struct order) == 40 && sizeof(struct reply) == 40, "no padding");
static_assert(sizeof(struct description) == 64, "no padding");
static_assert(sizeof(struct gate_description) == 80, "no padding");

#endif
