/* SHA-1 of many messages at once, one in each lane of a vector (FIPS 180-4, section 6.1.2). Included by one source for
 * each width, which says before:
 *
 *   LANES             words in a vector
 *   VECTOR            its type
 *   TARGET            the attribute of functions that use it
 *   NAME(x)           what a function is called there
 *   ADD XOR OR        of two vectors
 *   ROTATE(x, n)      each word to the left
 *   CHOOSE PARITY MAJORITY
 *                     the functions of section 4.1.1
 *   LEFT(x, n) RIGHT(x, n)
 *                     each word shifted, by a count in an __m128i
 *   EVERY(word)       the word in each lane
 *   LOAD(at) STORE(at, x)
 *                     LANES words at any place
 */
#define K0 0x5a827999u
#define K1 0x6ed9eba1u
#define K2 0x8f1bbcdcu
#define K3 0xca62c1d6u

/* One round without moving the five words along: the next round is told them in their new order. */
#define ROUND(a, b, c, d, e, f, k, word)                                                                               \
    do {                                                                                                               \
        (e) = ADD(ADD(e, ADD(k, word)), f(b, c, d));                                                                   \
        /* The next round waits for `a` alone: a compiler that adds in another order makes it wait for more. */        \
        __asm__("" : "+v"(e));                                                                                         \
        (e) = ADD(e, ROTATE(a, 5));                                                                                    \
        (b) = ROTATE(b, 30);                                                                                           \
    } while (0)

#define GIVEN(t) (w[t])
#define EXPAND(t)                                                                                                      \
    (w[(t)&15] = ROTATE(XOR(PARITY(w[((t) + 13) & 15], w[((t) + 8) & 15], w[((t) + 2) & 15]), w[(t)&15]), 1))

/* Five rounds bring the words back to where they were. */
#define FIVE(f, k, word, t)                                                                                            \
    do {                                                                                                               \
        ROUND(a, b, c, d, e, f, k, word(t));                                                                           \
        ROUND(e, a, b, c, d, f, k, word((t) + 1));                                                                     \
        ROUND(d, e, a, b, c, f, k, word((t) + 2));                                                                     \
        ROUND(c, d, e, a, b, f, k, word((t) + 3));                                                                     \
        ROUND(b, c, d, e, a, f, k, word((t) + 4));                                                                     \
    } while (0)

/* One block of each lane. */
TARGET static void NAME(compress)(VECTOR state[5], const VECTOR block[16])
{
    VECTOR a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], k = EVERY(K0);
    /* All indices are constants: where there are registers for them, the words stay in those. */
    VECTOR w[16] = {block[0], block[1], block[2],  block[3],  block[4],  block[5],  block[6],  block[7],
                    block[8], block[9], block[10], block[11], block[12], block[13], block[14], block[15]};

    FIVE(CHOOSE, k, GIVEN, 0);
    FIVE(CHOOSE, k, GIVEN, 5);
    FIVE(CHOOSE, k, GIVEN, 10);
    ROUND(a, b, c, d, e, CHOOSE, k, GIVEN(15));
    ROUND(e, a, b, c, d, CHOOSE, k, EXPAND(16));
    ROUND(d, e, a, b, c, CHOOSE, k, EXPAND(17));
    ROUND(c, d, e, a, b, CHOOSE, k, EXPAND(18));
    ROUND(b, c, d, e, a, CHOOSE, k, EXPAND(19));
    k = EVERY(K1);
    FIVE(PARITY, k, EXPAND, 20);
    FIVE(PARITY, k, EXPAND, 25);
    FIVE(PARITY, k, EXPAND, 30);
    FIVE(PARITY, k, EXPAND, 35);
    k = EVERY(K2);
    FIVE(MAJORITY, k, EXPAND, 40);
    FIVE(MAJORITY, k, EXPAND, 45);
    FIVE(MAJORITY, k, EXPAND, 50);
    FIVE(MAJORITY, k, EXPAND, 55);
    k = EVERY(K3);
    FIVE(PARITY, k, EXPAND, 60);
    FIVE(PARITY, k, EXPAND, 65);
    FIVE(PARITY, k, EXPAND, 70);
    FIVE(PARITY, k, EXPAND, 75);

    state[0] = ADD(state[0], a);
    state[1] = ADD(state[1], b);
    state[2] = ADD(state[2], c);
    state[3] = ADD(state[3], d);
    state[4] = ADD(state[4], e);
}

/* The state that each lane begins with. */
TARGET static void NAME(spread_states)(VECTOR state[5], const uint32_t *const from[LANES])
{
    uint32_t words[LANES];

    for (size_t t = 0; t < 5; t++) {
        for (size_t lane = 0; lane < LANES; lane++)
            words[lane] = from[lane][t];
        state[t] = LOAD(words);
    }
}

/* All is the same in all lanes but the counters, which touch three words of the tail at most. */
TARGET static void NAME(prepare_same)(VECTOR state[5], VECTOR outer[5], VECTOR *w, struct carp_sha1_mac *const macs[LANES])
{
    const struct carp_sha1_mac *first = macs[0];
    const size_t at = first->at / 4;
    const __m128i shift = _mm_cvtsi32_si128((int)(8 * (first->at % 4)));
    const __m128i back = _mm_cvtsi32_si128((int)(32 - 8 * (first->at % 4))); /* by 32: nothing is left */
    uint32_t words[2][LANES];
    VECTOR high, low;

    for (size_t lane = 0; lane < LANES; lane++) {
        words[0][lane] = carp_sha1_load32(macs[lane]->counter);
        words[1][lane] = carp_sha1_load32(macs[lane]->counter + 4);
    }
    for (size_t t = 0; t < 5; t++) {
        state[t] = EVERY(first->inner[t]);
        outer[t] = EVERY(first->outer[t]);
    }
    for (size_t t = 0; t < 16 * first->blocks; t++)
        w[t] = EVERY(carp_sha1_load32(first->tail + 4 * t));
    high = LOAD(words[0]);
    low = LOAD(words[1]);
    w[at] = OR(w[at], RIGHT(high, shift));
    w[at + 1] = OR(w[at + 1], OR(LEFT(high, back), RIGHT(low, shift)));
    /* Where the counter ends with its second word there may be no third: it is in front of 9 bytes more. */
    w[at + 2] = OR(w[at + 2], LEFT(low, back));
}

TARGET static void NAME(prepare)(VECTOR state[5], VECTOR outer[5], VECTOR *w, struct carp_sha1_mac *const macs[LANES])
{
    const uint32_t *states[2][LANES];
    uint8_t tail[2 * CARP_SHA1_BLOCK];
    uint32_t words[32][LANES];
    const size_t blocks = macs[0]->blocks;

    for (size_t lane = 0; lane < LANES; lane++) {
        states[0][lane] = macs[lane]->inner;
        states[1][lane] = macs[lane]->outer;
        memcpy(tail, macs[lane]->tail, CARP_SHA1_BLOCK * blocks);
        memcpy(tail + macs[lane]->at, macs[lane]->counter, 8);
        for (size_t t = 0; t < 16 * blocks; t++)
            words[t][lane] = carp_sha1_load32(tail + 4 * t);
    }
    NAME(spread_states)(state, states[0]);
    NAME(spread_states)(outer, states[1]);
    for (size_t t = 0; t < 16 * blocks; t++)
        w[t] = LOAD(words[t]);
}

/* One HMAC in each lane; all tails have the same number of blocks. */
TARGET void NAME(carp_sha1_lanes)(struct carp_sha1_mac *const macs[LANES])
{
    VECTOR w[32], state[5], outer[5], last[16];
    uint32_t words[5][LANES];
    const size_t blocks = macs[0]->blocks;
    int same = 1;

    for (size_t lane = 1; lane < LANES; lane++)
        same &= macs[lane]->tail == macs[0]->tail;
    if (same)
        NAME(prepare_same)(state, outer, w, macs);
    else
        NAME(prepare)(state, outer, w, macs);
    for (size_t block = 0; block < blocks; block++)
        NAME(compress)(state, w + 16 * block);
    /* The outer hash: of the pad, which is done, and the inner digest. */
    for (size_t t = 0; t < 16; t++)
        last[t] = t < 5 ? state[t] : EVERY(0);
    last[5] = EVERY(0x80000000u);
    last[15] = EVERY((CARP_SHA1_BLOCK + CARP_SHA1_DIGEST) * 8);
    NAME(compress)(outer, last);
    for (size_t t = 0; t < 5; t++)
        STORE(words[t], outer[t]);
    for (size_t lane = 0; lane < LANES; lane++)
        for (size_t t = 0; t < 5; t++)
            macs[lane]->digest[t] = words[t][lane];
}
