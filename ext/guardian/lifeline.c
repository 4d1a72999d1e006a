/* The engine's lifeline: a robust mutex in shared memory that its thread holds. The kernel gives it to us when that
 * thread ends, in whatever way (an exec of the program included), and before it takes the process's memory apart: so
 * the end of a process of any size is seen within 0.2 ms. Thread: lifeline. */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "clocks.h"
#include "guardian.h"

enum { PAGE = 4096, NAP_FIRST_MS = 2, NAP_LAST_MS = 100 };

static struct {
    struct guardian *guardian;
    pthread_mutex_t *mutex;
    void (*died)(struct guardian *);
} lifeline;

static void *watch(void *nothing)
{
    int64_t nap = NAP_FIRST_MS * NS_PER_MS;
    int error;
    /* It is free: the engine has not locked it yet, or ended in order. The engine must be able to lock it. */
    while ((error = pthread_mutex_lock(lifeline.mutex)) == 0) {
        pthread_mutex_unlock(lifeline.mutex);
        sleep_until(monotonic() + nap);
        nap = nap < NAP_LAST_MS * NS_PER_MS ? nap * 2 : nap;
    }
    if (error == EOWNERDEAD || error == ENOTRECOVERABLE)
        lifeline.died(lifeline.guardian);
    return nothing;
}

int lifeline_start(struct guardian *guardian, const pthread_attr_t *attributes, void (*died)(struct guardian *))
{
    pthread_t thread;
    void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, guardian->lifeline, 0);
    if (memory == MAP_FAILED)
        return errno;
    lifeline.guardian = guardian;
    lifeline.mutex = memory;
    lifeline.died = died;
    return pthread_create(&thread, attributes, watch, NULL);
}
