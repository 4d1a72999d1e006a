/* What engine and guardian say to each other: packets of one size each way, in this machine's byte order. */
#ifndef PYCARP_PROTOCOL_H
#define PYCARP_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

enum kind {
    TAKE,
    RENEW,
    DROP,
    BEAT,
    ADD,
    FORGET,
    QUIET,
    REMOVE,
    RESTORE,
    HELLO = 16,
    RELEASED,
};

#define FOREVER UINT32_MAX
/* A reply's flag: another order came before this one could be carried out. */
#define SUPERSEDED 1

struct order {
    uint8_t kind, flags;
    uint16_t zero;
    uint32_t index;
    int64_t at;     /* CLOCK_MONOTONIC, ns: when the engine decided, or sent the advert that this goes with */
    uint32_t lease; /* seconds that addresses live without another renewal, or FOREVER */
    uint32_t hold, patience; /* ms after `at`: the next sign of life, and how long a bow-out is of use */
    uint32_t number;         /* the engine's own, for the reply */
    int64_t boot;            /* CLOCK_BOOTTIME, ns: the same moment as `at` */
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

static_assert(sizeof(struct order) == 40 && sizeof(struct reply) == 40, "the other side counts on 40 octets");

#endif
