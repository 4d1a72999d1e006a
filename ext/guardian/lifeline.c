/* The engine's lifeline: a robust mutex in shared memory that its thread holds while it lives. The kernel gives it to us
 * when that thread ends, however that comes (an exec of the program included), and before it takes the process's memory
 * apart: a process of any size is seen to die within a fifth of a millisecond. */
#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "clocks.h"
#include "guardian.h"

enum { PAGE = 4096, SOON_MS = 2, SELDOM_MS = 100 };

static struct {
    struct guardian *guardian;
    pthread_mutex_t *mutex;
    void (*died)(struct guardian *);
} lifeline;

static void *watch(void *nothing)
{
    int64_t nap = SOON_MS * MS;
    int error;
    /* Free: the engine has not begun to hold it, or no longer holds it after an orderly end. It must be able to. */
    while ((error = pthread_mutex_lock(lifeline.mutex)) == 0) {
        pthread_mutex_unlock(lifeline.mutex);
        sleep_until(monotonic() + nap);
        nap = nap < SELDOM_MS * MS ? nap * 2 : nap;
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
