"""`pycarp.asgi` and `pycarp.release` where nothing runs; with real servers they are in tests/frameworks."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pycarp import Engine, EngineError, InterfaceError, VirtualHost
from pycarp.asgi import EngineMiddleware, lifespan, running
from pycarp.release import release_first

HOST = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], name="carp0")


class Told:
    """What an engine is told; `others` says whether another host takes over."""

    def __init__(self, others: bool = True, fails: str = "") -> None:
        self.told: list[str] = []
        self.others, self.fails = others, fails

    def start(self) -> None:
        if self.fails:
            raise InterfaceError(self.fails)
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")

    def hand_over(self, which: object = None, timeout: float | None = None) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        self.told.append("hand_over")
        return self.others


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """SIGTERM is handled by this list, as by a server."""
    heard: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, former)


def play(app: Any, engine: Any, *orders: str) -> list[str]:
    """Send these lifespan messages; what the application and the middleware answered."""
    answers: list[str] = []
    left = list(orders)

    async def receive() -> dict[str, Any]:
        return {"type": f"lifespan.{left.pop(0)}"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(" ".join([message["type"].removeprefix("lifespan."), message.get("message", "")]).strip())

    asyncio.run(EngineMiddleware(app, engine)({"type": "lifespan"}, receive, send))
    return answers


async def patient(_scope: Any, receive: Any, send: Any) -> None:
    """An application with a lifespan of its own."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def refusing(scope: Any, _receive: Any, _send: Any) -> None:
    assert scope["type"] == "http"


async def returning(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


async def ignorant(_scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def broken(_scope: Any, receive: Any, _send: Any) -> None:
    await receive()
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("app", [patient, refusing, returning, ignorant])
def test_the_engine_runs_between_start_and_end(app: Any, handled: list[int]) -> None:
    engine = Told()
    assert play(app, engine, "startup", "shutdown") == ["startup.complete", "shutdown.complete"]
    assert engine.told == ["start", "stop"]
    assert play(app, lambda: Told(), "startup", "shutdown") == ["startup.complete", "shutdown.complete"]


def test_an_application_or_an_engine_that_does_not_start(handled: list[int]) -> None:
    engine = Told()
    assert play(broken, engine, "startup") == ["startup.failed ZeroDivisionError: division by zero"]
    assert engine.told == []
    for app in (patient, refusing):
        failed = play(app, Told(fails="no interface eth9"), "startup")
        assert failed == ["startup.failed pycarp cannot start: no interface eth9"]


def test_other_scopes_pass(handled: list[int]) -> None:
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    engine: Any = Told()
    asyncio.run(EngineMiddleware(app, engine)({"type": "http"}, None, None))  # type: ignore[arg-type]
    assert seen == ["http"] and engine.told == []


def test_sigterm_while_it_runs(handled: list[int]) -> None:
    engine: Any = Told()

    async def main() -> None:
        async with lifespan(engine)("the application"):
            os.kill(os.getpid(), signal.SIGTERM)
            assert handled == [signal.SIGTERM] and engine.told[:2] == ["start", "hand_over"]
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(handled) == 2
        assert engine.told == ["start", "hand_over", "stop", "stop"]

    own = signal.getsignal(signal.SIGTERM)
    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) is own


def test_a_handler_of_the_event_loop_hears_later(handled: list[int]) -> None:
    engine: Any = Told(others=False)
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def hear() -> None:
            order.extend(engine.told)
            arrived.set()

        loop.add_signal_handler(signal.SIGTERM, hear)
        async with running(engine):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(arrived.wait(), 5)
            # Nobody took over: the addresses are dropped before the loop hears of it.
            assert order == ["start", "hand_over", "stop"]
        arrived.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(arrived.wait(), 5)
        loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(main())


def test_elsewhere_than_in_the_main_thread() -> None:
    engine: Any = Told()
    errors: list[str] = []

    async def main() -> None:
        async with running(engine):
            pass

    def run() -> None:
        asyncio.run(main())
        try:
            release_first(engine)
        except EngineError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert engine.told == ["start", "stop"]
    assert errors == ["handlers of signals belong to the main thread: call release_first there"]


def test_a_signal_that_is_handled_in_c(handled: list[int]) -> None:
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    install = ctypes.CDLL(None).signal
    install.restype = ctypes.c_void_p
    install.argtypes = [ctypes.c_int, ctypes.c_void_p]
    theirs = kind(lambda _number: None)
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    pointer = ctypes.cast(theirs, ctypes.c_void_p).value
    install(signal.SIGUSR2, pointer)
    try:
        with pytest.raises(EngineError, match="SIGUSR2 is handled by this process's C code"):
            release_first(Told(), [signal.SIGUSR2])
        assert install(signal.SIGUSR2, None) == pointer, "it is still there"
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_nobody_else_hears() -> None:
    async def main() -> None:
        async with running(Told()):  # type: ignore[arg-type]
            pass

    former = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.warns(RuntimeWarning, match="hypercorn --workers 0"):
            asyncio.run(main())
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, former)


def test_handlers_of_others_stay(handled: list[int]) -> None:
    engine: Any = Told()
    chained = release_first(engine, [signal.SIGTERM])
    later = lambda number, frame: None  # noqa: E731
    signal.signal(signal.SIGTERM, later)
    chained.restore()
    chained.restore()
    assert signal.getsignal(signal.SIGTERM) is later and engine.told == []


def test_a_forked_child_releases_nothing(handled: list[int]) -> None:
    engine: Any = Told()
    with release_first(engine):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0 if handled and not engine.told else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.told == []


def test_an_engine_that_was_not_started(handled: list[int]) -> None:
    with release_first(Engine(HOST)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert handled == [signal.SIGTERM]


def test_without_a_handler_the_process_ends_as_ever() -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        release_first(Told())  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_release_that_takes_its_time(handled: list[int]) -> None:
    release = threading.Event()

    class Slow(Told):
        def hand_over(self, which: object = None, timeout: float | None = None) -> bool:
            release.wait(5)
            return super().hand_over(which, timeout)

    engine: Any = Slow()
    with release_first(engine, within=0.05):
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGTERM] and engine.told == []
        release.set()
    assert engine.told == ["hand_over", "stop"]


def test_what_is_ignored_stays_ignored(handled: list[int]) -> None:
    """A shell starts what runs behind a script with SIGINT ignored: it goes on serving."""
    engine: Any = Told()
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with release_first(engine):
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert engine.told == [] and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_who_has_wrapped_it_is_passed_on(handled: list[int]) -> None:
    """After `restore`, the handler of another that calls this one reaches the program's, and nothing is released."""
    engine: Any = Told()
    chained = release_first(engine, [signal.SIGTERM])
    ours: Any = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: ours(number, frame))
    chained.restore()
    os.kill(os.getpid(), signal.SIGTERM)
    assert handled == [signal.SIGTERM] and engine.told == []


def test_a_signal_at_once(handled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as soon as the handler is there, and still reaches the program's."""
    engine: Any = Told()
    install = signal.signal

    def busy(number: int, handler: Any) -> Any:
        former = install(number, handler)
        os.kill(os.getpid(), number)
        return former

    with monkeypatch.context() as patched:
        patched.setattr(signal, "signal", busy)
        chained = release_first(engine, [signal.SIGTERM])
    chained.restore()
    assert handled == [signal.SIGTERM] and engine.told == ["hand_over", "stop"]


def test_a_signal_that_takes_no_handler(handled: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    engine: Any = Told()
    for wrong, error in ((signal.SIGKILL, OSError), (4000, ValueError)):
        with pytest.raises(error):
            release_first(engine, [signal.SIGTERM, wrong])
        assert signal.getsignal(signal.SIGTERM) == before
