/* SHA-1 compression by the x86 SHA extensions (Intel's intrinsics guide: SHA1RNDS4, SHA1NEXTE, SHA1MSG1, SHA1MSG2). */
#include "variants.h"

#ifdef CARP_SHA1_HAVE_X86

#include <cpuid.h>
#include <immintrin.h>

#define CPUID1_ECX_SSSE3 (1u << 9)
#define CPUID1_ECX_SSE41 (1u << 19)
#define CPUID7_EBX_SHA (1u << 29)

/* PSHUFB (the byte swap) is SSSE3 and PEXTRD SSE4.1: a virtual machine may show SHA and mask those. */
int carp_sha1_x86_usable(void)
{
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    if ((ecx & CPUID1_ECX_SSSE3) == 0 || (ecx & CPUID1_ECX_SSE41) == 0)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    return (ebx & CPUID7_EBX_SHA) != 0;
}

/* A hash under way. The instructions want the first word in the highest lane. */
struct lane {
    __m128i abcd;
    __m128i e;    /* in the highest lane, the others zero */
    __m128i w[4]; /* the last four vectors of the schedule */
};

/* Four rounds. `g` counts the groups 0..19 and `f` is g / 5, which the instruction wants as a constant: it picks the
 * function and K. The next E is the A of four rounds before, rotated by 30: SHA1NEXTE adds it to the message words. */
#define GROUP(x, g, f)                                                                                                 \
    do {                                                                                                               \
        __m128i before = (x).abcd;                                                                                     \
        (x).e = (g) == 0 ? _mm_add_epi32((x).e, (x).w[0]) : _mm_sha1nexte_epu32((x).e, (x).w[(g)&3]);                  \
        (x).abcd = _mm_sha1rnds4_epu32((x).abcd, (x).e, f);                                                            \
        (x).e = before;                                                                                                \
    } while (0)

/* As GROUP, with its four words of the schedule made first. */
#define GROUP_EXPAND(x, g, f)                                                                                          \
    do {                                                                                                               \
        __m128i mixed = _mm_sha1msg1_epu32((x).w[(g)&3], (x).w[((g) + 1) & 3]);                                        \
        mixed = _mm_xor_si128(mixed, (x).w[((g) + 2) & 3]);                                                            \
        (x).w[(g)&3] = _mm_sha1msg2_epu32(mixed, (x).w[((g) + 3) & 3]);                                                \
        GROUP(x, g, f);                                                                                                \
    } while (0)

/* All eighty rounds, each group done by `first` and then by `later`, which say for which hashes. */
#define ROUNDS(first, later)                                                                                           \
    do {                                                                                                               \
        first(0, 0);                                                                                                   \
        first(1, 0);                                                                                                   \
        first(2, 0);                                                                                                   \
        first(3, 0);                                                                                                   \
        later(4, 0);                                                                                                   \
        later(5, 1);                                                                                                   \
        later(6, 1);                                                                                                   \
        later(7, 1);                                                                                                   \
        later(8, 1);                                                                                                   \
        later(9, 1);                                                                                                   \
        later(10, 2);                                                                                                  \
        later(11, 2);                                                                                                  \
        later(12, 2);                                                                                                  \
        later(13, 2);                                                                                                  \
        later(14, 2);                                                                                                  \
        later(15, 3);                                                                                                  \
        later(16, 3);                                                                                                  \
        later(17, 3);                                                                                                  \
        later(18, 3);                                                                                                  \
        later(19, 3);                                                                                                  \
    } while (0)

#define ONE_GROUP(g, f) GROUP(a, g, f)
#define ONE_GROUP_EXPAND(g, f) GROUP_EXPAND(a, g, f)
/* One hash waits for each instruction's outcome; a second one fills the time. */
#define TWO_GROUP(g, f)                                                                                                \
    do {                                                                                                               \
        GROUP(a, g, f);                                                                                                \
        GROUP(b, g, f);                                                                                                \
    } while (0)
#define TWO_GROUP_EXPAND(g, f)                                                                                         \
    do {                                                                                                               \
        GROUP_EXPAND(a, g, f);                                                                                         \
        GROUP_EXPAND(b, g, f);                                                                                         \
    } while (0)

#define TARGET __attribute__((target("sha,ssse3,sse4.1")))
#define TARGET_INLINE __attribute__((target("sha,ssse3,sse4.1"), always_inline)) static inline

TARGET_INLINE void compress(struct lane *lane)
{
    struct lane a = *lane;

    ROUNDS(ONE_GROUP, ONE_GROUP_EXPAND);
    lane->e = _mm_sha1nexte_epu32(a.e, lane->e);
    lane->abcd = _mm_add_epi32(a.abcd, lane->abcd);
}

TARGET_INLINE void compress_two(struct lane *first, struct lane *second)
{
    struct lane a = *first, b = *second;

    ROUNDS(TWO_GROUP, TWO_GROUP_EXPAND);
    first->e = _mm_sha1nexte_epu32(a.e, first->e);
    first->abcd = _mm_add_epi32(a.abcd, first->abcd);
    second->e = _mm_sha1nexte_epu32(b.e, second->e);
    second->abcd = _mm_add_epi32(b.abcd, second->abcd);
}

TARGET_INLINE __m128i load(const void *at) { return _mm_loadu_si128((const __m128i *)at); }

/* The four words at `data`, big endian, the first one into the highest lane: the whole vector is reversed bytewise. */
TARGET_INLINE __m128i reversed(__m128i data)
{
    return _mm_shuffle_epi8(data, _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL));
}

TARGET_INLINE void load_state(struct lane *lane, const uint32_t state[5])
{
    lane->abcd = _mm_shuffle_epi32(load(state), 0x1b);
    lane->e = _mm_set_epi32((int)state[4], 0, 0, 0);
}

TARGET_INLINE void store_state(const struct lane *lane, uint32_t state[5])
{
    _mm_storeu_si128((__m128i *)(void *)state, _mm_shuffle_epi32(lane->abcd, 0x1b));
    state[4] = (uint32_t)_mm_extract_epi32(lane->e, 3);
}

TARGET void carp_sha1_block_x86(uint32_t state[5], const uint8_t *data, size_t blocks)
{
    struct lane lane;

    load_state(&lane, state);
    for (; blocks != 0; blocks--, data += CARP_SHA1_BLOCK) {
        for (int i = 0; i < 4; i++)
            lane.w[i] = reversed(load(data + 16 * i));
        compress(&lane);
    }
    store_state(&lane, state);
}

/* Masks for PSHUFB that put the counter's eight bytes anywhere in a tail, and zeros elsewhere: the sixteen from
 * places[64 - at + n] on are those for the tail's bytes n to n + 15. Bytes stored one by one and loaded as a vector at
 * once would have to travel through the cache. */
#define NONE_8 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80
static const uint8_t places[64 + 8 + 120] = {
    NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, 0,      1,      2,      3,
    4,      5,      6,      7,      NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8,
    NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8, NONE_8,
};

/* The schedule's first sixteen words, of one block of the tail. */
TARGET_INLINE void load_tail(struct lane *lane, const struct carp_sha1_mac *mac, size_t block)
{
    const uint8_t *tail = mac->tail + CARP_SHA1_BLOCK * block;
    const uint8_t *place = places + 64 - mac->at + CARP_SHA1_BLOCK * block;
    const __m128i counter = _mm_loadl_epi64((const __m128i *)(const void *)mac->counter);

    for (int i = 0; i < 4; i++)
        lane->w[i] = reversed(_mm_or_si128(load(tail + 16 * i), _mm_shuffle_epi8(counter, load(place + 16 * i))));
}

/* From the inner hash to the outer one: its last block is the inner digest, a one bit, and the length of 84 bytes.
 * The inner state stands in its lanes just as the message has to. */
TARGET_INLINE void turn_outward(struct lane *lane, const struct carp_sha1_mac *mac)
{
    lane->w[0] = lane->abcd;
    lane->w[1] = _mm_or_si128(lane->e, _mm_set_epi32(0, (int)0x80000000, 0, 0));
    lane->w[2] = _mm_setzero_si128();
    lane->w[3] = _mm_set_epi32(0, 0, 0, (CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8);
    load_state(lane, mac->outer);
}

TARGET static void mac_one(struct carp_sha1_mac *mac)
{
    struct lane lane;

    load_state(&lane, mac->inner);
    for (size_t block = 0; block < mac->blocks; block++) {
        load_tail(&lane, mac, block);
        compress(&lane);
    }
    turn_outward(&lane, mac);
    compress(&lane);
    store_state(&lane, mac->digest);
}

/* For tails of one block each. */
TARGET static void mac_two(struct carp_sha1_mac *first, struct carp_sha1_mac *second)
{
    struct lane a, b;

    load_state(&a, first->inner);
    load_state(&b, second->inner);
    load_tail(&a, first, 0);
    load_tail(&b, second, 0);
    compress_two(&a, &b);
    turn_outward(&a, first);
    turn_outward(&b, second);
    compress_two(&a, &b);
    store_state(&a, first->digest);
    store_state(&b, second->digest);
}

void carp_sha1_macs_x86(struct carp_sha1_mac *const macs[], size_t count)
{
    while (count >= 2 && macs[0]->blocks == 1 && macs[1]->blocks == 1) {
        mac_two(macs[0], macs[1]);
        macs += 2;
        count -= 2;
    }
    for (; count != 0; count--)
        mac_one(*macs++);
}

#endif
