/* Sixteen SHA-1 at once by AVX-512 (foundation). It rotates in one instruction, and has any function of three in one. */
#include "variants.h"

#ifdef CARP_SHA1_HAVE_X86

#include <immintrin.h>
#include <string.h>

/* Asks also whether the kernel keeps the registers of a thread that waits. */
int carp_sha1_avx512_usable(void) { return __builtin_cpu_supports("avx512f"); }

#define LANES 16
#define VECTOR __m512i
#define TARGET __attribute__((target("avx512f")))
#define NAME(x) x##_avx512
#define ADD _mm512_add_epi32
#define XOR _mm512_xor_si512
#define OR _mm512_or_si512
#define ROTATE(x, n) _mm512_rol_epi32(x, n)
/* The last argument is the function's table: bit 4x + 2y + z. */
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define PARITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define LEFT _mm512_sll_epi32
#define RIGHT _mm512_srl_epi32
#define EVERY(word) _mm512_set1_epi32((int)(word))
#define LOAD(at) _mm512_loadu_si512(at)
#define STORE(at, x) _mm512_storeu_si512(at, x)

#include "lanes.h"

#endif
