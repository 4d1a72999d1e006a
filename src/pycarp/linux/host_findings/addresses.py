"""Findings about rules, addresses and subnets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface

from ...config import VirtualHost
from ..fib import AF_INET, AF_INET6, Snapshot
from ..routes import rule_warnings
from .kinds import Finding, finding
from .machine import Machine, Place


def of_place(machine: Machine, place: Place) -> Iterator[Finding]:
    """Rules that answers cannot follow, and subnets that are elsewhere."""
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
    snapshot = Snapshot()
    for version, family in ((4, AF_INET), (6, AF_INET6)):
        own = [one.ip for one in place.carpdev.own_addresses if one.version == version]
        for kind, rule, address, other in rule_warnings(snapshot.rules(family), own, place.ips(version)):
            values = {"family": f"IPv{version}", "priority": rule.priority, "table": rule.table}
            yield finding(kind, place.where, address=address, other=other, **values)


def of_hosts(
    machine: Machine,
    hosts: Sequence[VirtualHost],
    places: Sequence[Place],
    lost: Sequence[tuple[VirtualHost, str]],
) -> Iterator[Finding]:
    """Why virtual hosts cannot be put on any interface."""
    if not hosts and not places:
        yield finding("no-carpdev")
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
