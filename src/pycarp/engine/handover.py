"""Hand-overs that were asked for, and what became of them.

Thread: any caller
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .._unpatched import time
from ..errors import EngineError
from ..protocol import State

if TYPE_CHECKING:
    from .._unpatched import Clock
    from ..config import VirtualHost
    from ..protocol.abc import Runtime
    from .instances import Instance

Drain = Callable[["Iterable[VirtualHost]", Callable[[str], None]], None]


class HandOver:
    """Asks the MASTERs among these instances to hand over; `names` are theirs.

    `drain` gets their virtual hosts, and what it calls with the name of each one that may drop its addresses: at once,
    or when its drain hooks are done.
    """

    def __init__(self, runtime: Runtime, instances: Iterable[Instance], drain: Drain, clock: Clock = time) -> None:
        self._runtime = runtime
        self._clock = clock
        self._asked = {one.host.name: one for one in instances if runtime.state(one.index) is State.MASTER}
        self._begun: dict[str, int] = {}
        self._outcome: dict[str, bool | None] = dict.fromkeys(self._asked)
        drain([one.host for one in self._asked.values()], self._begin)

    def _begin(self, name: str) -> None:
        begun = self._clock.monotonic_ns()
        with contextlib.suppress(KeyError, EngineError):  # it has gone meanwhile, or the engine has
            self._runtime.hand_over(self._asked[name].index)
        self._begun[name] = begun

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._asked)

    def look(self) -> dict[str, bool | None]:
        """By name: True once another MASTER was heard, False where nobody came and this host goes on, None until then.

        An instance that has gone meanwhile counts as handed over.
        """
        for name, instance in self._asked.items():
            if self._outcome[name] is None and name in self._begun:
                self._outcome[name] = self._look_at(instance, self._begun[name])
        return self._outcome

    def wait(self, timeout: float) -> bool:
        """Whether all of them were taken over within `timeout` seconds."""
        until = self._clock.monotonic() + timeout
        while None in self.look().values() and self._clock.monotonic() < until:
            self._clock.sleep(0.005)
        return all(self._outcome.values())

    def _look_at(self, instance: Instance, begun: int) -> bool | None:
        try:
            reading = self._runtime.reading(instance.index)
        except (KeyError, EngineError):
            return True
        if reading.state is State.MASTER:
            return None if reading.leaving else False
        others = (peer for peer in reading.peers if peer.vhid == instance.host.vhid and peer.kind == "advert")
        return True if any(peer.heard > begun for peer in others) else None
