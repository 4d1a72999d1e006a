"""Netlink messages and attributes as bytes and back, and a blocking NETLINK_ROUTE socket: acknowledgements, dumps.

What comes in is read no further than it is whole: no length in it is believed. Numbers are those of
include/uapi/linux/netlink.h and rtnetlink.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Collection, Iterable, Iterator

from .._unpatched import socket
from .sockets import SocketOwner, closed_on_error

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNETCONF, RTM_DELNETCONF = 80, 81
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
"""NLM_F_*, the flags of requests."""
_NLMSGERR_ATTR_MSG = 1
_ATTRIBUTE_TYPE = 0x3FFF
NESTED = 0x8000
"""A flag of an attribute's number: attributes follow inside."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, hardware type, index, flags, mask of change."""
ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags; fib_rule_hdr is alike."""
NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, index, state, flags, type."""
NETCONF_SIZE = 4
"""Of struct netconfmsg: an octet, padded."""
_SIZES = {
    RTM_NEWLINK >> 2: LINK.size,
    RTM_NEWADDR >> 2: ADDRESS.size,
    RTM_NEWROUTE >> 2: ROUTE.size,
    RTM_NEWNEIGH >> 2: NEIGHBOUR.size,
    RTM_NEWRULE >> 2: ROUTE.size,
    RTM_NEWNETCONF >> 2: NETCONF_SIZE,
    RTM_NEWLINKPROP >> 2: LINK.size,
}
"""What each kind of object begins with; NEW, DEL, GET and SET of a kind are four numbers in a row."""
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
WORD = struct.Struct("=I")
_RECEIVE = 1 << 17
_RTA_OIF, _RTA_TABLE = 4, 15
_DUMP_ATTEMPTS = 5
_PART = 128
"""An acknowledgement weighs some 800 bytes in a receive buffer of usually 208 KiB; one that does not fit is lost."""


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what one recv returned: (type, flags, sequence, payload) of every message."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield kind, flags, sequence, data[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def told(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """As `messages`, of rtnetlink: what is too short for the object that it tells of is left out."""
    for one in messages(data):
        if len(one[3]) >= _SIZES.get(one[0] >> 2, 0):
            yield one


def attribute(number: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), number) + data + bytes(-len(data) % 4)


def word(number: int, value: int) -> bytes:
    """An attribute of 32 bits in this machine's order."""
    return attribute(number, WORD.pack(value))


def text(number: int, value: str) -> bytes:
    """A text as an attribute, ended by a zero."""
    return attribute(number, value.encode() + b"\0")


def nest(number: int, *inside: bytes) -> bytes:
    """An attribute of attributes, without the flag `NESTED` unless the number has it."""
    return attribute(number, b"".join(inside))


def message(kind: int, flags: int, *body: bytes) -> bytes:
    """A request of that type, still without a number; `flags` besides REQUEST."""
    length = HEADER.size + sum(map(len, body))
    return b"".join((HEADER.pack(length, kind, REQUEST | flags, 0, 0), *body))


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes that start at `at`, by number and without the nested and byte-order flags; the last one wins."""
    return dict(each_attribute(data, at))


def each_attribute(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes that start at `at`, in order, where several may have the same number."""
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            return
        yield kind & _ATTRIBUTE_TYPE, data[at + 4 : at + length]
        at += (length + 3) & ~3


def octet(raw: bytes | None) -> int:
    """The value of an attribute of one octet; 0 where there is none."""
    return raw[0] if raw else 0


def string(raw: bytes | None) -> str:
    """The text in an attribute, whatever its octets; nothing where there is none."""
    return (raw or b"").rstrip(b"\0").decode(errors="replace")


def number(raw: bytes | None, otherwise: int = 0) -> int:
    """The value of an attribute of 32 bits; `otherwise` where there is none."""
    return otherwise if raw is None or len(raw) != WORD.size else int(WORD.unpack(raw)[0])


def batch(*requests: bytes) -> bytes:
    """Join requests for one send call, numbered from 1, which is how `RouteSocket.execute` tells them apart.

    The kernel works through all of them, also past one that fails.
    """
    joined = bytearray()
    for number, request in enumerate(requests, 1):
        length, kind, flags, _sequence, port = HEADER.unpack_from(request)
        joined += HEADER.pack(length, kind, flags, number, port) + request[HEADER.size : length]
        joined += bytes(-len(joined) % 4)
    return bytes(joined)


def split(requests: bytes, count: int) -> tuple[bytes, bytes]:
    """A batch's first requests, and the others."""
    at = 0
    for _turn in range(count):
        (length,) = WORD.unpack_from(requests, at)
        at += (length + 3) & ~3
    return requests[:at], requests[at:]


def _parts(requests: bytes) -> Iterator[tuple[bytes, int]]:
    """Cut a batch between requests: (part, how many requests are in it)."""
    start = at = count = 0
    for _kind, _flags, _sequence, payload in messages(requests):
        at += (HEADER.size + len(payload) + 3) & ~3
        count += 1
        if count == _PART:
            yield requests[start:at], count
            start, count = at, 0
    if count:
        yield requests[start:at], count


class RouteSocket(SocketOwner):
    """A socket in the network namespace that the calling thread is in now; it stays there.

    Not for several threads at once.
    """

    _unread = False
    """Whether somebody was interrupted before all answers were read: requests are numbered anew for each batch."""

    def __init__(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        with closed_on_error(opened) as self._socket:
            # Acknowledgements without a copy of the request, and with the kernel's own words about what was wrong.
            opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            opened.bind((0, 0))

    def execute(self, requests: bytes) -> list[OSError | None]:
        """Send a batch and return the outcome of each request, in order. All must ask for an ack.

        One send call for as many as the socket can hold acknowledgements of, which is enough for most.
        """
        outcome: list[OSError | None] = []
        for part, count in _parts(requests):
            first = len(outcome)
            outcome += [None] * count
            self._ask(part)
            missing = count
            while missing:
                for kind, flags, sequence, payload in messages(self._socket.recv(_RECEIVE)):
                    if kind == NLMSG_ERROR and first < sequence <= first + count:
                        outcome[sequence - 1] = failure(flags, payload)
                        missing -= 1
            self._unread = False
        return outcome

    def _ask(self, requests: bytes) -> None:
        """Send; the kernel has answered what was asked before, in full, before it takes what is asked now."""
        if self._unread:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
        self._unread = True
        self._socket.send(requests)

    def request(self, *requests: bytes, fine: Collection[int] = ()) -> None:
        """Send requests in one call; raises the first `OSError` but `fine` ones, after all were tried."""
        raise_first(self.execute(batch(*requests)), fine)

    def get(self, wanted: int, *body: bytes) -> bytes:
        """The payload of the one object that a request of RTM_GET* is about. Raises `OSError` where there is none."""
        self._socket.send(message(wanted, 0, *body))
        while True:
            for kind, flags, _sequence, payload in told(self._socket.recv(_RECEIVE)):
                if kind != NLMSG_ERROR:
                    return payload
                raise failure(flags, payload) or OSError(errno.EPROTO, "a request was answered by an acknowledgement")

    def dump_routes(self, family: int, *, table: int = 0, index: int = 0, protocol: int = 0) -> list[bytes]:
        """Like `dump`, but of one table, by one interface, of one protocol, where each is given.

        Older kernels than 4.20 tell of others, too. No table, interface or family is no route.
        """
        with contextlib.suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        body = ROUTE.pack(family, 0, 0, 0, table if table < 256 else 0, protocol, 0, 0, 0)
        for kind, value in ((_RTA_TABLE, table), (_RTA_OIF, index)):
            if value:
                body += word(kind, value)
        try:
            return self._dump(RTM_GETROUTE, body)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                return []
            raise

    def dump(self, wanted: int, family: int = 0) -> list[bytes]:
        """The payloads of all links, addresses, routes or rules (one of RTM_GET*), read again if they change midway."""
        return self._dump(wanted, bytes((family,)).ljust(_SIZES[wanted >> 2], bytes(1)))

    def _dump(self, wanted: int, body: bytes) -> list[bytes]:
        request = message(wanted, DUMP, body)
        for _attempt in range(_DUMP_ATTEMPTS):
            found: list[bytes] = []
            self._ask(request)
            done = interrupted = False
            while not done:
                for kind, flags, _sequence, payload in told(self._socket.recv(_RECEIVE)):
                    interrupted |= bool(flags & NLM_F_DUMP_INTR)
                    if kind == NLMSG_ERROR:
                        raise failure(flags, payload) or OSError(
                            errno.EPROTO, "a dump was answered by an acknowledgement"
                        )
                    if kind == NLMSG_DONE:
                        done, self._unread = True, False
                        (code,) = _ERROR.unpack_from(payload.ljust(4, b"\0"))
                        if code < 0:
                            raise OSError(-code, os.strerror(-code))
                    else:
                        found.append(payload)
            if not interrupted:
                return found
        # On a busy machine, the last one is complete but for the objects that changed meanwhile.
        return found


def raise_first(outcome: Iterable[OSError | None], fine: Collection[int] = ()) -> None:
    """Raise the first error of a batch whose number is not among the `fine` ones."""
    for error in outcome:
        if error is not None and error.errno not in fine:
            raise error


def failure(flags: int, payload: bytes) -> OSError | None:
    """What an NLMSG_ERROR says, with the kernel's own words; None for an acknowledgement."""
    if len(payload) < _ERROR.size:
        return OSError(errno.EPROTO, "the kernel's answer has no error number")
    (code,) = _ERROR.unpack_from(payload)
    if code == 0:
        return None
    words = os.strerror(-code)
    if flags & NLM_F_ACK_TLVS:
        original = HEADER.size if flags & NLM_F_CAPPED else number(payload[4:8])
        skip = _ERROR.size + ((original + 3) & ~3)
        said = attributes(payload, skip).get(_NLMSGERR_ATTR_MSG)
        if said:
            words = f"{words} ({string(said)})"
    return OSError(-code, words)
