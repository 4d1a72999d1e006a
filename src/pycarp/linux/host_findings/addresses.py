"""Findings about rules, addresses and subnets."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_network

from ...config import VirtualHost
from .. import netlink
from ..leftovers import RULE_PRIORITY
from .kinds import Finding, finding
from .machine import Machine, Place

# include/uapi/linux/fib_rules.h
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS, _FRA_TABLE = 1, 2, 3, 6, 10, 14, 15
_FRA_OIFNAME, _FRA_L3MDEV, _FRA_IP_PROTO = 17, 19, 22
_NARROW = (_FRA_DST, _FRA_IIFNAME, _FRA_FWMARK, _FRA_OIFNAME, _FRA_L3MDEV, _FRA_IP_PROTO)
"""Attributes of a rule that does not catch all answers, but some: an administrator made it for those."""
_FR_ACT_TO_TBL, _INVERT = 1, 0x2
_LOCAL, _ALL_TABLES = 255, 0xFFFFFFFF


def of_place(machine: Machine, place: Place) -> Iterator[Finding]:
    """Rules that come before pycarp's, and subnets that are elsewhere."""
    if place.host is None:
        return
    if place.virtual:
        yield from _rules(place)
    mine = {one.network for one in place.carpdev.own_addresses}
    for one in place.host.addresses:
        if one.network.prefixlen == one.max_prefixlen or any(one.ip in subnet for subnet in mine):
            continue
        for other in machine.interfaces:
            strange = other.index != place.carpdev.index and not other.ours and not other.loopback
            if strange and any(one.ip in own.network for own in other.own_addresses if own.version == one.version):
                values = {"subnet": one.network, "other": other.name, "carpdev": place.carpdev.name, "address": one.ip}
                yield finding("subnet-elsewhere", place.where, **values)


def _rules(place: Place) -> Iterator[Finding]:
    assert place.host is not None
    with netlink.RouteSocket() as route:
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            if version not in place.host.families:
                continue
            for payload in route.dump(netlink.RTM_GETRULE, family):
                caught = _catches(payload, place, version)
                if caught is not None:
                    priority, table, address = caught
                    values = {"family": f"IPv{version}", "priority": priority, "table": table, "address": address}
                    yield finding("rule-before", place.where, own=RULE_PRIORITY + 10, **values)


def _catches(payload: bytes, place: Place, version: int) -> tuple[int, int, object] | None:
    """(priority, table, address) of a rule before ours that leads answers of an address elsewhere."""
    _family, _dst, length, _tos, table, _reserved, _scope, action, flags = netlink.ROUTE.unpack_from(payload)
    found = netlink.attributes(payload, netlink.ROUTE.size)
    table = _number(found.get(_FRA_TABLE)) or table
    suppressed = _number(found.get(_FRA_SUPPRESS)) if _FRA_SUPPRESS in found else _ALL_TABLES
    priority = _number(found.get(_FRA_PRIORITY))
    narrow = any(one in found for one in _NARROW) or flags & _INVERT or suppressed != _ALL_TABLES
    if action != _FR_ACT_TO_TBL or table == _LOCAL or priority >= RULE_PRIORITY or narrow:
        return None
    everywhere = bytes(4 if version == 4 else 16)
    source = ip_network((found.get(_FRA_SRC, everywhere), length), strict=False)
    address = next((ip for ip in place.ips(version) if ip in source), None)
    return None if address is None else (priority, table, address)


def of_hosts(
    machine: Machine, hosts: Sequence[VirtualHost], lost: Sequence[tuple[VirtualHost, str]]
) -> Iterator[Finding]:
    """Why virtual hosts cannot be put on any interface."""
    for host, why in lost:
        where = _held(machine, host)
        if where is None:
            yield finding("no-interface", host.name, why=why)
    for host in hosts:
        if (where := _held(machine, host)) is not None:
            other, address = where
            values = {"address": address.ip, "text": address, "other": other}
            yield finding("address-here", host.name, **values)


def _held(machine: Machine, host: VirtualHost) -> tuple[str, IPv4Interface | IPv6Interface] | None:
    """(interface, address) where this host has one of the addresses as its own."""
    wanted = {one.ip for one in host.addresses}
    for interface in machine.interfaces:
        for one in () if interface.ours else interface.own_addresses:
            if one.ip in wanted:
                return interface.name, one
    return None


def _number(raw: bytes | None) -> int:
    return int(netlink.WORD.unpack(raw)[0]) if raw is not None and len(raw) == 4 else 0
