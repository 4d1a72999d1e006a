# cython: language_level=3
"""Declarations of sha1/sha1.h; what each call promises stands there. All of it is safe without the GIL."""

from libc.stdint cimport uint8_t, uint32_t


cdef extern from "sha1.h" nogil:
    enum:
        CARP_SHA1_BLOCK
        CARP_SHA1_DIGEST

    struct carp_sha1_mac:
        const uint32_t *inner
        const uint32_t *outer
        const uint8_t *tail
        size_t blocks
        size_t at
        const uint8_t *counter
        uint32_t digest[5]

    void carp_sha1_macs(carp_sha1_mac *macs, size_t count) noexcept
    void carp_sha1_init(uint32_t *state) noexcept
    void carp_sha1_block(uint32_t *state, const uint8_t *data, size_t blocks) noexcept
    int carp_sha1_digest(const char *variant, const uint8_t *data, size_t length, uint8_t *digest) noexcept
    int carp_sha1_select(const char *variant) noexcept
    const char *carp_sha1_current() noexcept
    size_t carp_sha1_count() noexcept
    const char *carp_sha1_variant(size_t index) noexcept
