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

/* Four rounds. `g` counts the groups 0..19 and `f` is g / 5, which the instruction wants as a constant: it picks the
 * function and K. The next E is the A of four rounds before, rotated by 30: SHA1NEXTE adds it to the message words. */
#define GROUP(g, f)                                                                                                    \
    do {                                                                                                               \
        __m128i before = abcd;                                                                                         \
        e = (g) == 0 ? _mm_add_epi32(e, w[0]) : _mm_sha1nexte_epu32(e, w[(g)&3]);                                      \
        abcd = _mm_sha1rnds4_epu32(abcd, e, f);                                                                        \
        e = before;                                                                                                    \
    } while (0)

/* As GROUP, with its four words of the schedule made first: the window `w` holds the last four vectors. */
#define GROUP_EXPAND(g, f)                                                                                             \
    do {                                                                                                               \
        __m128i mixed = _mm_xor_si128(_mm_sha1msg1_epu32(w[(g)&3], w[((g) + 1) & 3]), w[((g) + 2) & 3]);               \
        w[(g)&3] = _mm_sha1msg2_epu32(mixed, w[((g) + 3) & 3]);                                                        \
        GROUP(g, f);                                                                                                   \
    } while (0)

__attribute__((target("sha,ssse3,sse4.1"))) void carp_sha1_block_x86(uint32_t state[5], const uint8_t *data,
                                                                     size_t blocks)
{
    /* The instructions want the first word in the highest lane: a whole block vector is reversed bytewise. */
    const __m128i reverse = _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0x1b);
    __m128i e = _mm_set_epi32((int)state[4], 0, 0, 0);

    for (; blocks != 0; blocks--, data += CARP_SHA1_BLOCK) {
        const __m128i abcd_saved = abcd, e_saved = e;
        __m128i w[4];

        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i)), reverse);

        GROUP(0, 0);
        GROUP(1, 0);
        GROUP(2, 0);
        GROUP(3, 0);
        GROUP_EXPAND(4, 0);
        GROUP_EXPAND(5, 1);
        GROUP_EXPAND(6, 1);
        GROUP_EXPAND(7, 1);
        GROUP_EXPAND(8, 1);
        GROUP_EXPAND(9, 1);
        GROUP_EXPAND(10, 2);
        GROUP_EXPAND(11, 2);
        GROUP_EXPAND(12, 2);
        GROUP_EXPAND(13, 2);
        GROUP_EXPAND(14, 2);
        GROUP_EXPAND(15, 3);
        GROUP_EXPAND(16, 3);
        GROUP_EXPAND(17, 3);
        GROUP_EXPAND(18, 3);
        GROUP_EXPAND(19, 3);

        e = _mm_sha1nexte_epu32(e, e_saved);
        abcd = _mm_add_epi32(abcd, abcd_saved);
    }

    _mm_storeu_si128((__m128i *)(void *)state, _mm_shuffle_epi32(abcd, 0x1b));
    state[4] = (uint32_t)_mm_extract_epi32(e, 3);
}

#endif
