/* What the engine orders. Everything that waits is read before the next thing is done, so that of several orders for
 * one virtual host only the last is carried out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clocks.h"
#include "guardian.h"

enum {
    AT_A_TIME = 1024, /* messages, before something is carried out in between */
    HANDED = 3,       /* descriptors that come with ADD: what to do, where to send, what to keep */
    HANDED_ROOM = 16,
};

static bool nothing_is_fine(int error) { return error == 0; }
static bool fine_to_take(int error) { return error == EEXIST; }
static bool fine_to_remove(int error) { return fine_to_drop(error) || error == ENOENT; }

/* The engine lives, says this order. */
static void note_life(struct host *host, const struct order *order)
{
    int64_t now = monotonic(), passed = boottime();
    struct life life = {
        /* No sign of life comes from the future, or from before the machine was. */
        .at = order->at > now ? now : order->at < 0 ? 0 : order->at,
        .boot = order->boot > passed ? passed : order->boot < 0 ? 0 : order->boot,
        .hold = order->next_beat_ms * MS,
        .patience = order->takeover_after_ms * MS,
    };
    host->life = life;
    host->stale = life_age(&life) > life.hold;
    host->respite = 0;
}

static void supersede(struct guardian *guardian, struct host *host)
{
    if (host->waiting && host->order.kind != ORDER_RENEW)
        reply_superseded(guardian, &host->order);
}

static void place(struct guardian *guardian, const struct order *order)
{
    struct host *host = host_find(guardian->hosts, order->index);
    bool sign = order->kind == ORDER_RENEW || order->kind == ORDER_BEAT;
    if (host == NULL || host->asked[ORDER_FORGET]) {
        if (!sign)
            reply_order(guardian, order, ENOENT, 0, 0);
        return;
    }
    if (sign) {
        bool taking = host->waiting && host->order.kind == ORDER_TAKE;
        if (!host->mastered && !taking)
            return;
        note_life(host, order);
        if (order->kind == ORDER_BEAT || taking || (host->waiting && host->order.kind == ORDER_DROP))
            return;
    } else {
        supersede(guardian, host);
        if (order->kind == ORDER_TAKE)
            note_life(host, order);
    }
    host->muted = host->muted && order->kind == ORDER_DROP;
    host->order = *order;
    host->waiting = true;
}

static void add(struct guardian *guardian, const struct order *order, int *handed, int count)
{
    struct host fresh = { .index = order->index };
    struct host *former = host_find(guardian->hosts, order->index);
    int error = EINVAL;
    /* What is asked of the one that is to be forgotten comes first. */
    while (former != NULL && former->asked[ORDER_FORGET] && orders_carry_out(guardian))
        former = host_find(guardian->hosts, order->index);
    if (count >= HANDED && (error = host_read(&fresh, handed[0])) == 0) {
        fresh.packet = handed[1];
        fresh.lock = handed[2];
        if ((error = host_put(&guardian->hosts, &fresh)) == 0)
            handed[1] = handed[2] = -1;
        else
            free(fresh.blob);
    }
    reply_order(guardian, order, error, 0, 0);
}

static void ask_after(struct guardian *guardian, const struct order *order)
{
    struct host *host = host_find(guardian->hosts, order->index);
    if (host == NULL || host->asked[ORDER_FORGET]) {
        reply_order(guardian, order, ENOENT, 0, 0);
        return;
    }
    host->asked[order->kind] = true;
    host->numbers[order->kind] = order->number;
}

static void handle(
    struct guardian *guardian, const struct order *order, const struct ucred *who, int *handed, int count)
{
    switch (order->kind) {
    case ORDER_TAKE:
    case ORDER_RENEW:
    case ORDER_DROP:
    case ORDER_BEAT:
        place(guardian, order);
        break;
    case ORDER_ADD:
        /* A program that gave up root keeps its hosts, and gets no other requests sent. */
        if (who != NULL && (who->uid == 0 || who->uid == guardian->uid))
            add(guardian, order, handed, count);
        else
            reply_order(guardian, order, EPERM, 0, 0);
        break;
    case ORDER_FORGET:
    case ORDER_REMOVE:
    case ORDER_RESTORE:
        ask_after(guardian, order);
        break;
    case ORDER_QUIET:
        guardian->quiet = true;
        reply_order(guardian, order, 0, 0, 0);
        break;
    default:
        break;
    }
}

/* Descriptors and credentials that came with a message. */
static int take_ancillary(struct msghdr *message, int *handed, struct ucred *who, bool *known)
{
    int count = 0;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one != NULL; one = CMSG_NXTHDR(message, one)) {
        if (one->cmsg_level != SOL_SOCKET)
            continue;
        if (one->cmsg_type == SCM_CREDENTIALS && one->cmsg_len >= CMSG_LEN(sizeof *who)) {
            memcpy(who, CMSG_DATA(one), sizeof *who);
            *known = true;
        } else if (one->cmsg_type == SCM_RIGHTS) {
            size_t octets = one->cmsg_len - CMSG_LEN(0);
            for (size_t at = 0; at + sizeof(int) <= octets && count < HANDED_ROOM; at += sizeof(int))
                memcpy(&handed[count++], CMSG_DATA(one) + at, sizeof(int));
        }
    }
    return count;
}

enum outcome { READ, NOTHING, GONE };

static enum outcome read_one(struct guardian *guardian)
{
    union {
        struct cmsghdr aligned;
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(HANDED_ROOM * sizeof(int))];
    } control;
    struct order order;
    struct iovec data = { .iov_base = &order, .iov_len = sizeof order };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    struct ucred who;
    int handed[HANDED_ROOM];
    bool known = false;
    ssize_t got = recvmsg(guardian->engine, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
        if (errno == EAGAIN)
            return NOTHING;
        /* The other end was closed with replies unread: said once, then comes what waits here. */
        return errno == EINTR || errno == ECONNRESET || errno == ENOBUFS || errno == ENOMEM ? READ : GONE;
    }
    int count = take_ancillary(&message, handed, &who, &known);
    /* An empty message has a sender; the end has none. */
    if (got == 0 && !known)
        return GONE;
    if (got == sizeof order && (message.msg_flags & MSG_TRUNC) == 0)
        handle(guardian, &order, known ? &who : NULL, handed, count);
    for (int at = 0; at < count; at++)
        if (handed[at] >= 0)
            close(handed[at]);
    return READ;
}

bool orders_read(struct guardian *guardian)
{
    for (int count = 0; count < AT_A_TIME; count++)
        switch (read_one(guardian)) {
        case READ:
            break;
        case NOTHING:
            return true;
        case GONE:
            return false;
        }
    return true;
}

/* Addresses that were to live so long may have gone while nobody ran: to renew them would bring them back. */
static bool lease_is_over(const struct host *host, uint32_t lease)
{
    return lease != LEASE_FOREVER && life_age(&host->life) > lease * SECOND + SECOND * 9 / 10;
}

static void give_lease(struct host *host, uint32_t lease)
{
    if (host->lease == lease)
        return;
    batch_set_lease(&host->batches[BATCH_TAKE], lease);
    batch_set_lease(&host->batches[BATCH_RENEW], lease);
    host->lease = lease;
}

static void have(struct guardian *guardian, struct host *host, const struct order *order)
{
    bool take = order->kind == ORDER_TAKE;
    const struct batch *batch = &host->batches[take ? BATCH_TAKE : BATCH_RENEW];
    int64_t started = 0, finished = 0;
    int error = ETIMEDOUT;
    if (take)
        host->link_due = 0;
    if (!take && !host->mastered)
        return;
    if (!lease_is_over(host, order->lease)) {
        /* Before it is so: whatever happens from now on, there may be addresses to let go of. */
        host->mastered = true;
        give_lease(host, order->lease);
        started = monotonic();
        error = batch_execute(guardian->route, batch, take ? host->essential : UINT32_MAX,
            take ? fine_to_take : nothing_is_fine);
        finished = monotonic();
    }
    if (lease_is_over(host, order->lease)) {
        error = ETIMEDOUT;
        if ((host->leaving = host->mastered))
            release(guardian, true); /* which is told */
    }
    if (take || (error != 0 && error != ETIMEDOUT))
        reply_order(guardian, order, error, started, finished);
}

static void drop(struct guardian *guardian, struct host *host, const struct order *order)
{
    int64_t started = monotonic();
    int error = release_addresses(guardian, host);
    host->mastered = host->muted = false;
    reply_order(guardian, order, error, started, monotonic());
}

/* Where several drops wait, the quick part of each goes before the links of any. */
static void mute_waiting(struct guardian *guardian)
{
    int drops = 0;
    for (struct host *host = guardian->hosts; host != NULL; host = host->next)
        drops += host->waiting && host->order.kind == ORDER_DROP;
    for (struct host *host = guardian->hosts; drops > 1 && host != NULL; host = host->next)
        if (host->waiting && host->order.kind == ORDER_DROP && !host->muted) {
            /* What fails here is tried again, and told, by the drop itself. */
            (void) batch_execute(guardian->route, &host->batches[BATCH_MUTE], UINT32_MAX, fine_to_drop);
            host->muted = true;
        }
}

static bool carry_out_after(struct guardian *guardian, struct host *host)
{
    static const struct {
        enum kind kind;
        int batch;
    } steps[] = { { ORDER_REMOVE, BATCH_REMOVE }, { ORDER_RESTORE, BATCH_RESTORE } };
    struct order order = { .index = host->index };
    for (size_t at = 0; at < sizeof steps / sizeof *steps; at++) {
        if (!host->asked[steps[at].kind])
            continue;
        host->asked[steps[at].kind] = false;
        order.kind = (uint8_t) steps[at].kind;
        order.number = host->numbers[steps[at].kind];
        host->link_due = 0; /* the link goes with its interface */
        int64_t started = monotonic();
        int error = batch_execute(guardian->route, &host->batches[steps[at].batch], UINT32_MAX, fine_to_remove);
        reply_order(guardian, &order, error, started, monotonic());
        return true;
    }
    if (!host->asked[ORDER_FORGET])
        return false;
    if (host->link_due != 0)
        (void) batch_execute(guardian->route, &host->batches[BATCH_DROP], UINT32_MAX, fine_to_drop);
    order.kind = ORDER_FORGET;
    order.number = host->numbers[ORDER_FORGET];
    host_remove(&guardian->hosts, host);
    reply_order(guardian, &order, 0, 0, 0);
    return true;
}

bool orders_carry_out(struct guardian *guardian)
{
    struct host *found = NULL;
    struct host *host;
    mute_waiting(guardian);
    /* Links go down slowly: between two of them the others' leases must not run out. */
    for (host = guardian->hosts; host != NULL && guardian->dropped; host = host->next)
        if (host->waiting && host->order.kind == ORDER_RENEW) {
            struct order order = host->order;
            guardian->dropped = host->waiting = false;
            have(guardian, host, &order);
            return true;
        }
    /* A drop goes first: an address on two hosts harms more than one that comes a little later. */
    for (host = guardian->hosts; host != NULL && (found == NULL || found->order.kind != ORDER_DROP); host = host->next)
        if (host->waiting && (found == NULL || host->order.kind == ORDER_DROP))
            found = host;
    if (found != NULL) {
        struct order order = found->order;
        found->waiting = false;
        guardian->dropped = order.kind == ORDER_DROP;
        if (order.kind == ORDER_DROP)
            drop(guardian, found, &order);
        else
            have(guardian, found, &order);
        return true;
    }
    for (host = guardian->hosts; host != NULL; host = host->next)
        if (carry_out_after(guardian, host))
            return true;
    return false;
}

void orders_bequeath(struct guardian *guardian)
{
    for (struct host *host = guardian->hosts; host != NULL; host = host->next) {
        if (host->waiting && host->order.kind != ORDER_DROP) {
            supersede(guardian, host);
            /* It has told the LAN that it is the master: there is something to take back. */
            host->mastered |= host->order.kind == ORDER_TAKE;
            host->waiting = false;
        }
        /* A drop that waits is the engine's own, with its own bow-out. */
        host->leaving = host->mastered && !host->waiting;
    }
}
