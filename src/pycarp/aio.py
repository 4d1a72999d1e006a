"""The engine for asyncio: the same threads and events, awaited.

Thread: the one that runs the event loop
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from .config import VirtualHost
from .engine import engine as _engine
from .errors import EngineError
from .events import Event
from .protocol import State
from .stats import Measures

if TYPE_CHECKING:
    from .engine.handover import HandOver
    from .engine.queue import EventQueue
    from .engine.snapshot import Snapshot
    from .health.runner import Health


class Engine:
    """`pycarp.Engine` whose calls are awaited; arguments, results and errors are the same.

    async with Engine(host) as engine:
        async for event in engine.events():
            print(event)

    `on_event` is called in a thread of its own, not in the event loop. If the program leaves the loop without stopping
    the engine, the engine stops when the program ends.
    """

    def __init__(
        self,
        *hosts: VirtualHost,
        on_event: Callable[[Event], object] | None = None,
        queue: int = 1024,
        allow: bool = True,
        realtime: bool | Literal["auto"] = "auto",
        watchdog: float | None = None,
        missing: Literal["wait", "refuse"] = "refuse",
        maintenance_file: str | os.PathLike[str] | None = None,
        inherit: Literal["auto", "held"] | int | None = None,
        wait: float = 0,
    ) -> None:
        self._engine = _engine.Engine(
            *hosts,
            on_event=on_event,
            queue=queue,
            allow=allow,
            realtime=realtime,
            watchdog=watchdog,
            missing=missing,
            maintenance_file=maintenance_file,
            inherit=inherit,
            wait=wait,
        )
        self._arrived: asyncio.Event | None = None
        self._stopping = False
        self._stopped = False

    def __repr__(self) -> str:
        return repr(self._engine).replace("pycarp.Engine", "pycarp.aio.Engine")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    @property
    def health(self) -> Health:
        """The checks of this engine, as `pycarp.Engine.health`. A coroutine function runs in a thread of its own, in an
        event loop of its own."""
        return self._engine.health

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        """The virtual hosts as configured now."""
        return self._engine.hosts

    @property
    def waiting(self) -> dict[str, str]:
        """See `pycarp.Engine.waiting`."""
        return self._engine.waiting

    @property
    def predecessor(self) -> int:
        """See `pycarp.Engine.predecessor`."""
        return self._engine.predecessor

    async def start(self) -> None:
        """See `pycarp.Engine.start`. It runs in this thread: the network namespace is this thread's."""
        _running_loop()
        self._engine.start()
        try:
            self._arrived = asyncio.Event()
            self._listen()
        except BaseException:
            # A loop that cannot wait on descriptors: nothing would ever read the events.
            self._arrived = None
            self._engine.stop()
            self._engine._queue.close_descriptor()
            raise

    async def stop(self) -> None:
        """See `pycarp.Engine.stop`. The loop goes on meanwhile. A stop that is cancelled is completed first."""
        if self._arrived is None or self._stopping:
            return
        loop = _running_loop()
        self._stopping = True
        loop.remove_reader(self._engine.fileno())
        stopping = loop.run_in_executor(None, self._engine.stop)
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise
        finally:
            self._stopped = True
            self._arrived.set()
            self._engine._queue.close_descriptor()  # nothing waits on it any longer

    async def events(self, timeout: float | None = None) -> AsyncIterator[Event]:
        """See `pycarp.Engine.events`."""
        _running_loop()
        while True:
            # A thread may stop the blocking engine, as `release_first` does. What is left comes before the end.
            closed = self._engine._queue.closed
            while (event := self._engine.poll()) is not None:
                yield event
            if closed or self._stopped or self._arrived is None:
                return
            self._arrived.clear()
            # An event that comes between poll and here keeps the descriptor readable.
            if not self._stopping:
                self._listen()
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout)
            except TimeoutError:
                return

    async def stats(self, which: int | str) -> dict[str, Any]:
        """See `pycarp.Engine.stats`."""
        return await asyncio.to_thread(self._engine.stats, which)

    async def snapshot(self) -> Snapshot:
        """See `pycarp.Engine.snapshot`."""
        return await asyncio.to_thread(self._engine.snapshot)

    async def measures(self) -> Measures:
        """See `pycarp.Engine.measures`."""
        return await asyncio.to_thread(self._engine.measures)

    def state(self, which: int | str) -> State:
        """See `pycarp.Engine.state`; it waits for nothing."""
        return self._engine.state(which)

    def demotion(self, which: int | str) -> int:
        """See `pycarp.Engine.demotion`; it waits for nothing."""
        return self._engine.demotion(which)

    async def demote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """See `pycarp.Engine.demote`."""
        return await asyncio.to_thread(self._engine.demote, by, reason, which)

    async def undemote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """See `pycarp.Engine.undemote`."""
        return await asyncio.to_thread(self._engine.undemote, by, reason, which)

    @contextlib.asynccontextmanager
    async def demoted(self, reason: str, by: int = 1, which: int | str | None = None) -> AsyncIterator[None]:
        """See `pycarp.Engine.demoted`."""
        await self.demote(by, reason, which)
        try:
            yield
        finally:
            with contextlib.suppress(EngineError, KeyError):
                await self.undemote(by, reason, which)

    async def fault(self, reason: str, on: bool = True, which: int | str | None = None) -> None:
        """See `pycarp.Engine.fault`."""
        await asyncio.to_thread(self._engine.fault, reason, on, which)

    async def force(self, which: int | str, state: State) -> None:
        """See `pycarp.Engine.force`."""
        await asyncio.to_thread(self._engine.force, which, state)

    async def hand_over(self, which: int | str | None = None, timeout: float | None = None) -> bool:
        """See `pycarp.Engine.hand_over`."""
        return await asyncio.to_thread(self._engine.hand_over, which, timeout)

    @property
    def in_maintenance(self) -> bool:
        """See `pycarp.Engine.in_maintenance`."""
        return self._engine.in_maintenance

    async def maintenance(self, on: bool) -> str:
        """See `pycarp.Engine.maintenance`."""
        return await asyncio.to_thread(self._engine.maintenance, on)

    async def begin_hand_over(self, which: int | str | None = None) -> HandOver:
        """See `pycarp.Engine.begin_hand_over`."""
        return await asyncio.to_thread(self._engine.begin_hand_over, which)

    def tap(self, queue: int = 1024) -> EventQueue:
        """See `pycarp.Engine.tap`."""
        return self._engine.tap(queue)

    def untap(self, queue: EventQueue) -> None:
        """See `pycarp.Engine.untap`."""
        self._engine.untap(queue)

    def report(self, event: Event) -> None:
        """See `pycarp.Engine.report`."""
        self._engine.report(event)

    @property
    def blocking(self) -> _engine.Engine:
        """The engine whose calls this one awaits: for rooms with threads of their own, as `pycarp.control.Server`."""
        return self._engine

    async def bequeath(self, hold: float = 5.0) -> None:
        """See `pycarp.Engine.bequeath`."""
        await asyncio.to_thread(self._engine.bequeath, hold)

    def alive(self) -> None:
        """See `pycarp.Engine.alive`."""
        self._engine.alive()

    async def announce(self, which: int | str) -> None:
        """See `pycarp.Engine.announce`."""
        await asyncio.to_thread(self._engine.announce, which)

    async def reconfigure(self, *hosts: VirtualHost) -> None:
        """See `pycarp.Engine.reconfigure`."""
        await asyncio.to_thread(self._engine.reconfigure, *hosts)

    def _wake(self) -> None:
        assert self._arrived is not None
        # The descriptor stays readable until the queue is empty: while no task reads, that would spin the loop.
        asyncio.get_running_loop().remove_reader(self._engine.fileno())
        self._arrived.set()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._engine.fileno(), self._wake)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise EngineError(
            "pycarp.aio.Engine needs asyncio's event loop, and none runs in this thread: call it in one, or take "
            "pycarp.Engine, whose calls other frameworks (trio, for one) run in a thread"
        ) from None
