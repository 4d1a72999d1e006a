/* The thread that sends bow-outs at their time: the one that takes links down is kept for milliseconds. */
#ifndef PYCARP_BOWOUT_H
#define PYCARP_BOWOUT_H

#include <pthread.h>

#include "instance.h"

/* Start the thread; `socket` is any, to ask for the state of links. 0 or an errno. */
int bowout_start(const pthread_attr_t *attributes, int socket);

/* Have the instance's frames sent at that time (CLOCK_MONOTONIC, ns), and not before the instance is `silent` or its
 * link is down. None is sent once others may have taken over. */
void bowout_send(struct instance *instance, int64_t when);

/* Wait until all are sent. No instance may be removed before. */
void bowout_finish(void);

#endif
