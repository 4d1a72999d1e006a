"""What changes on this machine's interfaces, as the kernel tells it, cheap enough for the runtime's own loop."""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Self

from . import netlink
from .interfaces import OWN_PROTOCOL, parse_address, parse_link
from .sockets import ANCILLARY, JUMP_IF_EQUAL, LOAD_HALF, LOAD_WORD, RETURN, WHOLE, attach_filter, grow

_GROUPS = (1, 5, 7, 9, 11)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""
_BUFFER = 1 << 20
_RECEIVE = 1 << 17
_READS = 64

_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTA_OIF, _RTA_GATEWAY = 4, 5
ROUTE_PROTOCOLS = frozenset({2, 3, 4, 9, 16})
"""kernel, boot, static, ra, dhcp: what an administrator sets. Routing daemons may change thousands a second."""

_IFA_PROTO = 11
_LOAD_NUMBER, _LOAD_NUMBER_TO_X, _MOVE_TO_X, _LOAD_BYTE_BEYOND_X = 0x00, 0x01, 0x07, 0x50
_ATTRIBUTE = ANCILLARY + 12
"""Loads where the attribute of number X begins, searched from A on; 0 if it is not there."""
_WITHOUT_OWN_ADDITIONS = (
    # The filter reads numbers as a network writes them, netlink writes them as the machine does.
    (LOAD_HALF, 0, 0, 4),
    (JUMP_IF_EQUAL, 0, 8, socket.htons(netlink.RTM_NEWADDR)),
    (_LOAD_NUMBER_TO_X, 0, 0, _IFA_PROTO),
    (_LOAD_NUMBER, 0, 0, netlink.HEADER.size + netlink.ADDRESS.size),
    (LOAD_WORD, 0, 0, _ATTRIBUTE),
    (JUMP_IF_EQUAL, 4, 0, 0),
    (_MOVE_TO_X, 0, 0, 0),
    (_LOAD_BYTE_BEYOND_X, 0, 0, 4),
    (JUMP_IF_EQUAL, 0, 1, OWN_PROTOCOL),
    (RETURN, 0, 0, 0),
    (RETURN, 0, 0, WHOLE),
)


@dataclass(frozen=True, slots=True)
class LinkNotice:
    """An interface came, changed, or (`present` False) went; `up` is the administrator's wish, `running` adds
    the carrier."""

    index: int
    name: str
    present: bool
    up: bool
    running: bool
    mac: bytes
    mtu: int


@dataclass(frozen=True, slots=True)
class AddressNotice:
    """An address came or changed on an interface, or (`present` False) went; `protocol` is IFA_PROTO."""

    index: int
    address: IPv4Interface | IPv6Interface
    present: bool
    protocol: int
    flags: int


@dataclass(frozen=True, slots=True)
class RouteNotice:
    """A gateway's route of the main table through an interface came or went; `default` if it is the default route."""

    index: int
    version: int
    present: bool
    default: bool


@dataclass(frozen=True, slots=True)
class Overrun:
    """Notices were lost: read everything anew."""


Notice = LinkNotice | AddressNotice | RouteNotice | Overrun


class Watch:
    """Notices of the network namespace that the constructing thread was in. `fileno` is for a selector.

    Without `own_additions` the kernel keeps to itself that an address of ours came or was renewed (Linux 5.18 and
    later; before, addresses do not say whose they are): every virtual host's is renewed once a second. That it went
    is told.
    """

    def __init__(self, own_additions: bool = True) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            if not own_additions:
                attach_filter(self._socket, _WITHOUT_OWN_ADDITIONS)
            grow(self._socket, _BUFFER)
            self._socket.bind((0, sum(1 << (group - 1) for group in _GROUPS)))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

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
            for kind, _flags, _sequence, payload in netlink.messages(data):
                notice = _parse(kind, payload)
                if notice is not None:
                    notices.append(notice)
        return notices


def _parse(kind: int, payload: bytes) -> Notice | None:
    if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
        # Other families tell of a bridge's ports: there, RTM_DELLINK only means that it left the bridge.
        if payload[0] != socket.AF_UNSPEC:
            return None
        link = parse_link(payload)
        present = kind == netlink.RTM_NEWLINK
        return LinkNotice(
            link.index, link.name, present, present and link.up, present and link.running, link.mac, link.mtu
        )
    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
        parsed = parse_address(payload)
        if parsed is None:
            return None
        index, address = parsed
        return AddressNotice(index, address.interface, kind == netlink.RTM_NEWADDR, address.protocol, address.flags)
    if kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
        return _parse_route(kind, payload)
    return None


def _parse_route(kind: int, payload: bytes) -> RouteNotice | None:
    family, dst_len, _src, _tos, table, protocol, _scope, route_type, _flags = netlink.ROUTE.unpack_from(payload)
    if table != _RT_TABLE_MAIN or route_type != _RTN_UNICAST or protocol not in ROUTE_PROTOCOLS:
        return None
    found = netlink.attributes(payload, netlink.ROUTE.size)
    if _RTA_GATEWAY not in found or len(found.get(_RTA_OIF, b"")) != 4:
        return None
    index = int.from_bytes(found[_RTA_OIF], sys.byteorder)
    return RouteNotice(index, 4 if family == socket.AF_INET else 6, kind == netlink.RTM_NEWROUTE, dst_len == 0)
