"""`SimulatedEngine` and `SimulatedOwner`: as pycarp's, but their host is on a simulated LAN; the same for asyncio.

Thread: any caller
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .. import aio
from ..engine.engine import Engine
from ..engine.owner import Owner
from ..engine.sync import Sync
from ..errors import EngineError
from ..events import Event, StateChanged
from ..health.look import Tools
from ..health.runner import Health
from ..lab.simulation import SECOND
from .network import LanClock, Outside
from .supervisor import SimulatedSupervisor

if TYPE_CHECKING:
    from .._unpatched import Clock
    from ..config import VirtualHost
    from ..engine.supervisor import Supervisor
    from ..health.runner import _Watch
    from ..hooks.runner import Hooks
    from .host import EngineHost
    from .network import SharedLan

LONGEST_WAIT = 3600
"""Seconds of the LAN's time in which an event has to come where a test waits for one without a limit."""
_SYNC_LOOKS_EVERY = SECOND // 2


class SimulatedEngine(Engine):
    """The engine of one host on a simulated LAN; `CarpLan.engine` makes it.

    All that `pycarp.Engine` does works here, on the LAN's time: `at` of events is ns since the LAN began. Nothing
    happens while no time passes; `CarpLan.run` lets it pass, and so do `hand_over` with a timeout, and `events` in the
    thread that made the LAN. Checks look in their turn, in the thread that lets time pass, and `on_event` is called
    there. `realtime`, `missing`, `inherit` and `wait` are about a machine and change
    nothing. Programs of hooks are real ones: the LAN's time stands still while they run. `bequeath` raises
    `EngineError`.
    """

    _clock: Clock

    def __init__(self, place: EngineHost, *hosts: VirtualHost, **options: Any) -> None:
        super().__init__(*hosts, **options)
        self._place = place
        self._lan = place.lan
        self._clock = LanClock(place.lan)
        self._maker = threading.get_ident()
        self._calling_back = False

    def __repr__(self) -> str:
        return super().__repr__().replace("pycarp.Engine", f"pycarp.testing.SimulatedEngine {self._place.name}:")

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """See `Engine.events`. `timeout` is on the LAN's time in the thread that made the LAN."""
        if threading.get_ident() != self._maker:
            yield from super().events(timeout)
            return
        while (event := self._await_event(timeout)) is not None:
            yield event

    def _await_event(self, timeout: float | None) -> Event | None:
        until = self._lan.now + int((LONGEST_WAIT if timeout is None else timeout) * SECOND)
        while (event := self._queue.get(0)) is None and not self._queue.closed:
            if not self._lan.step(until):
                break
        event = event or self._queue.get(0)
        if event is None and timeout is None and not self._queue.closed:
            raise TimeoutError("no event comes in an hour of the LAN's time: give events() a timeout, or do something")
        return event

    def stop(self) -> None:
        """See `Engine.stop`."""
        super().stop()
        self._tell_callback()

    def bequeath(self, hold: float = 5.0) -> None:
        """See `Engine.bequeath`: there is no process here that could hold anything."""
        self._running()
        raise EngineError("a simulated host has no process that could hold its virtual hosts: they go on here")

    def _die(self) -> None:
        """The program of this engine has died: it is never heard from again."""
        self._end_looking()
        self._supervisor = None
        self._queue.close()
        for tapped in self._taps:
            tapped.close()
        self._stopped.set()

    # In the place of what needs a machine

    def _supervise(self, aside: bool) -> Supervisor:
        place = self._place
        if place.vhids:
            raise EngineError(f"an engine runs on {place.name} already: stop it, or take another name")
        made = SimulatedSupervisor(place, self._hosts, self._emit, self._allow, self._watchdog, aside)
        return cast("Supervisor", made)

    def _start_callback(self) -> None:
        pass

    def _emit(self, event: Event) -> None:
        super()._emit(event)
        if self._callback is not None:
            self._lan.after(0, Outside(self._tell_callback))
        if isinstance(self._sync, _Sync):
            self._sync.saw(event)

    def _tell_callback(self) -> None:
        if self._callback_queue is None or self._calling_back:
            return
        self._calling_back = True
        try:
            while (event := self._callback_queue.get(0)) is not None:
                self._call_back(event)
        finally:
            self._calling_back = False

    def _make_hooks(self, hosts: tuple[VirtualHost, ...]) -> Hooks:
        # Imported here: most engines have none.
        from .hooks import SimulatedHooks

        return SimulatedHooks(hosts, self.report, self._describe, self._lan)

    def _make_health(self) -> Health:
        return _Health(self, self._lan)

    def _make_sync(self) -> Sync:
        return _Sync(self, self._lan)


class SimulatedAioEngine(aio.Engine):
    """`pycarp.aio.Engine` on a simulated LAN; `CarpLan.aio_engine` makes it, and `CarpLan.arun` lets time pass."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self._engine = engine


class SimulatedOwner(Owner):
    """The `pycarp.Owner` of a host on a simulated LAN; `CarpLan.owner` makes it. `for_seconds` is on the LAN's time."""

    _engine: SimulatedEngine

    def __init__(self, place: EngineHost, *addresses: Any, **options: Any) -> None:
        self._place = place
        super().__init__(*addresses, **options)

    def _make_engine(self, host: VirtualHost, **options: Any) -> SimulatedEngine:
        return SimulatedEngine(self._place, host, **options)

    def _boottime(self) -> int:
        return self._place.lan.now


class SimulatedAioOwner(aio.Owner):
    """`pycarp.aio.Owner` on a simulated LAN; `CarpLan.aio_owner` makes it, and `CarpLan.arun` lets time pass."""

    def __init__(self, owner: SimulatedOwner) -> None:
        self._owner, self._engine = owner, owner._engine


class _Health(Health):
    """Checks that look in the LAN's time, in the order in which they are due."""

    def __init__(self, engine: Engine, lan: SharedLan) -> None:
        super().__init__(engine, LanClock(lan))
        self._lan = lan

    def _launch(self, watches: list[_Watch]) -> None:
        for watch in watches:
            self._look_later(watch)

    def _look_later(self, watch: _Watch) -> None:
        self._lan.at(int(watch.next * SECOND), Outside(partial(self._look, watch)))

    def _look(self, watch: _Watch) -> None:
        if not watch.ended and watch.look(Tools(self.children)):
            self._look_later(watch)


class _Sync(Sync):
    """Sync groups without a thread: `saw` is told of every event."""

    def __init__(self, engine: Engine, lan: SharedLan) -> None:
        self._lan = lan
        super().__init__(engine, LanClock(lan))

    def _begin(self) -> None:
        self._lan.after(_SYNC_LOOKS_EVERY, Outside(self._look))

    def saw(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._lan.after(0, Outside(partial(self._follow, event)))

    def close(self) -> None:
        self._closed = True

    def _follow(self, event: StateChanged) -> None:
        if not self._closed:
            self._changed(event)

    def _look(self) -> None:
        if not self._closed:
            self._mend()
            self._begin()
