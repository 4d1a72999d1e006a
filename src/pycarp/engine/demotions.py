"""The ledger: what demotes this host or one of its virtual hosts, by reason, and which reasons are faults.

A fault demotes by 1 (not with advbase 0), hands over when it begins, and stands aside while it lasts: another's advert
does not make the virtual host MASTER, silence or a bow-out does. It hands over once. So where all hosts have a
fault, the address moves once more, to one that stood by, and stays there until a better one with preempt is well.

What the runtime counts by itself (links, adverts that cannot be sent, the watchdog) is not here.

Thread: any caller; `settle`: also supervisor
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._records import dataclass
from .._unpatched import threading, time
from ..errors import EngineError
from ..events import DemotionReason, Event
from .snapshot import DemotedBy

if TYPE_CHECKING:
    from .._unpatched import Clock
    from ..protocol.abc import Runtime
    from .instances import Instance, Instances

_MOST = (1 << 31) - 1
_LONGEST_REASON = 200
_MOST_REASONS = 1000


@dataclass(slots=True)
class _Entry:
    by: int = 0
    fault: bool = False

    @property
    def counts(self) -> int:
        return self.by + self.fault


class Demotions:
    """The reasons of one engine. `emit` gets an event for each that has a name and changes."""

    def __init__(
        self, runtime: Runtime, instances: Instances, emit: Callable[[Event], None], clock: Clock = time
    ) -> None:
        self._clock = clock
        self._runtime = runtime
        self._instances = instances
        self._emit = emit
        self._lock = threading.Lock()
        self.hand_over: Callable[[str], object] = self._hand_over
        """How a fault hands a virtual host over; the engine has its drain hooks run first."""
        # By the name of a virtual host, None for all, and the reason.
        self._entries: dict[tuple[str | None, str], _Entry] = {}
        # By number in the runtime, None for all: what it has been told.
        self._told: dict[int | None, tuple[int, bool]] = {None: (0, False)}

    def add(self, by: int, reason: str = "", which: int | str | None = None) -> int:
        """Demote by more (by > 0), or by less, down to 0 for this reason. Returns the new demotion."""
        instance = None if which is None else self._instances.find(which)
        with self._lock:
            entry = self._entry(instance, reason, more=by > 0)
            if entry.by + by > _MOST:
                self._changed(instance, reason, entry, entry.counts)
                raise OverflowError("demotions of one reason add up to more than 31 bits: take some back first")
            before, entry.by = entry.counts, max(0, entry.by + by)
            self._changed(instance, reason, entry, before)
            self._settle()
        return self._runtime.overview().demotion if instance is None else self._runtime.demotion(instance.index)

    def fault(self, reason: str, on: bool, which: int | str | None = None) -> None:
        """A fault begins, or ends. One that has begun does not begin again."""
        instance = None if which is None else self._instances.find(which)
        with self._lock:
            entry = self._entry(instance, reason, more=on)
            if entry.fault == on:
                self._changed(instance, reason, entry, entry.counts)
                return
            before, entry.fault = entry.counts, on
            self._changed(instance, reason, entry, before)
            self._settle()
        if on:
            for one in tuple(self._instances) if instance is None else (instance,):
                with contextlib.suppress(EngineError, KeyError):
                    self.hand_over(one.host.name)

    def of(self, instance: Instance | None) -> tuple[DemotedBy, ...]:
        """The reasons of one virtual host alone, or (None) those for all."""
        name = None if instance is None else instance.host.name
        with self._lock:
            return tuple(
                DemotedBy(reason=reason, by=entry.counts, fault=entry.fault)
                for (about, reason), entry in self._entries.items()
                if about == name and entry.counts
            )

    def settle(self) -> None:
        """After another configuration: new instances get what their names have, and names that went are forgotten."""
        with self._lock:
            names = {one.host.name for one in self._instances}
            self._entries = {key: entry for key, entry in self._entries.items() if key[0] is None or key[0] in names}
            self._settle()

    def _hand_over(self, name: str) -> None:
        self._runtime.hand_over(self._instances.find(name).index)

    def _entry(self, instance: Instance | None, reason: str, more: bool) -> _Entry:
        name = None if instance is None else instance.host.name
        key = (name, reason[:_LONGEST_REASON])
        if more and key not in self._entries and sum(about == name for about, _ in self._entries) >= _MOST_REASONS:
            raise EngineError(f"{_MOST_REASONS} reasons demote {name or 'this host'} already: take some back first")
        return self._entries.setdefault(key, _Entry())

    def _changed(self, instance: Instance | None, reason: str, entry: _Entry, before: int) -> None:
        """Tell what changed, before the runtime tells what follows; an entry that counts nothing goes."""
        host = None if instance is None else instance.host
        if not entry.counts:
            del self._entries[None if host is None else host.name, reason[:_LONGEST_REASON]]
        if reason and entry.counts != before:
            vhid, name = (0, "") if host is None else (host.vhid, host.name)
            self._emit(
                DemotionReason(
                    vhid=vhid,
                    name=name,
                    at=self._clock.monotonic_ns(),
                    reason=reason[:_LONGEST_REASON],
                    by=entry.counts,
                    fault=entry.fault,
                )
            )

    def _settle(self) -> None:
        """Tell the runtime what it has not been told."""
        numbers: dict[int | None, str | None] = {None: None}
        numbers |= {one.index: one.host.name for one in self._instances}
        # The others do not wait for the adverts of a demoted MASTER whose advbase is 0.
        slow = {one.index for one in self._instances if one.host.advbase}
        self._told = {number: told for number, told in self._told.items() if number in numbers}
        for number, name in numbers.items():
            by, aside = sum(entry.by for (about, _), entry in self._entries.items() if about == name), False
            if number is not None:
                # Maintenance has the switch that is about all: a fault of the host is each one's.
                faults = sum(entry.fault for (about, _), entry in self._entries.items() if about in (None, name))
                by, aside = by + (faults if number in slow else 0), faults > 0
            before, stood = self._told.get(number, (0, False))
            # One that was handed on, or has just gone, hears nothing more.
            with contextlib.suppress(EngineError, KeyError):
                if aside != stood and number is not None:
                    self._runtime.stand_aside(aside, number)
                if by != before:
                    self._runtime.demote(by - before, number)
                self._told[number] = by, aside
