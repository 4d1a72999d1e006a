/* Batches of rtnetlink requests. The kernel works through one send call in the caller's context: it has answered when
 * the call returns, and a link that goes down keeps the caller for milliseconds. */
#include "route.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

enum {
    ANSWERED_WITHIN_S = 5, /* else the kernel has lost an answer */
    /* An acknowledgement weighs some 800 octets in a receive buffer of usually 208 KiB; without room it is lost. */
    PART = 128,
};

int route_open(void)
{
    const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    const struct timeval limit = { .tv_sec = ANSWERED_WITHIN_S };
    const int on = 1;
    int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (route < 0)
        return -1;
    if (bind(route, (const struct sockaddr *) &kernel, sizeof kernel) < 0
        || setsockopt(route, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) {
        int error = errno;
        close(route);
        errno = error;
        return -1;
    }
    /* Answers without the request in them; a kernel that cannot do that sends more than we read, which is cut off. */
    (void) setsockopt(route, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    return route;
}

/* The header at `at`, and in `*next` where the next one is; false at the end, or where the batch ends too early. */
static bool header_at(const struct batch *batch, uint32_t at, struct nlmsghdr *header, uint32_t *next)
{
    if (batch->length - at < sizeof *header)
        return false;
    memcpy(header, batch->requests + at, sizeof *header);
    if (header->nlmsg_len < sizeof *header || header->nlmsg_len > batch->length - at)
        return false;
    uint32_t aligned = NLMSG_ALIGN(header->nlmsg_len);
    *next = aligned < batch->length - at ? at + aligned : batch->length;
    return true;
}

bool batch_prepare(struct batch *batch)
{
    struct nlmsghdr header;
    uint32_t at = 0, next;
    for (batch->count = 0; header_at(batch, at, &header, &next); at = next) {
        header.nlmsg_seq = ++batch->count;
        header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        memcpy(batch->requests + at, &header, sizeof header);
    }
    return at == batch->length;
}

/* The attribute IFA_CACHEINFO among those of one RTM_NEWADDR. */
static void set_lifetime(uint8_t *attributes, uint32_t length, uint32_t seconds)
{
    struct rtattr attribute;
    struct ifa_cacheinfo life;
    while (length >= sizeof attribute) {
        memcpy(&attribute, attributes, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || attribute.rta_len > length)
            return;
        if ((attribute.rta_type & NLA_TYPE_MASK) == IFA_CACHEINFO && RTA_PAYLOAD(&attribute) >= sizeof life) {
            memcpy(&life, attributes + RTA_LENGTH(0), sizeof life);
            life.ifa_valid = seconds;
            /* 0 is a deprecated address: it answers, but this host does not choose it as a source. */
            if (life.ifa_prefered != 0)
                life.ifa_prefered = seconds;
            memcpy(attributes + RTA_LENGTH(0), &life, sizeof life);
        }
        uint32_t step = RTA_ALIGN(attribute.rta_len);
        if (step >= length)
            return;
        attributes += step;
        length -= step;
    }
}

void batch_set_lease(struct batch *batch, uint32_t seconds)
{
    const uint32_t skip = NLMSG_LENGTH(sizeof(struct ifaddrmsg));
    struct nlmsghdr header;
    uint32_t at = 0, next;
    for (; header_at(batch, at, &header, &next); at = next)
        if (header.nlmsg_type == RTM_NEWADDR && header.nlmsg_len > skip)
            set_lifetime(batch->requests + at + skip, header.nlmsg_len - skip, seconds);
}

/* Read the answers that are left: all batches are numbered from 1, and these would be taken for the next one's. */
static void forget_answers(int route)
{
    struct nlmsghdr answer;
    /* A full socket says so once (ENOBUFS), and then gives what it holds. */
    while (recv(route, &answer, sizeof answer, MSG_DONTWAIT) >= 0 || errno == EINTR || errno == ENOBUFS)
        ;
}

struct part {
    const uint8_t *requests;
    uint32_t length, first, count; /* octets; the number of its first request; requests */
};

/* Send a part and read an answer to each request, which the kernel sends one by one: the first error among those
 * numbered above `undecisive` that is not `fine`, or why there are no more answers, or 0. */
static int execute_part(int route, const struct part *part, uint32_t undecisive, bool (*fine)(int error))
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr outcome;
    } answer;
    int failure = 0;
    if (send(route, part->requests, part->length, 0) < 0)
        return errno;
    for (uint32_t answered = 0; answered < part->count;) {
        ssize_t got = recv(route, &answer, sizeof answer, 0);
        if (got < 0 && errno != EINTR) {
            int error = errno == EAGAIN ? ETIMEDOUT : errno;
            forget_answers(route);
            return failure != 0 ? failure : error;
        }
        if (got < (ssize_t) (sizeof answer.header + sizeof answer.outcome.error)
            || answer.header.nlmsg_type != NLMSG_ERROR || answer.header.nlmsg_seq - part->first >= part->count)
            continue;
        answered++;
        int error = -answer.outcome.error;
        if (failure == 0 && error != 0 && answer.header.nlmsg_seq > undecisive && !fine(error))
            failure = error;
    }
    return failure;
}

/* Cut off the part that begins at `*at` with the request numbered `first`, and move on; false when nothing is left. */
static bool cut_part(const struct batch *batch, uint32_t *at, uint32_t first, struct part *part)
{
    struct nlmsghdr header;
    uint32_t next;
    *part = (struct part) { .requests = batch->requests + *at, .first = first };
    for (; part->count < PART && header_at(batch, *at, &header, &next); *at = next)
        part->count++;
    part->length = (uint32_t) (batch->requests + *at - part->requests);
    return part->count != 0;
}

int batch_execute(int route, const struct batch *batch, uint32_t decisive, bool (*fine)(int error))
{
    uint32_t undecisive = decisive < batch->count ? batch->count - decisive : 0, at = 0;
    struct part part;
    int failure = 0;
    /* Also after a failure: each address that can be dropped is. */
    for (uint32_t first = 1; cut_part(batch, &at, first, &part); first += part.count) {
        int error = execute_part(route, &part, undecisive, fine);
        failure = failure != 0 ? failure : error;
    }
    return failure;
}

static bool all_fine(int error)
{
    (void) error;
    return true;
}

bool batch_continue(int route, const struct batch *batch, struct cursor *cursor)
{
    struct part part;
    if (!cut_part(batch, &cursor->at, cursor->done + 1, &part))
        return false;
    (void) execute_part(route, &part, 0, all_fine);
    cursor->done += part.count;
    return cursor->at < batch->length;
}

bool link_sends(int route, int index)
{
    struct ifreq request = { .ifr_ifindex = index };
    /* By name, since that call alone does without the lock that all changes of interfaces and addresses share. */
    return ioctl(route, SIOCGIFNAME, &request) == 0 && ioctl(route, SIOCGIFFLAGS, &request) == 0
        && (request.ifr_flags & IFF_RUNNING) != 0;
}
