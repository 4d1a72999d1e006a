"""`aio.Engine` where nothing runs; what runs is in tests/wire."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

import pycarp.anyio
from pycarp import ConfigError, EngineError, VirtualHost, aio

HOST = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], name="carp0")


@pytest.mark.parametrize("shell", [aio, pycarp.anyio], ids=["aio", "anyio"])
@pytest.mark.parametrize("kind", ["Engine", "Owner"])
def test_it_has_what_the_blocking_one_has(shell: Any, kind: str) -> None:
    """The same names and the same arguments; `poll` and `fileno` are what the event loop does itself."""
    awaited, blocking = getattr(shell, kind), getattr(pycarp, kind)
    public = {name for name in vars(blocking) if not name.startswith("_")} - {"poll", "fileno"}
    assert public <= set(dir(awaited))
    for name in public:
        if not isinstance(vars(blocking)[name], property):
            ours, theirs = (inspect.signature(getattr(one, name)) for one in (awaited, blocking))
            assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
    assert inspect.signature(awaited).parameters == inspect.signature(blocking).parameters


def test_without_anyio_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['anyio'] = None; import pycarp.anyio"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.stderr.endswith("pycarp.anyio needs anyio: pip install 'pycarp[anyio]'\n")


def test_what_it_refuses() -> None:
    with pytest.raises(ConfigError, match="nothing to do"):
        aio.Engine()
    with pytest.raises(ValueError, match="give 1 or more"):
        aio.Engine(HOST, queue=0)


def test_before_it_runs() -> None:
    async def main() -> None:
        engine = aio.Engine(HOST)
        assert repr(engine) == "<pycarp.aio.Engine carp0 not running>"
        assert engine.hosts == (HOST,)
        with pytest.raises(EngineError, match="not running"):
            engine.state(101)
        with pytest.raises(EngineError, match="not running"):
            await engine.stats(101)
        with pytest.raises(EngineError, match="not running"):
            await engine.demote()
        await engine.stop()
        assert [event async for event in engine.events()] == []

    asyncio.run(main())


def test_without_asyncios_loop_nothing_starts() -> None:
    """As under trio, which runs coroutines without a loop of asyncio's."""
    engine = aio.Engine(HOST)
    for coroutine in (engine.start(), anext(engine.events())):
        with pytest.raises(EngineError, match=r"needs asyncio's event loop, and none runs in this thread: .*trio"):
            coroutine.send(None)
    assert repr(engine) == "<pycarp.aio.Engine carp0 not running>"


def test_a_loop_that_cannot_wait_on_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was started by then is stopped again, once."""
    engine = aio.Engine(HOST)
    calls: list[str] = []
    monkeypatch.setattr(engine._engine, "start", lambda: calls.append("start"))
    monkeypatch.setattr(engine._engine, "stop", lambda: calls.append("stop"))

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", _refuse)
        with pytest.raises(NotImplementedError):
            await engine.start()
        await engine.stop()

    asyncio.run(main())
    assert calls == ["start", "stop"]


def _refuse(*_arguments: object) -> None:
    raise NotImplementedError


def test_the_loop_goes_on_while_an_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops it meanwhile, or reads its events, waits for the start."""
    engine = aio.Engine(HOST)
    turned, calls = threading.Event(), list[str]()

    def start() -> None:
        assert turned.wait(10) and threading.current_thread() is not threading.main_thread()
        calls.append("start")

    monkeypatch.setattr(engine._engine, "start", start)
    monkeypatch.setattr(engine._engine, "stop", lambda: calls.append("stop"))

    async def main() -> None:
        starting = asyncio.create_task(engine.start())
        await asyncio.sleep(0)
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.01)
        assert not starting.done() and not stopping.done()
        turned.set()
        await asyncio.gather(starting, stopping)

    asyncio.run(main())
    assert calls == ["start", "stop"]


@pytest.mark.parametrize("error", [None, EngineError("no")])
def test_a_cancelled_start_is_completed_and_then_stopped(
    monkeypatch: pytest.MonkeyPatch, error: EngineError | None
) -> None:
    engine = aio.Engine(HOST)
    turned, calls = threading.Event(), list[str]()

    def start() -> None:
        turned.wait(10)
        calls.append("start")
        if error is not None:
            raise error

    monkeypatch.setattr(engine._engine, "start", start)
    monkeypatch.setattr(engine._engine, "stop", lambda: calls.append("stop"))

    async def main() -> None:
        starting = asyncio.create_task(engine.start())
        for _turn in range(3):
            await asyncio.sleep(0.01)
            starting.cancel()
        assert not starting.done()
        turned.set()
        with pytest.raises(asyncio.CancelledError if error is None else EngineError):
            await starting

    asyncio.run(main())
    assert calls == (["start", "stop"] if error is None else ["start"])
