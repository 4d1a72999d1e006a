/* The table of virtual hosts, and what ADD hands over. */
#include "instance.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clocks.h"

enum { BLOB_LIMIT = 4 << 20 };

static int copy_whole(int blob, uint8_t **memory, uint32_t *length)
{
    off_t end = lseek(blob, 0, SEEK_END);
    if (end < 0)
        return errno;
    if (end < (off_t) sizeof(struct description) || end > BLOB_LIMIT)
        return EINVAL;
    if ((*memory = malloc((size_t) end)) == NULL)
        return ENOMEM;
    *length = (uint32_t) end;
    for (uint32_t at = 0; at < *length;) {
        ssize_t got = pread(blob, *memory + at, *length - at, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int error = got < 0 ? errno : EINVAL;
            free(*memory);
            return error;
        }
        at += (uint32_t) got;
    }
    return 0;
}

static bool frames_are_whole(const uint8_t *frames, uint32_t length, uint32_t count)
{
    uint16_t size;
    while (length >= sizeof size) {
        memcpy(&size, frames, sizeof size);
        if (size > length - sizeof size || count-- == 0)
            return false;
        frames += sizeof size + size;
        length -= (uint32_t) sizeof size + size;
    }
    return length == 0 && count == 0;
}

static bool cut(struct host *host, const struct description *head, uint32_t length)
{
    uint32_t at = sizeof *head;
    for (int which = 0; which < BATCHES; which++) {
        struct batch *batch = &host->batches[which];
        if (head->lengths[which] > length - at)
            return false;
        batch->requests = host->blob + at;
        batch->length = head->lengths[which];
        if (!batch_prepare(batch))
            return false;
        at += head->lengths[which];
    }
    host->frames = host->blob + at;
    host->frames_length = head->lengths[BATCHES];
    return host->frames_length == length - at && frames_are_whole(host->frames, host->frames_length, head->frame_count);
}

int host_read(struct host *host, int blob)
{
    struct description head;
    uint32_t length = 0;
    int error = copy_whole(blob, &host->blob, &length);
    if (error != 0)
        return error;
    memcpy(&head, host->blob, sizeof head);
    if (head.version != DESCRIPTION_VERSION || head.index != host->index || !cut(host, &head, length)) {
        free(host->blob);
        return EINVAL;
    }
    host->essential = head.essential != 0 ? head.essential : host->batches[BATCH_TAKE].count;
    host->mute_is_all = batch_count_type(&host->batches[BATCH_MUTE], RTM_DELADDR)
        == batch_count_type(&host->batches[BATCH_DROP], RTM_DELADDR);
    host->link = batch_link_down(&host->batches[BATCH_DROP]);
    host->lease = 0;
    return 0;
}

static void let_go(struct host *host)
{
    free(host->blob);
    close(host->packet);
    close(host->lock);
}

int host_put(struct host **hosts, const struct host *fresh)
{
    struct host *host = host_find(*hosts, fresh->index);
    if (host == NULL) {
        struct host **end = hosts;
        if ((host = malloc(sizeof *host)) == NULL)
            return ENOMEM;
        *host = *fresh;
        while (*end != NULL)
            end = &(*end)->next;
        *end = host;
        return 0;
    }
    let_go(host);
    host->blob = fresh->blob;
    memcpy(host->batches, fresh->batches, sizeof host->batches);
    host->frames = fresh->frames;
    host->frames_length = fresh->frames_length;
    host->essential = fresh->essential;
    host->lease = fresh->lease;
    host->mute_is_all = fresh->mute_is_all;
    host->link = fresh->link;
    host->packet = fresh->packet;
    host->lock = fresh->lock;
    return 0;
}

struct host *host_find(struct host *hosts, uint32_t index)
{
    while (hosts != NULL && hosts->index != index)
        hosts = hosts->next;
    return hosts;
}

void host_remove(struct host **hosts, struct host *host)
{
    while (*hosts != host)
        hosts = &(*hosts)->next;
    *hosts = host->next;
    let_go(host);
    free(host);
}

int64_t life_age(const struct life *life)
{
    int64_t running = monotonic() - life->at, passed = boottime() - life->boot;
    return running > passed ? running : passed;
}
