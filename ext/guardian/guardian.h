/* The guardian's state, and what its parts ask of each other. All of it is touched under `turn` only. */
#ifndef PYCARP_GUARDIAN_H
#define PYCARP_GUARDIAN_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "instance.h"
#include "protocol.h"

enum { REPLIES = 512 };

struct guardian {
    pthread_mutex_t turn; /* the main thread sleeps without it; who sees the engine die takes it */
    int engine, lifeline, life; /* descriptors that we were started with: socket, memory, process (or -1) */
    int route, timer;
    uid_t uid; /* that we started with */
    bool quiet; /* the engine has ended in order */
    bool dropped; /* what was carried out last was a drop */
    struct host *hosts;

    /* Replies that found no room in the socket. */
    struct reply replies[REPLIES];
    uint32_t replies_first, replies_count;
};

/* replies.c: answers go out at once or, where the engine does not read, later, or never. */
void reply_order(struct guardian *guardian, const struct order *order, int error, int64_t started, int64_t finished);
void reply_superseded(struct guardian *guardian, const struct order *order);
void reply_hello(struct guardian *guardian, int error);
void reply_released(struct guardian *guardian, uint32_t index, int error, int64_t started, int64_t finished,
    int64_t silence);
void replies_flush(struct guardian *guardian);

/* orders.c */
/* Read all that waits; false when the engine's end is closed. */
bool orders_read(struct guardian *guardian);
/* Carry out one order, the most urgent; false when there was none. */
bool orders_carry_out(struct guardian *guardian);
/* The engine is no more: what it wanted to have is not had, what it wanted to be rid of goes. */
void orders_bequeath(struct guardian *guardian);

/* release.c */
/* Mark hosts whose engine has been silent for too long, and release them. */
void release_overdue(struct guardian *guardian);
/* Release every host that is marked as leaving: mute them, drop them, and bow out where that is of use. */
void release(struct guardian *guardian, bool bowout);
/* Take the addresses of a host away, at once where that is all that needs to be done at once: 0 or an errno. */
int release_addresses(struct guardian *guardian, struct host *host);
/* Take down a link whose time has come; false when there is none. With `wait`, wait for the time of the next. */
bool release_link(struct guardian *guardian, bool wait);
/* ns until the next host is overdue or the next link goes, or INT64_MAX. */
int64_t release_next(const struct guardian *guardian);
/* What a drop may fail with: it is gone already, perhaps with its interface. */
bool fine_to_drop(int error);

/* lifeline.c: a thread that calls `died` when the engine's thread is no more. */
int lifeline_start(struct guardian *guardian, const pthread_attr_t *attributes, void (*died)(struct guardian *));

#endif
