/* Bow-outs, sent at their time by a thread of their own: the one that takes links down is kept for milliseconds. */
#ifndef PYCARP_FAREWELL_H
#define PYCARP_FAREWELL_H

#include <pthread.h>

#include "instance.h"

/* Start the thread: 0 or an errno. */
int farewell_start(const pthread_attr_t *attributes, int socket);

/* Send the host's frames at that time (CLOCK_MONOTONIC, ns), and not before it is `silent` or its link is down, if they
 * are of use then. */
void farewell_order(struct host *host, int64_t when);

/* Wait until all are out. Until then no host may go. */
void farewell_finish(void);

#endif
