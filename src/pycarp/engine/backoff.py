"""Putting back what others take away, and knowing when to stop."""

from __future__ import annotations

from collections import deque

OFTEN = 5
"""So many times within `_WHILE` seconds something may be put back; once more, and somebody means it."""
_WHILE = 10.0
_FIRST, _LAST = 10.0, 300.0
"""The first time we stand back for so many seconds, then twice as long each time, up to the last."""
_CALM = 2
"""After so many times the last pause without a relapse, the next one is a first one."""


class Backoff:
    """Those of one virtual host. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=OFTEN + 1)
        self._pause = 0.0
        self._back = 0.0

    def count(self, now: float) -> bool:
        """Something had to be put back; returns whether that was once too often."""
        self._times.append(now)
        return len(self._times) > OFTEN and now - self._times[0] <= _WHILE

    def pause(self, now: float) -> float:
        """Stand back from now on: returns for how many seconds."""
        calm = now - self._back > max(_CALM * self._pause, _WHILE)
        self._pause = _FIRST if calm else min(max(2 * self._pause, _FIRST), _LAST)
        self._back = now + self._pause
        self._times.clear()
        return self._pause
