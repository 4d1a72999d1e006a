"""The sockets of a carpdev: adverts in, whole frames out, and the memberships that make switches forward adverts here.

Also what all sockets of this package share: who closes them, and their buffers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from .._records import dataclass
from .._unpatched import socket, time
from ..protocol import GROUPS, IPPROTO_CARP, NS_PER_SECOND
from ..protocol.abc import IPAddress
from . import bpf

FRAME_LIMIT = (1 << 16) + 64
"""Read with a buffer of this size: frames that the kernel or a card has merged are longer than any MTU."""

_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 1, 6, 23
_PACKET_MR_MULTICAST = 0
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_SIOCGSTAMPNS = 0x8907
_TIMESPEC = struct.Struct("@ll")
_RECEIVE_BUFFER = 16 << 20
"""Room for 20,000 frames, which a flood of 200,000/s fills in a tenth of a second. It takes memory only when filled."""
_GROUP_MACS = (bytes.fromhex("01005e000012"), bytes.fromhex("333300000012"))

_FILTER = bpf.of_this_lan(
    (
        (bpf.JUMP_IF_EQUAL, 0, 2, _ETH_P_IP),
        (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 14 + 9),
        (bpf.JUMP_IF_EQUAL, 4, 3, IPPROTO_CARP),
        (bpf.JUMP_IF_EQUAL, 0, 2, _ETH_P_IPV6),
        (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 14 + 6),
        (bpf.JUMP_IF_EQUAL, 1, 0, IPPROTO_CARP),
        bpf.NOTHING,
        bpf.WHOLE,
    )
)


class SocketOwner:
    """Owns one socket until `close`, or the end of a with block. `fileno` is for a selector."""

    _socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def closed_on_error(opened: socket.socket) -> Iterator[socket.socket]:
    """Close the socket where the block raises."""
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


def packet_socket() -> socket.socket:
    """A non-blocking AF_PACKET socket of protocol 0: until it is bound, it receives nothing. Needs CAP_NET_RAW."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)


def hearing_socket(index: int, program: Sequence[bpf.Instruction], macs: Iterable[bytes]) -> socket.socket:
    """A packet socket, still to be bound, for what others send on the interface and `program` lets pass.

    The filter comes before the bind, so no unfiltered frame gets in. The interface passes on frames to the multicast
    `macs`, also where the host has no IPv6; the switch hears nothing of that.
    """
    with closed_on_error(packet_socket()) as opened:
        bpf.attach(opened, program)
        # Older than Linux 4.20: our own frames come back, and are recognised by their source.
        with contextlib.suppress(OSError):
            opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        for mac in macs:
            _open_card(opened, index, mac)
    return opened


def _open_card(opened: socket.socket, index: int, mac: bytes) -> None:
    membership = struct.pack("=iHH8s", index, _PACKET_MR_MULTICAST, len(mac), mac)
    opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)


def receive_socket(index: int) -> socket.socket:
    """A non-blocking AF_PACKET socket that yields the adverts arriving on the interface, and nothing else.

    Protocol 112 in IPv4 or IPv6, untagged or of VLAN id 0, whole frames, of others only (what this host sends is left
    out). Read with `FRAME_LIMIT`. Needs CAP_NET_RAW; `OSError` ENXIO or ENODEV if the interface is gone, later ENETDOWN
    when it goes.
    """
    with closed_on_error(hearing_socket(index, _FILTER, _GROUP_MACS)) as opened:
        grow(opened, _RECEIVE_BUFFER)
        opened.bind((socket.if_indextoname(index), _ETH_P_ALL))
    return opened


def send_socket(index: int) -> socket.socket:
    """A non-blocking AF_PACKET socket for whole frames out of the interface; it receives nothing.

    Needs CAP_NET_RAW to open, nothing to send.
    """
    with closed_on_error(packet_socket()) as opened:
        opened.bind((socket.if_indextoname(index), 0))
        # Network control (7) where allowed, else the best that is free: adverts go ahead of bulk traffic.
        for priority in (7, 6):
            with contextlib.suppress(PermissionError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
                break
    return opened


def join_groups(index: int, families: Iterable[int]) -> list[socket.socket]:
    """Sockets that hold the membership of 224.0.0.18 (family 4) and ff02::12 (6) until they are closed.

    They exist for switches that snoop IGMP and MLD; the adverts themselves come through `receive_socket`. Families that
    the interface does not have are left out.
    """
    with contextlib.ExitStack() as undo:
        joined = (_join(index, GROUPS[family]) for family in families)
        opened = [undo.enter_context(one) for one in joined if one is not None]
        undo.pop_all()
    return opened


def join_group(index: int, group: IPAddress) -> list[socket.socket]:
    """The same for any multicast group; also where the interface lacks the family, its card lets the group's frames in.

    `OSError` if the interface is gone.
    """
    with contextlib.ExitStack() as undo:
        opened = [undo.enter_context(packet_socket())]
        _open_card(opened[0], index, multicast_mac(group))
        member = _join(index, group.packed)
        if member is not None:
            opened.append(undo.enter_context(member))
        undo.pop_all()
    return opened


def multicast_mac(group: IPAddress) -> bytes:
    """Where the frames for a multicast group go (RFC 1112, RFC 2464)."""
    packed = group.packed
    if group.version == 4:
        return bytes((0x01, 0x00, 0x5E, packed[1] & 0x7F, packed[2], packed[3]))
    return b"\x33\x33" + packed[12:]


def grow(opened: socket.socket, size: int) -> None:
    """A receive buffer beyond the system's limit where this process may, else as far as the limit goes."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def want_times(opened: socket.socket) -> None:
    """From now on the kernel says of each packet when it came: see `arrival`."""
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def arrival(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """When a packet came, from what `recvmsg` gives beside it: ns since 1970; the time now if the kernel is silent."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
            return int(seconds) * NS_PER_SECOND + int(nanoseconds)
    return time.time_ns()


def _join(index: int, group: bytes) -> socket.socket | None:
    if len(group) == 4:
        family, level, option = socket.AF_INET, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP
        request = struct.pack("=4s4si", group, bytes(4), index)
    else:
        family, level, option = socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        request = group + struct.pack("=i", index)
    try:
        with closed_on_error(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as opened:
            opened.setsockopt(level, option, request)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
            return None
        raise
    return opened


@dataclass(slots=True)
class Sockets:
    """The descriptors of one carpdev: one that receives, one that sends, and those that only hold multicast
    memberships."""

    receive: socket.socket
    send: socket.socket
    memberships: tuple[socket.socket, ...] = ()

    def losses(self) -> int:
        """How many frames found no room since this was asked last (PACKET_STATISTICS)."""
        statistics = self.receive.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", statistics)[1])

    def age(self) -> int:
        """How many ns ago the kernel had the frame that was read last; 0 where it does not say (SIOCGSTAMPNS: from the
        first question on it does)."""
        try:
            seconds, nanoseconds = _TIMESPEC.unpack(fcntl.ioctl(self.receive, _SIOCGSTAMPNS, bytes(_TIMESPEC.size)))
        except OSError:
            return 0
        age = time.time_ns() - (int(seconds) * NS_PER_SECOND + int(nanoseconds))
        return age if 0 <= age < NS_PER_SECOND else 0

    def close(self) -> None:
        for one in (self.receive, self.send, *self.memberships):
            one.close()


def no_sockets() -> Sockets:
    """Those of no carpdev, closed."""
    closed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    closed.close()
    return Sockets(closed, closed)
