/* What the engine orders. Everything that waits is read before the next order is carried out, so of several orders for
 * one instance only the last is. Thread: the one that has the turn. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clocks.h"
#include "guardian.h"

enum {
    AT_A_TIME = 1024, /* messages, before something is carried out in between */
    HANDED = 3,       /* descriptors that come with ADD: description, socket that sends, lock */
    HANDED_ROOM = 16,
    LATE_SHORT = 16, /* requests that may follow a take at once */
};

static bool fine_to_renew(int error) { return error == 0; }
static bool fine_to_take(int error) { return error == EEXIST; }

static bool waits_for(const struct instance *instance, enum kind kind)
{
    return instance->waiting && instance->order.kind == kind;
}

/* This order is a sign of life. */
static void note_beat(struct instance *instance, const struct order *order)
{
    int64_t now = monotonic(), passed = boottime();
    instance->beat = (struct beat) {
        /* None comes from the future, or from before the machine was started. */
        .at = order->at > now ? now : order->at < 0 ? 0 : order->at,
        .boot = order->boot > passed ? passed : order->boot < 0 ? 0 : order->boot,
        .next_beat = order->next_beat_ms * NS_PER_MS,
        .takeover_after = order->takeover_after_ms * NS_PER_MS,
    };
    instance->stale = beat_age(&instance->beat) > instance->beat.next_beat;
    instance->late_until = 0;
}

static void supersede(struct guardian *guardian, struct instance *instance)
{
    if (instance->waiting && instance->order.kind != ORDER_RENEW)
        reply_superseded(guardian, &instance->order);
}

static void place(struct guardian *guardian, struct instance *instance, const struct order *order)
{
    if (order->kind == ORDER_RENEW || order->kind == ORDER_BEAT) {
        bool taking = waits_for(instance, ORDER_TAKE);
        if (!instance->taken && !taking)
            return;
        note_beat(instance, order);
        if (order->kind == ORDER_BEAT || taking || waits_for(instance, ORDER_DROP))
            return;
    } else {
        supersede(guardian, instance);
        if (order->kind == ORDER_TAKE)
            note_beat(instance, order);
    }
    instance->muted = instance->muted && order->kind == ORDER_DROP;
    instance->order = *order;
    instance->waiting = true;
}

/* ns that a gate may be open from now on, after that sign of life. */
static int64_t gate_time(const struct instance *instance, const struct beat *beat)
{
    return instance->gate.lease * NS_PER_MS - beat_age(beat);
}

/* The table of a gate that is described anew, where it is another one. What fails is tried again by the next order. */
static void put_gate(struct guardian *guardian, struct instance *fresh, const struct instance *former)
{
    fresh->gate.lease = former->gate.lease;
    if (fresh->gate.device == 0 || gate_same(&fresh->gate, &former->gate))
        return;
    if ((fresh->gate.made || gate_create(guardian->filter, &fresh->gate) == 0) && former->taken)
        (void) gate_open(guardian->filter, fresh->packet, &fresh->gate, gate_time(fresh, &former->beat));
}

static void add(struct guardian *guardian, const struct order *order, int *handed, int count)
{
    struct instance fresh = { .index = order->index };
    struct instance *former = instance_find(guardian->instances, order->index);
    int error = EINVAL;
    /* What was ordered for an instance that is to be forgotten comes first. */
    while (former != NULL && former->asked[ORDER_FORGET] && orders_carry_out(guardian, false))
        former = instance_find(guardian->instances, order->index);
    if (count >= HANDED && (error = instance_read(&fresh, handed[0])) == 0) {
        fresh.packet = handed[1];
        fresh.lock = handed[2];
        if (former != NULL)
            put_gate(guardian, &fresh, former);
        if ((error = instance_put(&guardian->instances, &fresh)) == 0)
            handed[1] = handed[2] = -1;
        else
            free(fresh.blob);
    }
    reply_order(guardian, order, error, 0);
}

static void handle_for_instance(struct guardian *guardian, const struct order *order)
{
    struct instance *instance = instance_find(guardian->instances, order->index);
    if (instance == NULL || instance->asked[ORDER_FORGET]) {
        if (order->kind != ORDER_RENEW && order->kind != ORDER_BEAT)
            reply_order(guardian, order, ENOENT, 0);
    } else if (order->kind <= ORDER_BEAT)
        place(guardian, instance, order);
    else {
        instance->asked[order->kind] = true;
        instance->numbers[order->kind] = order->number;
    }
}

static void handle(
    struct guardian *guardian, const struct order *order, const struct ucred *who, int *handed, int count)
{
    if (order->kind == ORDER_QUIET) {
        guardian->quiet = true;
        reply_order(guardian, order, 0, 0);
    } else if (order->kind == ORDER_ADD) {
        /* A program that gave up root keeps its instances, and adds no others. */
        if (who != NULL && (who->uid == 0 || who->uid == guardian->uid))
            add(guardian, order, handed, count);
        else
            reply_order(guardian, order, EPERM, 0);
    } else if (order->kind <= ORDER_RESTORE)
        handle_for_instance(guardian, order);
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
        /* ECONNRESET: the other end was closed with replies unread. That is said once, then comes what waits. */
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

/* The kernel may have removed the addresses while the guardian did not run: to renew them would bring them back. A gate
 * knows by itself. */
static bool lease_is_over(const struct instance *instance, uint32_t lease)
{
    return instance->gate.device == 0 && lease != LEASE_FOREVER && beat_age(&instance->beat) > lease * NS_PER_SECOND + LEASE_MAY_BE_OVER;
}

static void give_lease(struct instance *instance, uint32_t lease)
{
    if (instance->lease == lease)
        return;
    batch_set_lease(&instance->batches[BATCH_TAKE], lease);
    batch_set_lease(&instance->batches[BATCH_RENEW], lease);
    instance->lease = lease;
}

static int open_gate(const struct guardian *guardian, struct instance *instance, uint32_t lease)
{
    instance->gate.lease = lease;
    int error = gate_open(
        guardian->filter, instance->packet, &instance->gate, gate_time(instance, &instance->beat));
    /* This process may have been stopped in between. */
    if (gate_time(instance, &instance->beat) < 0)
        (void) gate_shut(instance->packet, &instance->gate);
    return error;
}

/* A renewal where there is a gate: the addresses stay as they are. */
static void renew_gate(struct guardian *guardian, struct instance *instance, const struct order *order)
{
    int error = open_gate(guardian, instance, order->lease);
    /* Without its device it has no addresses either: the engine looks after that. */
    if (error == 0 || error == ENETDOWN || error == ENXIO || error == ENODEV)
        return;
    /* A table goes by its device's name: the engine is about to describe it anew. */
    if (error == ENOENT && gate_renamed(guardian->route, &instance->gate))
        return;
    /* The table has gone, and cannot be put back. */
    reply_order(guardian, order, error, monotonic());
    instance->leaving = true;
    release(guardian, true);
}

/* Take where there is a gate. It opens before the addresses come: what the kernel says of them leaves at once. */
static int take_gated(struct guardian *guardian, struct instance *instance, const struct order *order)
{
    give_lease(instance, LEASE_FOREVER);
    (void) batch_execute(guardian->route, &instance->batches[BATCH_UP], 0, fine_to_take);
    int error = open_gate(guardian, instance, order->lease);
    int taking
        = batch_execute(guardian->route, &instance->batches[BATCH_TAKE], instance->essential, fine_to_take);
    return taking != 0 ? taking : error;
}

/* Many requests keep the kernel from what the first answers need, and wait until those have left. */
static int64_t late_due(const struct instance *instance)
{
    uint32_t count = instance->batches[BATCH_LATE].count;
    return count == 0 ? 0 : monotonic() + (count > LATE_SHORT ? LATE_AFTER_TAKE : 0);
}

static void take_or_renew(struct guardian *guardian, struct instance *instance, const struct order *order)
{
    bool take = order->kind == ORDER_TAKE;
    int64_t started = 0;
    int error = ETIMEDOUT;
    if (take)
        instance->link_due = 0;
    else if (!instance->taken)
        return;
    else if (instance->gate.device != 0) {
        renew_gate(guardian, instance, order);
        return;
    } else if (order->lease == LEASE_FOREVER && instance->lease == LEASE_FOREVER)
        return; /* there is nothing to renew */
    if (!lease_is_over(instance, order->lease)) {
        /* Before it is so: whatever happens from now on, there may be addresses to release. */
        instance->taken = true;
        started = monotonic();
        if (take)
            listeners_note(&guardian->listeners, instance->essential);
        if (instance->gate.device == 0)
            give_lease(instance, order->lease);
        error = instance->gate.device != 0 ? take_gated(guardian, instance, order) : batch_execute(guardian->route, &instance->batches[take ? BATCH_TAKE : BATCH_RENEW],
            take ? instance->essential : UINT32_MAX, take ? fine_to_take : fine_to_renew);
    }
    if (lease_is_over(instance, order->lease)) {
        error = ETIMEDOUT;
        if ((instance->leaving = instance->taken))
            release(guardian, true);
    }
    if (take) {
        instance->late_due = error == 0 ? late_due(instance) : 0;
        instance->late_done = (struct cursor) { 0 };
    }
    /* A renewal that came too late is told by the reply RELEASED. */
    if (take || (error != 0 && error != ETIMEDOUT))
        reply_order(guardian, order, error, started);
}

static void drop(struct guardian *guardian, struct instance *instance, const struct order *order)
{
    int64_t started = monotonic();
    int error = drop_addresses(guardian, instance);
    instance->taken = instance->muted = false;
    reply_order(guardian, order, error, started);
}

/* Where several drops wait, the quick part of each is done before the links of any. */
static void mute_waiting(struct guardian *guardian)
{
    int drops = 0;
    struct instance *instance;
    for (instance = guardian->instances; instance != NULL; instance = instance->next)
        drops += waits_for(instance, ORDER_DROP);
    for (instance = guardian->instances; drops > 1 && instance != NULL; instance = instance->next)
        if (waits_for(instance, ORDER_DROP) && !instance->muted)
            (void) gate_shut(instance->packet, &instance->gate);
    for (instance = guardian->instances; drops > 1 && instance != NULL; instance = instance->next)
        if (waits_for(instance, ORDER_DROP) && !instance->muted) {
            /* What fails here is tried again, and told, by the drop itself. */
            (void) batch_execute(guardian->route, &instance->batches[BATCH_MUTE], UINT32_MAX, fine_to_drop);
            instance->muted = true;
        }
}

/* One of REMOVE, RESTORE and FORGET, in this order; false when none was asked for. */
static bool carry_out_asked(struct guardian *guardian, struct instance *instance)
{
    static const enum kind kinds[] = { ORDER_REMOVE, ORDER_RESTORE, ORDER_FORGET };
    size_t at = 0;
    while (!instance->asked[kinds[at]])
        if (++at == sizeof kinds / sizeof *kinds)
            return false;
    struct order order
        = { .kind = (uint8_t) kinds[at], .index = instance->index, .number = instance->numbers[kinds[at]] };
    int64_t started = monotonic();
    int error = 0;
    instance->asked[kinds[at]] = false;
    if (order.kind != ORDER_FORGET) {
        instance->link_due = 0; /* the link goes with its interface */
        error = batch_execute(guardian->route,
            &instance->batches[order.kind == ORDER_REMOVE ? BATCH_REMOVE : BATCH_RESTORE], UINT32_MAX, fine_to_drop);
        if (order.kind == ORDER_REMOVE) {
            int gate_error = gate_remove(guardian->filter, &instance->gate);
            error = error != 0 || fine_to_drop(gate_error) ? error : gate_error;
        }
    } else {
        if (instance->link_due != 0)
            (void) batch_execute(guardian->route, &instance->batches[BATCH_DROP], UINT32_MAX, fine_to_drop);
        instance_remove(&guardian->instances, instance);
    }
    reply_order(guardian, &order, error, started);
    return true;
}

/* Drops come first: an address on two hosts harms more than one that comes a little later. But links go down slowly,
 * and the leases of others must not end meanwhile: so one renewal comes after each drop. */
static struct instance *most_urgent(struct guardian *guardian, bool patient)
{
    struct instance *first = NULL, *drop = NULL, *renewal = NULL, *instance;
    for (instance = guardian->instances; instance != NULL; instance = instance->next) {
        if (drop == NULL && waits_for(instance, ORDER_DROP))
            drop = instance;
        if (renewal == NULL && waits_for(instance, ORDER_RENEW))
            renewal = instance;
        if (first == NULL && instance->waiting)
            first = instance;
    }
    if (renewal != NULL && guardian->last_dropped)
        return renewal;
    if (drop != NULL)
        return drop;
    bool take = patient && first != NULL && waits_for(first, ORDER_TAKE);
    return take && !listeners_keep_up(&guardian->listeners) ? renewal : first;
}

bool orders_carry_out(struct guardian *guardian, bool patient)
{
    struct instance *instance;
    mute_waiting(guardian);
    if ((instance = most_urgent(guardian, patient)) != NULL) {
        struct order order = instance->order;
        instance->waiting = false;
        guardian->last_dropped = order.kind == ORDER_DROP;
        if (order.kind == ORDER_DROP)
            drop(guardian, instance, &order);
        else
            take_or_renew(guardian, instance, &order);
        return true;
    }
    for (instance = guardian->instances; instance != NULL; instance = instance->next)
        if (!instance->waiting && carry_out_asked(guardian, instance))
            return true;
    return false;
}

bool orders_carry_out_late(struct guardian *guardian)
{
    for (struct instance *instance = guardian->instances; instance != NULL; instance = instance->next)
        if (instance->late_due != 0 && instance->late_due <= monotonic()) {
            if (!batch_continue(guardian->route, &instance->batches[BATCH_LATE], &instance->late_done))
                instance->late_due = 0;
            return true;
        }
    return false;
}

void orders_withdraw(struct guardian *guardian)
{
    for (struct instance *instance = guardian->instances; instance != NULL; instance = instance->next) {
        if (instance->waiting && instance->order.kind != ORDER_DROP) {
            supersede(guardian, instance);
            /* The engine has told the LAN that it is MASTER: there is something to take back. */
            instance->taken |= instance->order.kind == ORDER_TAKE;
            instance->waiting = false;
        }
        /* A drop that waits is the engine's own: it has sent its own bow-out. */
        instance->leaving = instance->taken && !instance->waiting;
    }
}
