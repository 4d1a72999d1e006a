/* SHA-1 compression in plain C, after FIPS 180-4: section 6.1.2, functions of 4.1.1, constants of 4.2.1. */
#include "variants.h"

static inline uint32_t rotate_left(uint32_t x, unsigned n) { return (x << n) | (x >> (32u - n)); }

static inline uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return z ^ (x & (y ^ z)); }
static inline uint32_t parity(uint32_t x, uint32_t y, uint32_t z) { return x ^ y ^ z; }
static inline uint32_t majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) | (z & (x | y)); }

/* The message schedule: the block's own sixteen words, then sixty-four that are made of them. */
static inline uint32_t given(const uint32_t w[16], unsigned t) { return w[t]; }

/* The schedule needs only its last sixteen words: W[t-16] is overwritten by W[t]. */
static inline uint32_t expand(uint32_t w[16], unsigned t)
{
    uint32_t word = w[(t + 13) & 15] ^ w[(t + 8) & 15] ^ w[(t + 2) & 15] ^ w[t & 15];
    return w[t & 15] = rotate_left(word, 1);
}

/* One round without moving the five words along: the next round is told them in their new order. Adding to `e` and
 * rotating `b` is all that a round changes. */
#define ROUND(a, b, c, d, e, f, k, word)                                                                               \
    do {                                                                                                               \
        (e) += rotate_left(a, 5) + f(b, c, d) + (k) + (word);                                                          \
        (b) = rotate_left(b, 30);                                                                                      \
    } while (0)

/* Five rounds bring the words back to where they were. */
#define FIVE_ROUNDS(f, k, word, t)                                                                                     \
    do {                                                                                                               \
        ROUND(a, b, c, d, e, f, k, word(w, t));                                                                        \
        ROUND(e, a, b, c, d, f, k, word(w, (t) + 1));                                                                  \
        ROUND(d, e, a, b, c, f, k, word(w, (t) + 2));                                                                  \
        ROUND(c, d, e, a, b, f, k, word(w, (t) + 3));                                                                  \
        ROUND(b, c, d, e, a, f, k, word(w, (t) + 4));                                                                  \
    } while (0)

void carp_sha1_block_portable(uint32_t state[5], const uint8_t *data, size_t blocks)
{
    uint32_t w[16];

    for (; blocks != 0; blocks--, data += CARP_SHA1_BLOCK) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        unsigned t;

        for (t = 0; t < 16; t++)
            w[t] = carp_sha1_load32(data + 4 * t);
        for (t = 0; t < 15; t += 5)
            FIVE_ROUNDS(choose, 0x5a827999u, given, t);
        ROUND(a, b, c, d, e, choose, 0x5a827999u, given(w, 15));
        ROUND(e, a, b, c, d, choose, 0x5a827999u, expand(w, 16));
        ROUND(d, e, a, b, c, choose, 0x5a827999u, expand(w, 17));
        ROUND(c, d, e, a, b, choose, 0x5a827999u, expand(w, 18));
        ROUND(b, c, d, e, a, choose, 0x5a827999u, expand(w, 19));
        for (t = 20; t < 40; t += 5)
            FIVE_ROUNDS(parity, 0x6ed9eba1u, expand, t);
        for (; t < 60; t += 5)
            FIVE_ROUNDS(majority, 0x8f1bbcdcu, expand, t);
        for (; t < 80; t += 5)
            FIVE_ROUNDS(parity, 0xca62c1d6u, expand, t);

        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
    }
}
