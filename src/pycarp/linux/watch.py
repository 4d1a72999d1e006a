"""What changes on this machine's interfaces, as the kernel tells it."""

from __future__ import annotations

import errno
import os
import sys
from ipaddress import IPv4Interface, IPv6Interface
from typing import Self

from .._python.guardian import protocol
from .._records import dataclass, field
from .._unpatched import select, socket
from . import bpf, fib, netlink
from .interfaces import OWN_PROTOCOL, parse_address, parse_link
from .messages import Address
from .routes import is_own_table
from .sockets import SocketOwner, closed_on_error, grow

_GROUPS = (1, 5, 9, 24, 25)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF."""
_ROUTE_GROUPS = (7, 8, 11, 19, 32)
"""RTNLGRP_IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE, NEXTHOP: an IPv4 route that goes with its nexthop object is
not told of."""
_NETCONFA_IFINDEX = 1
_BUFFER = 1 << 20
_RECEIVE = 1 << 17
_READS = 64
_PORTS_TRIED = 8
_FEW = 4096
"""Octets that a socket may hold whose notices only wake; more of them are lost, which wakes as well."""

_IFA_PROTO = 11
_WITHOUT_OWN_ADDITIONS = (
    # The filter reads numbers as a network writes them, netlink writes them as the machine does.
    (bpf.LOAD_HALF, 0, 0, 4),
    (bpf.JUMP_IF_EQUAL, 0, 8, socket.htons(netlink.RTM_NEWADDR)),
    (bpf.LOAD_NUMBER_TO_X, 0, 0, _IFA_PROTO),
    (bpf.LOAD_NUMBER, 0, 0, netlink.HEADER.size + netlink.ADDRESS.size),
    (bpf.LOAD_WORD, 0, 0, bpf.NETLINK_ATTRIBUTE),
    (bpf.JUMP_IF_EQUAL, 4, 0, 0),
    (bpf.MOVE_TO_X, 0, 0, 0),
    (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 4),
    (bpf.JUMP_IF_EQUAL, 0, 1, OWN_PROTOCOL),
    bpf.NOTHING,
    bpf.WHOLE,
)


_TABLE_AT, _PROTOCOL_AT = netlink.HEADER.size + 4, netlink.HEADER.size + 5
_FRA_PROTOCOL = 21
_WITHOUT_OWN_WAYS = (
    (bpf.LOAD_HALF, 0, 0, 4),
    (bpf.JUMP_IF_EQUAL, 8, 0, socket.htons(netlink.RTM_NEWRULE)),
    # The table of addresses, which come and go with them.
    (bpf.LOAD_BYTE, 0, 0, _TABLE_AT),
    (bpf.JUMP_IF_EQUAL, 13, 0, fib.LOCAL),
    (bpf.JUMP_IF_EQUAL, 4, 0, fib.MAIN),
    (bpf.LOAD_HALF, 0, 0, 4),
    (bpf.JUMP_IF_EQUAL, 0, 2, socket.htons(netlink.RTM_NEWROUTE)),
    (bpf.LOAD_BYTE, 0, 0, _PROTOCOL_AT),
    (bpf.JUMP_IF_EQUAL, 8, 0, OWN_PROTOCOL),
    bpf.WHOLE,
    (bpf.LOAD_NUMBER_TO_X, 0, 0, _FRA_PROTOCOL),
    (bpf.LOAD_NUMBER, 0, 0, netlink.HEADER.size + netlink.ROUTE.size),
    (bpf.LOAD_WORD, 0, 0, bpf.NETLINK_ATTRIBUTE),
    (bpf.JUMP_IF_EQUAL, 4, 0, 0),
    (bpf.MOVE_TO_X, 0, 0, 0),
    (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 4),
    (bpf.JUMP_IF_EQUAL, 0, 1, OWN_PROTOCOL),
    bpf.NOTHING,
    bpf.WHOLE,
)


@dataclass(frozen=True, slots=True)
class LinkNotice:
    """An interface came, changed, or (`present` False) went; `up` is the administrator's wish, `running` adds
    the carrier; `mtu` and `group` as in `Interface`."""

    index: int
    name: str
    present: bool
    up: bool
    running: bool
    mac: bytes
    mtu: int = 1500
    group: int = 0


@dataclass(frozen=True, slots=True)
class AddressNotice:
    """An address came or changed on an interface, or (`present` False) went."""

    index: int
    address: IPv4Interface | IPv6Interface
    present: bool


@dataclass(frozen=True, slots=True)
class SettingsNotice:
    """Forwarding or the reverse path filter of an interface changed; that of all interfaces where `index` is -1.

    The kernel tells of changes by /proc/sys, and of these settings only.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Overrun:
    """Notices were lost: read everything anew."""


Notice = LinkNotice | AddressNotice | SettingsNotice | Overrun


def _bind_unawaited(opened: socket.socket, groups: int) -> None:
    """Under a port by which guardians know that no take needs to wait until its notices are read."""
    for _turn in range(_PORTS_TRIED):
        port = protocol.WATCH_PORT + int.from_bytes(os.urandom(2), sys.byteorder)
        try:
            opened.bind((port, groups))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    opened.bind((0, groups))


class Watch(SocketOwner):
    """Notices of the network namespace that the constructing thread was in. `fileno` is for a selector.

    Without `own_additions` the kernel does not tell that an address of ours came or was renewed (Linux 5.18 and later;
    before, addresses do not say whose they are): each is renewed once a second. It still tells that one went.
    """

    def __init__(self, own_additions: bool = True) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        opened = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        with closed_on_error(opened) as self._socket:
            if not own_additions:
                bpf.attach(opened, _WITHOUT_OWN_ADDITIONS)
            grow(opened, _BUFFER)
            _bind_unawaited(opened, sum(1 << (group - 1) for group in _GROUPS))

    def read(self) -> list[Notice]:
        """What has been told since the last call, in order. Never waits, and reads a bounded amount."""
        notices: list[Notice] = []
        for _turn in range(_READS):
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                notices.append(Overrun())
                continue
            for kind, _flags, _sequence, payload in netlink.told(data):
                notice = _parse(kind, payload)
                if notice is not None:
                    notices.append(notice)
        return notices


def _parse(kind: int, payload: bytes) -> Notice | None:
    # Other families tell of a bridge's ports: there, RTM_DELLINK only means that it left the bridge.
    if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK) and payload[0] == socket.AF_UNSPEC:
        link, present = parse_link(payload), kind == netlink.RTM_NEWLINK
        up, running = present and link.up, present and link.running
        return LinkNotice(link.index, link.name, present, up, running, link.mac, link.mtu, link.group)
    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
        parsed = parse_address(payload)
        return None if parsed is None else AddressNotice(parsed[0], parsed[1].interface, kind == netlink.RTM_NEWADDR)
    if kind == netlink.RTM_NEWNETCONF:
        index = netlink.attributes(payload, netlink.NETCONF_SIZE).get(_NETCONFA_IFINDEX, b"")
        return SettingsNotice(int.from_bytes(index, sys.byteorder, signed=True)) if len(index) == 4 else None
    return None


@dataclass(slots=True)
class RouteChanges:
    """What changed of rules and routes: something of `others`; tables of ours that lost routes; addresses of ours that
    lost their rule against sending."""

    others: bool = False
    tables: set[int] = field(default_factory=set)
    speaking: set[Address] = field(default_factory=set)


class RouteWatch:
    """Whether rules or routes changed in the network namespace that the constructing thread was in.

    `fileno` is for a selector. After `read` it is quiet until `rearm`, whatever happens meanwhile: a routing daemon may
    change thousands of routes a second. What virtual hosts add to their own tables is not told.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        opened = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        with closed_on_error(opened) as self._socket:
            bpf.attach(opened, _WITHOUT_OWN_WAYS)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _FEW)
            opened.bind((0, sum(1 << (group - 1) for group in _ROUTE_GROUPS)))
            self._epoll = select.epoll()
            self._epoll.register(opened, select.EPOLLIN | select.EPOLLONESHOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        self._socket.close()

    def rearm(self) -> None:
        """Forget what was told so far; what changes from now on is told."""
        for _turn in range(_FEW):
            if not self._receive():
                break
        self._epoll.modify(self._socket, select.EPOLLIN | select.EPOLLONESHOT)

    def read(self) -> RouteChanges:
        """A part of what was told; `others` where there is more."""
        self._epoll.poll(0)
        changes = RouteChanges()
        for _turn in range(_READS):
            data = self._receive()
            if not data:
                return changes
            for kind, _flags, _sequence, payload in netlink.told(data):
                _note(changes, kind, payload)
        changes.others = True
        return changes

    def _receive(self) -> bytes:
        """What one call gives; nothing where nothing waits. Where notices were lost, an error message."""
        try:
            return self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return _LOST


_LOST = netlink.HEADER.pack(netlink.HEADER.size, netlink.NLMSG_ERROR, 0, 0, 0)


def _note(changes: RouteChanges, kind: int, payload: bytes) -> None:
    if kind == netlink.RTM_DELROUTE and payload[5] == OWN_PROTOCOL and is_own_table(fib.table_in(payload)):
        changes.tables.add(fib.table_in(payload))
        return
    if kind == netlink.RTM_DELRULE:
        rule = fib.parse_rule(payload)
        if rule.protocol == OWN_PROTOCOL and rule.action == fib.UNREACHABLE and rule.source is not None:
            changes.speaking.add(rule.source.network_address)
            return
    changes.others = True
