/* The guardian: a process that alone takes addresses, as one engine orders. When that engine dies or falls silent, the
 * guardian drops them and bows out. It knows no key. src/pycarp/_python/guardian/ is the same in Python.
 *
 *     pycarp-guardian 1|0       ask for the lowest real-time priority, or not
 *
 * Descriptors: 3, a SOCK_SEQPACKET socket to the engine; 4, the memory with its lifeline; 5, its pidfd if there is one.
 *
 * Threads: main, lifeline and bow-outs. The first two work by turns, under `turn`. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "clocks.h"
#include "guardian.h"

enum {
    ENGINE = 3,
    LIFELINE = 4,
    PIDFD = 5,
#ifdef PYCARP_SANITIZED
    STACK = 512 << 10,
#else
    STACK = 64 << 10,
#endif
};

/* Release everything, and end. The turn is not given back: the other thread does nothing any longer. */
static _Noreturn void end(struct guardian *guardian)
{
    (void) orders_read(guardian);
    orders_withdraw(guardian);
    release(guardian, !guardian->quiet);
    while (orders_carry_out(guardian, false))
        ;
    replies_flush(guardian);
    /* Where only a thread of the engine has ended, the engine sees this at once, however long our exit takes. */
    (void) shutdown(guardian->engine, SHUT_RDWR);
    while (release_link(guardian, true))
        ;
    _exit(EXIT_SUCCESS);
}

/* Thread: lifeline, which so needs to wake nobody. */
void engine_died(struct guardian *guardian)
{
    pthread_mutex_lock(&guardian->turn);
    if (!guardian->quiet)
        end(guardian);
    pthread_mutex_unlock(&guardian->turn);
}

/* The timer goes on during a suspend: what is due when the machine wakes up is done at once. */
static void set_timer(const struct guardian *guardian)
{
    int64_t left = release_next(guardian);
    struct itimerspec time = { 0 };
    if (left != INT64_MAX)
        time.it_value = timespec_of(left > 0 ? left + 1 : 1);
    (void) timerfd_settime(guardian->timer, 0, &time, NULL);
}

static _Noreturn void run(struct guardian *guardian)
{
    struct pollfd watched[] = {
        { .fd = guardian->engine, .events = POLLIN },
        { .fd = guardian->timer, .events = POLLIN },
        { .fd = guardian->pidfd, .events = POLLIN },
    };
    pthread_mutex_lock(&guardian->turn);
    for (;;) {
        if (!orders_read(guardian) || watched[2].revents != 0)
            end(guardian);
        release_overdue(guardian);
        if (orders_carry_out(guardian, true) || release_link(guardian, false) || orders_carry_out_late(guardian))
            continue;
        replies_flush(guardian);
        watched[0].events = guardian->replies_count != 0 ? POLLIN | POLLOUT : POLLIN;
        set_timer(guardian);
        pthread_mutex_unlock(&guardian->turn);
        (void) poll(watched, sizeof watched / sizeof *watched, -1);
        pthread_mutex_lock(&guardian->turn);
    }
}

static int start(struct guardian *guardian)
{
    pthread_attr_t attributes;
    int error;
    if ((guardian->route = route_open()) < 0)
        return errno;
    guardian->filter = gate_socket();
    listeners_open(&guardian->listeners);
    if ((guardian->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) < 0)
        return errno;
    if ((error = confine_capabilities()) != 0)
        return error;
    if ((error = pthread_attr_init(&attributes)) != 0)
        return error;
    (void) pthread_attr_setstacksize(&attributes, STACK);
    (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if ((error = bowout_start(&attributes, guardian->route)) != 0
        || (error = lifeline_start(guardian, &attributes)) != 0)
        return error;
    confine_calls();
    return 0;
}

int main(int argc, char **argv)
{
    static struct guardian guardian = { .turn = PTHREAD_MUTEX_INITIALIZER };
    const int on = 1;
    int kind = 0;
    socklen_t length = sizeof kind;
    guardian.engine = ENGINE;
    guardian.lifeline = LIFELINE;
    guardian.pidfd = fcntl(PIDFD, F_GETFD) < 0 ? -1 : PIDFD;
    guardian.uid = getuid();
    if (getsockopt(ENGINE, SOL_SOCKET, SO_TYPE, &kind, &length) < 0 || kind != SOCK_SEQPACKET
        || setsockopt(ENGINE, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return EXIT_FAILURE;
#ifdef __GLIBC__
    /* One heap for all threads: another one would be 64 MiB of address space, locked. */
    (void) mallopt(M_ARENA_MAX, 1);
#endif
    confine_process(argc > 1 && argv[1][0] == '1');
    int error = start(&guardian);
    reply_hello(&guardian, error);
    if (error != 0)
        return EXIT_FAILURE;
    run(&guardian);
}
