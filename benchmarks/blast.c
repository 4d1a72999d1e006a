/* Sends prepared frames out of an interface at a steady rate: a flood, or a client that asks ten thousand times a second.
 *
 *     blast INTERFACE FRAMES LENGTH RATE SECONDS
 *
 * FRAMES is a file of frames of LENGTH bytes each, which are sent in turn, RATE of them a second, evenly by the
 * millisecond or finer. Ends after SECONDS or at SIGTERM; prints how many were sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 256

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET};
    struct sigaction action = {.sa_handler = stop};
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct timespec next;
    static char frames[1 << 20];
    size_t length, count, at = 0;
    double rate, seconds, owed = 0;
    long sent = 0, total, step;
    FILE *file;
    int out;

    if (argc != 6) {
        fprintf(stderr, "usage: blast INTERFACE FRAMES LENGTH RATE SECONDS\n");
        return 2;
    }
    length = strtoul(argv[3], NULL, 10);
    rate = strtod(argv[4], NULL);
    seconds = strtod(argv[5], NULL);
    file = fopen(argv[2], "rb");
    if (file == NULL)
        fail(argv[2]);
    count = length ? fread(frames, length, sizeof frames / length, file) : 0;
    fclose(file);
    if (count == 0 || rate <= 0) {
        fprintf(stderr, "blast: no frames, or no rate\n");
        return 2;
    }
    /* Rather before the spinners than behind them; where that is not allowed the rate that is printed tells. */
    (void)setpriority(PRIO_PROCESS, 0, -20);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    /* Protocol 0: it receives nothing. */
    out = socket(AF_PACKET, SOCK_RAW, 0);
    if (out < 0)
        fail("socket");
    address.sll_ifindex = (int)if_nametoindex(argv[1]);
    if (bind(out, (struct sockaddr *)&address, sizeof address) < 0)
        fail(argv[1]);
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    total = (long)(rate * seconds);
    step = rate > 1000 ? 1000000000L / (rate < 20000 ? (long)rate : 1000) : (long)(1e9 / rate);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!stopped && sent < total) {
        owed += rate * (double)step / 1e9;
        while (owed >= 1 && !stopped) {
            int batch = owed < BATCH ? (int)owed : BATCH;
            for (int i = 0; i < batch; i++) {
                vectors[i].iov_base = frames + length * at;
                vectors[i].iov_len = length;
                at = (at + 1) % count;
            }
            batch = sendmmsg(out, messages, (unsigned)batch, 0);
            if (batch < 0 && errno != ENOBUFS && errno != EINTR && errno != EAGAIN)
                fail("sendmmsg");
            if (batch <= 0)
                break;
            owed -= batch;
            sent += batch;
        }
        next.tv_nsec += step;
        while (next.tv_nsec >= 1000000000L) {
            next.tv_nsec -= 1000000000L;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    printf("%ld\n", sent);
    return 0;
}
