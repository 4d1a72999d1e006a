"""Batches of rtnetlink requests: checked, given a lease, carried out. The twin of `ext/guardian/route.c`.

The kernel works through one send call in the caller's context: it has answered when the call returns, and a link that
goes down keeps the caller for milliseconds.
Thread: the one that has the turn; `link_sends`: any.
"""

# The public module socket builds enumerations first: that takes as long as the rest of the start.
import _socket as socket
import errno
import fcntl
from _collections_abc import Callable, Iterable, Iterator
from struct import Struct

ANSWERED_WITHIN_S = 5  # else the kernel has lost an answer
PART = 128
"""Requests at a time: an acknowledgement weighs some 800 bytes in a receive buffer of usually 208 KiB."""

NLMSG = Struct("=IHHII")
NUMBERED = Struct("=HI")  # flags and number in the header, from its byte 6 on
ATTRIBUTE = Struct("=HH")
LIFETIMES = Struct("=II")
ANSWER = Struct("=IHHIIi")  # a header, and what became of the request
ADDRESS_SIZE, CACHEINFO_SIZE, TYPE_MASK = 8, 16, 0x3FFF
NLMSG_ERROR, RTM_NEWADDR, IFA_CACHEINFO = 2, 20, 6
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
SOL_NETLINK, NETLINK_CAP_ACK = 270, 10
IFF_RUNNING, SIOCGIFNAME, SIOCGIFFLAGS = 0x40, 0x8910, 0x8913
ALL = 0xFFFFFFFF


class Batch:
    """Requests that ask for an answer each and are numbered from 1; `parts` are (first, end, bytes from, to)."""

    def __init__(self, requests: bytearray) -> None:
        self.requests = requests
        self.count = 0
        self.parts: list[tuple[int, int, int, int]] = []


def route_open() -> socket.socket:
    """A blocking socket in this thread's network namespace. Raises `OSError`."""
    route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    route.bind((0, 0))
    route.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, Struct("@qq").pack(ANSWERED_WITHIN_S, 0))
    route.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
    return route


def _headers(requests: bytes | bytearray) -> Iterator[tuple[int, int, int, int]]:
    """(position, length, type, flags) of each request. Raises `ValueError` for what is not requests alone."""
    at = 0
    while at < len(requests):
        if len(requests) - at < NLMSG.size:
            raise ValueError("a request is cut off")
        length, kind, flags, _number, _port = NLMSG.unpack_from(requests, at)
        if not NLMSG.size <= length <= len(requests) - at:
            raise ValueError("a request is malformed")
        yield at, length, kind, flags
        at += (length + 3) & ~3


def batch_prepare(requests: bytes) -> Batch:
    """Count the requests, number them from 1 and have each ask for an answer. Raises `ValueError`."""
    batch = Batch(bytearray(requests))
    starts = []
    for at, _length, _kind, flags in _headers(requests):
        batch.count += 1
        NUMBERED.pack_into(batch.requests, at + 6, flags | NLM_F_REQUEST | NLM_F_ACK, batch.count)
        starts.append(at)
    starts.append(len(requests))
    for first in range(0, batch.count, PART):
        end = min(first + PART, batch.count)
        batch.parts.append((first + 1, end + 1, starts[first], starts[end]))
    return batch


def batch_join(batches: Iterable[Batch]) -> Batch:
    """All their requests, for one send call: in Python each call takes longer than the kernel's work in it."""
    return batch_prepare(b"".join(batch.requests for batch in batches))


def _set_lifetime(requests: bytearray, at: int, end: int, seconds: int) -> None:
    """In the attribute IFA_CACHEINFO among those of one RTM_NEWADDR."""
    while at + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(requests, at)
        if length < ATTRIBUTE.size or at + length > end:
            return
        if kind & TYPE_MASK == IFA_CACHEINFO and length >= ATTRIBUTE.size + CACHEINFO_SIZE:
            preferred, _valid = LIFETIMES.unpack_from(requests, at + ATTRIBUTE.size)
            # 0 is a deprecated address: it answers, but this host does not choose it as a source.
            LIFETIMES.pack_into(requests, at + ATTRIBUTE.size, preferred and seconds, seconds)
        at += (length + 3) & ~3


def batch_set_lease(batch: Batch, seconds: int) -> None:
    """Addresses that it adds live for this many seconds."""
    for at, length, kind, _flags in _headers(batch.requests):
        if kind == RTM_NEWADDR:
            _set_lifetime(batch.requests, at + NLMSG.size + ADDRESS_SIZE, at + length, seconds)


def _forget_answers(route: socket.socket) -> None:
    """Read the answers that are left: all batches are numbered from 1, and these would be taken for the next one's."""
    while True:
        try:
            route.recv(ANSWER.size, socket.MSG_DONTWAIT)
        except OSError as error:
            # A full socket says so once, and then gives what it holds.
            if error.errno != errno.ENOBUFS:
                return


def _execute_part(
    route: socket.socket, requests: memoryview, first: int, end: int, undecisive: int, fine: Callable[[int], bool]
) -> int:
    """Send a part and read an answer to each request, which the kernel sends one by one: the first error among those
    numbered above `undecisive` that is not `fine`, or why there are no more answers, or 0."""
    failure = 0
    answered = first
    try:
        route.send(requests)
        while answered < end:
            _length, kind, _flags, number, _port, code = ANSWER.unpack(route.recv(ANSWER.size))
            if kind == NLMSG_ERROR and first <= number < end:
                answered += 1
                if failure == 0 and code and number > undecisive and not fine(-code):
                    failure = -code
    except OSError as error:
        _forget_answers(route)
        failure = failure or (errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or errno.EIO)
    return failure


def batch_execute(route: socket.socket, batch: Batch, decisive: int, fine: Callable[[int], bool]) -> int:
    """Send all requests, also after one that fails: the first error of the last `decisive` that is not fine, or 0."""
    failure = 0
    for first, end, start, stop in batch.parts:
        requests = memoryview(batch.requests)[start:stop]
        error = _execute_part(route, requests, first, end, batch.count - decisive, fine)
        failure = failure or error
    return failure


def batch_continue(route: socket.socket, batch: Batch, done: int) -> int:
    """Send the part that begins after `done` requests, whatever becomes of it: how many are done then."""
    for first, end, start, stop in batch.parts:
        if first == done + 1:
            _execute_part(route, memoryview(batch.requests)[start:stop], first, end, ALL, lambda _error: True)
            return end - 1
    return batch.count


def link_sends(asking: socket.socket, index: int) -> bool:
    """Whether an interface still sends.

    It stops long before the kernel has finished with taking it down; this does not wait for that. By name, since that
    call alone does without the lock that all changes of interfaces and addresses share.
    """
    try:
        named = fcntl.ioctl(asking, SIOCGIFNAME, Struct("=16xi20x").pack(index))
        (flags,) = Struct("=16xH").unpack_from(fcntl.ioctl(asking, SIOCGIFFLAGS, named))
    except OSError:
        return False
    return bool(flags & IFF_RUNNING)
