/* What the guardian's process is and may do. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guardian.h"

static void lock_memory(void)
{
#ifndef PYCARP_SANITIZED
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
    /* With a limit, later memory could be refused for want of room to lock it. */
    bool future = setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
    (void) mlockall(future ? MCL_CURRENT | MCL_FUTURE : MCL_CURRENT);
#endif
}

/* Not lower than the program's own, which might stop it. By the system calls: musl's functions only refuse. */
static void choose_priority(bool realtime)
{
    const struct sched_param wanted = { .sched_priority = realtime ? 1 : 0 };
    long policy = syscall(SYS_sched_getscheduler, 0) & ~(long) SCHED_RESET_ON_FORK;
    if ((policy == SCHED_FIFO || policy == SCHED_RR) != realtime)
        (void) syscall(SYS_sched_setscheduler, 0, realtime ? SCHED_FIFO : SCHED_OTHER, &wanted);
}

void confine_process(bool realtime)
{
    static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2 };
    for (size_t at = 0; at < sizeof ignored / sizeof *ignored; at++)
        (void) signal(ignored[at], SIG_IGN);
    (void) prctl(PR_SET_NAME, "pycarp-guardian");
    (void) prctl(PR_SET_TIMERSLACK, 1UL);
    (void) setsid();
    (void) !chdir("/");
    choose_priority(realtime);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        (void) !write(score, "-1000", 5);
        close(score);
    }
    lock_memory();
}

int confine_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
    if (syscall(SYS_capget, &header, data) < 0)
        return errno;
    if ((data[0].permitted & CAP_TO_MASK(CAP_NET_ADMIN)) == 0)
        return EPERM;
    /* Where capset(2) is refused, as by a unit's SystemCallFilter=, no more than the engine needs may be there. */
    bool few = (data[0].permitted & ~(CAP_TO_MASK(CAP_NET_ADMIN) | CAP_TO_MASK(CAP_NET_RAW))) == 0;
    few = few && data[1].permitted == 0;
    data[0] = (struct __user_cap_data_struct) {
        .effective = CAP_TO_MASK(CAP_NET_ADMIN),
        .permitted = CAP_TO_MASK(CAP_NET_ADMIN),
    };
    data[1] = (struct __user_cap_data_struct) { 0 };
    if (syscall(SYS_capset, &header, data) < 0 && !(errno == EPERM && few))
        return errno;
    return prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) < 0 ? errno : 0;
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#if !defined(ARCHITECTURE) || defined(PYCARP_SANITIZED)

void confine_calls(void) {}

#else

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define REFUSE RETURN(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)
/* Memory, but none that can be executed. The argument's lower half comes first on both machines. */
#define ALLOW_DATA(call)                                                                                               \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 4), LOAD(args[2]),                                             \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0), RETURN(SECCOMP_RET_ALLOW), REFUSE

void confine_calls(void)
{
    static struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        REFUSE,
        LOAD(nr),
        /* The engine, the kernel, the wire. */
        ALLOW(recvmsg), ALLOW(recvfrom), ALLOW(sendto), ALLOW(sendmsg), ALLOW(shutdown), ALLOW(ppoll),
        ALLOW(read), ALLOW(write), ALLOW(close), ALLOW(lseek), ALLOW(pread64),
#ifdef __NR_poll
        ALLOW(poll),
#endif
        /* Time. */
        ALLOW(timerfd_settime), ALLOW(clock_gettime), ALLOW(clock_nanosleep), ALLOW(nanosleep),
        /* What the C library does for threads and memory. */
        ALLOW(futex), ALLOW(set_robust_list), ALLOW(sched_yield), ALLOW(getpid), ALLOW(gettid), ALLOW(getrandom),
        ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(restart_syscall), ALLOW(exit), ALLOW(exit_group),
        ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise),
#ifdef __NR_rseq
        ALLOW(rseq),
#endif
        ALLOW_DATA(mmap),
        ALLOW_DATA(mprotect),
        /* To ask for an interface's name and state. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 4),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCGIFNAME, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIOCGIFFLAGS, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        /* Refused, not killed: a later C library may try a call that it can do without. */
        REFUSE,
    };
    const struct sock_fprog program = { .len = sizeof filter / sizeof *filter, .filter = filter };
    (void) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

#endif
