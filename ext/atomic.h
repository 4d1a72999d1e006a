/* Atomic operations that Cython has no words for, on GCC's and clang's builtins; a system call without the C library. */
#ifndef PYCARP_ATOMIC_H
#define PYCARP_ATOMIC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline uint32_t atomic_load32(const uint32_t *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }
static inline void atomic_store32(uint32_t *place, uint32_t value) { __atomic_store_n(place, value, __ATOMIC_RELEASE); }
static inline uint64_t atomic_load64(const uint64_t *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }
static inline void atomic_store64(uint64_t *place, uint64_t value) { __atomic_store_n(place, value, __ATOMIC_RELEASE); }
static inline uint64_t atomic_add64(uint64_t *place, uint64_t by) { return __atomic_fetch_add(place, by, __ATOMIC_ACQ_REL); }
static inline uint64_t atomic_take64(uint64_t *place) { return __atomic_exchange_n(place, 0, __ATOMIC_ACQ_REL); }

static inline void prefetch(const void *place) { __builtin_prefetch(place); }

/* A stack of nodes whose first member points to the next one: many push, one takes all. */
static inline void atomic_push(void **top, void **node)
{
    void *first = __atomic_load_n(top, __ATOMIC_RELAXED);
    do
        *node = first;
    while (!__atomic_compare_exchange_n(top, &first, (void *) node, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}
static inline void *atomic_take_all(void **top) { return __atomic_exchange_n(top, (void *) 0, __ATOMIC_ACQUIRE); }

static inline long random_bytes(void *data, size_t length, unsigned int flags)
{
    return syscall(SYS_getrandom, data, length, flags);
}

#endif
