"""Address conflicts (RFC 5227): who answers for the addresses of a group that falls silent.

That is a host that does not speak CARP, or one whose adverts do not reach us.

A switch that answers from a table of its own (ARP suppression) looks like one until it forgets the dead master.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .._records import dataclass, field
from .._unpatched import time
from ..events import AddressConflict, Event
from ..linux.arp_probe import ArpProbe
from ..protocol import NS_PER_SECOND, State
from .mac_path import MacPaths

if TYPE_CHECKING:
    from ..config import VirtualHost
    from ..protocol.abc import IPAddress, Runtime
    from .defence import Defence
    from .instances import Instance

_ANSWERS_READ_AFTER = NS_PER_SECOND // 50
"""Most answers are there this many ns after a question."""
_REFUSAL_MARGIN = NS_PER_SECOND
"""A refusal outlasts the next two questions by this many ns: the answer to one of them may be lost."""
_HOLDER_ASKS_EVERY = 10 * NS_PER_SECOND
"""A led virtual host asks when it has taken its addresses, once more a second later, and then after so many ns."""
_ANSWERS_KEPT = 64
"""For each instance, this many conflicts are remembered: any host can forge more."""

Answer = tuple["IPAddress", bytes]


@dataclass(slots=True)
class Silence:
    """That of one instance: no advert came `since` (ns). `asked` is when it asked last.

    `unreported` and `reported` are the answers since then. A MASTER keeps it until the answers that it heard as BACKUP
    have been reported.
    """

    since: int
    asked: int = 0
    unreported: dict[Answer, None] = field(default_factory=dict)
    reported: set[Answer] = field(default_factory=set)


class Conflicts:
    """The supervisor calls `look` at every turn of its loop. A BACKUP that hears no advert asks for its addresses:
    first before its master-down ends, then once in each interval.

    Answers are reported when a whole master-down has passed without an advert, and once until the next advert: the
    master answers too, and may only be slower than we are. With conflict="refuse" the runtime does not take over for as
    long as a host answers. An instance with advbase 0 does not ask: its master-down is shorter than a look.

    A led instance hears no adverts. It asks while it is MASTER, and reports who answers beside it at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        emit: Callable[[Event], None],
        clock: Callable[[], int] = time.monotonic_ns,
        make_probe: Callable[[int], ArpProbe] = ArpProbe,
        paths: MacPaths | None = None,
        defence: Defence | None = None,
    ) -> None:
        self._runtime = runtime
        self._emit = emit
        self._clock = clock
        self._make_probe = make_probe
        self._probes: dict[int, ArpProbe] = {}
        self._paths = MacPaths(runtime, emit) if paths is None else paths
        self._defence = defence
        self._read_at = 0

    def attach(self, carpdev: int) -> None:
        """Open a probe on the carpdev with this index. That needs CAP_NET_RAW, which a program may give up later."""
        self._probes[carpdev] = self._make_probe(carpdev)
        try:
            self._paths.attach(carpdev)
            if self._defence is not None:
                self._defence.attach(carpdev)
        except BaseException:
            self._paths.detach(carpdev)
            self._probes.pop(carpdev).close()
            raise

    def detach(self, carpdev: int) -> None:
        if self._defence is not None:
            self._defence.detach(carpdev)
        self._paths.detach(carpdev)
        probe = self._probes.pop(carpdev, None)
        if probe is not None:
            probe.close()

    def close(self) -> None:
        for carpdev in tuple(self._probes):
            self.detach(carpdev)

    def look(self, instances: Iterable[Instance]) -> float:
        """Ask, listen and report as far as it is due; returns the seconds until the next look."""
        now = self._clock()
        instances = tuple(instances)
        asking: dict[int, list[tuple[Instance, Silence]]] = {}
        due = [now + NS_PER_SECOND, self._paths.look(instances, now)]
        if self._defence is not None:
            due.append(self._defence.look(instances, now))
        for instance in instances:
            instance.silence = silence = self._silence(instance, now)
            if silence is not None and self._asks(instance):
                if now - silence.since >= _asks_after(instance.host):
                    asking.setdefault(instance.carpdev.index, []).append((instance, silence))
        for carpdev, probe in self._probes.items():
            if carpdev in asking:
                self._ask(probe, asking[carpdev], now)
            else:
                probe.stop()
        for instance in instances:
            silence, host = instance.silence, instance.host
            if silence is not None:
                self._report(instance, silence, now)
                if self._asks(instance):
                    due.append(max(silence.since + _asks_after(host), silence.asked + _asks_every(host, silence)))
                if silence.unreported:
                    due.append(silence.since + host.master_down)
        if self._read_at > now:
            due.append(self._read_at)
        return max(_ANSWERS_READ_AFTER, min(due) - now) / NS_PER_SECOND

    def _silence(self, instance: Instance, now: int) -> Silence | None:
        """That of an instance that should hear adverts; None for others."""
        state, silence = self._runtime.state(instance.index), instance.silence
        if not instance.present or not instance.host.advbase or state is State.INIT:
            return None
        if instance.host.led:
            return silence or Silence(now) if state is State.MASTER else None
        if silence is None or silence.since < (heard := self._runtime.heard(instance.index)):
            return Silence(now if silence is None else heard) if state is State.BACKUP else None
        return None if state is State.MASTER and not silence.unreported else silence

    def _asks(self, instance: Instance) -> bool:
        return instance.host.led or self._runtime.state(instance.index) is State.BACKUP

    def _ask(self, probe: ArpProbe, asking: list[tuple[Instance, Silence]], now: int) -> None:
        """Read the answers on one carpdev, then send the questions that are due."""
        answers = probe.read()
        wanted: list[IPAddress] = []
        for instance, silence in asking:
            host = instance.host
            own = [one.ip for one in host.addresses]
            answered = [one for one in answers if one[0] in own]
            for one in answered:
                if one not in silence.reported and len(silence.reported) + len(silence.unreported) < _ANSWERS_KEPT:
                    silence.unreported[one] = None
            if answered and host.conflict == "refuse":
                self._runtime.refuse(instance.index, now + 2 * host.interval + _REFUSAL_MARGIN)
            if now - silence.asked >= _asks_every(host, silence):
                silence.asked = now
                wanted += own
        if wanted:
            # An address that cannot be asked for counts as free.
            with contextlib.suppress(OSError):
                probe.ask(asking[0][0].carpdev, wanted)
            self._read_at = now + _ANSWERS_READ_AFTER

    def _report(self, instance: Instance, silence: Silence, now: int) -> None:
        vhid, name = instance.host.vhid, instance.host.name
        led = instance.host.led
        if not led and now - silence.since < instance.host.master_down:
            return
        for address, mac in silence.unreported:
            self._emit(AddressConflict(vhid=vhid, name=name, at=now, address=str(address), mac=mac.hex(":"), held=led))
        silence.reported.update(silence.unreported)
        silence.unreported.clear()


def _asks_after(host: VirtualHost) -> int:
    """Nanoseconds of silence after which it is time to ask."""
    return 0 if host.led else host.interval * 3 // 2


def _asks_every(host: VirtualHost, silence: Silence) -> int:
    """Nanoseconds between two questions."""
    again = host.led and silence.asked - silence.since >= host.interval
    return _HOLDER_ASKS_EVERY if again else host.interval
