# cython: language_level=3
"""Memory that a thread can write to while the program forks."""

from libc.stddef cimport size_t


cdef extern from "kept.h" nogil:
    void *kept_calloc(size_t size)
    void *kept_realloc(void *memory, size_t size)
    void kept_free(void *memory)
