/* A model, not the code, of how a BSD kernel verifies an advert: HMAC-SHA1 with the inner pad and the addresses hashed
 * beforehand, the outer pad hashed each time, by a portable SHA-1 behind init, update and final. Three compressions an
 * advert. It stands in the benchmarks for "the kernel's way" on the same machine and compiler.
 *
 * SHA-1 after FIPS 180-4; HMAC after RFC 2104.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint32_t state[5];
    uint64_t length; /* bytes hashed so far */
    uint8_t buffer[64];
} sha1_context;

static uint32_t rotate(uint32_t word, int by)
{
    return word << by | word >> (32 - by);
}

static uint32_t load(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store(uint8_t *at, uint32_t word)
{
    at[0] = (uint8_t)(word >> 24);
    at[1] = (uint8_t)(word >> 16);
    at[2] = (uint8_t)(word >> 8);
    at[3] = (uint8_t)word;
}

/* One round; the five words change places by the order of the arguments. */
#define SCHEDULE(t) \
    (w[(t) & 15] = rotate(w[((t) + 13) & 15] ^ w[((t) + 8) & 15] ^ w[((t) + 2) & 15] ^ w[(t) & 15], 1))
#define ROUND(a, b, c, d, e, f, k, word) \
    do { \
        e += rotate(a, 5) + (f) + (k) + (word); \
        b = rotate(b, 30); \
    } while (0)
#define CHOOSE(b, c, d) ((((c) ^ (d)) & (b)) ^ (d))
#define PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define MAJORITY(b, c, d) ((((b) | (c)) & (d)) | ((b) & (c)))
#define FIVE(t, f, k, next) \
    ROUND(a, b, c, d, e, f(b, c, d), k, next(t)); \
    ROUND(e, a, b, c, d, f(a, b, c), k, next((t) + 1)); \
    ROUND(d, e, a, b, c, f(e, a, b), k, next((t) + 2)); \
    ROUND(c, d, e, a, b, f(d, e, a), k, next((t) + 3)); \
    ROUND(b, c, d, e, a, f(c, d, e), k, next((t) + 4))
#define GIVEN(t) w[t]

static void compress(uint32_t state[5], const uint8_t *block)
{
    uint32_t w[16];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    int t;
    for (t = 0; t < 16; t++)
        w[t] = load(block + 4 * t);
    FIVE(0, CHOOSE, 0x5A827999u, GIVEN);
    FIVE(5, CHOOSE, 0x5A827999u, GIVEN);
    FIVE(10, CHOOSE, 0x5A827999u, GIVEN);
    ROUND(a, b, c, d, e, CHOOSE(b, c, d), 0x5A827999u, GIVEN(15));
    ROUND(e, a, b, c, d, CHOOSE(a, b, c), 0x5A827999u, SCHEDULE(16));
    ROUND(d, e, a, b, c, CHOOSE(e, a, b), 0x5A827999u, SCHEDULE(17));
    ROUND(c, d, e, a, b, CHOOSE(d, e, a), 0x5A827999u, SCHEDULE(18));
    ROUND(b, c, d, e, a, CHOOSE(c, d, e), 0x5A827999u, SCHEDULE(19));
    FIVE(20, PARITY, 0x6ED9EBA1u, SCHEDULE);
    FIVE(25, PARITY, 0x6ED9EBA1u, SCHEDULE);
    FIVE(30, PARITY, 0x6ED9EBA1u, SCHEDULE);
    FIVE(35, PARITY, 0x6ED9EBA1u, SCHEDULE);
    FIVE(40, MAJORITY, 0x8F1BBCDCu, SCHEDULE);
    FIVE(45, MAJORITY, 0x8F1BBCDCu, SCHEDULE);
    FIVE(50, MAJORITY, 0x8F1BBCDCu, SCHEDULE);
    FIVE(55, MAJORITY, 0x8F1BBCDCu, SCHEDULE);
    FIVE(60, PARITY, 0xCA62C1D6u, SCHEDULE);
    FIVE(65, PARITY, 0xCA62C1D6u, SCHEDULE);
    FIVE(70, PARITY, 0xCA62C1D6u, SCHEDULE);
    FIVE(75, PARITY, 0xCA62C1D6u, SCHEDULE);
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static void sha1_init(sha1_context *context)
{
    static const uint32_t initial[5] = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u, 0xC3D2E1F0u};
    memcpy(context->state, initial, sizeof initial);
    context->length = 0;
}

static void sha1_update(sha1_context *context, const uint8_t *data, size_t length)
{
    size_t used = context->length % 64;
    context->length += length;
    if (used + length < 64) {
        memcpy(context->buffer + used, data, length);
        return;
    }
    memcpy(context->buffer + used, data, 64 - used);
    compress(context->state, context->buffer);
    for (data += 64 - used, length -= 64 - used; length >= 64; data += 64, length -= 64)
        compress(context->state, data);
    memcpy(context->buffer, data, length);
}

static void sha1_final(uint8_t digest[20], sha1_context *context)
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = context->length * 8;
    uint8_t length[8];
    int word;
    store(length, (uint32_t)(bits >> 32));
    store(length + 4, (uint32_t)bits);
    sha1_update(context, padding, 1 + (119 - context->length % 64) % 64);
    sha1_update(context, length, 8);
    for (word = 0; word < 5; word++)
        store(digest + 4 * word, context->state[word]);
}

/* What the kernel keeps of a virtual host. */
typedef struct {
    uint8_t pad[64];
    sha1_context prepared;
} softc;

static softc virtual_host;

void model_prepare(const uint8_t *key, size_t length, const uint8_t *prefix, size_t prefix_length)
{
    softc *sc = &virtual_host;
    size_t at;
    memset(sc->pad, 0, 64);
    memcpy(sc->pad, key, length);
    for (at = 0; at < 64; at++)
        sc->pad[at] ^= 0x36;
    sha1_init(&sc->prepared);
    sha1_update(&sc->prepared, sc->pad, 64);
    sha1_update(&sc->prepared, prefix, prefix_length);
    for (at = 0; at < 64; at++)
        sc->pad[at] ^= 0x36 ^ 0x5C;
}

void model_sign(const uint8_t counter[8], uint8_t digest[20])
{
    sha1_context context = virtual_host.prepared;
    sha1_update(&context, counter, 8);
    sha1_final(digest, &context);
    sha1_init(&context);
    sha1_update(&context, virtual_host.pad, 64);
    sha1_update(&context, digest, 20);
    sha1_final(digest, &context);
}

static int verify(const uint8_t *counter, const uint8_t *digest)
{
    uint8_t own[20];
    uint8_t difference = 0;
    int at;
    model_sign(counter, own);
    for (at = 0; at < 20; at++)
        difference |= own[at] ^ digest[at];
    return difference == 0;
}

/* Verifies `turns` adverts, taken round and round from `count` records of counter (8) and digest (20); each begins when
 * the one before is decided. Returns how many were right. */
size_t model_verify(const uint8_t *records, size_t count, size_t turns)
{
    size_t right = 0, at = 0;
    while (turns-- != 0) {
        int good = verify(records + 28 * at, records + 28 * at + 8);
        right += (size_t)good;
        at = (at + 2 - (size_t)good) % count;
    }
    return right;
}
