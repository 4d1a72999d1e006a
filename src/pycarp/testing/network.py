"""The simulated LAN with a lock, so that the threads of a program under test may call its engines while time passes.

Thread: any; `Outside` runs without the lock, in the thread that lets time pass
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from ..lab.simulation import SECOND, Lan


class Outside:
    """Something that is due and runs without the LAN's lock, for it is the program's code or waits for it."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what = what

    def __call__(self) -> None:
        self._what()


class SharedLan(Lan):
    """`Lan` for several threads: whoever calls `run` or `step` lets time pass, the others wait for the lock."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.lock = threading.RLock()

    def at(self, when: int, what: Callable[[], None]) -> None:
        """See `Network.at`."""
        with self.lock:
            super().at(max(when, self.now), what)

    def step(self, until: int) -> bool:
        """Let time pass until the next thing that is due has happened, but not beyond `until`; False: that is now."""
        with self.lock:
            if not self._queue or self._queue[0][0] > until:
                self.now = max(self.now, until)
                return False
            due, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, due)
            if not isinstance(what, Outside):
                what()
                return True
        what()
        return True

    def run_until(self, when: int) -> None:
        """See `Network.run_until`."""
        while self.step(when):
            pass


class LanClock:
    """What `time` is for rooms that work on a LAN's time. Who sleeps lets it pass."""

    def __init__(self, lan: SharedLan) -> None:
        self._lan = lan

    def monotonic(self) -> float:
        return self._lan.now / SECOND

    def monotonic_ns(self) -> int:
        return self._lan.now

    def sleep(self, seconds: float, /) -> None:
        self._lan.run(int(seconds * SECOND))
