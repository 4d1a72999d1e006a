# cython: language_level=3
"""Orders to the guardian and its replies: guardian/protocol.h says what they mean.

Thread: runtime, no GIL.
"""

from libc.errno cimport EAGAIN, ECONNRESET, EINTR, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from .system cimport MSG_DONTWAIT, MSG_NOSIGNAL, recv, send


cdef extern from "guardian/protocol.h" nogil:
    enum:
        ORDER_TAKE, ORDER_RENEW, ORDER_DROP, ORDER_BEAT, ORDER_FORGET, ORDER_QUIET, ORDER_REMOVE, ORDER_RESTORE
        REPLY_RELEASED, REPLY_SUPERSEDED
    const uint32_t LEASE_FOREVER
    const uint32_t ORDER_NOBODY

    ctypedef struct order_t "struct order":
        uint8_t kind
        uint32_t index, lease, next_beat_ms, takeover_after_ms, number
        int64_t at, boot

    ctypedef struct reply_t "struct reply":
        uint8_t kind, flags
        uint32_t index, number
        int32_t error
        int64_t started, finished
        uint64_t extra


# What became of a message.
cdef enum:
    MESSAGE_DONE
    MESSAGE_LATER  # there is no room, or no reply
    GUARDIAN_GONE


cdef inline int guardian_order(int fd, const order_t *order) noexcept nogil:
    while send(fd, order, sizeof(order_t), MSG_DONTWAIT | MSG_NOSIGNAL) < 0:
        if errno == EAGAIN or errno == ENOBUFS or errno == ENOMEM:
            return MESSAGE_LATER
        if errno != EINTR:
            return GUARDIAN_GONE
    return MESSAGE_DONE


cdef inline int guardian_reply(int fd, reply_t *reply) noexcept nogil:
    cdef ssize_t got
    while True:
        got = recv(fd, reply, sizeof(reply_t), MSG_DONTWAIT)
        if got == <ssize_t> sizeof(reply_t):
            return MESSAGE_DONE
        if got < 0 and errno == EAGAIN:
            return MESSAGE_LATER
        # ECONNRESET: it ended with orders unread. That is said once, and then comes what it had replied before.
        if got == 0 or (got < 0 and errno != EINTR and errno != ECONNRESET):
            return GUARDIAN_GONE
