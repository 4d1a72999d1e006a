/* Letting go without having been told: the addresses first, then the bow-out, for another host to take over at once. */
#include <errno.h>

#include "clocks.h"
#include "bowout.h"
#include "guardian.h"

enum {
    LATE_MS = 5,     /* woken so late, we were not running ourselves: the engine had no chance either */
    RESPITE_MS = 20, /* and gets this long to show that it lives */
    LINGER_MS = 50,  /* the link of an address that has gone stays up so long: to take it down keeps others waiting */
    SILENT_US = 300, /* after the order to go, an address has stopped to answer */
};

bool fine_to_drop(int error)
{
    return error == ENODEV || error == ENXIO || error == EADDRNOTAVAIL || error == ESRCH;
}

/* ns until this host is overdue, by what is known now. */
static int64_t time_left(const struct host *host)
{
    return host->respite != 0 ? host->respite - monotonic() : host->life.hold - life_age(&host->life);
}

int64_t release_next(const struct guardian *guardian)
{
    int64_t next = INT64_MAX;
    for (const struct host *host = guardian->hosts; host != NULL; host = host->next)
        if (host->mastered && !guardian->quiet) {
            int64_t left = time_left(host);
            next = left < next ? left : next;
        } else if (host->link_due != 0) {
            int64_t left = host->link_due - monotonic();
            next = left < next ? left : next;
        }
    return next;
}

static int execute(const struct guardian *guardian, const struct host *host, int which)
{
    return batch_execute(guardian->route, &host->batches[which], UINT32_MAX, fine_to_drop);
}

int release_addresses(struct guardian *guardian, struct host *host)
{
    bool linger = host->mute_is_all && host->link != 0;
    if (!linger || execute(guardian, host, BATCH_MUTE) != 0)
        return execute(guardian, host, BATCH_DROP);
    host->link_due = monotonic() + LINGER_MS * MS;
    return 0;
}

bool release_link(struct guardian *guardian, bool wait)
{
    struct host *first = NULL;
    for (struct host *host = guardian->hosts; host != NULL; host = host->next)
        if (host->link_due != 0 && (first == NULL || host->link_due < first->link_due))
            first = host;
    if (first == NULL || (!wait && first->link_due > monotonic()))
        return false;
    sleep_until(first->link_due);
    first->link_due = 0;
    (void) execute(guardian, first, BATCH_DROP);
    return true;
}

static bool is_overdue(struct host *host)
{
    int64_t left = time_left(host);
    if (left >= 0)
        return false;
    if (host->respite == 0 && left < -LATE_MS * MS) {
        host->respite = monotonic() + RESPITE_MS * MS;
        return false;
    }
    return true;
}

void release_overdue(struct guardian *guardian)
{
    bool any = false;
    for (struct host *host = guardian->hosts; host != NULL; host = host->next) {
        if (host->stale && host->waiting && host->order.kind != ORDER_DROP) {
            host->waiting = false;
            if (host->order.kind == ORDER_TAKE)
                reply_order(guardian, &host->order, ETIMEDOUT, 0, 0);
        }
        if (host->mastered && !guardian->quiet && (host->stale || is_overdue(host)))
            any = host->leaving = true;
        host->stale = false;
    }
    if (any)
        release(guardian, true);
}

void release(struct guardian *guardian, bool bowout)
{
    int64_t begun = monotonic();
    struct host *host;
    for (host = guardian->hosts; host != NULL; host = host->next)
        if (host->leaving)
            atomic_store(&host->silent, execute(guardian, host, BATCH_MUTE) == 0 && host->mute_is_all);
    for (host = guardian->hosts; bowout && host != NULL; host = host->next)
        if (host->leaving && atomic_load(&host->silent))
            farewell_order(host, begun + SILENT_US * 1000);
    for (host = guardian->hosts; host != NULL; host = host->next) {
        if (!host->leaving)
            continue;
        int64_t silence = life_age(&host->life), started = monotonic();
        /* IPv6 addresses fall silent with the link, long before the kernel has finished with it. */
        if (bowout && !atomic_load(&host->silent))
            farewell_order(host, started + SILENT_US * 1000);
        int error = release_addresses(guardian, host);
        atomic_store(&host->silent, true);
        host->mastered = host->leaving = host->muted = false;
        host->respite = 0;
        reply_released(guardian, host->index, error, started, monotonic(), silence);
    }
    farewell_finish();
}
