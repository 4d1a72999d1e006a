# cython: language_level=3
"""The pulse as the native runtime's thread holds it."""


cdef void pulse_hold(void *memory) noexcept nogil
cdef void pulse_release(void *memory) noexcept nogil


cdef class Pulse:
    cdef void *memory
    cdef int _descriptor
    cdef void _release(self) noexcept
