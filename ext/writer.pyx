# cython: language_level=3, binding=True, embedsignature=True
"""The writer of addresses in a native thread: the compiled twin of `pycarp.linux.writer`.

It sends prepared netlink requests and reads what the kernel says to them. Taking a link down keeps the caller for
milliseconds: that is why it has a thread, which the runtime's own never waits for.
"""

import os
import socket

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EADDRNOTAVAIL, EAGAIN, EEXIST, EINTR, ENOBUFS, ENODEV, ENXIO, ESRCH, ETIMEDOUT, errno
from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from .system cimport (
    MSG_DONTWAIT,
    NLMSG_ERROR,
    PR_SET_NAME,
    PTHREAD_PRIO_INHERIT,
    SCHED_FIFO,
    SIG_SETMASK,
    atomic_load32,
    atomic_store32,
    duration,
    monotonic,
    nanosleep,
    nlmsghdr,
    prctl,
    pthread_create,
    pthread_join,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    pthread_mutexattr_destroy,
    pthread_mutexattr_init,
    pthread_mutexattr_setprotocol,
    pthread_mutexattr_t,
    pthread_self,
    pthread_setschedparam,
    pthread_sigmask,
    read,
    recv,
    sched_param,
    send,
    sigfillset,
    sigset_t,
    write,
)
from posix.time cimport timespec

from ..linux.netlink import batch as joined

cdef enum:
    REPLY_ROOM = 16384
    PATIENCE_S = 5  # the kernel answers in the call; this is for a kernel that has lost an answer
    # An acknowledgement weighs some 800 bytes in a receive buffer of usually 208 KiB; one that does not fit is lost.
    PART = 128


# What the runtime's thread calls

cdef void _ring(int descriptor) noexcept nogil:
    cdef unsigned long long one = 1
    if descriptor >= 0:
        write(descriptor, &one, 8)


cdef bint writer_order(writer_t *writer, int index, int what) noexcept nogil:
    """Queue an order; False when far too many are under way."""
    cdef uint32_t at = writer.ordered
    if at - atomic_load32(&writer.accepted) >= WRITER_ROOM:
        return False
    writer.orders[at % WRITER_ROOM].index = index
    writer.orders[at % WRITER_ROOM].what = <uint8_t> what
    atomic_store32(&writer.ordered, at + 1)
    _ring(writer.wake)
    return True


cdef bint writer_collect(writer_t *writer, report_t *report) noexcept nogil:
    """Fetch a report, if there is one."""
    cdef uint32_t at = writer.collected
    if at == atomic_load32(&writer.reported):
        return False
    report[0] = writer.reports[at % WRITER_ROOM]
    atomic_store32(&writer.collected, at + 1)
    return True


cdef bint writer_idle(writer_t *writer) noexcept nogil:
    """Whether everything that was ordered has been carried out."""
    return <int32_t> (atomic_load32(&writer.idle) - atomic_load32(&writer.ordered)) >= 0


# In the writer's thread

cdef batch_t *_find(writer_t *writer, int index) noexcept nogil:
    cdef int at
    for at in range(writer.batch_count):
        if writer.batches[at].index == index:
            return &writer.batches[at]
    return NULL


cdef void _accept(writer_t *writer) noexcept nogil:
    """Of several orders for one virtual host the last counts; a renewal gives way to either of the others."""
    cdef uint32_t last = atomic_load32(&writer.ordered)
    cdef order_t order
    cdef batch_t *batch
    while writer.accepted != last:
        order = writer.orders[writer.accepted % WRITER_ROOM]
        atomic_store32(&writer.accepted, writer.accepted + 1)
        batch = _find(writer, order.index)
        if batch != NULL and not (order.what == ORDER_RENEW and batch.waiting):
            batch.waiting = order.what + 1


cdef batch_t *_next(writer_t *writer, uint8_t *what) noexcept nogil:
    """A drop goes first: an address on two hosts harms more than one that comes a little later.

    Where several wait, the quick part of each goes before the links of any.
    """
    cdef int at, drops = 0
    cdef batch_t *batch
    cdef batch_t *found = NULL
    cdef batch_t *loud = NULL
    for at in range(writer.batch_count):
        batch = &writer.batches[at]
        if batch.waiting == ORDER_DROP + 1:
            drops += 1
            if loud == NULL and not batch.muted and batch.counts[ORDER_MUTE]:
                loud = batch
            if found == NULL or found.waiting != ORDER_DROP + 1:
                found = batch
        elif found == NULL and batch.waiting:
            found = batch
    if drops > 1 and loud != NULL:
        loud.muted = True
        what[0] = ORDER_MUTE
        return loud
    if found != NULL:
        what[0] = found.waiting - 1
        found.waiting = 0
        found.muted = False
    return found


cdef bint _fine(int what, int error) noexcept nogil:
    if error == 0:
        return True
    if what == ORDER_TAKE:
        return error == EEXIST
    if what == ORDER_DROP:
        return error == ENODEV or error == ENXIO or error == EADDRNOTAVAIL or error == ESRCH
    return False


cdef void _forget_answers(writer_t *writer) noexcept nogil:
    """Read what was left unread: all batches are numbered alike, and it would be taken for the next one's."""
    cdef uint8_t reply[REPLY_ROOM]
    # A full socket says so once (ENOBUFS), and then gives what it holds.
    while recv(writer.route, reply, REPLY_ROOM, MSG_DONTWAIT) >= 0 or errno == EINTR or errno == ENOBUFS:
        pass
    writer.behind = False


cdef int _execute_part(
    writer_t *writer, int what, const uint8_t *requests, uint32_t length, uint32_t first, uint32_t count,
    uint32_t unessential, int *failure
) noexcept nogil:
    """Send requests numbered from `first`, and read an acknowledgement for each. 0, or why that could not be done."""
    cdef uint8_t reply[REPLY_ROOM]
    cdef ssize_t got, at
    cdef nlmsghdr header
    cdef int code
    cdef uint32_t answered = 0
    while send(writer.route, requests, length, 0) < 0:
        if errno != EINTR:
            return errno
    while answered < count:
        got = recv(writer.route, reply, REPLY_ROOM, 0)
        if got < 0:
            if errno == EINTR:
                continue
            code = errno
            writer.behind = True
            return ETIMEDOUT if code == EAGAIN else code
        at = 0
        while at + <ssize_t> sizeof(nlmsghdr) + 4 <= got:
            memcpy(&header, reply + at, sizeof(nlmsghdr))
            if header.nlmsg_len < sizeof(nlmsghdr) + 4:
                break
            if header.nlmsg_type == NLMSG_ERROR and first <= header.nlmsg_seq < first + count:
                memcpy(&code, reply + at + sizeof(nlmsghdr), 4)
                answered += 1
                if failure[0] == 0 and header.nlmsg_seq > unessential and not _fine(what, -code):
                    failure[0] = -code
            at += (header.nlmsg_len + 3) & ~<uint32_t> 3
    return 0


cdef int _execute(
    writer_t *writer, int what, const uint8_t *requests, uint32_t length, uint32_t count, uint32_t essential
) noexcept nogil:
    """Send a batch whose requests are numbered from 1, as many at a time as the socket has room for the answers.

    Returns the first true error among the last `essential` ones, or 0.
    """
    cdef nlmsghdr header
    cdef int error, failure = 0
    cdef uint32_t at = 0, start, first = 1, part
    if writer.behind:
        _forget_answers(writer)
    while first <= count:
        start, part = at, 0
        while part < PART and first + part <= count and at + sizeof(nlmsghdr) <= length:
            memcpy(&header, requests + at, sizeof(nlmsghdr))
            at += (header.nlmsg_len + 3) & ~<uint32_t> 3
            part += 1
        if part == 0:
            break
        error = _execute_part(
            writer, what, requests + start, at - start, first, part, count - essential, &failure
        )
        # The rest is sent all the same: what can be dropped must be.
        if error and failure == 0:
            failure = error
        if writer.behind:
            _forget_answers(writer)
        first += part
    return failure


cdef void _report(writer_t *writer, const report_t *report) noexcept nogil:
    cdef timespec nap
    while writer.reported - atomic_load32(&writer.collected) >= WRITER_ROOM:
        nap = duration(1000000)
        nanosleep(&nap, NULL)
    writer.reports[writer.reported % WRITER_ROOM] = report[0]
    atomic_store32(&writer.reported, writer.reported + 1)
    _ring(writer.reply)


cdef void *_run(void *argument) noexcept nogil:
    cdef writer_t *writer = <writer_t *> argument
    cdef unsigned long long woken
    cdef sched_param priority
    cdef batch_t *batch
    cdef report_t report
    cdef uint8_t *requests = NULL
    cdef uint8_t *grown
    cdef uint32_t room = 0, length, count, essential
    prctl(PR_SET_NAME, <unsigned long> <char *> b"pycarp-writer")
    if writer.realtime:
        priority.sched_priority = 1
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority)
    while True:
        pthread_mutex_lock(&writer.lock)
        _accept(writer)
        batch = _next(writer, &report.what)
        if batch == NULL:
            atomic_store32(&writer.idle, writer.accepted)
            pthread_mutex_unlock(&writer.lock)
            if atomic_load32(&writer.closing) and atomic_load32(&writer.ordered) == writer.accepted:
                break
            read(writer.wake, &woken, 8)
            continue
        # A copy: while it is sent, the steward may put another in its place.
        report.index = batch.index
        report.error = 0
        length = batch.lengths[report.what]
        count = batch.counts[report.what]
        essential = batch.essential if report.what == ORDER_TAKE else count
        if length > room:
            grown = <uint8_t *> realloc(requests, length)
            if grown == NULL:
                count = length = 0
            else:
                requests, room = grown, length
        if length:
            memcpy(requests, batch.requests[report.what], length)
        pthread_mutex_unlock(&writer.lock)
        report.started = monotonic()
        report.error = _execute(writer, report.what, requests, length, count, essential)
        report.finished = monotonic()
        # What fails when muting is tried again, and reported, by the drop itself.
        if report.what != ORDER_MUTE:
            _report(writer, &report)
    free(requests)
    return NULL


# The border

cdef void _free_batch(batch_t *batch) noexcept:
    cdef int what
    for what in range(ORDERS):
        free(batch.requests[what])
        batch.requests[what] = NULL


cdef class Writer:
    """Writer(realtime)
--

    One native thread and one netlink socket, in the network namespace of the constructing thread. Orders come from a
    native runtime; `add` and `remove` say for what.
    """

    def __cinit__(self, realtime):
        self.writer.wake = self.writer.reply = self.writer.route = -1
        self.writer.realtime = realtime

    def __init__(self, realtime):
        cdef pthread_mutexattr_t attributes
        cdef sigset_t everything, former
        cdef int error
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE_S.to_bytes(8, "little") + bytes(8))
            # Acknowledgements without the request they answer (SOL_NETLINK, NETLINK_CAP_ACK).
            self._socket.setsockopt(270, 10, 1)
            self.writer.route = self._socket.fileno()
            self.writer.wake = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            self._socket.close()
            raise
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT)
        pthread_mutex_init(&self.writer.lock, &attributes)
        pthread_mutexattr_destroy(&attributes)
        # The program's signals are its own threads' business.
        sigfillset(&everything)
        pthread_sigmask(SIG_SETMASK, &everything, &former)
        error = pthread_create(&self.writer.thread, NULL, _run, &self.writer)
        pthread_sigmask(SIG_SETMASK, &former, NULL)
        if error:
            self._release()
            raise OSError(error, os.strerror(error))
        self.writer.running = True

    def __dealloc__(self):
        cdef int at
        for at in range(self.writer.batch_count):
            _free_batch(&self.writer.batches[at])
        free(self.writer.batches)

    cdef void set_reply(self, int descriptor):
        self.writer.reply = descriptor

    def add(self, int index, device):
        """Orders with this number are for this device, from the next one on."""
        cdef batch_t fresh, gone
        cdef batch_t *place
        cdef batch_t *grown = NULL
        cdef bytes requests
        cdef int what
        memset(&fresh, 0, sizeof(batch_t))
        memset(&gone, 0, sizeof(batch_t))
        fresh.index = index
        fresh.essential = device.essential
        for what, requests in enumerate((device.take, device.renew, device.drop, joined(*device.mute))):
            fresh.lengths[what] = <uint32_t> PyBytes_GET_SIZE(requests)
            fresh.counts[what] = _count(requests)
            fresh.requests[what] = <uint8_t *> malloc(max(1, PyBytes_GET_SIZE(requests)))
            if fresh.requests[what] == NULL:
                _free_batch(&fresh)
                raise MemoryError
            memcpy(fresh.requests[what], PyBytes_AS_STRING(requests), PyBytes_GET_SIZE(requests))
        with nogil:
            pthread_mutex_lock(&self.writer.lock)
            place = _find(&self.writer, index)
            if place == NULL:
                grown = <batch_t *> realloc(self.writer.batches, (self.writer.batch_count + 1) * sizeof(batch_t))
                if grown != NULL:
                    self.writer.batches = grown
                    place = &grown[self.writer.batch_count]
                    memset(place, 0, sizeof(batch_t))
                    self.writer.batch_count += 1
            if place != NULL:
                gone = place[0]
                fresh.waiting, fresh.muted = place.waiting, place.muted
                place[0] = fresh
            pthread_mutex_unlock(&self.writer.lock)
        if place == NULL:
            _free_batch(&fresh)
            raise MemoryError
        _free_batch(&gone)

    def remove(self, int index):
        """Carry out what was ordered so far, then forget this number."""
        cdef batch_t gone
        cdef batch_t *place
        memset(&gone, 0, sizeof(batch_t))
        with nogil:
            self._settle()
            pthread_mutex_lock(&self.writer.lock)
            place = _find(&self.writer, index)
            if place != NULL:
                gone = place[0]
                self.writer.batch_count -= 1
                place[0] = self.writer.batches[self.writer.batch_count]
            pthread_mutex_unlock(&self.writer.lock)
        _free_batch(&gone)

    cdef void _settle(self) noexcept nogil:
        cdef uint32_t ordered = atomic_load32(&self.writer.ordered)
        cdef timespec nap
        while self.writer.running and <int32_t> (atomic_load32(&self.writer.idle) - ordered) < 0:
            nap = duration(200000)
            nanosleep(&nap, NULL)

    def close(self):
        """Carry out what was ordered, end the thread, close the descriptors."""
        if self.writer.running:
            with nogil:
                atomic_store32(&self.writer.closing, 1)
                _ring(self.writer.wake)
                pthread_join(self.writer.thread, NULL)
            self.writer.running = False
            pthread_mutex_destroy(&self.writer.lock)
        self._release()

    def abandon(self):
        """In a forked child, where the thread does not exist: close the descriptors, and that is all."""
        self.writer.running = False
        self._release()

    def _release(self):
        self._socket.close()
        if self.writer.wake >= 0:
            os.close(self.writer.wake)
            self.writer.wake = -1


cdef uint32_t _count(bytes requests) except? 0xFFFFFFFF:
    """How many netlink messages stand in a row."""
    cdef Py_ssize_t at = 0, length = PyBytes_GET_SIZE(requests)
    cdef nlmsghdr header
    cdef uint32_t count = 0
    while at + <Py_ssize_t> sizeof(nlmsghdr) <= length:
        memcpy(&header, PyBytes_AS_STRING(requests) + at, sizeof(nlmsghdr))
        if header.nlmsg_len < sizeof(nlmsghdr):
            raise ValueError("a batch of netlink requests ends in the middle of one")
        count += 1
        at += (header.nlmsg_len + 3) & ~<uint32_t> 3
    return count
