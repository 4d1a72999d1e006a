/* Memory and a stack for a thread that must not wait while the program forks.
 *
 * A fork makes each page of private memory read-only, until it is written to: that is a fault, which waits for the fork
 * to end, 0.1 s for a program of 4 GB. What comes from here is left out: the thread goes on, and the child sees zeros.
 * So nothing here may be reached by a child that means to use it; freeing it there is harmless.
 *
 * Each module that includes this has a heap of its own: what it took, it gives back itself. Thread: any. */
#ifndef PYCARP_KEPT_H
#define PYCARP_KEPT_H

#include <stdlib.h>

#ifdef __linux__

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { KEPT_CHUNK = 1 << 16, KEPT_UNIT = 64, KEPT_STACK = 1 << 18 };

static inline void *kept_pages(size_t length)
{
    void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    /* Before Linux 4.14, or where it is refused, a fork is as it was. */
    (void) madvise(pages, length, MADV_WIPEONFORK);
    /* The first touch of a page is a fault, too. */
    size_t touched = length < KEPT_CHUNK ? length : KEPT_CHUNK;
    memset((uint8_t *) pages + length - touched, 0, touched);
    return pages;
}

#endif

#if !defined(__linux__) || defined(PYCARP_SANITIZED)

/* There is no runtime, or the sanitizer's own heap finds more. */
#define kept_calloc(size) calloc(1, size)
#define kept_realloc realloc
#define kept_free free

#else

/* Before each piece; what is free hangs on a list by it. In a forked child both are 0. */
struct kept_piece {
    size_t size;
    struct kept_piece *next;
};

static struct {
    pthread_mutex_t lock;
    struct kept_piece *freed;
    uint8_t *rest;
    size_t left;
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline struct kept_piece *kept_again(size_t size)
{
    for (struct kept_piece **at = &kept.freed; *at != NULL; at = &(*at)->next)
        if ((*at)->size == size) {
            struct kept_piece *found = *at;
            *at = found->next;
            return found;
        }
    return NULL;
}

static inline struct kept_piece *kept_anew(size_t size)
{
    if (size > kept.left) {
        size_t length = size > KEPT_CHUNK / 4 ? (size + 4095) & ~(size_t) 4095 : KEPT_CHUNK;
        uint8_t *pages = kept_pages(length);
        if (pages == NULL)
            return NULL;
        if (length != KEPT_CHUNK)
            return (struct kept_piece *) pages;
        kept.rest = pages;
        kept.left = length;
    }
    struct kept_piece *piece = (struct kept_piece *) kept.rest;
    kept.rest += size;
    kept.left -= size;
    return piece;
}

/* Zeros; NULL where there is no memory. */
static inline void *kept_calloc(size_t size)
{
    size = (size + sizeof(struct kept_piece) + KEPT_UNIT - 1) / KEPT_UNIT * KEPT_UNIT;
    pthread_mutex_lock(&kept.lock);
    struct kept_piece *piece = kept_again(size);
    if (piece == NULL)
        piece = kept_anew(size);
    pthread_mutex_unlock(&kept.lock);
    if (piece == NULL)
        return NULL;
    memset(piece + 1, 0, size - sizeof *piece);
    piece->size = size;
    return piece + 1;
}

static inline void kept_free(void *memory)
{
    if (memory == NULL)
        return;
    struct kept_piece *piece = (struct kept_piece *) memory - 1;
    if (piece->size == 0)
        return;
    pthread_mutex_lock(&kept.lock);
    piece->next = kept.freed;
    kept.freed = piece;
    pthread_mutex_unlock(&kept.lock);
}

static inline void *kept_realloc(void *memory, size_t size)
{
    void *grown = kept_calloc(size);
    if (grown != NULL && memory != NULL) {
        size_t former = ((struct kept_piece *) memory - 1)->size;
        former = former == 0 ? 0 : former - sizeof(struct kept_piece);
        memcpy(grown, memory, former < size ? former : size);
        kept_free(memory);
    }
    return grown;
}

#endif

#ifdef __linux__

/* Start a thread on a stack that is kept: *stack, for kept_join. An errno. */
static inline int kept_thread(pthread_t *thread, void **stack, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    *stack = NULL;
    if (error != 0)
        return error;
#if defined(__GLIBC__) && !defined(PYCARP_SANITIZED)
    /* musl's child reads what it keeps of each thread, on the thread's stack. */
    *stack = kept_pages(KEPT_STACK);
    if (*stack != NULL)
        error = mprotect(*stack, 4096, PROT_NONE) != 0 || pthread_attr_setstack(&attributes, *stack, KEPT_STACK) != 0;
    if (error != 0) {
        munmap(*stack, KEPT_STACK);
        *stack = NULL;
        pthread_attr_destroy(&attributes);
        pthread_attr_init(&attributes);
    }
#endif
    error = pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    if (error != 0 && *stack != NULL) {
        munmap(*stack, KEPT_STACK);
        *stack = NULL;
    }
    return error;
}

static inline void kept_join(pthread_t thread, void *stack)
{
    pthread_join(thread, NULL);
    if (stack != NULL)
        munmap(stack, KEPT_STACK);
}

#endif

#endif
