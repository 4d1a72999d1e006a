"""A LAN of bare machines on simulated time: adverts arrive after a delay, nothing else happens. For the elections."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import Advert, Drop, SendAdvert, State, Take, Transition
from pycarp.protocol.abc import Machine

from .openbsd import OpenBsd

NS = 1_000_000_000


def heard(
    advbase: int, advskew: int, source: str = "10.13.37.12", family: int = 4, vhid: int = 101, demotion: int = 0
) -> Advert:
    """A valid advert, as the machine sees it: it has passed the input checks."""
    return Advert(
        family=family,
        source=source,
        destination="224.0.0.18" if family == 4 else "ff02::12",
        source_mac=bytes.fromhex("00005e000165"),
        version=2,
        type=1,
        vhid=vhid,
        advskew=advskew,
        authlen=7,
        demotion=demotion,
        advbase=advbase,
        counter=bytes(8),
        digest=bytes(20),
    )


@dataclass
class Node:
    machine: Machine
    source: str
    alive: bool = True
    holds: bool = False
    cut: bool = False
    transitions: list[Transition] = field(default_factory=list)


@dataclass(order=True)
class _Arrival:
    at: int
    number: int
    to: Node = field(compare=False)
    advert: Advert = field(compare=False)
    pace: int = field(default=0, compare=False)


class Lan:
    """`Lan(impl, configs, seed, delay)`: one node each; `delay(random)` draws the ns that one advert takes to one node.

    `copies` 2 sends each advert twice, as under two keys. Of a thousand copies `lost` do not arrive. `others` are
    classes of machines for the nodes, in their order; the rest are `impl`'s.

    `masters` records (time, how many nodes were MASTER) whenever that number changed, `owners` how many held the
    addresses. Configs of several vhids are siblings.
    """

    def __init__(
        self,
        impl: Implementation,
        configs: Sequence[VirtualHost],
        seed: int = 0,
        delay: Callable[[random.Random], int] = lambda _: 0,
        copies: int = 1,
        lost: int = 0,
        others: Sequence[type[Any]] = (),
    ) -> None:
        self.lost = lost
        self.random = random.Random(seed)
        self.delay = delay
        self.copies = copies
        self.now = 0
        self.masters: list[tuple[int, int]] = [(0, 0)]
        self.owners: list[tuple[int, int]] = [(0, 0)]
        self.nodes = [
            Node(
                (others[number] if number < len(others) else impl.machine.Machine)(config, self.random.randrange),
                f"10.13.37.{11 + number}",
            )
            for number, config in enumerate(configs)
        ]
        self._wire: list[_Arrival] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        for node in self.nodes:
            self.carry_out(node, node.machine.start(self.now))

    def carry_out(self, node: Node, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, SendAdvert):
                self._send(node, action)
            elif isinstance(action, Take):
                node.holds = True
            elif isinstance(action, Drop):
                node.holds = False
            elif isinstance(action, Transition):
                node.transitions.append(action)
        count = sum(n.alive and n.machine.state is State.MASTER for n in self.nodes)
        if count != self.masters[-1][1]:
            self.masters.append((self.now, count))
        held = sum(n.alive and n.holds for n in self.nodes)
        if held != self.owners[-1][1]:
            self.owners.append((self.now, held))

    def _send(self, node: Node, action: SendAdvert) -> None:
        for family in node.machine.config.families * self.copies:
            vhid, demotion = node.machine.config.vhid, node.machine.sent_demotion
            advert = heard(action.advbase, action.advskew, node.source, family, vhid, demotion)
            for other in self.nodes:
                if other is not node and not node.cut and not (self.lost and self.random.randrange(1000) < self.lost):
                    at = self.now + self.delay(self.random)
                    heapq.heappush(self._wire, _Arrival(at, next(self._numbers), other, advert, action.pace))

    def kill(self, node: Node) -> None:
        """Power off: it no longer hears or sends."""
        node.alive = False
        self.carry_out(node, [])

    def cut(self, node: Node, cut: bool = True) -> None:
        """Pull its cable (or put it back); no machine is told of it."""
        node.cut = cut

    def lose(self) -> None:
        """What is on its way arrives nowhere."""
        self._wire.clear()

    def run(self, until: int) -> None:
        """Everything that happens up to `until`, in its order."""
        while True:
            arrival = self._wire[0].at if self._wire else until + 1
            waiting = [(n.machine.deadline, i) for i, n in enumerate(self.nodes) if n.alive]
            deadline, index = min(((at, i) for at, i in waiting if at is not None), default=(until + 1, 0))
            if min(arrival, deadline) > until:
                break
            if arrival <= deadline:
                event = heapq.heappop(self._wire)
                self.now = event.at
                if event.to.alive and not event.to.cut:
                    self._hear(event.to, event.advert, event.pace)
            else:
                self.now = max(self.now, deadline)
                self.carry_out(self.nodes[index], self.nodes[index].machine.timeout(self.now))
        self.now = until

    def _hear(self, node: Node, advert: Advert, pace: int) -> None:
        machine = node.machine
        if pace and advert.vhid == machine.config.vhid and hasattr(machine, "said_pace"):
            self.carry_out(node, machine.receive(advert, advert.source, self.now, advert.demotion, pace))
        elif advert.vhid == machine.config.vhid:
            # What NetBSD and FreeBSD have there is 0 and says nothing; OpenBSD obeys it all the same.
            sender = next(one.machine for one in self.nodes if one.source == advert.source)
            told = isinstance(machine, OpenBsd) or getattr(sender, "says_demotion", True)
            said = advert.demotion if told else None
            self.carry_out(node, machine.receive(advert, advert.source, self.now, said))
        else:
            self.carry_out(node, machine.sibling(advert.vhid, advert, advert.source, self.now))

    @property
    def holders(self) -> list[bool]:
        return [node.alive and node.holds for node in self.nodes]

    @property
    def state(self) -> list[State]:
        return [node.machine.state for node in self.nodes]

    @property
    def leaderless_again(self) -> int:
        """How often all masters were lost again after there was one: the rounds beyond the first."""
        counts = [count for _, count in self.masters]
        first = next((i for i, count in enumerate(counts) if count), len(counts))
        return counts[first:].count(0)
