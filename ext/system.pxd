# cython: language_level=3
"""What the native runtime asks of Linux, as C declares it."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec
from posix.types cimport pid_t


cdef extern from "atomic.h" nogil:
    uint32_t atomic_load32(const uint32_t *place)
    void atomic_store32(uint32_t *place, uint32_t value)
    uint64_t atomic_load64(const uint64_t *place)
    void atomic_store64(uint64_t *place, uint64_t value)
    uint64_t atomic_add64(uint64_t *place, uint64_t by)  # what it was before
    uint64_t atomic_take64(uint64_t *place)
    void prefetch(const void *place)
    void atomic_push(void **top, void **node)
    void *atomic_take_all(void **top)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_mutexattr_t:
        pass
    cdef struct sched_param:
        int sched_priority
    int SCHED_FIFO, SCHED_RR, SCHED_OTHER
    int PTHREAD_PROCESS_SHARED, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_ERRORCHECK
    pthread_t pthread_self()
    int pthread_getschedparam(pthread_t thread, int *policy, sched_param *param)
    int pthread_setschedparam(pthread_t thread, int policy, const sched_param *param)
    int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_consistent(pthread_mutex_t *mutex)
    int pthread_mutexattr_init(pthread_mutexattr_t *attr)
    int pthread_mutexattr_destroy(pthread_mutexattr_t *attr)
    int pthread_mutexattr_setpshared(pthread_mutexattr_t *attr, int shared)
    int pthread_mutexattr_setrobust(pthread_mutexattr_t *attr, int robust)
    int pthread_mutexattr_settype(pthread_mutexattr_t *attr, int kind)

cdef extern from "kept.h" nogil:
    int kept_thread(pthread_t *thread, void **stack, void *(*run)(void *) noexcept nogil, void *argument)
    void kept_join(pthread_t thread, void *stack)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t *signals)
    int pthread_sigmask(int how, const sigset_t *signals, sigset_t *former)

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *semaphore, int shared, unsigned int value)
    int sem_destroy(sem_t *semaphore)
    int sem_post(sem_t *semaphore)
    int sem_wait(sem_t *semaphore)

cdef extern from "<time.h>" nogil:
    int CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME
    int clock_gettime(int clock, timespec *time)
    int nanosleep(const timespec *time, timespec *left)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int POLLIN
    int POLLERR
    int ppoll(pollfd *fds, unsigned long count, const timespec *timeout, const sigset_t *signals)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *data, size_t length)
    ssize_t write(int fd, const void *data, size_t length)
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_gettid, SYS_tgkill

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *at, size_t length)
    int MADV_DONTFORK
    int madvise(void *at, size_t length, int advice)
    int mlock(const void *at, size_t length)

cdef extern from "<sys/prctl.h>" nogil:
    int PR_SET_TIMERSLACK
    int PR_SET_NAME
    int prctl(int option, unsigned long value)

cdef extern from "atomic.h" nogil:
    # Not the C library's, which is the youngest of all that is used here: the wheel fits an older one.
    long getrandom "random_bytes"(void *data, size_t length, unsigned int flags)

cdef extern from "<sys/socket.h>" nogil:
    int SOL_SOCKET, SO_ERROR, MSG_DONTWAIT, MSG_NOSIGNAL
    int getsockopt(int fd, int level, int name, void *value, unsigned int *length)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int length)
    ssize_t send(int fd, const void *data, size_t length, int flags)
    ssize_t recv(int fd, void *data, size_t length, int flags)

cdef extern from "<linux/if_packet.h>" nogil:
    int PACKET_VERSION, PACKET_RX_RING, PACKET_STATISTICS, TPACKET_V2
    int TP_STATUS_KERNEL, TP_STATUS_USER, TP_STATUS_LOSING
    cdef struct tpacket_req:
        unsigned int tp_block_size
        unsigned int tp_block_nr
        unsigned int tp_frame_size
        unsigned int tp_frame_nr
    cdef struct tpacket2_hdr:
        uint32_t tp_status
        uint32_t tp_len
        uint32_t tp_snaplen
        unsigned short tp_mac
        unsigned short tp_net
        uint32_t tp_sec
        uint32_t tp_nsec
    cdef struct tpacket_stats:
        unsigned int tp_packets
        unsigned int tp_drops


cdef inline int64_t monotonic() noexcept nogil:
    """CLOCK_MONOTONIC in ns."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline int64_t boottime() noexcept nogil:
    """CLOCK_BOOTTIME in ns: as the monotonic clock, and it counts on while the machine is suspended."""
    cdef timespec now
    clock_gettime(CLOCK_BOOTTIME, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline int64_t realtime() noexcept nogil:
    """CLOCK_REALTIME in ns."""
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline timespec duration(int64_t ns) noexcept nogil:
    cdef timespec time
    if ns < 0:
        ns = 0
    time.tv_sec = ns // 1000000000
    time.tv_nsec = ns % 1000000000
    return time
