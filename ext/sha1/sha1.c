/* Which variant compresses: asked of the CPU once, at the first call, and never in a constructor. */
#include "variants.h"

#include <stdatomic.h>
#include <string.h>

#define LANES_MOST 16
#define AT_ONCE 64
#define FAILED_MOST 4 /* searches for those that fill lanes, among those that differ */

struct variant {
    const char *name;
    carp_sha1_function block; /* NULL: as the fastest that has one */
    void (*macs)(struct carp_sha1_mac *const macs[], size_t count); /* NULL: by `block` */
    void (*lanes)(struct carp_sha1_mac *const macs[]);              /* NULL, or as many as there are lanes */
    size_t width;                                                   /* lanes */
    int (*usable)(void);
};

static int always_usable(void) { return 1; }

/* Fastest first, where there are many to do. The last one works everywhere. */
static const struct variant variants[] = {
#ifdef CARP_SHA1_HAVE_X86
    {"avx512", NULL, NULL, carp_sha1_lanes_avx512, 16, carp_sha1_avx512_usable},
    {"sha-ni", carp_sha1_block_x86, carp_sha1_macs_x86, NULL, 0, carp_sha1_x86_usable},
    {"avx2", NULL, NULL, carp_sha1_lanes_avx2, 8, carp_sha1_avx2_usable},
#endif
#ifdef CARP_SHA1_HAVE_ARMV8
    {"armv8", carp_sha1_block_armv8, carp_sha1_macs_armv8, NULL, 0, carp_sha1_armv8_usable},
#endif
    {"portable", carp_sha1_block_portable, NULL, NULL, 0, always_usable},
};

#define VARIANTS (sizeof variants / sizeof variants[0])

/* The variant in use; NULL until the first call. One word, and what it points to never changes: any order of memory
 * accesses will do, and threads that race to fill it in store the same value. */
static _Atomic(const struct variant *) chosen;
/* The fastest for one block, which those with lanes do theirs by. */
static _Atomic(const struct variant *) single;

static const struct variant *usable_at(size_t index)
{
    for (size_t i = 0; i < VARIANTS; i++)
        if (variants[i].usable() && index-- == 0)
            return &variants[i];
    return NULL;
}

static const struct variant *find(const char *name)
{
    if (name == NULL || strcmp(name, "auto") == 0)
        return usable_at(0);
    for (size_t i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i].name, name) == 0)
            return variants[i].usable() ? &variants[i] : NULL;
    return NULL;
}

static const struct variant *current(void)
{
    const struct variant *variant = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (variant == NULL) {
        const struct variant *fastest = usable_at(0);
        /* Not a plain store: a choice made by another thread in the meantime stands. */
        if (atomic_compare_exchange_strong_explicit(&chosen, &variant, fastest, memory_order_relaxed,
                                                    memory_order_relaxed))
            variant = fastest;
    }
    return variant;
}

/* What compresses a single block under this variant. The CPU is asked once: in a virtual machine that takes long. */
static const struct variant *for_blocks(const struct variant *variant)
{
    const struct variant *found = atomic_load_explicit(&single, memory_order_relaxed);

    if (variant->block != NULL)
        return variant;
    for (size_t i = 0; found == NULL; i++)
        if (variants[i].block != NULL && variants[i].usable())
            found = &variants[i];
    atomic_store_explicit(&single, found, memory_order_relaxed);
    return found;
}

void carp_sha1_init(uint32_t state[5])
{
    state[0] = 0x67452301u;
    state[1] = 0xefcdab89u;
    state[2] = 0x98badcfeu;
    state[3] = 0x10325476u;
    state[4] = 0xc3d2e1f0u;
}

void carp_sha1_block(uint32_t state[5], const uint8_t *data, size_t blocks)
{
    for_blocks(current())->block(state, data, blocks);
}

static void store_words(uint8_t bytes[CARP_SHA1_DIGEST], const uint32_t words[5])
{
    for (size_t i = 0; i < CARP_SHA1_DIGEST; i++)
        bytes[i] = (uint8_t)(words[i / 4] >> (24 - 8 * (i % 4)));
}

static void mac_by_blocks(carp_sha1_function block, struct carp_sha1_mac *mac)
{
    uint8_t tail[2 * CARP_SHA1_BLOCK], last[CARP_SHA1_BLOCK] = {0};

    memcpy(tail, mac->tail, mac->blocks * CARP_SHA1_BLOCK);
    memcpy(tail + mac->at, mac->counter, 8);
    memcpy(mac->digest, mac->inner, sizeof mac->digest);
    block(mac->digest, tail, mac->blocks);
    /* The outer hash: of the pad, which is done, and the inner digest. */
    store_words(last, mac->digest);
    last[CARP_SHA1_DIGEST] = 0x80;
    last[CARP_SHA1_BLOCK - 2] = (CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8 >> 8;
    last[CARP_SHA1_BLOCK - 1] = (CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8 & 0xff;
    memcpy(mac->digest, mac->outer, sizeof mac->digest);
    block(mac->digest, last, 1);
}

/* One after the other, or two by two. */
static void few_macs(const struct variant *variant, struct carp_sha1_mac *const macs[], size_t count)
{
    if (variant->macs != NULL) {
        variant->macs(macs, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        mac_by_blocks(variant->block, macs[i]);
}

/* At most AT_ONCE of them. Where single blocks are slow, lanes take all that need as many blocks; where they are fast,
 * what differs in more than the counter is not worth its transposition, nor are many empty lanes. */
static void many_macs(const struct variant *variant, struct carp_sha1_mac *macs, size_t count)
{
    const struct variant *alone = for_blocks(variant);
    const size_t least = alone->macs != NULL ? variant->width * 3 / 4 : 3;
    struct carp_sha1_mac *rest[AT_ONCE], *group[LANES_MOST];
    uint64_t left = count < AT_ONCE ? (UINT64_C(1) << count) - 1 : UINT64_MAX;
    size_t few = 0, failed = 0;

    for (size_t first = 0; first < count; first++) {
        size_t filled = 0;

        if ((left >> first & 1) == 0)
            continue;
        if (failed == FAILED_MOST) {
            rest[few++] = &macs[first];
            continue;
        }
        for (size_t i = first; i < count && filled < variant->width; i++) {
            if ((left >> i & 1) == 0)
                continue;
            if (alone->macs != NULL ? macs[i].tail != macs[first].tail : macs[i].blocks != macs[first].blocks)
                continue;
            group[filled++] = &macs[i];
            left &= ~(UINT64_C(1) << i);
        }
        if (filled < least) {
            failed++;
            for (size_t i = 0; i < filled; i++)
                rest[few++] = group[i];
            continue;
        }
        /* Lanes that are left over do the last one once more. */
        for (size_t i = filled; i < variant->width; i++)
            group[i] = group[filled - 1];
        variant->lanes(group);
    }
    few_macs(alone, rest, few);
}

void carp_sha1_macs(struct carp_sha1_mac *macs, size_t count)
{
    const struct variant *variant = current();
    struct carp_sha1_mac *each[AT_ONCE];

    while (count != 0) {
        const size_t some = count < AT_ONCE ? count : AT_ONCE;

        if (variant->lanes != NULL && some >= 3) {
            many_macs(variant, macs, some);
        } else {
            for (size_t i = 0; i < some; i++)
                each[i] = &macs[i];
            few_macs(for_blocks(variant), each, some);
        }
        macs += some;
        count -= some;
    }
}

int carp_sha1_digest(const char *name, const uint8_t *data, size_t length, uint8_t digest[CARP_SHA1_DIGEST])
{
    const struct variant *variant = find(name);
    const size_t whole = length / CARP_SHA1_BLOCK, rest = length % CARP_SHA1_BLOCK;
    /* Padding (FIPS 180-4, 5.1.1): one bit, zeros, the length in bits; it spills into a second block from 56 bytes. */
    const size_t tail_blocks = rest < CARP_SHA1_BLOCK - 8 ? 1 : 2;
    uint8_t tail[2 * CARP_SHA1_BLOCK] = {0};
    uint32_t state[5];
    uint64_t bits = (uint64_t)length * 8;

    if (variant == NULL)
        return -1;
    carp_sha1_init(state);
    if (rest != 0) /* no data at all may be NULL, which memcpy must not see */
        memcpy(tail, data + whole * CARP_SHA1_BLOCK, rest);
    tail[rest] = 0x80;
    for (size_t i = tail_blocks * CARP_SHA1_BLOCK; bits != 0; bits >>= 8)
        tail[--i] = (uint8_t)bits;
    variant = for_blocks(variant);
    variant->block(state, data, whole);
    variant->block(state, tail, tail_blocks);
    store_words(digest, state);
    return 0;
}

int carp_sha1_select(const char *name)
{
    const struct variant *variant = find(name);

    if (variant == NULL)
        return -1;
    atomic_store_explicit(&chosen, variant, memory_order_relaxed);
    return 0;
}

const char *carp_sha1_current(void) { return current()->name; }

size_t carp_sha1_count(void)
{
    size_t count = 0;

    while (usable_at(count) != NULL)
        count++;
    return count;
}

const char *carp_sha1_variant(size_t index)
{
    const struct variant *variant = usable_at(index);

    return variant == NULL ? NULL : variant->name;
}
