"""Hand-overs that were asked for, and what became of them.

Thread: any caller
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..protocol import State

if TYPE_CHECKING:
    from ..protocol.abc import Runtime
    from .instances import Instance


class HandOver:
    """Asks the MASTERs among these instances to hand over, at once; `names` are theirs."""

    def __init__(self, runtime: Runtime, instances: Iterable[Instance]) -> None:
        self._runtime = runtime
        self._asked = {one.host.name: one for one in instances if runtime.state(one.index) is State.MASTER}
        self._begun = time.monotonic_ns()
        self._outcome: dict[str, bool | None] = dict.fromkeys(self._asked)
        for instance in self._asked.values():
            runtime.hand_over(instance.index)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._asked)

    def look(self) -> dict[str, bool | None]:
        """By name: True once another MASTER was heard, False where this host is MASTER after all, None until then.

        An instance that has gone meanwhile counts as handed over.
        """
        for name, instance in self._asked.items():
            if self._outcome[name] is None:
                self._outcome[name] = self._look_at(instance)
        return self._outcome

    def wait(self, timeout: float) -> bool:
        """Whether all of them were taken over within `timeout` seconds."""
        until = time.monotonic() + timeout
        while None in self.look().values() and time.monotonic() < until:
            time.sleep(0.005)
        return all(self._outcome.values())

    def _look_at(self, instance: Instance) -> bool | None:
        try:
            reading = self._runtime.reading(instance.index)
        except (KeyError, EngineError):
            return True
        if reading.state is State.MASTER:
            return False
        others = (peer for peer in reading.peers if peer.vhid == instance.host.vhid and peer.kind == "advert")
        return True if any(peer.heard > self._begun for peer in others) else None
