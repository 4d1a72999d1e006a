/* Starting the guardian. Thread: any caller.
 *
 * No wait() of the program sees a child without an exit signal; but exec sets the signal back to SIGCHLD. So a process
 * in the middle, which has no exit signal, starts the guardian and ends: then the guardian is an orphan. As in
 * posix_spawn, both run in this process's memory, on stacks of their own, while the kernel holds the caller. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STACK = 64 << 10,
    /* Where the kernel cannot close a range (before Linux 5.9): descriptors above are not looked for. */
    DESCRIPTORS = 1 << 16,
    SIGNALS = 64,
};

/* These functions run on a stack that AddressSanitizer does not know. */
#define FOREIGN_STACK __attribute__((no_sanitize_address))

struct launch {
    const char *path;
    char *const *argv;
    const int *fds;
    int count;
    char *stack; /* of the second process */
    int error;   /* why the program does not run */
    pid_t pid;
};

/* Not _exit: before that, a sanitizer would look at the caller's stack. */
FOREIGN_STACK static int leave(void)
{
    for (;;)
        syscall(SYS_exit_group, 0);
    return 0;
}

FOREIGN_STACK static void close_from(int first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned) first, ~0U, 0U) == 0)
        return;
#endif
    struct rlimit limit;
    int end = DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTORS)
        end = (int) limit.rlim_cur;
    for (int fd = first; fd < end; fd++)
        close(fd);
}

/* Each descriptor to its place, and no others. */
FOREIGN_STACK static bool place_descriptors(const struct launch *launch, int *moved)
{
    /* First out of the way: the one for 3 may be at 4, and the one for 4 at 3. */
    for (int at = 0; at < launch->count; at++) {
        moved[at] = launch->fds[at];
        if (moved[at] < 0 && at <= STDERR_FILENO && (moved[at] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
            return false;
        if (moved[at] >= 0 && (moved[at] = fcntl(moved[at], F_DUPFD_CLOEXEC, launch->count)) < 0)
            return false;
    }
    for (int at = 0; at < launch->count; at++)
        if (moved[at] < 0)
            close(at);
        else if (dup2(moved[at], at) < 0)
            return false;
    close_from(launch->count);
    return true;
}

/* Without root, capabilities go through an exec only where they are ambient; the guardian keeps one of these. */
FOREIGN_STACK static void hand_on_capabilities(void)
{
#ifdef PR_CAP_AMBIENT
    static const unsigned handed[] = { CAP_NET_ADMIN, CAP_SYS_NICE, CAP_IPC_LOCK, CAP_SYS_RESOURCE };
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (geteuid() == 0 || syscall(SYS_capget, &header, data) < 0)
        return;
    for (size_t at = 0; at < sizeof handed / sizeof *handed; at++)
        data[0].inheritable |= data[0].permitted & CAP_TO_MASK(handed[at]);
    if (syscall(SYS_capset, &header, data) < 0)
        return;
    for (size_t at = 0; at < sizeof handed / sizeof *handed; at++)
        (void) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long) handed[at], 0UL, 0UL);
#endif
}

/* The second process: becomes the program. */
FOREIGN_STACK static int become(void *argument)
{
    struct launch *launch = argument;
    static char *const nothing[] = { NULL };
    const struct sigaction ordinary = { .sa_handler = SIG_DFL };
    int *moved = (int *) (void *) launch->stack; /* the far end: room for many, and no function's frame comes there */
    sigset_t none;
    for (int number = 1; number <= SIGNALS; number++)
        (void) sigaction(number, &ordinary, NULL);
    (void) setsid();
    (void) !chdir("/");
    if (place_descriptors(launch, moved)) {
        hand_on_capabilities();
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) execve(launch->path, launch->argv, nothing);
    }
    launch->error = errno;
    return leave();
}

/* The first process: starts the second and ends. */
FOREIGN_STACK static int start(void *argument)
{
    struct launch *launch = argument;
    launch->pid = clone(become, launch->stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, launch);
    if (launch->pid < 0)
        launch->error = errno;
    else if (launch->error != 0)
        (void) waitpid(launch->pid, NULL, 0);
    return leave();
}

pid_t guardian_launch(const char *path, char *const argv[], const int *fds, int count)
{
    struct launch launch = { .path = path, .argv = argv, .fds = fds, .count = count };
    sigset_t former;
    uint64_t everything = UINT64_MAX;
    if (count < 0 || (size_t) count > STACK / 8 / sizeof *fds) {
        errno = EINVAL;
        return -1;
    }
    char *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stacks == MAP_FAILED)
        return -1;
    launch.stack = stacks + STACK;
    /* No signal handler may run in those two. By the kernel's call: the C library would leave out its own signals. */
    sigemptyset(&former);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &everything, &former, sizeof everything);
    pid_t middle = clone(start, stacks + STACK, CLONE_VM | CLONE_VFORK, &launch);
    if (middle < 0)
        launch.error = errno;
    else
        while (waitpid(middle, NULL, __WCLONE) < 0 && errno == EINTR)
            ;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &former, NULL, sizeof everything);
    munmap(stacks, 2 * STACK);
    errno = launch.error;
    return launch.error != 0 ? -1 : launch.pid;
}
