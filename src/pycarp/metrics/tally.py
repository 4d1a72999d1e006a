"""Counts the events of an engine, and keeps the latest of them.

Thread: any caller, one at a time; the lock sees to that
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from .._unpatched import threading, time
from ..errors import EngineError
from ..events import Event, EventsLost, StateChanged

if TYPE_CHECKING:
    from ..engine.engine import Engine

_WAITING = 4096
"""Events that wait for the next look; what comes beyond them is counted as lost."""
KEPT = 200


class Transition(NamedTuple):
    """What tells one kind of change of state from another."""

    name: str
    before: str
    after: str
    reason: str


class Seen(NamedTuple):
    """An event, and when it happened, in ns since 1970."""

    time: int
    event: Event


class Tally:
    """From its making on, until `close`. It takes the events out of a queue of its own whenever it is looked at."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue = engine.tap(_WAITING)
        self._lock = threading.Lock()
        self._transitions: Counter[Transition] = Counter()
        self._events: Counter[tuple[str, str]] = Counter()
        self._latest: deque[Seen] = deque(maxlen=KEPT)

    def close(self) -> None:
        """The engine keeps no queue for it any longer."""
        self._engine.untap(self._queue)

    def transitions(self) -> dict[Transition, int]:
        """How often each change of state happened."""
        with self._lock:
            self._look()
            return dict(self._transitions)

    def events(self) -> dict[tuple[str, str], int]:
        """How many events there were, by their class and severity."""
        with self._lock:
            self._look()
            return dict(self._events)

    def latest(self) -> list[Seen]:
        """The latest events, `KEPT` at most, the newest first."""
        with self._lock:
            self._look()
            return list(reversed(self._latest))

    def _look(self) -> None:
        """Take what has come. After the engine's stop there is nothing more."""
        offset = time.time_ns() - time.monotonic_ns()
        with contextlib.suppress(EngineError, OSError):
            while (event := self._queue.get(0)) is not None:
                count = event.count if isinstance(event, EventsLost) else 1
                self._events[type(event).__name__, event.severity] += count
                if isinstance(event, StateChanged):
                    kind = Transition(event.name, event.before.name, event.after.name, str(event.reason))
                    self._transitions[kind] += 1
                self._latest.append(Seen(offset + event.at, event))
