"""What stands between an engine and its simulated host: the instances, the ledger of demotions, maintenance.

Thread: any
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from ..config import VirtualHost
from ..engine.arguments import chosen
from ..engine.demotions import Demotions
from ..engine.places import Place, without_conflicts
from ..engine.plan import Plan
from ..events import Event
from ..lab.simulation import SECOND
from ..linux.interfaces import Interface
from .host import EngineHost
from .network import LanClock

if TYPE_CHECKING:
    from ..engine.instances import Instances
    from ..protocol.abc import Runtime

OFFERED_EVERY = 10 * SECOND
"""Ns after which a MASTER that stands aside offers its addresses to the others once more."""
CARPDEV = "eth0"
"""What an interface is called where the virtual host does not say."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What an engine's rooms ask of an instance; its carpdev is always there, and nothing hinders it."""

    runtime: EngineHost
    host: VirtualHost

    present = True
    missing = hindrance = ""
    stopped_until = silence = None
    device = types.SimpleNamespace(gate=None)

    @property
    def index(self) -> int:
        return self.host.vhid

    @property
    def plan(self) -> Plan:
        return self.runtime.plan(self.host.vhid)

    @property
    def carpdev(self) -> Interface:
        return _interface(self.runtime, self.host)


class Seats:
    """The instances of one engine."""

    def __init__(self, runtime: EngineHost) -> None:
        self._runtime = runtime

    def __iter__(self) -> Iterator[Seat]:
        return iter([Seat(self._runtime, host) for host in self._runtime.virtual_hosts])

    def find(self, which: int | str) -> Seat:
        """See `Instances.find`."""
        return chosen(self, which)


class SimulatedSupervisor:
    """What `Engine` has of `engine.supervisor.Supervisor`, on a simulated host."""

    predecessor = 0

    def __init__(
        self,
        host: EngineHost,
        virtual_hosts: tuple[VirtualHost, ...],
        emit: Callable[[Event], None],
        allow: bool,
        watchdog: int,
        aside: bool,
    ) -> None:
        _check(host, virtual_hosts)
        self.runtime = host
        self.instances = Seats(host)
        host.begin(virtual_hosts, emit, allow)
        self.demotions = Demotions(cast("Runtime", host), cast("Instances", self.instances), emit, LanClock(host.lan))
        if aside:
            self.stand_aside(True)
        if watchdog:
            host.watch(watchdog)

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        return self.runtime.virtual_hosts

    def waiting(self) -> dict[str, str]:
        return {}

    def hold(self, until: int, again: bool = False) -> bool:
        """See `Supervisor.hold`. Who takes lets the time pass that this needs."""
        outcomes = [self.runtime.hold(one.index, until, again) for one in self.instances]
        if again or not until:
            return all(outcomes)
        LanClock(self.runtime.lan).sleep(self.runtime.take_delay / SECOND)
        return all(self.runtime.owns(one.index) for one in self.instances)

    def stand_aside(self, aside: bool) -> None:
        """See `Supervisor.stand_aside`."""
        self.runtime.stand_aside(aside)
        self._offered = self.runtime.lan.now
        if aside:
            self._offer_later()

    def reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        _check(self.runtime, hosts)
        self.runtime.reconfigure(hosts)
        self.demotions.settle()

    def stop(self) -> None:
        self._offered = -1
        self.runtime.end()

    def abandon(self) -> None:
        """In a forked child: it has a copy of the whole LAN, which harms nobody."""

    def _offer_later(self) -> None:
        self.runtime.lan.after(OFFERED_EVERY, partial(self._offer, self._offered))

    def _offer(self, since: int) -> None:
        if self._offered != since or not self.runtime.overview().aside:
            return
        for vhid in self.runtime.vhids:
            self.runtime.hand_over(vhid)
        self._offer_later()


def _interface(host: EngineHost, virtual_host: VirtualHost) -> Interface:
    return Interface(1, virtual_host.carpdev or CARPDEV, host.mac, up=True, running=host.cable.carrier)


def _check(host: EngineHost, virtual_hosts: tuple[VirtualHost, ...]) -> None:
    """Raises `ConfigError` for two that are one group, or have one name."""
    without_conflicts([Place(one, _interface(host, one)) for one in virtual_hosts])
