/* SHA-1 compression by the ARMv8 cryptographic extension (Arm C Language Extensions: vsha1c/p/m/h, vsha1su0/su1). */
#include "variants.h"

#ifdef CARP_SHA1_HAVE_ARMV8

#include <arm_neon.h>
#include <string.h>

#if defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_SHA1
#define HWCAP_SHA1 (1ul << 5) /* arch/arm64/include/uapi/asm/hwcap.h */
#endif
#endif

/* A build that is already compiled for the extension needs no attribute; GCC and clang spell it differently. */
#if defined(__ARM_FEATURE_CRYPTO) || defined(__ARM_FEATURE_SHA2)
#define TARGET_SHA1
#elif defined(__clang__)
#define TARGET_SHA1 __attribute__((target("sha2")))
#else
#define TARGET_SHA1 __attribute__((target("+crypto")))
#endif

int carp_sha1_armv8_usable(void)
{
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_SHA1) != 0;
#else
    return 1; /* every 64-bit Apple CPU has it */
#endif
}

/* A hash under way. */
struct lane {
    uint32x4_t abcd;
    uint32_t e;
    uint32x4_t w[4]; /* the last four vectors of the schedule */
};

/* Four rounds. The next E is the A of four rounds before, rotated by 30: that is what SHA1H does. */
#define GROUP(x, g, function, k)                                                                                       \
    do {                                                                                                               \
        uint32_t e_next = vsha1h_u32(vgetq_lane_u32((x).abcd, 0));                                                     \
        (x).abcd = function((x).abcd, (x).e, vaddq_u32((x).w[(g)&3], vdupq_n_u32(k)));                                 \
        (x).e = e_next;                                                                                                \
    } while (0)

/* As GROUP, with its four words of the schedule made first. */
#define GROUP_EXPAND(x, g, function, k)                                                                                \
    do {                                                                                                               \
        (x).w[(g)&3] = vsha1su1q_u32(vsha1su0q_u32((x).w[(g)&3], (x).w[((g) + 1) & 3], (x).w[((g) + 2) & 3]),          \
                                     (x).w[((g) + 3) & 3]);                                                            \
        GROUP(x, g, function, k);                                                                                      \
    } while (0)

#define K0 0x5a827999u
#define K1 0x6ed9eba1u
#define K2 0x8f1bbcdcu
#define K3 0xca62c1d6u

/* All eighty rounds, each group done by `first` and then by `later`, which say for which hashes. */
#define ROUNDS(first, later)                                                                                           \
    do {                                                                                                               \
        first(0, vsha1cq_u32, K0);                                                                                     \
        first(1, vsha1cq_u32, K0);                                                                                     \
        first(2, vsha1cq_u32, K0);                                                                                     \
        first(3, vsha1cq_u32, K0);                                                                                     \
        later(4, vsha1cq_u32, K0);                                                                                     \
        later(5, vsha1pq_u32, K1);                                                                                     \
        later(6, vsha1pq_u32, K1);                                                                                     \
        later(7, vsha1pq_u32, K1);                                                                                     \
        later(8, vsha1pq_u32, K1);                                                                                     \
        later(9, vsha1pq_u32, K1);                                                                                     \
        later(10, vsha1mq_u32, K2);                                                                                    \
        later(11, vsha1mq_u32, K2);                                                                                    \
        later(12, vsha1mq_u32, K2);                                                                                    \
        later(13, vsha1mq_u32, K2);                                                                                    \
        later(14, vsha1mq_u32, K2);                                                                                    \
        later(15, vsha1pq_u32, K3);                                                                                    \
        later(16, vsha1pq_u32, K3);                                                                                    \
        later(17, vsha1pq_u32, K3);                                                                                    \
        later(18, vsha1pq_u32, K3);                                                                                    \
        later(19, vsha1pq_u32, K3);                                                                                    \
    } while (0)

#define ONE_GROUP(g, function, k) GROUP(a, g, function, k)
#define ONE_GROUP_EXPAND(g, function, k) GROUP_EXPAND(a, g, function, k)
/* One hash waits for each instruction's outcome; a second one fills the time. */
#define TWO_GROUP(g, function, k)                                                                                      \
    do {                                                                                                               \
        GROUP(a, g, function, k);                                                                                      \
        GROUP(b, g, function, k);                                                                                      \
    } while (0)
#define TWO_GROUP_EXPAND(g, function, k)                                                                               \
    do {                                                                                                               \
        GROUP_EXPAND(a, g, function, k);                                                                               \
        GROUP_EXPAND(b, g, function, k);                                                                               \
    } while (0)

TARGET_SHA1 static inline struct lane load(const uint32_t state[5], const uint8_t *data)
{
    struct lane lane = {.abcd = vld1q_u32(state), .e = state[4]};

    for (int i = 0; i < 4; i++)
        lane.w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
    return lane;
}

TARGET_SHA1 static inline void add(uint32_t state[5], const struct lane *lane)
{
    vst1q_u32(state, vaddq_u32(vld1q_u32(state), lane->abcd));
    state[4] += lane->e;
}

TARGET_SHA1 void carp_sha1_block_armv8(uint32_t state[5], const uint8_t *data, size_t blocks)
{
    for (; blocks != 0; blocks--, data += CARP_SHA1_BLOCK) {
        struct lane a = load(state, data);

        ROUNDS(ONE_GROUP, ONE_GROUP_EXPAND);
        add(state, &a);
    }
}

/* A block of each of two hashes. */
TARGET_SHA1 static void compress_two(uint32_t state[2][5], const uint8_t data[2][2 * CARP_SHA1_BLOCK])
{
    struct lane a = load(state[0], data[0]), b = load(state[1], data[1]);

    ROUNDS(TWO_GROUP, TWO_GROUP_EXPAND);
    add(state[0], &a);
    add(state[1], &b);
}

/* Two HMACs, or one of them twice; their tails have as many blocks. */
static void mac_two(struct carp_sha1_mac *first, struct carp_sha1_mac *second)
{
    struct carp_sha1_mac *const macs[2] = {first, second};
    uint32_t inner[2][5], outer[2][5];
    uint8_t data[2][2 * CARP_SHA1_BLOCK], last[2][2 * CARP_SHA1_BLOCK] = {{0}};

    for (int i = 0; i < 2; i++) {
        memcpy(inner[i], macs[i]->inner, sizeof inner[i]);
        memcpy(outer[i], macs[i]->outer, sizeof outer[i]);
        memcpy(data[i], macs[i]->tail, CARP_SHA1_BLOCK * macs[i]->blocks);
        memcpy(data[i] + macs[i]->at, macs[i]->counter, 8);
    }
    compress_two(inner, (const uint8_t(*)[2 * CARP_SHA1_BLOCK])data);
    if (first->blocks == 2) {
        memcpy(data[0], data[0] + CARP_SHA1_BLOCK, CARP_SHA1_BLOCK);
        memcpy(data[1], data[1] + CARP_SHA1_BLOCK, CARP_SHA1_BLOCK);
        compress_two(inner, (const uint8_t(*)[2 * CARP_SHA1_BLOCK])data);
    }
    /* The outer hash: of the pad, which is done, and the inner digest. */
    for (int i = 0; i < 2; i++) {
        for (int t = 0; t < CARP_SHA1_DIGEST; t++)
            last[i][t] = (uint8_t)(inner[i][t / 4] >> (24 - 8 * (t % 4)));
        last[i][CARP_SHA1_DIGEST] = 0x80;
        last[i][CARP_SHA1_BLOCK - 2] = (CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8 >> 8;
        last[i][CARP_SHA1_BLOCK - 1] = (CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8 & 0xff;
    }
    compress_two(outer, (const uint8_t(*)[2 * CARP_SHA1_BLOCK])last);
    memcpy(first->digest, outer[0], sizeof first->digest);
    memcpy(second->digest, outer[1], sizeof second->digest);
}

void carp_sha1_macs_armv8(struct carp_sha1_mac *const macs[], size_t count)
{
    while (count != 0) {
        const size_t step = count >= 2 && macs[0]->blocks == macs[1]->blocks ? 2 : 1;

        mac_two(macs[0], macs[step - 1]);
        macs += step;
        count -= step;
    }
}

#endif
