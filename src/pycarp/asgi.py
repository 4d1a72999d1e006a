"""An engine in an ASGI application, whichever server and framework runs it.

The engine starts when the application has started. At SIGTERM and SIGINT it hands over first, and then the server
drains: see `release.release_first`. Servers announce ASGI's shutdown only after the drain, which is too late.

Thread: the one that runs the server's event loop
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ._unpatched import threading
from .errors import CarpError, EngineError
from .release import release_first

if TYPE_CHECKING:
    from . import aio, anyio
    from .engine.engine import Engine

    AnyEngine: TypeAlias = Engine | aio.Engine | anyio.Engine
    Source: TypeAlias = AnyEngine | Callable[[], AnyEngine]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_NOBODY_ELSE = (
    "no handler of SIGTERM is in this process: its server ends it in another way, and the address stays until it has "
    "drained. Run the server in one process (hypercorn --workers 0)"
)


def lifespan(engine: Source) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    """For frameworks that take a lifespan: `Starlette(lifespan=lifespan(engine))`, `FastAPI(lifespan=...)`.

    `engine` is an engine that was not started, or a function that makes one: an engine runs once, and some programs
    start an application again.
    """

    @contextlib.asynccontextmanager
    async def of(_app: Any) -> AsyncIterator[None]:
        async with running(engine):
            yield

    return of


@contextlib.asynccontextmanager
async def running(engine: Source) -> AsyncIterator[AnyEngine]:
    """The engine, for the time of an `async with` block: for an application that has a lifespan of its own.

    Of SIGTERM and SIGINT, the engine hears first. Outside of the main thread Python has no handlers of signals: there
    the engine stops at the end of the block. Raises what `start` raises.
    """
    made = engine() if callable(engine) else engine
    await _done(made.start())
    try:
        with _first_to_hear(made):
            yield made
    finally:
        await _done(made.stop())


class EngineMiddleware:
    """Any ASGI application, with an engine: `app = EngineMiddleware(app, engine)`; `engine` as for `lifespan`.

    Answers ASGI's lifespan messages for an application that does not. If the engine cannot start, the server is told
    why (`lifespan.startup.failed`), and does not serve.
    """

    def __init__(self, app: App, engine: Source) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(self._engine, receive, send).run(self._app, scope)
        else:
            await self._app(scope, receive, send)


class _Lifespan:
    """Stands between server and application for one lifespan. The application's messages pass; the engine runs between
    its start and its end."""

    def __init__(self, engine: Source, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._from_server, self._to_server = receive, send
        self._open = contextlib.AsyncExitStack()
        self._heard = ""
        self._said = ""

    async def run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        async with self._open:
            try:
                await app(scope, self._receive, self._send)
            except Exception as error:
                if self._said:
                    raise
                if self._heard:
                    await self._send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                # Else it has no lifespan: many applications say so by raising.
            while not self._said.endswith((".failed", "shutdown.complete")):
                await self._receive() if self._said or not self._heard else None
                await self._send({"type": f"{self._heard}.complete"})

    async def _receive(self) -> Message:
        if self._said == "lifespan.startup.failed":
            return {"type": "lifespan.shutdown"}  # the application has started, the engine has not
        message = await self._from_server()
        self._heard = message["type"]
        if self._heard == "lifespan.shutdown":
            await self._open.aclose()
        return message

    async def _send(self, message: Message) -> None:
        if not message["type"].startswith("lifespan."):
            raise RuntimeError(f"{message['type']!r} is no answer to {self._heard!r}")
        if self._said == "lifespan.startup.failed":
            return
        if message["type"] == "lifespan.startup.complete":
            try:
                await self._open.enter_async_context(running(self._engine))
            except (CarpError, OSError) as error:
                message = {"type": "lifespan.startup.failed", "message": f"pycarp cannot start: {error}"}
        self._said = message["type"]
        await self._to_server(message)


@contextlib.contextmanager
def _first_to_hear(engine: AnyEngine) -> Iterator[None]:
    try:
        chained = release_first(engine)
    except EngineError as error:
        if threading.current_thread() is threading.main_thread():
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        yield
        return
    with chained:
        if chained.alone:
            warnings.warn(_NOBODY_ELSE, RuntimeWarning, stacklevel=2)
        yield


async def _done(result: Any) -> None:
    """Of a blocking engine's call, or of a coroutine."""
    if inspect.isawaitable(result):
        await result
