/* The two clocks whose difference shows a suspend. No wall clock: that one jumps. */
#ifndef PYCARP_CLOCKS_H
#define PYCARP_CLOCKS_H

#include <stdint.h>
#include <time.h>

#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t) now.tv_sec * SECOND + now.tv_nsec;
}

static inline int64_t monotonic(void) { return clock_ns(CLOCK_MONOTONIC); }
/* Goes on while the machine sleeps. */
static inline int64_t boottime(void) { return clock_ns(CLOCK_BOOTTIME); }

static inline struct timespec timespec_of(int64_t ns)
{
    return (struct timespec) { .tv_sec = ns / SECOND, .tv_nsec = ns % SECOND };
}

static inline void sleep_until(int64_t when)
{
    struct timespec time = timespec_of(when);
    /* A signal that woke us early is none of ours: all that can be are ignored. */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0 && monotonic() < when)
        ;
}

#endif
