"""How often an instance is repaired before it backs off, and for how long.

Thread: supervisor
"""

from __future__ import annotations

from collections import deque

_REPAIRS = 5
_REPAIRS_WITHIN = 10.0
"""This many repairs are made within this many seconds. One more shows that another program undoes them on purpose."""
_PAUSE_FIRST, _PAUSE_LAST = 10.0, 300.0
"""Seconds of the first pause, doubled each time, and of the longest."""
_PAUSES_FORGOTTEN = 2
"""After this many times the last pause without a new one, the next pause is a first one."""


class Backoff:
    """That of one instance. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._repairs: deque[float] = deque(maxlen=_REPAIRS + 1)
        self._pause = 0.0
        self._pause_ends = 0.0

    def count(self, now: float) -> bool:
        """A repair is due; returns whether it is one too many."""
        self._repairs.append(now)
        return len(self._repairs) > _REPAIRS and now - self._repairs[0] <= _REPAIRS_WITHIN

    def pause(self, now: float) -> float:
        """Begin a pause; returns its seconds."""
        forgotten = now - self._pause_ends > max(_PAUSES_FORGOTTEN * self._pause, _REPAIRS_WITHIN)
        self._pause = _PAUSE_FIRST if forgotten else min(max(2 * self._pause, _PAUSE_FIRST), _PAUSE_LAST)
        self._pause_ends = now + self._pause
        self._repairs.clear()
        return self._pause
