/* Releasing addresses without an order: the drop first, then the bow-out, at which another host takes over at once.
 * Thread: the one that has the turn. */
#include <errno.h>

#include "clocks.h"
#include "guardian.h"

bool fine_to_drop(int error)
{
    return error == ENODEV || error == ENXIO || error == EADDRNOTAVAIL || error == ESRCH
        || error == ENOENT || error == EEXIST;
}

/* ns until this instance is overdue, by what is known now. */
static int64_t time_left(const struct instance *instance)
{
    if (instance->late_until != 0)
        return instance->late_until - monotonic();
    return instance->beat.next_beat - beat_age(&instance->beat);
}

static bool take_waits(const struct instance *instance)
{
    return instance->waiting && instance->order.kind == ORDER_TAKE;
}

int64_t release_next(const struct guardian *guardian)
{
    int64_t next = INT64_MAX, look = guardian->listeners.look_at - monotonic(), left;
    for (const struct instance *instance = guardian->instances; instance != NULL; instance = instance->next) {
        if ((instance->taken || take_waits(instance)) && !guardian->quiet && (left = time_left(instance)) < next)
            next = left;
        /* Only one that has taken its addresses has a late batch, and only one that has not a link that goes down. */
        if (instance->late_due != 0 && (left = instance->late_due - monotonic()) < next)
            next = left;
        if (instance->link_due == 0 && !take_waits(instance))
            continue;
        left = instance->link_due != 0 ? instance->link_due - monotonic() : look;
        left = left > look ? left : look;
        next = left < next ? left : next;
    }
    return next;
}

static int execute(const struct guardian *guardian, const struct instance *instance, int which)
{
    return batch_execute(guardian->route, &instance->batches[which], UINT32_MAX, fine_to_drop);
}

static int remove_addresses(struct guardian *guardian, struct instance *instance)
{
    bool link_later = instance->mute_is_all && instance->link != 0;
    if (!link_later || execute(guardian, instance, BATCH_MUTE) != 0)
        return execute(guardian, instance, BATCH_DROP);
    instance->link_due = monotonic() + LINK_DOWN_AFTER_DROP;
    return 0;
}

int drop_addresses(struct guardian *guardian, struct instance *instance)
{
    instance->late_due = 0;
    (void) gate_shut(instance->packet, &instance->gate);
    int error = remove_addresses(guardian, instance);
    listeners_note(&guardian->listeners, instance->essential);
    if (error == 0)
        gate_disarm(instance->packet, &instance->gate);
    return error;
}

/* Nobody needs it down soon: it waits until programs have heard of the addresses that went. */
static bool may_go_down(struct guardian *guardian, const struct instance *instance)
{
    int64_t passed = monotonic() - instance->link_due;
    return passed >= LINK_WAITS_AT_MOST || (passed >= 0 && listeners_read(&guardian->listeners));
}

bool release_link(struct guardian *guardian, bool wait)
{
    struct instance *first = NULL;
    for (struct instance *instance = guardian->instances; instance != NULL; instance = instance->next)
        if (instance->link_due != 0 && (first == NULL || instance->link_due < first->link_due))
            first = instance;
    if (first == NULL || (!wait && !may_go_down(guardian, first)))
        return false;
    listeners_note(&guardian->listeners, 1);
    sleep_until(first->link_due);
    first->link_due = 0;
    (void) execute(guardian, first, BATCH_DROP);
    return true;
}

static bool is_overdue(struct instance *instance)
{
    int64_t left = time_left(instance);
    if (left >= 0)
        return false;
    if (instance->late_until == 0 && left < -GUARDIAN_WOKEN_LATE) {
        instance->late_until = monotonic() + GUARDIAN_WOKEN_LATE_ALLOWANCE;
        return false;
    }
    return true;
}

void release_overdue(struct guardian *guardian)
{
    bool any = false;
    for (struct instance *instance = guardian->instances; instance != NULL; instance = instance->next) {
        if (instance->stale && instance->waiting && instance->order.kind != ORDER_DROP) {
            instance->waiting = false;
            if (instance->order.kind == ORDER_TAKE)
                reply_order(guardian, &instance->order, ETIMEDOUT, 0);
        }
        if ((instance->taken || take_waits(instance)) && !guardian->quiet && (instance->stale || is_overdue(instance))) {
            if (take_waits(instance)) {
                /* The engine has told the LAN that it is MASTER: there is something to take back. */
                reply_superseded(guardian, &instance->order);
                instance->waiting = false;
                instance->taken = true;
            }
            any = instance->leaving = true;
        }
        instance->stale = false;
    }
    if (any)
        release(guardian, true);
}

void release(struct guardian *guardian, bool bowout)
{
    int64_t begun = monotonic();
    struct instance *instance;
    for (instance = guardian->instances; instance != NULL; instance = instance->next)
        if (instance->leaving)
            atomic_store(&instance->silent, gate_shut(instance->packet, &instance->gate));
    for (instance = guardian->instances; instance != NULL; instance = instance->next)
        if (instance->leaving && execute(guardian, instance, BATCH_MUTE) == 0 && instance->mute_is_all)
            atomic_store(&instance->silent, true);
    for (instance = guardian->instances; bowout && instance != NULL; instance = instance->next)
        if (instance->leaving && atomic_load(&instance->silent))
            bowout_send(instance, begun + BOWOUT_AFTER_DROP);
    for (instance = guardian->instances; instance != NULL; instance = instance->next) {
        if (!instance->leaving)
            continue;
        int64_t silence = beat_age(&instance->beat), started = monotonic();
        /* IPv6 addresses fall silent with the link, long before the kernel has finished with it. */
        if (bowout && !atomic_load(&instance->silent))
            bowout_send(instance, started + BOWOUT_AFTER_DROP);
        int error = drop_addresses(guardian, instance);
        atomic_store(&instance->silent, true);
        instance->taken = instance->leaving = instance->muted = false;
        instance->late_until = 0;
        reply_released(guardian, instance, error, started, silence);
    }
    bowout_finish();
}
