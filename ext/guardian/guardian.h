/* The guardian's state, and what its parts ask of each other. Thread: the one that has the turn. */
#ifndef PYCARP_GUARDIAN_H
#define PYCARP_GUARDIAN_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "instance.h"
#include "listeners.h"
#include "protocol.h"

enum { REPLIES = 512 };

struct guardian {
    pthread_mutex_t turn; /* the main thread sleeps without it; the lifeline's thread takes it when the engine dies */
    int engine, lifeline, pidfd; /* passed by the engine: socket, memory, its process (or -1) */
    int route, timer;
    int filter;        /* for gates; -1: there can be none */
    uid_t uid;         /* of the engine when it started us */
    bool quiet;        /* the engine has ended in order */
    bool last_dropped; /* the last order that was carried out was a drop */
    struct listeners listeners;
    struct instance *instances;

    /* Replies that found no room in the socket. */
    struct reply replies[REPLIES];
    uint32_t replies_first, replies_count;
};

/* replies.c: a reply is sent at once, or later where the engine does not read. */
/* `started`: CLOCK_MONOTONIC, ns, or 0; it has finished now. */
void reply_order(struct guardian *guardian, const struct order *order, int error, int64_t started);
void reply_superseded(struct guardian *guardian, const struct order *order);
void reply_hello(struct guardian *guardian, int error);
void reply_released(struct guardian *guardian, const struct instance *instance, int error, int64_t started,
    int64_t silence);
void replies_flush(struct guardian *guardian);

/* orders.c */
/* Read all that waits; false when the engine's end is closed. */
bool orders_read(struct guardian *guardian);
/* Carry out one order, the most urgent; false when there was none. With `patient`, takes wait for listeners. */
bool orders_carry_out(struct guardian *guardian, bool patient);
/* Carry out a bit of what takes have left for later; false when there was nothing. */
bool orders_carry_out_late(struct guardian *guardian);
/* The engine has ended: takes and renewals that wait are withdrawn, and all that it has taken is to be released. */
void orders_withdraw(struct guardian *guardian);

/* release.c */
/* Release the instances whose engine has been silent for too long. */
void release_overdue(struct guardian *guardian);
/* Release every instance that is `leaving`: mute, drop, and bow out where that is of use. */
void release(struct guardian *guardian, bool bowout);
/* Drop an instance's addresses, its link later where the addresses go without it: 0 or an errno. */
int drop_addresses(struct guardian *guardian, struct instance *instance);
/* Take down a link whose time has come; false when there is none, or listeners are behind. With `wait`, wait for the
 * time of the next, and for no listener. */
bool release_link(struct guardian *guardian, bool wait);
/* ns until the next instance is overdue, the next link goes down, or the next take may come, or INT64_MAX. */
int64_t release_next(const struct guardian *guardian);
/* What a drop or a removal may fail with: it is gone already, perhaps with its interface; or the rule that comes when
 * an IPv6 address goes is there. */
bool fine_to_drop(int error);

/* bowout.c: a thread that sends bow-outs, since the one that takes links down is kept for milliseconds. */
/* Start it; `socket` is any, to ask for the state of links. 0 or an errno. */
int bowout_start(const pthread_attr_t *attributes, int socket);
/* Have the instance's frames sent at that time (CLOCK_MONOTONIC, ns), and not before the instance is `silent` or its
 * link is down. None is sent once others may have taken over. */
void bowout_send(struct instance *instance, int64_t when);
/* Wait until all are sent. No instance may be removed before. */
void bowout_finish(void);

/* lifeline.c: a thread that calls engine_died when the engine's thread has ended. 0 or an errno. */
int lifeline_start(struct guardian *guardian, const pthread_attr_t *attributes);
/* main.c; thread: lifeline */
void engine_died(struct guardian *guardian);

/* confine.c; thread: main, before it does anything else */
/* Name, session, signals, priority, memory: this process goes on where others end. What is refused is done without. */
void confine_process(bool realtime);
/* Keep CAP_NET_ADMIN and no other capability, for ever: 0 or an errno (EPERM: it was not there). */
int confine_capabilities(void);
/* From here on, only the system calls that the work needs, in all threads; any call where the kernel cannot do that. */
void confine_calls(void);

#endif
