"""Whom the kernel knows on its links, and having it look for somebody: RTM_GETNEIGH, RTM_NEWNEIGH.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from .._records import dataclass
from .._unpatched import socket
from . import bpf, netlink
from .messages import Address
from .sockets import SocketOwner, closed_on_error

_NDA_DST, _NDA_LLADDR = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_NTF_USE = 0x01
_INCOMPLETE, _REACHABLE, _STALE, _DELAY, _PROBE, _FAILED, _PERMANENT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80
_KNOWN = _REACHABLE | _STALE | _DELAY | _PROBE | _PERMANENT
"""They have a MAC."""
_CONFIRMABLE = _REACHABLE | _STALE | _DELAY
_NEIGHBOUR_GROUP = 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_RECEIVE = 1 << 16
_READS = 64
_DISCARD = 9
"""The port whose packets nobody wants (RFC 863)."""


def neighbours(indexes: Collection[int]) -> list[Address]:
    """The unicast addresses that have a MAC on one of these interfaces, each once. Raises `OSError`."""
    found: dict[Address, None] = {}
    with netlink.RouteSocket() as route:
        for payload in route.dump(netlink.RTM_GETNEIGH):
            _family, index, state, _flags, _type = netlink.NEIGHBOUR.unpack_from(payload)
            values = netlink.attributes(payload, netlink.NEIGHBOUR.size)
            known = index in indexes and state & _KNOWN and _NDA_LLADDR in values
            if known and len(values.get(_NDA_DST, b"")) in (4, 16):
                address = ip_address(values[_NDA_DST])
                if not address.is_multicast:
                    found[address] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What the kernel knows of an address; `mac` is empty where it knows none.

    `failed`: it has asked for the address in vain. `confirmable`: it believes the MAC, and may be told to ask again.
    """

    mac: bytes = b""
    failed: bool = False
    confirmable: bool = False


def look_up(route: netlink.RouteSocket, index: int, address: Address) -> Neighbour:
    """What the kernel knows of an address on an interface. Raises `OSError`."""
    try:
        payload = route.get(netlink.RTM_GETNEIGH, _about(index, address))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
            return Neighbour()
        if error.errno != errno.EOPNOTSUPP:
            raise
        payload = _dumped(route, index, address)  # Linux before 5.0
    _family, _index, state, _flags, _type = netlink.NEIGHBOUR.unpack_from(payload)
    mac = netlink.attributes(payload, netlink.NEIGHBOUR.size).get(_NDA_LLADDR, b"")
    known = bool(state & _KNOWN) and len(mac) == 6
    return Neighbour(mac if known else b"", bool(state & _FAILED), bool(state & _CONFIRMABLE))


def _dumped(route: netlink.RouteSocket, index: int, address: Address) -> bytes:
    for payload in route.dump(netlink.RTM_GETNEIGH):
        values = netlink.attributes(payload, netlink.NEIGHBOUR.size)
        if netlink.NEIGHBOUR.unpack_from(payload)[1] == index and values.get(_NDA_DST) == address.packed:
            return payload
    return netlink.NEIGHBOUR.pack(0, index, 0, 0, 0)


def find(route: netlink.RouteSocket, index: int, address: Address, confirm: bool) -> None:
    """Have the kernel ask who has an address, or, with `confirm`, whether the MAC that it knows still has it.

    It answers at once, and asks by itself. Raises `OSError`; without CAP_NET_ADMIN a datagram does it instead.
    """
    if confirm:
        request = netlink.message(netlink.RTM_NEWNEIGH, netlink.ACK | netlink.REPLACE, _about(index, address, _PROBE))
    else:
        flags = netlink.ACK | netlink.CREATE | netlink.REPLACE
        request = netlink.message(netlink.RTM_NEWNEIGH, flags, _about(index, address, 0, _NTF_USE))
    try:
        route.request(request)
    except PermissionError:
        _nudge(index, address)


def _nudge(index: int, address: Address) -> None:
    """An empty datagram, for which the kernel needs a MAC."""
    with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, socket.if_indextoname(index).encode() + b"\0")
        target = (str(address), _DISCARD) if address.version == 4 else (str(address), _DISCARD, 0, index)
        with contextlib.suppress(BlockingIOError):
            opened.sendto(b"", target)


def next_hop(route: netlink.RouteSocket, index: int, address: Address) -> Address:
    """Who gets what is sent to an address by this interface: a router, or the address itself.

    Raises `OSError` (ENETUNREACH, EHOSTUNREACH) where no route leads there.
    """
    bits = 32 if address.version == 4 else 128
    body = netlink.ROUTE.pack(_FAMILIES[address.version], bits, 0, 0, 0, 0, 0, 0, 0)
    body += netlink.attribute(_RTA_DST, address.packed) + netlink.word(_RTA_OIF, index)
    values = netlink.attributes(route.get(netlink.RTM_GETROUTE, body), netlink.ROUTE.size)
    gateway = values.get(_RTA_GATEWAY) or values.get(_RTA_VIA, b"")[2:]
    return ip_address(gateway) if len(gateway) in (4, 16) else address


def _about(index: int, address: Address, state: int = 0, flags: int = 0) -> bytes:
    head = netlink.NEIGHBOUR.pack(_FAMILIES[address.version], index, state, flags, 0)
    return head + netlink.attribute(_NDA_DST, address.packed)


class NeighbourWatch(SocketOwner):
    """Wakes when the kernel learns or forgets something about some addresses, in the network namespace that the
    constructing thread was in. `fileno` is for a selector."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with closed_on_error(socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)) as self._socket:
            self.restrict(())
            self._socket.bind((0, 1 << (_NEIGHBOUR_GROUP - 1)))

    def restrict(self, addresses: Collection[IPv4Address | IPv6Address]) -> None:
        """From now on only notices of these addresses come: a router has many neighbours."""
        program = [
            (bpf.LOAD_NUMBER_TO_X, 0, 0, _NDA_DST),
            (bpf.LOAD_NUMBER, 0, 0, netlink.HEADER.size + netlink.NEIGHBOUR.size),
            (bpf.LOAD_WORD, 0, 0, bpf.NETLINK_ATTRIBUTE),
            (bpf.MOVE_TO_X, 0, 0, 0),
        ]
        # What is loaded beyond the end of a message ends the program: the shorter addresses come first.
        for address in sorted(addresses, key=lambda one: one.version):
            packed = address.packed
            program += [
                (bpf.LOAD_WORD_BEYOND_X, 0, 0, len(packed)),  # the last four octets, after the attribute's head
                (bpf.JUMP_IF_EQUAL, 0, 1, int.from_bytes(packed[-4:], "big")),
                bpf.WHOLE,
            ]
        bpf.attach(self._socket, [*program, bpf.NOTHING])

    def read(self) -> None:
        """Forget what was told: it says that something is to be looked up."""
        for _turn in range(_READS):
            try:
                self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
