"""Finds the MACs of peers, and follows them: what adverts by unicast are sent to.

The kernel does the asking. Nobody waits for it: while a peer's MAC is unknown, adverts go to `finding_mac` of its
address, and where an entry of the kernel's table has gone, to the last MAC.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._records import dataclass, replace
from .._unpatched import time
from ..errors import CarpError
from ..events import Event, UnicastPeer
from ..linux.neighbours import NeighbourWatch, find, look_up, next_hop
from ..linux.netlink import RouteSocket
from ..protocol.abc import IPAddress
from .destinations import Destination
from .instances import Instance, Instances

if TYPE_CHECKING:
    from .._unpatched import selectors

CONFIRMED_EVERY = 10.0
"""Seconds: a peer that has another MAC and does not say so is found after that, and three questions to the old one."""
_ASKED_AGAIN_AFTER = 1.0
_NEWS_EVERY = 0.05
"""Anybody can make the kernel have news all the time: it is looked at that often."""
_TOLD_AFTER = 3.0
"""Seconds without an answer."""
ROUTED = (
    "peer {peer} is beyond a router, {router}: its adverts are taken with any TTL, so who knows the secret, or repeats "
    "one of them, can send some from anywhere; put the hosts on one link, or let only peers through to this one"
)
LOST = "peer {peer} is not found, and adverts for it go to where it is looked for: {why}; look at its address and cable"


@dataclass(slots=True)
class _Peer:
    """What is known of a peer of one instance. Times are seconds of time.monotonic()."""

    hop: IPAddress  # itself, or the router before it
    asked: float = -math.inf  # when the kernel was told to ask
    sought: float | None = None  # since when its MAC is unknown
    told: bool = False  # that nobody answers
    told_router: IPAddress | None = None


class PeerMacs:
    """Looks when the kernel has news, and now and then. Costs nothing while no virtual host has peers."""

    def __init__(self, instances: Instances, emit: Callable[[Event], None]) -> None:
        self._instances = instances
        self._emit = emit
        self._peers: dict[tuple[int, int, IPAddress], _Peer] = {}
        self._watch: NeighbourWatch | None = None
        self._watched: frozenset[IPAddress] = frozenset()
        self._due = self._ran = 0.0
        self._rests = False

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def due_in(self) -> float:
        """Seconds until something is to be done; infinity where no virtual host has peers."""
        return self._due - time.monotonic() if self._watch is not None else math.inf

    def run(self, selector: selectors.BaseSelector) -> None:
        """Do what is due. Never raises: what fails is tried again."""
        wanted = [
            (instance, one)
            for instance in self._instances
            if instance.present
            for one in instance.plan.destinations
            if one.peer
        ]
        if not wanted:
            if self._watch is not None:
                if not self._rests:
                    selector.unregister(self._watch)
                self.close()
                self._peers.clear()
            return
        keys = {(instance.index, instance.carpdev.index, one.address) for instance, one in wanted}
        if time.monotonic() < self._due and keys == self._peers.keys():
            return
        self._ran = time.monotonic()
        self._due = self._ran + _ASKED_AGAIN_AFTER
        with contextlib.suppress(OSError, CarpError), RouteSocket() as route:
            self._open(selector)
            self._peers = {key: self._peers.get(key) or _Peer(key[2]) for key in keys}
            found = {}
            for instance, one in wanted:
                key = (instance.index, instance.carpdev.index, one.address)
                found[instance.index, one.address] = self._look(route, instance, one, self._peers[key])
            self._watch_for(frozenset(peer.hop for peer in self._peers.values()))
            for instance in {one.index: one for one, _ in wanted}.values():
                self._take_up(instance, found)

    def _open(self, selector: selectors.BaseSelector) -> None:
        if self._watch is None:
            self._watch, self._watched, self._rests = NeighbourWatch(), frozenset(), True
        if self._rests:
            selector.register(self._watch, 1, lambda: self._read(selector))  # EVENT_READ
            self._rests = False

    def _read(self, selector: selectors.BaseSelector) -> None:
        if self._watch is not None and not self._rests:
            self._due = min(self._due, self._ran + _NEWS_EVERY)
            with contextlib.suppress(OSError):
                self._watch.read()
            selector.unregister(self._watch)
            self._rests = True

    def _watch_for(self, addresses: frozenset[IPAddress]) -> None:
        if self._watch is not None and addresses != self._watched:
            self._watch.restrict(addresses)
            self._watched = addresses

    def _look(self, route: RouteSocket, instance: Instance, one: Destination, peer: _Peer) -> bytes | None:
        """The MAC that adverts to this peer have from now on, b"" for that which finds it, None for the last one."""
        now, index = time.monotonic(), instance.carpdev.index
        try:
            peer.hop = next_hop(route, index, one.address) if one.routed else one.address
            known = look_up(route, index, peer.hop)
            again = CONFIRMED_EVERY if known.mac else _ASKED_AGAIN_AFTER
            if now - peer.asked >= again and (known.confirmable or not known.mac):
                peer.asked = now
                find(route, index, peer.hop, confirm=bool(known.mac))
        except OSError as error:
            self._tell_lost(instance, one, peer, f"{error.strerror or error}")
            return None
        if peer.hop != one.address and peer.told_router != peer.hop:
            peer.told_router = peer.hop
            self._tell(instance, one, ROUTED.format(peer=one.address, router=peer.hop))
        if known.mac:
            peer.sought, peer.told = None, False
            return known.mac
        who = "it" if peer.hop == one.address else f"the router {peer.hop}"
        self._tell_lost(instance, one, peer, f"{who} does not answer on {instance.carpdev.name}")
        return b"" if known.failed else None

    def _tell_lost(self, instance: Instance, one: Destination, peer: _Peer, why: str) -> None:
        now = time.monotonic()
        peer.sought = now if peer.sought is None else peer.sought
        if not peer.told and now - peer.sought >= _TOLD_AFTER and instance.usable:
            peer.told = True
            self._tell(instance, one, LOST.format(peer=one.address, why=why))

    def _take_up(self, instance: Instance, found: dict[tuple[int, IPAddress], bytes | None]) -> None:
        """Have the runtime and the guardian send to these MACs."""
        before = instance.plan
        macs = [found.get((instance.index, one.address)) for one in before.destinations]
        after = tuple(one if mac is None else one.at(mac) for one, mac in zip(before.destinations, macs, strict=True))
        if after != before.destinations:
            plan = replace(before, destinations=after)
            self._instances.runtime.replan(instance.index, plan, instance.device)
            instance.plan = plan

    def _tell(self, instance: Instance, one: Destination, advice: str) -> None:
        host, now = instance.host, time.monotonic_ns()
        self._emit(UnicastPeer(vhid=host.vhid, name=host.name, at=now, peer=str(one.address), advice=advice))
