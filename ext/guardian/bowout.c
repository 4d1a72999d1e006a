/* Bow-outs. Thread: bow-outs; bowout_send and bowout_finish: the one that has the turn. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "clocks.h"
#include "guardian.h"

enum { ATTEMPTS = 5, LOOK_US = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
/* The first is being served. */
static struct instance *queue;
static int asking;

static void send_frame(int packet, const uint8_t *frame, size_t length)
{
    for (int attempt = 1; send(packet, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0; attempt++) {
        if ((errno != EAGAIN && errno != ENOBUFS && errno != EINTR) || attempt == ATTEMPTS)
            return;
        sleep_until(monotonic() + NS_PER_MS);
    }
}

static void send_frames(const struct instance *instance)
{
    const uint8_t *at = instance->frames, *end = instance->frames + instance->frames_length;
    uint16_t length;
    sleep_until(instance->bowout_at);
    /* The thread that takes the link down may first have to wait for others who change interfaces. */
    while (!atomic_load(&instance->silent) && (instance->link == 0 || link_sends(asking, instance->link)))
        sleep_until(monotonic() + LOOK_US * 1000);
    /* A bow-out after others have taken over would promote a third host. */
    if (beat_age(&instance->beat) >= instance->beat.takeover_after)
        return;
    for (; at < end; at += sizeof length + length) {
        memcpy(&length, at, sizeof length);
        send_frame(instance->packet, at + sizeof length, length);
    }
}

static void *run(void *nothing)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (queue == NULL)
            pthread_cond_wait(&change, &lock);
        struct instance *instance = queue;
        pthread_mutex_unlock(&lock);
        send_frames(instance);
        pthread_mutex_lock(&lock);
        queue = instance->bowout_next;
        if (queue == NULL)
            pthread_cond_broadcast(&change);
    }
    return nothing;
}

int bowout_start(const pthread_attr_t *attributes, int socket)
{
    pthread_t thread;
    asking = socket;
    return pthread_create(&thread, attributes, run, NULL);
}

void bowout_send(struct instance *instance, int64_t when)
{
    struct instance **end = &queue;
    pthread_mutex_lock(&lock);
    instance->bowout_at = when;
    instance->bowout_next = NULL;
    while (*end != NULL)
        end = &(*end)->bowout_next;
    *end = instance;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
}

void bowout_finish(void)
{
    pthread_mutex_lock(&lock);
    while (queue != NULL)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
}
