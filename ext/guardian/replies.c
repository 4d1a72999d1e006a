/* Replies to the engine. The guardian never waits for an engine that is slow or stopped. Thread: the one that has the
 * turn. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clocks.h"
#include "guardian.h"

static bool put(struct guardian *guardian, const struct reply *reply)
{
    ssize_t sent = send(guardian->engine, reply, sizeof *reply, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* An engine that has ended reads nothing. */
    return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM);
}

void replies_flush(struct guardian *guardian)
{
    while (guardian->replies_count != 0 && put(guardian, &guardian->replies[guardian->replies_first])) {
        guardian->replies_first = (guardian->replies_first + 1) % REPLIES;
        guardian->replies_count--;
    }
}

static void reply(struct guardian *guardian, const struct reply *reply)
{
    replies_flush(guardian);
    if ((guardian->replies_count == 0 && put(guardian, reply)) || guardian->replies_count == REPLIES)
        return;
    guardian->replies[(guardian->replies_first + guardian->replies_count++) % REPLIES] = *reply;
}

void reply_order(struct guardian *guardian, const struct order *order, int error, int64_t started)
{
    reply(guardian, &(struct reply) { .kind = order->kind, .index = order->index, .error = error,
        .number = order->number, .started = started, .finished = started != 0 ? monotonic() : 0 });
}

void reply_superseded(struct guardian *guardian, const struct order *order)
{
    reply(guardian, &(struct reply) { .kind = order->kind, .flags = REPLY_SUPERSEDED, .index = order->index,
        .number = order->number });
}

void reply_hello(struct guardian *guardian, int error)
{
    reply(guardian, &(struct reply) { .kind = REPLY_HELLO, .error = error, .started = monotonic(),
        .finished = monotonic(), .extra = (uint64_t) getpid() });
}

void reply_released(struct guardian *guardian, const struct instance *instance, int error, int64_t started,
    int64_t silence)
{
    reply(guardian, &(struct reply) { .kind = REPLY_RELEASED, .index = instance->index, .error = error,
        .started = started, .finished = monotonic(), .extra = silence > 0 ? (uint64_t) silence : 0 });
}
