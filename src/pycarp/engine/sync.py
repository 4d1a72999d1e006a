"""Virtual hosts that move together: where one of them leaves MASTER here, the others of its group are handed over.

Whoever loses one lets go of all, so that the host that won it wins the rest by their bow-outs, with or without preempt.
Where a group stays split, as after a start without preempt, the host with fewer of them lets go; with as many, the one
that does not hold the first by name. While a member cannot run here the others may: an address here beats none.

Thread: sync; what is public: any caller
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._unpatched import select, threading, time
from ..config import VirtualHost
from ..errors import CarpError
from ..events import StateChanged
from ..linux.threads import precise
from ..protocol import Reason, State

if TYPE_CHECKING:
    from .._unpatched import Clock
    from .engine import Engine

_WAITING = 1024
_SPLIT_FOR = 3.0
_SPLIT_AT_LEAST = 1.0
"""A split may last so many intervals of the slowest member, and so many seconds, before it is mended."""
_NOT_FOLLOWED = (Reason.STOPPED,)
"""One that was taken down, or removed, takes nobody along."""


class Sync:
    """Follows the groups of one engine's virtual hosts from its making on, until `close`."""

    def __init__(self, engine: Engine, clock: Clock = time) -> None:
        self._engine = engine
        self._clock = clock
        self._groups: dict[str, frozenset[str]] = {}
        self._slowest: dict[str, float] = {}
        self._closed = False
        self._split: dict[frozenset[str], float] = {}
        self._begin()

    def _begin(self) -> None:
        self._queue = self._engine.tap(_WAITING)
        self._thread = threading.Thread(target=self._run, name="pycarp-sync", daemon=True)
        self._thread.start()

    def configure(self, hosts: Iterable[VirtualHost]) -> None:
        """The groups of these virtual hosts: all that name each other, either way. Names of none here are left out."""
        there = {host.name: host for host in hosts}
        groups: dict[str, frozenset[str]] = {}
        for host in there.values():
            known = {host.name, *(name for name in host.sync if name in there)}
            joined = frozenset(known.union(*(groups.get(name, frozenset((name,))) for name in known)))
            groups |= dict.fromkeys(joined, joined)
        self._slowest = {name: host.interval / 1e9 for name, host in there.items()}
        self._groups = {name: group for name, group in groups.items() if len(group) > 1}

    def close(self) -> None:
        """End the thread. May be called again."""
        if not self._closed:
            self._closed = True
            self._queue.close()  # which wakes the thread
            self._thread.join()
            self._engine.untap(self._queue)

    def _run(self) -> None:
        precise()
        waits = select.poll()
        with contextlib.suppress(OSError, ValueError):
            waits.register(self._queue.fileno(), select.POLLIN)
            while not self._closed:
                waits.poll(1000 * _SPLIT_AT_LEAST / 2)
                while not self._closed and (event := self._queue.get(0)) is not None:
                    if isinstance(event, StateChanged):
                        self._changed(event)
                with contextlib.suppress(CarpError, KeyError):
                    self._mend()

    def _changed(self, event: StateChanged) -> None:
        left = event.before is State.MASTER and event.after is not State.MASTER
        if left and event.reason not in _NOT_FOLLOWED:
            for name in self._groups.get(event.name, frozenset()) - {event.name}:
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        with contextlib.suppress(CarpError, KeyError):
            if self._engine.state(name) is State.MASTER:
                self._engine.begin_hand_over(name)

    def _mend(self) -> None:
        """Let go of the smaller part of a group that has been split for long."""
        now = self._clock.monotonic()
        for group in set(self._groups.values()):
            held = {name for name in group if self._engine.state(name) is State.MASTER}
            away = {name for name in group - held if self._engine.state(name) is State.BACKUP}
            if not held or not away:
                self._split.pop(group, None)
                continue
            since = self._split.setdefault(group, now)
            allowed = max(_SPLIT_AT_LEAST, _SPLIT_FOR * max(self._slowest[name] for name in group))
            if now - since < allowed:
                continue
            self._split[group] = now
            first = min(group) in held
            if len(held) < len(away) or (len(held) == len(away) and not first):
                for name in sorted(held):
                    self._let_go(name)
