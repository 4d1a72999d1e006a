"""What the engines and owners for event loops have in common: each call of the blocking one, awaited.

Thread: the one that runs the event loop
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal, ParamSpec, Self, TypeVar

from .._unpatched import threading
from ..config import AddressLike, VirtualHost
from ..errors import EngineError
from ..events import Event
from ..protocol import State
from ..protocol.choices import Mac, Spoken
from ..stats import EngineStats, Measures
from .engine import Engine

if TYPE_CHECKING:
    from ..health.runner import Health
    from ..hooks.hook import Hook
    from .handover import HandOver
    from .queue import EventQueue
    from .snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")


class Start:
    """An engine's start, in a thread of its own, which has the namespaces and capabilities of the one that makes it.

    `tell` is called in that thread at the end. If it raises `RuntimeError`, the loop has gone: the engine stops.
    """

    def __init__(self, engine: Engine, tell: Callable[[], object]) -> None:
        self._engine = engine
        self._tell = tell
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pycarp-start", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Once told. Raises what the start has raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._engine.start()
        except BaseException as error:
            self._error = error
        try:
            self._tell()
        except RuntimeError:
            if self._error is None:
                self._engine.stop()


class Shell:
    """What an event loop's module does for both: start, stop, wait for events, and have a thread do what takes time."""

    _place: str
    _engine: Engine

    def __repr__(self) -> str:
        return repr(self._engine).replace("pycarp.Engine", f"{self._place}.{type(self).__name__}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """See `pycarp.Engine.start`. The loop goes on meanwhile; the network namespace is that of this thread.

        A start that is cancelled is completed first, and then stopped.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """See `pycarp.Engine.stop`. The loop goes on meanwhile. A stop that is cancelled is completed first."""
        raise NotImplementedError

    def events(self, timeout: float | None = None) -> AsyncIterator[Event]:
        """See `pycarp.Engine.events`."""
        raise NotImplementedError

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    async def snapshot(self) -> Snapshot:
        """See `pycarp.Engine.snapshot`."""
        return await self._call(self._engine.snapshot)

    async def measures(self) -> Measures:
        """See `pycarp.Engine.measures`."""
        return await self._call(self._engine.measures)


class AwaitedEngine(Shell):
    """`pycarp.Engine` whose calls are awaited; arguments, results and errors are the same."""

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
        self._engine = Engine(
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

    async def stats(self, which: int | str) -> EngineStats:
        """See `pycarp.Engine.stats`."""
        return await self._call(self._engine.stats, which)

    def state(self, which: int | str) -> State:
        """See `pycarp.Engine.state`; it waits for nothing."""
        return self._engine.state(which)

    def demotion(self, which: int | str) -> int:
        """See `pycarp.Engine.demotion`; it waits for nothing."""
        return self._engine.demotion(which)

    async def demote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """See `pycarp.Engine.demote`."""
        return await self._call(self._engine.demote, by, reason, which)

    async def undemote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """See `pycarp.Engine.undemote`."""
        return await self._call(self._engine.undemote, by, reason, which)

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
        await self._call(self._engine.fault, reason, on, which)

    async def force(self, which: int | str, state: State) -> None:
        """See `pycarp.Engine.force`."""
        await self._call(self._engine.force, which, state)

    async def speak(self, spoken: Spoken | Literal["auto"], which: int | str | None = None) -> None:
        """See `pycarp.Engine.speak`."""
        await self._call(self._engine.speak, spoken, which)

    async def hand_over(self, which: int | str | None = None, timeout: float | None = None) -> bool:
        """See `pycarp.Engine.hand_over`."""
        return await self._call(self._engine.hand_over, which, timeout)

    @property
    def in_maintenance(self) -> bool:
        """See `pycarp.Engine.in_maintenance`."""
        return self._engine.in_maintenance

    async def maintenance(self, on: bool) -> str:
        """See `pycarp.Engine.maintenance`."""
        return await self._call(self._engine.maintenance, on)

    async def begin_hand_over(self, which: int | str | None = None) -> HandOver:
        """See `pycarp.Engine.begin_hand_over`."""
        return await self._call(self._engine.begin_hand_over, which)

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
    def blocking(self) -> Engine:
        """The engine whose calls this one awaits: for rooms with threads of their own, as `pycarp.control.Server`."""
        return self._engine

    async def bequeath(self, hold: float = 5.0) -> None:
        """See `pycarp.Engine.bequeath`."""
        await self._call(self._engine.bequeath, hold)

    def alive(self) -> None:
        """See `pycarp.Engine.alive`."""
        self._engine.alive()

    async def announce(self, which: int | str) -> None:
        """See `pycarp.Engine.announce`."""
        await self._call(self._engine.announce, which)

    async def reconfigure(self, *hosts: VirtualHost) -> None:
        """See `pycarp.Engine.reconfigure`."""
        await self._call(self._engine.reconfigure, *hosts)


class AwaitedOwner(Shell):
    """`pycarp.Owner` whose calls are awaited; arguments, results and errors are the same."""

    def __init__(
        self,
        *addresses: AddressLike,
        vhid: int,
        carpdev: str | None = None,
        name: str | None = None,
        mac: Mac = "virtual",
        announcements: int = 3,
        hooks: tuple[Hook, ...] = (),
        on_event: Callable[[Event], object] | None = None,
        queue: int = 1024,
        realtime: bool | Literal["auto"] = "auto",
        missing: Literal["wait", "refuse"] = "refuse",
        wait: float = 0,
    ) -> None:
        # Imported here: an engine has no use for it.
        from .owner import Owner

        self._owner = Owner(
            *addresses,
            vhid=vhid,
            carpdev=carpdev,
            name=name,
            mac=mac,
            announcements=announcements,
            hooks=hooks,
            on_event=on_event,
            queue=queue,
            realtime=realtime,
            missing=missing,
            wait=wait,
        )
        self._engine = self._owner._engine

    async def take(self, for_seconds: float | None = None) -> bool:
        """See `pycarp.Owner.take`."""
        return await self._call(self._owner.take, for_seconds)

    async def renew(self, for_seconds: float | None = None) -> bool:
        """See `pycarp.Owner.renew`. It takes some 100 us, and waits for no thread: none may be free in time."""
        return self._owner.renew(for_seconds)

    async def release(self) -> None:
        """See `pycarp.Owner.release`."""
        await self._call(self._owner.release)

    async def announce(self) -> None:
        """See `pycarp.Owner.announce`."""
        await self._call(self._owner.announce)

    @property
    def blocking(self) -> Engine:
        """See `pycarp.Owner.blocking`."""
        return self._engine

    @property
    def held(self) -> bool:
        """See `pycarp.Owner.held`."""
        return self._owner.held

    @property
    def state(self) -> State:
        """See `pycarp.Owner.state`."""
        return self._owner.state
