/* The two clocks whose difference shows a suspend. The wall clock is not used: it jumps. Thread: any. */
#ifndef PYCARP_CLOCKS_H
#define PYCARP_CLOCKS_H

#include <stdint.h>
#include <time.h>

#include "../timing.h"

#define NS_PER_MS INT64_C(1000000)

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t) now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static inline int64_t monotonic(void) { return clock_ns(CLOCK_MONOTONIC); }
/* Goes on while the machine sleeps. */
static inline int64_t boottime(void) { return clock_ns(CLOCK_BOOTTIME); }

static inline struct timespec timespec_of(int64_t ns)
{
    return (struct timespec) { .tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND };
}

static inline void sleep_until(int64_t when)
{
    struct timespec time = timespec_of(when);
    /* No signal is handled here: one that interrupts the sleep does not end it. */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0 && monotonic() < when)
        ;
}

#endif
