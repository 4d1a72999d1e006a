/* Whether other programs read their notices: /proc/net/netlink tells how much each socket holds. Thread: main. */
#include "listeners.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clocks.h"
#include "protocol.h"

enum {
    ROUTE = 0, /* NETLINK_ROUTE, which the list begins with */
    /* A socket has room for 208 KiB, and a take of one address with its link weighs 5 KiB. */
    BEHIND_FROM = 48 << 10,
    /* One that holds more has been given more room, or has lost notices already: no wait helps it. */
    BEHIND_BELOW = 216 << 10,
};

void listeners_open(struct listeners *listeners)
{
    listeners->file = open("/proc/self/net/netlink", O_RDONLY | O_CLOEXEC);
}

void listeners_note(struct listeners *listeners, uint32_t notices)
{
    int64_t now = monotonic(), most = now + NOTICES_AT_ONCE * NOTICE_SPACING + TAKE_WAITS_AT_MOST;
    if (listeners->filled_until < now)
        listeners->filled_until = now;
    listeners->filled_until += notices * NOTICE_SPACING;
    if (listeners->filled_until > most)
        listeners->filled_until = most;
}

static const struct listener *find(const struct listeners *listeners, uint32_t port)
{
    for (int at = 0; at < listeners->count; at++)
        if (listeners->behind[at].port == port)
            return &listeners->behind[at];
    return NULL;
}

/* What a line says of a listener that is behind, into `fresh`; false after the last line of interest. */
static bool read_line(const struct listeners *former, struct listeners *fresh, const char *line)
{
    unsigned protocol, port;
    int queued;
    if (sscanf(line, "%*s %u %u %*s %d", &protocol, &port, &queued) != 3)
        return true; /* the heading */
    if (protocol != ROUTE)
        return false;
    if (queued < BEHIND_FROM || queued >= BEHIND_BELOW || (port & WATCH_PORT_MASK) == WATCH_PORT
        || fresh->count == LISTENERS)
        return true;
    const struct listener *before = find(former, port);
    bool reads = before == NULL || queued < before->queued;
    fresh->behind[fresh->count++]
        = (struct listener) { .port = port, .queued = queued, .read = reads ? fresh->looked : before->read };
    return true;
}

static void read_list(const struct listeners *former, struct listeners *fresh)
{
    char lines[LINES + 1];
    size_t kept = 0;
    off_t at = 0;
    ssize_t got;
    while ((got = pread(former->file, lines + kept, LINES - kept, at)) > 0) {
        char *line = lines, *end;
        at += got;
        lines[kept + (size_t) got] = '\0';
        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            if (!read_line(former, fresh, line))
                return;
        }
        kept = strlen(line);
        memmove(lines, line, kept);
    }
}

/* Whether one is behind that reads. One that does not cannot hold the others' addresses up. */
static bool any_is_behind(struct listeners *listeners, int64_t now)
{
    struct listeners fresh = { .looked = now };
    bool any = false;
    if (now - listeners->looked > LISTENER_STUCK_AFTER)
        listeners->count = 0; /* what it has done in between is not known */
    read_list(listeners, &fresh);
    for (int at = 0; at < fresh.count; at++)
        any = any || now - fresh.behind[at].read < LISTENER_STUCK_AFTER;
    memcpy(listeners->behind, fresh.behind, sizeof fresh.behind);
    listeners->count = fresh.count;
    listeners->looked = now;
    return any;
}

bool listeners_read(struct listeners *listeners)
{
    int64_t now = monotonic();
    if (listeners->file < 0)
        return true;
    if (now < listeners->look_at)
        return false;
    if (!any_is_behind(listeners, now))
        return true;
    listeners->look_at = now + LISTENERS_LOOKED_AT_AGAIN;
    return false;
}

bool listeners_keep_up(struct listeners *listeners)
{
    int64_t waits = listeners->filled_until - NOTICES_AT_ONCE * NOTICE_SPACING - monotonic();
    if (waits <= 0)
        return true;
    if (listeners->file >= 0)
        return listeners_read(listeners);
    listeners->look_at = monotonic() + waits;
    return false;
}
