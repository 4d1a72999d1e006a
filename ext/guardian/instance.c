/* The list of instances, and the description that comes with ADD. Thread: the one that has the turn. */
#include "instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clocks.h"

enum { BLOB_LIMIT = 16 << 20 };

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
    if (pread(blob, *memory, *length, 0) == end)
        return 0;
    free(*memory);
    return EINVAL;
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

static bool cut_up(struct instance *instance, const struct description *head, uint32_t length)
{
    uint32_t at = sizeof *head;
    for (int which = 0; which < BATCHES; which++) {
        struct batch *batch = &instance->batches[which];
        if (head->lengths[which] > length - at)
            return false;
        batch->requests = instance->blob + at;
        batch->length = head->lengths[which];
        if (!batch_prepare(batch))
            return false;
        at += head->lengths[which];
    }
    instance->frames = instance->blob + at;
    instance->frames_length = head->lengths[BATCHES];
    if (instance->frames_length > length - at)
        return false;
    at += instance->frames_length;
    return head->gate == length - at && gate_read(&instance->gate, instance->blob + at, head->gate)
        && frames_are_whole(instance->frames, instance->frames_length, head->frame_count);
}

int instance_read(struct instance *instance, int blob)
{
    struct description head;
    uint32_t length = 0;
    int error = copy_whole(blob, &instance->blob, &length);
    if (error != 0)
        return error;
    memcpy(&head, instance->blob, sizeof head);
    if (head.version != DESCRIPTION_VERSION || head.index != instance->index || !cut_up(instance, &head, length)) {
        free(instance->blob);
        return EINVAL;
    }
    instance->essential = head.essential != 0 ? head.essential : instance->batches[BATCH_TAKE].count;
    instance->link = (int) head.link;
    instance->mute_is_all = head.ipv6 == 0;
    instance->lease = 0;
    return 0;
}

static void free_description(struct instance *instance)
{
    free(instance->blob);
    close(instance->packet);
    close(instance->lock);
}

int instance_put(struct instance **instances, const struct instance *fresh)
{
    struct instance *instance = instance_find(*instances, fresh->index);
    if (instance == NULL) {
        struct instance **end = instances;
        if ((instance = malloc(sizeof *instance)) == NULL)
            return ENOMEM;
        *instance = *fresh;
        while (*end != NULL)
            end = &(*end)->next;
        *end = instance;
        return 0;
    }
    free_description(instance);
    instance->blob = fresh->blob;
    memcpy(instance->batches, fresh->batches, sizeof instance->batches);
    instance->frames = fresh->frames;
    instance->frames_length = fresh->frames_length;
    instance->essential = fresh->essential;
    instance->lease = fresh->lease;
    instance->late_done = (struct cursor) { 0 }; /* what is there already does no harm */
    instance->mute_is_all = fresh->mute_is_all;
    instance->link = fresh->link;
    instance->packet = fresh->packet;
    instance->lock = fresh->lock;
    instance->gate = fresh->gate;
    return 0;
}

struct instance *instance_find(struct instance *instances, uint32_t index)
{
    while (instances != NULL && instances->index != index)
        instances = instances->next;
    return instances;
}

void instance_remove(struct instance **instances, struct instance *instance)
{
    while (*instances != instance)
        instances = &(*instances)->next;
    *instances = instance->next;
    free_description(instance);
    free(instance);
}

int64_t beat_age(const struct beat *beat)
{
    int64_t running = monotonic() - beat->at, passed = boottime() - beat->boot;
    return running > passed ? running : passed;
}
