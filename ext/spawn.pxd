# cython: language_level=3
"""The lifeline as the native runtime's thread holds it."""


cdef void lifeline_lock(void *memory) noexcept nogil
cdef void lifeline_unlock(void *memory) noexcept nogil


cdef class Lifeline:
    cdef void *memory
    cdef int _descriptor
    cdef void _release(self) noexcept
