/* The engine's lifeline: a robust mutex in shared memory that its thread holds. The kernel gives it to us when that
 * thread ends, in whatever way (an exec of the program included), and before it takes the process's memory apart: so
 * the end of a process of any size is seen within 0.2 ms. Thread: lifeline. */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "clocks.h"
#include "guardian.h"

enum { PAGE = 4096, NAP_FIRST_MS = 2, NAP_LAST_MS = 100 };

static pthread_mutex_t *mutex;

static void *watch(void *guardian)
{
    int64_t nap = NAP_FIRST_MS * NS_PER_MS;
    int error;
    /* It is free: the engine has not locked it yet, or ended in order. The engine must be able to lock it. */
    while ((error = pthread_mutex_lock(mutex)) == 0) {
        pthread_mutex_unlock(mutex);
        sleep_until(monotonic() + nap);
        nap = nap < NAP_LAST_MS * NS_PER_MS ? nap * 2 : nap;
    }
    if (error == EOWNERDEAD || error == ENOTRECOVERABLE)
        engine_died(guardian);
    return NULL;
}

int lifeline_start(struct guardian *guardian, const pthread_attr_t *attributes)
{
    pthread_t thread;
    void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, guardian->lifeline, 0);
    if (memory == MAP_FAILED)
        return errno;
    mutex = memory;
    return pthread_create(&thread, attributes, watch, guardian);
}
