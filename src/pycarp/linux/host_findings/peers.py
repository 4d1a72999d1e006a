"""Findings about peers: the hosts that adverts go to alone."""

from __future__ import annotations

from collections.abc import Iterator

from .. import netlink
from ..messages import Address
from ..neighbours import look_up, next_hop
from .kinds import Finding, finding
from .machine import Machine, Place


def of_place(machine: Machine, place: Place) -> Iterator[Finding]:
    """Peers beyond a router, and those that nothing leads to. The neighbour table is read, nobody is asked."""
    if place.host is None or not place.host.peers:
        return
    carpdev = place.carpdev.name
    own = {one.ip for one in place.carpdev.own_addresses}
    with netlink.RouteSocket() as route:
        for version in sorted({one.version for one in place.host.peers}):
            peers = [one for one in place.host.peers if one.version == version]
            others = [one for one in peers if one not in own]
            if not others:
                yield finding("peers-own", place.where, peers=", ".join(map(str, peers)), carpdev=carpdev)
            if not any(one.version == version for one in own):
                yield finding("peer-source", place.where, family=f"IPv{version}", carpdev=carpdev)
            for peer in others:
                yield from _of_peer(route, place, peer)


def _of_peer(route: netlink.RouteSocket, place: Place, peer: Address) -> Iterator[Finding]:
    index, carpdev = place.carpdev.index, place.carpdev.name
    mine = (one.network for one in place.carpdev.own_addresses)
    near = peer.is_link_local or any(peer in subnet for subnet in mine)
    values = {"peer": peer, "carpdev": carpdev}
    try:
        hop = peer if near else next_hop(route, index, peer)
        failed = look_up(route, index, hop).failed
    except OSError as error:
        yield finding("peer-unreachable", place.where, **values, why=f"no route leads there ({error.strerror})")
        return
    if hop != peer:
        yield finding("peer-routed", place.where, peer=peer, router=hop)
    if failed:
        who = "it" if hop == peer else f"the router {hop}"
        yield finding("peer-unreachable", place.where, **values, why=f"{who} does not answer")
