/* The gate of an instance: src/pycarp/linux/gate.py says what it is. Thread: the one that has the turn. */
#ifndef PYCARP_GATE_H
#define PYCARP_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

struct gate {
    uint32_t device; /* the interface that keys go by; 0: there is no gate */
    bool made; /* by the engine */
    uint32_t step_count;
    const uint8_t *steps; /* ms, 32 bits each, from the shortest */
    const uint8_t *create, *remove; /* transactions */
    uint32_t create_length, remove_length;
    uint8_t key[KEY_LENGTH];
    uint32_t lease; /* ms: the last that was ordered */
};

/* A blocking NETLINK_NETFILTER socket in this thread's network namespace; -1 where there can be none. */
int gate_socket(void);

/* Read what a description says of the gate, or that there is none; false where that is malformed. */
bool gate_read(struct gate *gate, const uint8_t *text, uint32_t length);

/* Whether both are the same table. */
bool gate_same(const struct gate *gate, const struct gate *other);

/* Whether its device has another name by now than the table goes by. `any` is a socket. */
bool gate_renamed(int any, const struct gate *gate);

/* Have it open for at most `left` ns from now on, or leave it as it is where that is too short. A table that has gone is
 * made anew. 0 or an errno. */
int gate_open(int filter, int packet, const struct gate *gate, int64_t left);

/* Shut it now: whether nothing passes any longer. */
bool gate_shut(int packet, const struct gate *gate);

/* After the addresses have gone: where it keeps only their packets, it keeps none until it is opened again. */
void gate_disarm(int packet, const struct gate *gate);

/* Make the table, shut; or remove it. 0 or an errno. */
int gate_create(int filter, const struct gate *gate);
int gate_remove(int filter, const struct gate *gate);

#endif
