"""The hooks of an engine on a simulated LAN: real programs, run one after the other where they are due.

Thread: the one that lets time pass; `drain` and `close`: any caller
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..hooks.runner import Hooks
from .network import Outside

if TYPE_CHECKING:
    from ..config import VirtualHost
    from ..events import Event
    from ..hooks.runner import Describe, _Lane
    from .network import SharedLan


class SimulatedHooks(Hooks):
    """Hooks without a thread. What an event starts has ended before the LAN's time goes on.

    Time limits of programs are real seconds, `at` of their events is the LAN's.
    """

    def __init__(
        self, hosts: Iterable[VirtualHost], emit: Callable[[Event], None], describe: Describe, lan: SharedLan
    ) -> None:
        self._lan = lan
        self._open = True
        super().__init__(hosts, emit, describe)

    def start(self) -> None:
        """See `Hooks.start`: there is nothing to start."""

    def close(self, seconds: float | None = None) -> None:
        """See `Hooks.close`."""
        if self._open:
            self._end(time.monotonic() + (5.0 if seconds is None else seconds))
            self._work()
            self._open = False
            self._release()

    def _call(self, function: Callable[[], None]) -> bool:
        if self._open:
            function()
            self._lan.after(0, Outside(self._work))
        return self._open

    def _begin_drains(self, lanes: list[_Lane]) -> None:
        super()._begin_drains(lanes)
        self._work()

    def _work(self) -> None:
        while self._open and not self._idle():
            self._turn()

    def _wait_ms(self) -> float:
        # Where no program runs, one is to be started.
        return super()._wait_ms() or 0.0

    def _idle(self) -> bool:
        return not (self._drains or any(lane.running or lane.todo or lane.waiting for lane in self._all()))

    def _now(self) -> int:
        return self._lan.now
