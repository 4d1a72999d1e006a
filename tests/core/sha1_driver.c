/* Runs ext/sha1 for tests/test_sha1.py, which has it compiled natively and for AArch64.
 *
 *   list               the variants that work on this CPU, fastest first
 *   hash VARIANT       messages on stdin (each: length, 4 bytes little endian, then the bytes): a hex digest a line
 *   block VARIANT      the same through carp_sha1_select and carp_sha1_block; the messages are whole blocks, read at an
 *                      odd address; the five words of the state a line
 *   mac VARIANT        each message is a 20-byte key, then what is to be authenticated, its last 8 bytes a counter: all of
 *                      them by one call of carp_sha1_macs; the five words of the HMAC a line. Neighbours that differ
 *                      in their counters only, or one that does from its last neighbour but one, share what is prepared
 *   race               eight threads compress and choose at the same time, from the first call on
 * Exit code 3: there is no such variant here.
 */
#include "sha1.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_SUCH_VARIANT 3
#define THREADS 8
#define MACS 4096

/* One more byte than the message: the caller reads it at an odd address. NULL at the end of stdin. */
static uint8_t *read_message(size_t *length)
{
    uint8_t head[4], *message;

    if (fread(head, 1, sizeof head, stdin) != sizeof head)
        return NULL;
    *length = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    message = malloc(*length + 1);
    if (message == NULL || fread(message + 1, 1, *length, stdin) != *length)
        exit(2);
    return message;
}

static int hash(const char *variant)
{
    uint8_t digest[CARP_SHA1_DIGEST], *message;
    size_t length;

    while ((message = read_message(&length)) != NULL) {
        if (carp_sha1_digest(variant, message + 1, length, digest) != 0)
            return NO_SUCH_VARIANT;
        for (size_t i = 0; i < sizeof digest; i++)
            printf("%02x", digest[i]);
        putchar('\n');
        free(message);
    }
    return 0;
}

static int block(const char *variant)
{
    const char *before = carp_sha1_current();
    uint8_t *message;
    size_t length;

    if (carp_sha1_select(variant) != 0)
        return carp_sha1_current() == before ? NO_SUCH_VARIANT : 1;
    if (strcmp(variant, "auto") != 0 && strcmp(carp_sha1_current(), variant) != 0)
        return 1;
    while ((message = read_message(&length)) != NULL) {
        uint32_t state[5];

        carp_sha1_init(state);
        carp_sha1_block(state, message + 1, length / CARP_SHA1_BLOCK);
        for (int i = 0; i < 5; i++)
            printf("%08x", (unsigned)state[i]);
        putchar('\n');
        free(message);
    }
    return 0;
}

/* A message made ready for carp_sha1_macs, as the authenticator does it once for each key. */
struct prepared {
    uint32_t inner[5], outer[5];
    uint8_t tail[2 * CARP_SHA1_BLOCK];
    uint8_t counter[8];
};

static void prepare(struct carp_sha1_mac *mac, struct prepared *prepared, const uint8_t *message, size_t length)
{
    const size_t key = 20, prefix = length - key - sizeof prepared->counter, whole = prefix / CARP_SHA1_BLOCK;
    uint8_t pad[CARP_SHA1_BLOCK];
    uint64_t bits = (uint64_t)(CARP_SHA1_BLOCK + prefix + sizeof prepared->counter) * 8;
    size_t end;

    memset(prepared, 0, sizeof *prepared);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = (uint8_t)((i < key ? message[i] : 0) ^ 0x36);
    carp_sha1_init(prepared->inner);
    carp_sha1_block(prepared->inner, pad, 1);
    carp_sha1_block(prepared->inner, message + key, whole);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    carp_sha1_init(prepared->outer);
    carp_sha1_block(prepared->outer, pad, 1);

    mac->inner = prepared->inner;
    mac->outer = prepared->outer;
    mac->tail = prepared->tail;
    mac->counter = prepared->counter;
    mac->at = prefix % CARP_SHA1_BLOCK;
    mac->blocks = mac->at + sizeof prepared->counter + 1 + 8 <= CARP_SHA1_BLOCK ? 1 : 2;
    memcpy(prepared->tail, message + key + whole * CARP_SHA1_BLOCK, mac->at);
    memcpy(prepared->counter, message + length - sizeof prepared->counter, sizeof prepared->counter);
    prepared->tail[mac->at + sizeof prepared->counter] = 0x80;
    for (end = mac->blocks * CARP_SHA1_BLOCK; bits != 0; bits >>= 8)
        prepared->tail[--end] = (uint8_t)bits;
}

static int mac(const char *variant)
{
    static struct carp_sha1_mac macs[MACS];
    static struct prepared prepared[MACS];
    static uint8_t *messages[MACS];
    static size_t lengths[MACS];
    uint8_t *message;
    size_t length, count = 0;

    if (carp_sha1_select(variant) != 0)
        return NO_SUCH_VARIANT;
    while ((message = read_message(&length)) != NULL) {
        if (count == MACS || length < 28)
            return 2;
        prepare(&macs[count], &prepared[count], message + 1, length);
        messages[count] = message;
        lengths[count] = length;
        for (size_t back = 1; back <= 2 && back <= count; back++) {
            const size_t other = count - back;

            if (lengths[other] != length || memcmp(messages[other] + 1, message + 1, length - 8) != 0)
                continue;
            macs[count].inner = macs[other].inner;
            macs[count].outer = macs[other].outer;
            macs[count].tail = macs[other].tail;
            break;
        }
        count++;
    }
    for (size_t at = 0; at < count; at++)
        free(messages[at]);
    carp_sha1_macs(macs, count);
    for (size_t at = 0; at < count; at++) {
        for (int i = 0; i < 5; i++)
            printf("%08x", (unsigned)macs[at].digest[i]);
        putchar('\n');
    }
    return 0;
}

static void *race_thread(void *argument)
{
    const uintptr_t self = (uintptr_t)argument;
    static const uint8_t abc[CARP_SHA1_BLOCK] = {'a', 'b', 'c', 0x80, [63] = 24}; /* FIPS 180's own example */
    uint32_t state[5];

    for (int i = 0; i < 2000; i++) {
        carp_sha1_init(state);
        carp_sha1_block(state, abc, 1);
        if (state[0] != 0xa9993e36u || state[4] != 0x9cd0d89du)
            return argument;
        if (carp_sha1_select((self + (uintptr_t)i) % 2 ? "portable" : "auto") != 0)
            return argument;
    }
    return NULL;
}

static int race(void)
{
    pthread_t threads[THREADS];
    int failed = 0;

    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, race_thread, (void *)(i + 1)) != 0)
            return 2;
    for (int i = 0; i < THREADS; i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        failed |= wrong != NULL;
    }
    return failed;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    if (strcmp(command, "list") == 0) {
        for (size_t i = 0; i < carp_sha1_count(); i++)
            puts(carp_sha1_variant(i));
        return carp_sha1_variant(carp_sha1_count()) != NULL;
    }
    if (strcmp(command, "race") == 0)
        return race();
    if (argc == 3 && strcmp(command, "hash") == 0)
        return hash(argv[2]);
    if (argc == 3 && strcmp(command, "block") == 0)
        return block(argv[2]);
    if (argc == 3 && strcmp(command, "mac") == 0)
        return mac(argv[2]);
    fprintf(stderr, "usage: %s list | hash VARIANT | block VARIANT | mac VARIANT | race\n", argv[0]);
    return 2;
}
