/* Eight SHA-1 at once by AVX2. */
#include "variants.h"

#ifdef CARP_SHA1_HAVE_X86

#include <immintrin.h>
#include <string.h>

/* Asks also whether the kernel keeps the registers of a thread that waits. */
int carp_sha1_avx2_usable(void) { return __builtin_cpu_supports("avx2"); }

#define LANES 8
#define VECTOR __m256i
#define TARGET __attribute__((target("avx2")))
#define NAME(x) x##_avx2
#define ADD _mm256_add_epi32
#define XOR _mm256_xor_si256
#define OR _mm256_or_si256
#define ROTATE(x, n) _mm256_or_si256(_mm256_slli_epi32(x, n), _mm256_srli_epi32(x, 32 - (n)))
#define CHOOSE(x, y, z) XOR(z, _mm256_and_si256(x, XOR(y, z)))
#define PARITY(x, y, z) XOR(XOR(x, y), z)
#define MAJORITY(x, y, z) OR(_mm256_and_si256(x, y), _mm256_and_si256(z, OR(x, y)))
#define LEFT _mm256_sll_epi32
#define RIGHT _mm256_srl_epi32
#define EVERY(word) _mm256_set1_epi32((int)(word))
#define LOAD(at) _mm256_loadu_si256((const __m256i *)(const void *)(at))
#define STORE(at, x) _mm256_storeu_si256((__m256i *)(void *)(at), x)

#include "lanes.h"

#endif
