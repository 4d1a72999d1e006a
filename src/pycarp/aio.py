"""The engine and the owner for asyncio: the same threads and events, awaited.

Thread: the one that runs the event loop
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ParamSpec, TypeVar

from .engine.awaited import AwaitedEngine, AwaitedOwner, Shell, Start
from .errors import EngineError
from .events import Event

P = ParamSpec("P")
T = TypeVar("T")


class _Shell(Shell):
    _place = "pycarp.aio"
    _arrived: asyncio.Event | None = None
    _starting: asyncio.Future[None] | None = None
    _stopping = False
    _stopped = False

    async def start(self) -> None:
        """See `pycarp.Engine.start`. The loop goes on meanwhile; the network namespace is that of this thread.

        A start that is cancelled is completed first, and then stopped.
        """
        loop = _running_loop()
        told = loop.create_future()
        if self._starting is None:
            self._starting = told
        start = Start(self._engine, lambda: loop.call_soon_threadsafe(told.set_result, None))
        cancelled = await _settled(told)
        start.finish()
        try:
            if cancelled is not None:
                raise cancelled
            self._arrived = asyncio.Event()
            self._listen()
        except BaseException:
            # Also where a loop cannot wait on descriptors: nothing would ever read the events.
            self._arrived = None
            stopping = loop.run_in_executor(None, self._engine.stop)
            await _settled(stopping)
            stopping.result()
            self._engine._queue.close_descriptor()
            raise

    async def stop(self) -> None:
        """See `pycarp.Engine.stop`. The loop goes on meanwhile. A stop that is cancelled is completed first."""
        loop = _running_loop()
        await self._begun()
        if self._arrived is None or self._stopping:
            return
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
        await self._begun()
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

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(function, *args, **kwargs)

    def _wake(self) -> None:
        assert self._arrived is not None
        # The descriptor stays readable until the queue is empty: while no task reads, that would spin the loop.
        asyncio.get_running_loop().remove_reader(self._engine.fileno())
        self._arrived.set()

    async def _begun(self) -> None:
        """Until a start that is on its way has come to its end. It resumes first."""
        if self._starting is not None and not self._starting.done():
            await asyncio.wait((self._starting,))

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._engine.fileno(), self._wake)


class Engine(_Shell, AwaitedEngine):
    """`pycarp.Engine` whose calls are awaited; arguments, results and errors are the same.

    async with Engine(host) as engine:
        async for event in engine.events():
            print(event)

    `on_event` is called in a thread of its own, not in the event loop. If the program leaves the loop without stopping
    the engine, the engine stops when the program ends.
    """


class Owner(_Shell, AwaitedOwner):
    """`pycarp.Owner` whose calls are awaited; arguments, results and errors are the same.

    async with Owner("10.13.37.42/24", vhid=42) as owner:
        await owner.take(10)
    """


async def _settled(future: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Wait for it whatever happens; the cancellation that has come meanwhile."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise EngineError(
            "pycarp.aio.Engine needs asyncio's event loop, and none runs in this thread: call it in one, or take "
            "pycarp.anyio.Engine, which runs under trio, too"
        ) from None
