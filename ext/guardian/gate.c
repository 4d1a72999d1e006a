/* The gate: opened and shut by keys, frames that its table takes for itself. A key that was swallowed fails with
 * ENOBUFS; one that was sent says that there is no table. */
#include "gate.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "clocks.h"

enum { ANSWERED_WITHIN_S = 5 };

int gate_socket(void)
{
    const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    const struct timeval limit = { .tv_sec = ANSWERED_WITHIN_S };
    int filter = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (filter >= 0
        && (bind(filter, (const struct sockaddr *) &kernel, sizeof kernel) < 0
            || setsockopt(filter, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)) {
        close(filter);
        filter = -1;
    }
    return filter;
}

bool gate_read(struct gate *gate, const uint8_t *text, uint32_t length)
{
    struct gate_description head;
    *gate = (struct gate) { .device = 0 };
    if (length == 0)
        return true;
    if (length < sizeof head)
        return false;
    memcpy(&head, text, sizeof head);
    length -= (uint32_t) sizeof head;
    if (head.device == 0 || head.steps == 0 || head.steps > length / sizeof(uint32_t))
        return false;
    length -= head.steps * (uint32_t) sizeof(uint32_t);
    if (head.create > length || head.remove != length - head.create)
        return false;
    gate->device = head.device;
    gate->made = head.made != 0;
    gate->step_count = head.steps;
    gate->steps = text + sizeof head;
    gate->create = gate->steps + head.steps * sizeof(uint32_t);
    gate->remove = gate->create + head.create;
    gate->create_length = head.create;
    gate->remove_length = head.remove;
    memcpy(gate->key, head.key, sizeof head.key);
    return true;
}

bool gate_same(const struct gate *gate, const struct gate *other)
{
    return gate->device == other->device && gate->create_length == other->create_length
        && memcmp(gate->create, other->create, gate->create_length) == 0;
}

bool gate_renamed(int any, const struct gate *gate)
{
    struct ifreq request = { .ifr_ifindex = (int) gate->device };
    return ioctl(any, SIOCGIFNAME, &request) == 0
        && memmem(gate->create, gate->create_length, request.ifr_name, strlen(request.ifr_name) + 1) == NULL;
}

/* 0 where the table took the key, ENOENT where there is none, or another errno. */
static int turn(int packet, const struct gate *gate, uint16_t what)
{
    struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_ifindex = (int) gate->device };
    uint8_t key[KEY_LENGTH];
    memcpy(key, gate->key, sizeof key);
    /* The table tells keys by it. */
    memcpy(&where.sll_protocol, key + offsetof(struct ether_header, ether_type), sizeof where.sll_protocol);
    key[KEY_WHAT] = (uint8_t) (what >> 8);
    key[KEY_WHAT + 1] = (uint8_t) what;
    if (sendto(packet, key, sizeof key, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *) &where, sizeof where)
        >= 0)
        return ENOENT;
    return errno == ENOBUFS ? 0 : errno;
}

int gate_open(int filter, int packet, const struct gate *gate, int64_t left)
{
    uint32_t step, count = 0;
    for (; count < gate->step_count; count++) {
        memcpy(&step, gate->steps + count * sizeof step, sizeof step);
        if (step * NS_PER_MS > left)
            break;
    }
    if (count == 0)
        return 0;
    uint16_t what = (uint16_t) (KEY_FIRST_STEP + count - 1);
    int error = turn(packet, gate, what);
    if (error == ENOENT && (error = gate_create(filter, gate)) == 0)
        error = turn(packet, gate, what);
    return error;
}

bool gate_shut(int packet, const struct gate *gate)
{
    return gate->device != 0 && turn(packet, gate, KEY_SHUT) == 0;
}

void gate_disarm(int packet, const struct gate *gate)
{
    if (gate->device != 0)
        (void) turn(packet, gate, KEY_DISARM);
}

/* A transaction answers its last request alone, which is numbered so, and whatever fails. */
static int carry_out(int filter, const uint8_t *transaction, uint32_t length)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr outcome;
    } answer;
    ssize_t got;
    while (recv(filter, &answer, sizeof answer, MSG_DONTWAIT) >= 0 || errno == EINTR || errno == ENOBUFS)
        ; /* what an earlier one left */
    if (send(filter, transaction, length, 0) < 0)
        return errno;
    for (;;) {
        if ((got = recv(filter, &answer, sizeof answer, 0)) < 0) {
            if (errno != EINTR)
                return errno == EAGAIN ? ETIMEDOUT : errno;
        } else if (got >= (ssize_t) (sizeof answer.header + sizeof answer.outcome.error)
            && answer.header.nlmsg_type == NLMSG_ERROR
            && (answer.outcome.error != 0 || answer.header.nlmsg_seq == GATE_LAST))
            return -answer.outcome.error;
    }
}

int gate_create(int filter, const struct gate *gate)
{
    return filter < 0 ? EOPNOTSUPP : carry_out(filter, gate->create, gate->create_length);
}

int gate_remove(int filter, const struct gate *gate)
{
    return filter < 0 || gate->device == 0 ? 0 : carry_out(filter, gate->remove, gate->remove_length);
}
