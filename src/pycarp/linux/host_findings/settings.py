"""Findings about kernel settings (net.ipv4, net.ipv6, net.netfilter)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .. import netlink
from .kinds import Finding, finding
from .machine import Machine, Place

_STRICT = 1
_ARP_IGNORE_OTHERS = 3
"""From this value of arp_ignore on, addresses that answer otherwise are kept silent."""


def of_place(machine: Machine, place: Place) -> Iterator[Finding]:
    """What the settings do to one virtual host."""
    name = place.carpdev.name
    if place.uses(4):
        yield from _ipv4(machine, place, name)
    if place.uses(6):
        disabled = machine.conf("all", "disable_ipv6", 6) or machine.conf(name, "disable_ipv6", 6)
        if disabled and place.host is not None:
            yield finding("ipv6-disabled", place.where, carpdev=name, addresses=place.named(6))
        if machine.conf(name, "forwarding", 6) and machine.conf(name, "accept_ra", 6) == 1:
            yield finding("accept-ra", place.where, carpdev=name)


def _ipv4(machine: Machine, place: Place, name: str) -> Iterator[Finding]:
    strict = max(machine.conf("all", "rp_filter"), machine.conf(name, "rp_filter")) == _STRICT
    if strict and place.virtual:
        yield finding("rp-filter", place.where, carpdev=name, addresses=place.named(4))
    for scope in ("all", name):
        value = machine.conf(scope, "arp_ignore")
        if value >= _ARP_IGNORE_OTHERS:
            said = "for all interfaces" if scope == "all" else f"on {scope}"
            yield finding("arp-ignore", place.where, value=value, scope=said, name=scope, addresses=place.named(4))


def of_machine(machine: Machine, places: Sequence[Place]) -> Iterator[Finding]:
    """What the settings of the whole host do."""
    with_ipv6 = [place.device for place in places if place.host is not None and place.uses(6)]
    if with_ipv6 and not machine.sysctl_writable:
        yield finding("sysctl-read-only", names=", ".join(with_ipv6))
    if machine.setting("netfilter/nf_conntrack_tcp_loose") == 0:
        yield finding("tcp-loose")
    limit = machine.setting("ipv4/neigh/default/gc_thresh3")
    hosts = Counter(place.carpdev.index for place in places if place.host is not None and place.virtual)
    if limit is None or not any(count > 1 for count in hosts.values()):
        return
    neighbours = _neighbours()
    for index, count in hosts.items():
        wanted = (count + 1) * neighbours[index]
        if wanted > limit:
            values = {"count": count, "carpdev": machine.named(index), "neighbours": neighbours[index]}
            yield finding("neighbour-table", limit=limit, wanted=wanted, **values)


def _neighbours() -> Counter[int]:
    """How many neighbours each interface knows."""
    with netlink.RouteSocket() as route:
        return Counter(netlink.NEIGHBOUR.unpack_from(payload)[1] for payload in route.dump(netlink.RTM_GETNEIGH))
