"""What changes on this machine's interfaces, as the kernel tells it."""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from . import bpf, netlink
from .interfaces import OWN_PROTOCOL, Gateway, parse_address, parse_gateway, parse_link
from .sockets import SocketOwner, closed_on_error, grow

_GROUPS = (1, 5, 7, 9, 11, 24, 25)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, IPV4_NETCONF, IPV6_NETCONF."""
_NETCONF_HEADER, _NETCONFA_IFINDEX = 4, 1
"""struct netconfmsg is one octet, padded."""
_BUFFER = 1 << 20
_RECEIVE = 1 << 17
_READS = 64

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
class RouteNotice:
    """A gateway's route of the main table came or (`present` False) went."""

    gateway: Gateway
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


Notice = LinkNotice | AddressNotice | RouteNotice | SettingsNotice | Overrun


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
            opened.bind((0, sum(1 << (group - 1) for group in _GROUPS)))

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
    # Other families tell of a bridge's ports: there, RTM_DELLINK only means that it left the bridge.
    if kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK) and payload[0] == socket.AF_UNSPEC:
        link, present = parse_link(payload), kind == netlink.RTM_NEWLINK
        up, running = present and link.up, present and link.running
        return LinkNotice(link.index, link.name, present, up, running, link.mac, link.mtu, link.group)
    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
        parsed = parse_address(payload)
        return None if parsed is None else AddressNotice(parsed[0], parsed[1].interface, kind == netlink.RTM_NEWADDR)
    if kind == netlink.RTM_NEWNETCONF:
        index = netlink.attributes(payload, _NETCONF_HEADER).get(_NETCONFA_IFINDEX, b"")
        return SettingsNotice(int.from_bytes(index, sys.byteorder, signed=True)) if index else None
    if kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
        gateway = parse_gateway(payload)
        return None if gateway is None else RouteNotice(gateway, kind == netlink.RTM_NEWROUTE)
    return None
