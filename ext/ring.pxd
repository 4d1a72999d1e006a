# cython: language_level=3
"""A memory-mapped ring of received frames (TPACKET_V2): reading a frame costs no system call."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct ring_t:
    uint8_t *frames  # the mapping; NULL before ring_open
    size_t length
    uint32_t count
    uint32_t at  # the next frame to look at
    int fd
    uint64_t losses  # frames that found the ring full
    bint losing  # the kernel said so since the losses were counted last


cdef int ring_open(ring_t *ring, int fd) noexcept nogil
cdef void ring_close(ring_t *ring) noexcept nogil
cdef void ring_expect(const ring_t *ring, uint32_t first, uint32_t end) noexcept nogil
cdef const uint8_t *ring_ahead(ring_t *ring, uint32_t ahead, size_t *length) noexcept nogil
cdef int64_t ring_arrival(const ring_t *ring) noexcept nogil
cdef void ring_release(ring_t *ring) noexcept nogil
cdef void ring_count_losses(ring_t *ring) noexcept nogil
