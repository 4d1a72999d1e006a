/* SHA-1 compression by the ARMv8 cryptographic extension (Arm C Language Extensions: vsha1c/p/m/h, vsha1su0/su1). */
#include "variants.h"

#ifdef CARP_SHA1_HAVE_ARMV8

#include <arm_neon.h>

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

/* Four rounds. The next E is the A of four rounds before, rotated by 30: that is what SHA1H does. */
#define GROUP(g, function, k)                                                                                          \
    do {                                                                                                               \
        uint32_t e_next = vsha1h_u32(vgetq_lane_u32(abcd, 0));                                                         \
        abcd = function(abcd, e, vaddq_u32(w[(g)&3], vdupq_n_u32(k)));                                                 \
        e = e_next;                                                                                                    \
    } while (0)

/* As GROUP, with its four words of the schedule made first: the window `w` holds the last four vectors. */
#define GROUP_EXPAND(g, function, k)                                                                                   \
    do {                                                                                                               \
        w[(g)&3] = vsha1su1q_u32(vsha1su0q_u32(w[(g)&3], w[((g) + 1) & 3], w[((g) + 2) & 3]), w[((g) + 3) & 3]);       \
        GROUP(g, function, k);                                                                                         \
    } while (0)

#define K0 0x5a827999u
#define K1 0x6ed9eba1u
#define K2 0x8f1bbcdcu
#define K3 0xca62c1d6u

TARGET_SHA1 void carp_sha1_block_armv8(uint32_t state[5], const uint8_t *data, size_t blocks)
{
    uint32x4_t abcd = vld1q_u32(state);
    uint32_t e = state[4];

    for (; blocks != 0; blocks--, data += CARP_SHA1_BLOCK) {
        const uint32x4_t abcd_saved = abcd;
        const uint32_t e_saved = e;
        uint32x4_t w[4];

        for (int i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));

        GROUP(0, vsha1cq_u32, K0);
        GROUP(1, vsha1cq_u32, K0);
        GROUP(2, vsha1cq_u32, K0);
        GROUP(3, vsha1cq_u32, K0);
        GROUP_EXPAND(4, vsha1cq_u32, K0);
        GROUP_EXPAND(5, vsha1pq_u32, K1);
        GROUP_EXPAND(6, vsha1pq_u32, K1);
        GROUP_EXPAND(7, vsha1pq_u32, K1);
        GROUP_EXPAND(8, vsha1pq_u32, K1);
        GROUP_EXPAND(9, vsha1pq_u32, K1);
        GROUP_EXPAND(10, vsha1mq_u32, K2);
        GROUP_EXPAND(11, vsha1mq_u32, K2);
        GROUP_EXPAND(12, vsha1mq_u32, K2);
        GROUP_EXPAND(13, vsha1mq_u32, K2);
        GROUP_EXPAND(14, vsha1mq_u32, K2);
        GROUP_EXPAND(15, vsha1pq_u32, K3);
        GROUP_EXPAND(16, vsha1pq_u32, K3);
        GROUP_EXPAND(17, vsha1pq_u32, K3);
        GROUP_EXPAND(18, vsha1pq_u32, K3);
        GROUP_EXPAND(19, vsha1pq_u32, K3);

        abcd = vaddq_u32(abcd, abcd_saved);
        e += e_saved;
    }

    vst1q_u32(state, abcd);
    state[4] = e;
}

#endif
