"""What a simulated LAN is made of: a clock, a switch, cables, and stations at their ends.

Times are integer nanoseconds since the network came into being.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_interface

from .._records import dataclass
from ..config import Address
from ..events import Event

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
LATENCY = 50_000
"""Default ns from one cable's end to another's, through the switch."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log: what happened on which host, in the words of `pycarp.events`."""

    host: str
    event: Event

    @property
    def at(self) -> int:
        return self.event.at


@dataclass(slots=True, eq=False)
class Cable:
    """A station's cable to the switch. `carrier` is what the station sees, the others what the cable really does."""

    name: str
    deliver: Callable[[bytes], None]
    link: Callable[[bool], None]
    carrier: bool = True
    heard: bool = True
    hears: bool = True


class Network:
    """One clock, one queue of what is to happen, and a switch. `log` holds every event of every host in order.

    `loss` is the part of all frames that does not arrive, each for itself (0 to 1); `jitter` is how many ns more than
    `latency` a frame takes at most. Both may change at any time, and draw from `random`.
    """

    def __init__(self, *, seed: int = 0, latency: int = LATENCY, loss: float = 0.0, jitter: int = 0) -> None:
        self.now = 0
        self.loss = loss
        self.jitter = jitter
        self.random = random.Random(seed)
        self.switch = Switch(self, latency)
        self.log: list[Record] = []
        self._taps: list[Callable[[int, str, bytes], None]] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Call `what` at `when`. What is due at the same time is called in the order it was asked for."""
        if when < self.now:
            raise ValueError(f"{when} ns is in the past: it is {self.now} ns already")
        heapq.heappush(self._queue, (when, self._sequence, what))
        self._sequence += 1

    def after(self, delay: int, what: Callable[[], None]) -> None:
        """Call `what` in `delay` ns."""
        self.at(self.now + delay, what)

    def run(self, duration: int) -> None:
        """Let `duration` ns pass."""
        self.run_until(self.now + duration)

    def run_until(self, when: int) -> None:
        """Let time pass until it is `when`; what is due then has happened."""
        while self._queue and self._queue[0][0] <= when:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = max(self.now, when)

    def tap(self, watcher: Callable[[int, str, bytes], None]) -> None:
        """`watcher(at, sender, frame)` is called for every frame that reaches the switch."""
        self._taps.append(watcher)

    def saw(self, sender: str, frame: bytes) -> None:
        """The switch has got a frame: tell those who watch."""
        for watcher in self._taps:
            watcher(self.now, sender, frame)


class Switch:
    """A learning Ethernet switch: unicast goes where its address was last seen, everything else everywhere."""

    def __init__(self, network: Network, latency: int) -> None:
        self._network = network
        self.latency = latency
        self.cables: list[Cable] = []
        self.table: dict[bytes, Cable] = {}

    def transmit(self, cable: Cable, frame: bytes) -> None:
        """A station puts a frame on its cable; the others get it `latency` later, if their cables carry then."""
        if not cable.heard:
            return
        self._network.saw(cable.name, frame)
        if not frame[6] & 1:
            self.table[frame[6:12]] = cable
        known = None if frame[0] & 1 else self.table.get(frame[0:6])
        others = [other for other in (self.cables if known is None else [known]) if other is not cable]
        network = self._network
        if network.loss:
            others = [other for other in others if network.random.random() >= network.loss]
        if not network.jitter:
            network.after(self.latency, partial(_deliver, others, frame))
            return
        for other in others:
            network.after(
                self.latency + network.random.randrange(network.jitter + 1), partial(_deliver, [other], frame)
            )

    def forget(self, cable: Cable) -> None:
        """The port lost its link: forget what was learned there, as a real switch does."""
        self.table = {mac: port for mac, port in self.table.items() if port is not cable}


def _deliver(cables: Iterable[Cable], frame: bytes) -> None:
    for cable in cables:
        if cable.hears:
            cable.deliver(frame)


class Station:
    """Something with a cable, a MAC address and addresses of its own."""

    def __init__(self, lan: Network, name: str, address: str | Iterable[str]) -> None:
        self.lan = lan
        self.name = name
        self.addresses: tuple[Address, ...] = tuple(
            ip_interface(text) for text in ([address] if isinstance(address, str) else address)
        )
        self.mac = b"\x02\0\0\0" + (len(lan.switch.cables) + 1).to_bytes(2, "big")
        self.cable = Cable(name, self._frame, self._link)
        lan.switch.cables.append(self.cable)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {', '.join(map(str, self.addresses))}>"

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable."""
        self.lan.switch.transmit(self.cable, frame)

    def _frame(self, frame: bytes) -> None:
        """A frame came over the cable."""
        raise NotImplementedError

    def _link(self, up: bool) -> None:
        """The carrier came or went."""


class Probe(Station):
    """A plain port on the switch: `send` puts any frame there, `received` has all that came, with their times."""

    def __init__(self, lan: Network, name: str) -> None:
        super().__init__(lan, name, ())
        self.received: list[tuple[int, bytes]] = []

    def _frame(self, frame: bytes) -> None:
        self.received.append((self.lan.now, frame))
