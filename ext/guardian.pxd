# cython: language_level=3
"""Orders to the guardian of the addresses and its replies, as they stand on the socket: see docs/architecture.md."""

from libc.errno cimport EAGAIN, ECONNRESET, EINTR, ENOBUFS, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .system cimport MSG_DONTWAIT, MSG_NOSIGNAL, recv, send


cdef enum:
    ORDER_TAKE
    ORDER_RENEW
    ORDER_DROP
    ORDER_BEAT
    ORDER_ADD
    ORDER_FORGET
    ORDER_QUIET
    ORDER_REMOVE
    ORDER_RESTORE
    REPLY_HELLO = 16
    REPLY_RELEASED


cdef extern from *:
    """
    #define LEASE_FOREVER UINT32_MAX
    #define ORDER_NOBODY UINT32_MAX
    """
    const uint32_t LEASE_FOREVER
    const uint32_t ORDER_NOBODY  # the index of no virtual host: an order for it is answered at once


cdef struct order_t:
    uint8_t kind, flags
    uint16_t zero
    uint32_t index
    int64_t at  # CLOCK_MONOTONIC, ns
    uint32_t lease  # seconds
    uint32_t hold, patience  # ms
    uint32_t number
    int64_t boot  # `at` by CLOCK_BOOTTIME, ns


cdef struct reply_t:
    uint8_t kind
    uint8_t superseded
    uint16_t zero
    uint32_t index
    int32_t error
    uint32_t number
    int64_t started, finished  # CLOCK_MONOTONIC, ns
    uint64_t extra


# What became of a message.
cdef enum:
    LETTER_DONE
    LETTER_LATER  # there is no room, or nothing has come
    LETTER_GONE  # there is no guardian


cdef inline int guardian_order(int fd, const order_t *order) noexcept nogil:
    while send(fd, order, sizeof(order_t), MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        if errno == EAGAIN or errno == ENOBUFS:
            return LETTER_LATER
        if errno != EINTR:
            return LETTER_GONE
    return LETTER_DONE


cdef inline int guardian_reply(int fd, reply_t *reply) noexcept nogil:
    cdef ssize_t got
    while True:
        got = recv(fd, reply, sizeof(reply_t), MSG_DONTWAIT)
        if got == <ssize_t> sizeof(reply_t):
            return LETTER_DONE
        if got < 0 and errno == EAGAIN:
            return LETTER_LATER
        # It ended with orders unread: told once, and then comes what it had said before.
        if got == 0 or (got < 0 and errno != EINTR and errno != ECONNRESET):
            return LETTER_GONE
