/* Sends one frame again and again, and says what the processor's time for each was: of its sending, and of all that the
 * kernel does with it at once. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

/* ns of each, or -1. `tap`: write to a TAP device, so that the frame arrives there; else send from a packet socket. */
double toll(int file, int tap, const void *frame, size_t length, long count);

double toll(int file, int tap, const void *frame, size_t length, long count)
{
    struct iovec vector = {.iov_base = (void *)frame, .iov_len = length};
    struct mmsghdr messages[BATCH];
    double began;
    long done;

    memset(messages, 0, sizeof messages);
    for (int at = 0; at < BATCH; at++) {
        messages[at].msg_hdr.msg_iov = &vector;
        messages[at].msg_hdr.msg_iovlen = 1;
    }
    began = now();
    for (done = 0; done < count;) {
        if (tap ? write(file, frame, length) < 0 : sendmmsg(file, messages, BATCH, 0) != BATCH)
            return -1;
        done += tap ? 1 : BATCH;
    }
    return (now() - began) / done;
}
