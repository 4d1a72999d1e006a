"""Findings about carpdevs: what kind of interface they are, and what shares their link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import netlink
from .kinds import Finding, finding
from .machine import Machine, Place

_IPV6_MTU = 1280
_BALANCE_ALB = 6
# include/uapi/linux/if_link.h, IFLA_BRPORT_*
_PORT_STATE, _PORT_MULTICAST, _PORT_SUPPRESS = 1, 27, 32
_FORWARDING = 3
_VRRP_MACS = (bytes((0, 0, 0x5E, 0, 1)), bytes((0, 0, 0x5E, 0, 2)))
_MACVLANS = ("macvlan", "macvtap", "ipvlan")


def of_place(machine: Machine, place: Place) -> Iterator[Finding]:
    carpdev, link, where = place.carpdev, place.link, place.where
    name = carpdev.name
    if link.master and link.port_of in ("bridge", "bond", "team"):
        yield finding("carpdev-is-port", where, carpdev=name, master=machine.named(link.master))
    if not carpdev.up:
        yield finding("carpdev-down", where, carpdev=name)
    elif not carpdev.running:
        yield finding("no-carrier", where, carpdev=name)
    if place.host is not None and place.uses(6) and 0 < link.mtu < _IPV6_MTU:
        yield finding("mtu", where, carpdev=name, mtu=link.mtu, addresses=place.named(6))
    if place.virtual:
        if link.kind in _MACVLANS:
            yield finding("carpdev-is-macvlan", where, carpdev=name, kind=link.kind)
        if link.bond_mode == _BALANCE_ALB:
            yield finding("bond-alb", where, carpdev=name)
        if any((machine.root / f"sys/class/net/{name}/{entry}").exists() for entry in ("wireless", "phy80211")):
            yield finding("wireless", where, carpdev=name)
    yield from _same_mac(machine, place)
    if link.kind == "bridge":
        yield from _ports(machine, place)


def _same_mac(machine: Machine, place: Place) -> Iterator[Finding]:
    """Devices of other programs (keepalived's use_vmac, FRR's vrrpd) with the MAC of our vhid on the same carpdev."""
    if place.host is None:
        return
    wanted = {prefix + bytes((place.host.vhid,)) for prefix in _VRRP_MACS}
    for other in machine.interfaces:
        link = machine.link(other.index)
        if other.mac in wanted and not other.ours and link.parent == place.carpdev.index:
            values = {"other": other.name, "vhid": place.host.vhid, "carpdev": place.carpdev.name}
            yield finding("same-mac", place.where, **values)


def _ports(machine: Machine, place: Place) -> Iterator[Finding]:
    """Ports of a bridge that keep adverts or announcements from what is behind them."""
    for link in machine.links.values():
        if link.master != place.carpdev.index or link.port_of != "bridge":
            continue
        options = netlink.attributes(link.port)

        def value(option: int, fallback: int, options: dict[int, bytes] = options) -> int:
            return (options.get(option) or bytes((fallback,)))[0]

        found = []
        if value(_PORT_STATE, _FORWARDING) not in (0, _FORWARDING):
            found.append(("does not forward yet (spanning tree)", "state 3, or shorten the bridge's forward_delay"))
        if not value(_PORT_MULTICAST, 1):
            found.append(("does not pass unknown multicast on: IPv4 adverts end there", "mcast_flood on"))
        if value(_PORT_SUPPRESS, 0):
            found.append(("answers ARP for others (neigh_suppress), also for a master that died", "neigh_suppress off"))
        for what, command in found:
            values = {"port": machine.named(link.index), "what": what, "command": command}
            yield finding("bridge-port", place.where, carpdev=place.carpdev.name, **values)


def of_machine(places: Sequence[Place]) -> Iterator[Finding]:
    """What shows only when all virtual hosts are seen together."""
    calm = {place.carpdev.name for place in places if place.host is not None and not place.host.preempt}
    everywhere = {place.carpdev.name for place in places if place.host is not None}
    if len(everywhere) > 1 and calm:
        yield finding("no-preempt", carpdevs=" and ".join(sorted(everywhere)))
