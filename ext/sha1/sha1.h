/* The SHA-1 block function (FIPS 180-4, section 6.1.2) and the choice of its fastest variant.
 *
 * Padding, lengths and HMAC are the caller's: an advert hashes one prepared block, and pads that never change are
 * hashed once. Everything here may be called from any thread, without the GIL, before or after any other call.
 *
 * The chosen variant is a property of the shared object that this is linked into.
 */
#ifndef CARP_SHA1_H
#define CARP_SHA1_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CARP_SHA1_BLOCK 64  /* bytes in a block */
#define CARP_SHA1_DIGEST 20 /* bytes in a digest: the five words of the state, big endian */

/* Compresses `blocks` blocks of 64 bytes at `data` (any alignment) into `state`. No block: nothing happens. */
typedef void (*carp_sha1_function)(uint32_t state[5], const uint8_t *data, size_t blocks);

/* The initial hash value, FIPS 180-4 section 5.3.1. */
void carp_sha1_init(uint32_t state[5]);

/* The compression, by the chosen variant; without a choice, by the fastest this CPU has. */
void carp_sha1_block(uint32_t state[5], const uint8_t *data, size_t blocks);

/* One HMAC-SHA1 (RFC 2104) of which all is prepared but an 8-byte counter at the end of the message. */
struct carp_sha1_mac {
    const uint32_t *inner;  /* the five words after the inner pad and every whole block before the tail */
    const uint32_t *outer;  /* the five words after the outer pad */
    const uint8_t *tail;    /* the last blocks of the inner hash, padding and length included; zeros for the counter */
    size_t blocks;          /* in the tail: 1 or 2 */
    size_t at;              /* where in the tail the counter goes, below 64 */
    const uint8_t *counter; /* 8 bytes */
    uint32_t digest[5];     /* what comes of it; as bytes they are big endian */
};

/* Computes `count` of them by the chosen variant, side by side where that is faster. Those with the same tail (the
 * pointer) differ in nothing but their counters. */
void carp_sha1_macs(struct carp_sha1_mac *macs, size_t count);

/* The whole hash of `length` bytes under one named variant, whatever is chosen; for tests and for set-up.
 * 0, or -1 when this CPU or this build has no such variant. */
int carp_sha1_digest(const char *variant, const uint8_t *data, size_t length, uint8_t digest[CARP_SHA1_DIGEST]);

/* Chooses the variant that carp_sha1_block uses from now on: "portable", "sha-ni", "armv8", or "auto" (also NULL).
 * 0, or -1 when this CPU or this build has no such variant; the choice is then as it was. */
int carp_sha1_select(const char *variant);

/* The name of the variant in use. */
const char *carp_sha1_current(void);

/* The variants that work here, fastest first: how many, and the name of the one at `index` (NULL past the end). */
size_t carp_sha1_count(void);
const char *carp_sha1_variant(size_t index);

#ifdef __cplusplus
}
#endif

#endif
