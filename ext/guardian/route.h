/* Batches of rtnetlink requests: checked, given a lease, carried out. Thread: the one that has the turn; link_sends:
 * any. */
#ifndef PYCARP_ROUTE_H
#define PYCARP_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

struct batch {
    uint8_t *requests;
    uint32_t length, count;
};

/* How far a batch is carried out: octets and requests. */
struct cursor {
    uint32_t at, done;
};

/* A blocking socket in this thread's network namespace, or -1 and errno. */
int route_open(void);

/* Whether a batch is whole requests and nothing else. Counts them, numbers them from 1, has each ask for an answer. */
bool batch_prepare(struct batch *batch);

/* Addresses that this batch adds live for this many seconds. */
void batch_set_lease(struct batch *batch, uint32_t seconds);

/* Send all requests, also after one that fails. The first error among the last `decisive` that is not `fine`, or 0. */
int batch_execute(int route, const struct batch *batch, uint32_t decisive, bool (*fine)(int error));

/* Send the next requests of a batch, as many as there is room for answers to, whatever becomes of them, and move
 * `cursor` on. False when none is left. */
bool batch_continue(int route, const struct batch *batch, struct cursor *cursor);

/* Whether an interface still sends. It stops long before the kernel has finished with taking it down; this does not
 * wait for that. */
bool link_sends(int route, int index);

#endif
