# cython: language_level=3
"""The writer of addresses as the runtime's thread sees it: orders in, reports out, no lock and no wait between them."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from .system cimport pthread_mutex_t, pthread_t


cdef enum:
    ORDER_TAKE
    ORDER_RENEW
    ORDER_DROP
    ORDER_MUTE  # the writer's own: the quick part of the drops that wait for each other's links
    ORDERS
    WRITER_ROOM = 1024  # orders and reports that may be under way; a power of two


cdef struct order_t:
    int index
    uint8_t what


cdef struct report_t:
    int index
    int error  # 0, or an errno
    uint8_t what
    int64_t started, finished  # CLOCK_MONOTONIC, ns


cdef struct batch_t:
    # The requests of one virtual host, one batch for each kind of order.
    int index
    uint8_t *requests[ORDERS]
    uint32_t lengths[ORDERS]
    uint32_t counts[ORDERS]
    uint32_t essential  # so many of the last requests decide whether a take succeeded
    bint muted
    uint8_t waiting  # 1 + the order that is to be carried out, or 0


cdef struct writer_t:
    # Runtime's thread -> writer
    order_t orders[WRITER_ROOM]
    uint32_t ordered  # how many were ever put
    uint32_t accepted  # how many were ever fetched
    # Writer -> runtime's thread
    report_t reports[WRITER_ROOM]
    uint32_t reported
    uint32_t collected
    int wake  # eventfd: there are orders
    int reply  # eventfd: there are reports
    int route  # netlink socket
    bint behind  # the socket may hold answers to what was asked before
    pthread_mutex_t lock  # of the batches
    batch_t *batches
    int batch_count
    pthread_t thread
    bint running
    bint realtime
    uint32_t closing
    uint32_t idle  # the value of `ordered` up to which everything has been carried out


cdef bint writer_order(writer_t *writer, int index, int what) noexcept nogil
cdef bint writer_collect(writer_t *writer, report_t *report) noexcept nogil
cdef bint writer_idle(writer_t *writer) noexcept nogil


cdef class Writer:
    cdef writer_t writer
    cdef object _socket
    cdef void set_reply(self, int descriptor)
    cdef void _settle(self) noexcept nogil
