"""The engine and the owner for anyio, which runs on trio and on asyncio: the same threads and events, awaited.

It needs the extra `anyio`.
Thread: the one that runs the event loop
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable
from typing import ParamSpec, Self, TypeVar

try:
    import anyio
    import anyio.lowlevel
    import anyio.to_thread
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("pycarp.anyio needs anyio: pip install 'pycarp[anyio]'", name=error.name) from None

from .engine.awaited import AwaitedEngine, AwaitedOwner, Shell, Start
from .engine.engine import Engine as _Engine
from .events import Event

P = ParamSpec("P")
T = TypeVar("T")


class Events(AsyncIterator[Event]):
    """The events of an engine, as they come; each goes to one iterator. No generator: whoever leaves it closes none."""

    def __init__(self, engine: _Engine, started: bool, timeout: float | None) -> None:
        self._engine = engine
        self._started = started
        self._timeout = timeout

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            # A thread may stop the blocking engine. What is left comes before the end.
            closed = self._engine._queue.closed
            event = self._engine.poll()
            if event is not None:
                return event
            if closed or not self._started or not await self._wait():
                raise StopAsyncIteration

    async def _wait(self) -> bool:
        """Until there may be an event; False when none has come in time."""
        # One of its own: no two tasks may wait on one descriptor, and the engine closes its own.
        fd = os.dup(self._engine.fileno())
        try:
            with anyio.move_on_after(self._timeout):
                await anyio.wait_readable(fd)
                return True
            return False
        finally:
            os.close(fd)


class _Shell(Shell):
    _place = "pycarp.anyio"
    _started = False

    async def start(self) -> None:
        """See `pycarp.Engine.start`. The loop goes on meanwhile; the network namespace is that of this thread.

        A start that is cancelled is completed first, and then stopped.
        """
        # A file: the descriptor lives as long as the thread may write to it.
        with open(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+b", buffering=0) as told:
            start = Start(self._engine, functools.partial(os.eventfd_write, told.fileno(), 1))
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.wait_readable(told)
            finally:
                start.finish()
        self._started = True
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """See `pycarp.Engine.stop`. The loop goes on meanwhile. A stop that is cancelled is completed first."""
        if not self._started:
            return
        with anyio.CancelScope(shield=True):
            # A limiter of its own: the program's other threads may wait for what this one ends.
            await anyio.to_thread.run_sync(self._engine.stop, limiter=anyio.CapacityLimiter(1))
        self._engine._queue.close_descriptor()  # iterators have their own

    def events(self, timeout: float | None = None) -> Events:
        """See `pycarp.Engine.events`."""
        return Events(self._engine, self._started, timeout)

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


class Engine(_Shell, AwaitedEngine):
    """`pycarp.Engine` whose calls are awaited, under trio as under asyncio; arguments, results and errors are the same.

    async with Engine(host) as engine:
        async for event in engine.events():
            print(event)

    `on_event` is called in a thread of its own, not in the event loop. If the program leaves the loop without stopping
    the engine, the engine stops when the program ends.
    """


class Owner(_Shell, AwaitedOwner):
    """`pycarp.Owner` whose calls are awaited, under trio as under asyncio; the rest is the same.

    async with Owner("10.13.37.42/24", vhid=42) as owner:
        await owner.take(10)
    """
