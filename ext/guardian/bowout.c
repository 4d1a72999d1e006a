/* The thread that sends bow-outs. */
#include "bowout.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "clocks.h"

enum { ATTEMPTS = 5, LOOK_US = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
/* The host at the front is being served. */
static struct host *queue;
static int route;

static void send_frame(int packet, const uint8_t *frame, size_t length)
{
    for (int attempt = 1; send(packet, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0; attempt++) {
        if ((errno != EAGAIN && errno != ENOBUFS && errno != EINTR) || attempt == ATTEMPTS)
            return;
        sleep_until(monotonic() + MS);
    }
}

static void send_frames(const struct host *host)
{
    const uint8_t *at = host->frames, *end = host->frames + host->frames_length;
    uint16_t length;
    sleep_until(host->farewell_at);
    /* Who takes the link down may first have to wait for others who change this machine's interfaces. */
    while (!atomic_load(&host->silent) && (host->link == 0 || link_sends(route, host->link)))
        sleep_until(monotonic() + LOOK_US * 1000);
    /* Later, others have taken over, and a bow-out would promote a third host. */
    if (life_age(&host->life) >= host->life.patience)
        return;
    for (; at < end; at += sizeof length + length) {
        memcpy(&length, at, sizeof length);
        send_frame(host->packet, at + sizeof length, length);
    }
}

static void *run(void *nothing)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (queue == NULL)
            pthread_cond_wait(&change, &lock);
        struct host *host = queue;
        pthread_mutex_unlock(&lock);
        send_frames(host);
        pthread_mutex_lock(&lock);
        queue = host->farewell_next;
        if (queue == NULL)
            pthread_cond_broadcast(&change);
    }
    return nothing;
}

int farewell_start(const pthread_attr_t *attributes, int socket)
{
    pthread_t thread;
    route = socket;
    return pthread_create(&thread, attributes, run, NULL);
}

void farewell_order(struct host *host, int64_t when)
{
    struct host **end = &queue;
    pthread_mutex_lock(&lock);
    host->farewell_at = when;
    host->farewell_next = NULL;
    while (*end != NULL)
        end = &(*end)->farewell_next;
    *end = host;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
}

void farewell_finish(void)
{
    pthread_mutex_lock(&lock);
    while (queue != NULL)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
}
