"""Who answers for the addresses of a group that falls silent: somebody who does not speak CARP, or whom we cannot hear.

A switch that answers from a table of its own (ARP suppression) looks like one until it forgets the master that died.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .. import events
from ..linux.arp_probe import Prober
from ..protocol import NS_PER_SECOND, NS_PER_SKEW, State

if TYPE_CHECKING:
    from ..config import VirtualHost
    from ..linux.interfaces import Interface
    from ..protocol.abc import IPAddress, Runtime

_PROMPT = NS_PER_SECOND // 50
"""So many ns after a question most answers are there."""
_GRACE = NS_PER_SECOND
"""A refusal outlasts the next two questions by this: the answer to one of them may be lost."""
_MOST = 64
"""So many conflict are remembered for each virtual host: anybody can invent more."""

Answer = tuple["IPAddress", bytes]


class Kept(Protocol):
    """A virtual host as the supervisor keeps it (`Instance`)."""

    @property
    def index(self) -> int: ...
    @property
    def host(self) -> VirtualHost: ...
    @property
    def carpdev(self) -> Interface: ...
    @property
    def present(self) -> bool: ...


@dataclass(slots=True)
class _Silence:
    """That of one virtual host: no advert `since` (ns); who has answered meanwhile, and whom we have told of.

    A MASTER keeps it until the answers that it heard as BACKUP have been told.
    """

    since: int
    asked: int = 0
    pending: dict[Answer, None] = field(default_factory=dict)
    told: set[Answer] = field(default_factory=set)


class Conflicts:
    """For the supervisor: `look` at every turn of its loop. A BACKUP that hears nobody asks for its addresses, in time
    before its master-down is over, and once in each interval from then on.

    Whoever answers is told when a whole master-down has passed without an advert, and once until the next advert: the
    master itself may be slower than we are, and answers too. With conflict="refuse" the runtime does not take over for
    as long as they answer. Who has advbase 0 does not ask: its master-down is shorter than a look.
    """

    def __init__(
        self,
        runtime: Runtime,
        emit: Callable[[events.Event], None],
        clock: Callable[[], int] = time.monotonic_ns,
        prober: Callable[[int], Prober] = Prober,
    ) -> None:
        self._runtime = runtime
        self._emit = emit
        self._clock = clock
        self._make = prober
        self._probers: dict[int, Prober] = {}
        self._silences: dict[int, _Silence] = {}
        self._prompt = 0

    def attach(self, carpdev: int) -> None:
        """An interface, by its index, has virtual hosts now. Opened here, where the program still may."""
        self._probers[carpdev] = self._make(carpdev)

    def detach(self, carpdev: int) -> None:
        prober = self._probers.pop(carpdev, None)
        if prober is not None:
            prober.close()

    def close(self) -> None:
        for carpdev in tuple(self._probers):
            self.detach(carpdev)

    def look(self, instances: Iterable[Kept]) -> float:
        """Ask, listen and tell as far as it is due; returns the seconds until it wants to look again."""
        now = self._clock()
        known = {instance.index: instance for instance in instances}
        for index in self._silences.keys() - known.keys():
            del self._silences[index]
        quiet: dict[int, list[Kept]] = {}
        for instance in known.values():
            silence = self._silence(instance, now)
            if silence is not None and now - silence.since >= _patience(instance.host):
                quiet.setdefault(instance.carpdev.index, []).append(instance)
        for carpdev, prober in self._probers.items():
            backups = [one for one in quiet.get(carpdev, ()) if self._runtime.state(one.index) is State.BACKUP]
            if backups:
                self._attend(prober, backups, now)
            else:
                prober.rest()
        due = [now + NS_PER_SECOND]
        for index, silence in self._silences.items():
            host = known[index].host
            self._tell(known[index], silence, now)
            if self._runtime.state(index) is State.BACKUP:
                due.append(max(silence.since + _patience(host), silence.asked + host.interval))
            if silence.pending:
                due.append(silence.since + _master_down(host))
        if self._prompt > now:
            due.append(self._prompt)
        return max(_PROMPT, min(due) - now) / NS_PER_SECOND

    def _silence(self, instance: Kept, now: int) -> _Silence | None:
        """That of a virtual host which should hear somebody; None for others."""
        state = self._runtime.state(instance.index)
        silence = self._silences.get(instance.index)
        if not instance.present or not instance.host.advbase or state is State.INIT:
            silence = None
        elif silence is None or silence.since < (heard := self._runtime.heard(instance.index)):
            silence = _Silence(now if silence is None else heard) if state is State.BACKUP else None
        elif state is State.MASTER and not silence.pending:
            silence = None
        if silence is None:
            self._silences.pop(instance.index, None)
        else:
            self._silences[instance.index] = silence
        return silence

    def _attend(self, prober: Prober, instances: list[Kept], now: int) -> None:
        """Hear what has been answered on one carpdev, then ask for what is due."""
        answers = prober.read()
        for instance in instances:
            silence = self._silences[instance.index]
            own = {one.ip for one in instance.host.addresses}
            answered = [one for one in answers if one[0] in own]
            for one in answered:
                if one not in silence.told and len(silence.told) + len(silence.pending) < _MOST:
                    silence.pending[one] = None
            if answered and instance.host.conflict == "refuse":
                self._runtime.refuse(instance.index, now + 2 * instance.host.interval + _GRACE)
        asking = [one for one in instances if now - self._silences[one.index].asked >= one.host.interval]
        if asking:
            for instance in asking:
                self._silences[instance.index].asked = now
            # One that cannot be asked for, or heard of, is not known to be anybody's.
            with contextlib.suppress(OSError):
                prober.ask(asking[0].carpdev, [one.ip for instance in asking for one in instance.host.addresses])
            self._prompt = now + _PROMPT

    def _tell(self, instance: Kept, silence: _Silence, now: int) -> None:
        if now - silence.since < _master_down(instance.host):
            return
        for address, mac in silence.pending:
            self._emit(
                events.AddressConflict(
                    vhid=instance.host.vhid, name=instance.host.name, at=now, address=str(address), mac=mac.hex(":")
                )
            )
            silence.told.add((address, mac))
        silence.pending.clear()


def _patience(host: VirtualHost) -> int:
    """Nanoseconds of silence after which it is time to ask."""
    return host.interval * 3 // 2


def _master_down(host: VirtualHost) -> int:
    """Nanoseconds of silence after which the master is gone, for a host with an advbase."""
    return 3 * host.advbase * NS_PER_SECOND + host.advskew * NS_PER_SKEW
