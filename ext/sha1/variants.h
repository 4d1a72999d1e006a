/* What the variants show to the one place that chooses among them (sha1.c). Not for anyone else. */
#ifndef CARP_SHA1_VARIANTS_H
#define CARP_SHA1_VARIANTS_H

#include "sha1.h"

/* Byte by byte: right on either endianness and for any alignment; compilers make one load and one swap of it. */
static inline uint32_t carp_sha1_load32(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | (uint32_t)p[3];
}

void carp_sha1_block_portable(uint32_t state[5], const uint8_t *data, size_t blocks);

/* x86-64 with the SHA extensions. Both compilers build it without any -m flag, by a function attribute. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define CARP_SHA1_HAVE_X86 1
int carp_sha1_x86_usable(void);
void carp_sha1_block_x86(uint32_t state[5], const uint8_t *data, size_t blocks);
void carp_sha1_macs_x86(struct carp_sha1_mac *const macs[], size_t count);
/* One HMAC in each lane of a vector, 8 or 16; all of them have tails of as many blocks. */
int carp_sha1_avx2_usable(void);
void carp_sha1_lanes_avx2(struct carp_sha1_mac *const macs[8]);
int carp_sha1_avx512_usable(void);
void carp_sha1_lanes_avx512(struct carp_sha1_mac *const macs[16]);
#endif

/* AArch64 with the cryptographic extension, little endian. Clang before 16 hides the intrinsics from code that is not
 * compiled for the extension as a whole; such a build is portable. */
#if defined(__aarch64__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && \
    (defined(__linux__) || defined(__APPLE__))
#if defined(__ARM_FEATURE_CRYPTO) || defined(__ARM_FEATURE_SHA2) || !defined(__clang__) || __clang_major__ >= 16
#define CARP_SHA1_HAVE_ARMV8 1
int carp_sha1_armv8_usable(void);
void carp_sha1_block_armv8(uint32_t state[5], const uint8_t *data, size_t blocks);
void carp_sha1_macs_armv8(struct carp_sha1_mac *const macs[], size_t count);
#endif
#endif

#endif
