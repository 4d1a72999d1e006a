"""`pycarp.anyio` on trio, on asyncio and on uvloop, and `aio.Owner`: the same threads, the same events, awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from support.lan import VIP, WITHIN, Lan, held, interface, virtual_host
from support.wire import VHID

import pycarp.anyio
from pycarp import EngineError, Event, InterfaceError, State, aio, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
LOOPS: dict[str, dict[str, Any]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}
Run = Callable[[Callable[[Lan], Coroutine[Any, Any, None]]], Lan]


@pytest.fixture(scope="module", autouse=True)
def libuv_is_there() -> None:
    """Its first loop leaves the process a pipe for good."""
    anyio.run(anyio.sleep, 0, **LOOPS["uvloop"])


@pytest.fixture(params=LOOPS)
def run(make_lan: Callable[..., Lan], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine function inside a host of a lab, on each event loop in turn."""
    # Trio keeps its worker threads for 10 s.
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.1)
    lone = make_lan(("main", "client"))
    lone.remember("main")

    def run(main: Callable[[Lan], Coroutine[Any, Any, None]]) -> Lan:
        async def bounded() -> None:
            with anyio.fail_after(3 * WITHIN):
                await main(lone)

        with lone["main"].enter():
            anyio.run(bounded, **LOOPS[request.param])
        return lone

    return run


async def until_taken(iterator: Any) -> list[Event]:
    seen = []
    async for event in iterator:
        seen.append(event)
        if isinstance(event, events.AddressesTaken):
            return seen
    raise AssertionError(f"no address taken: {seen}")


def test_an_engine(run: Run) -> None:
    # Fault: Two tasks read events, one is cancelled; no event comes for a time; calls are wrong; the engine stops in a
    # task that is cancelled.
    # Expected: All is as under asyncio: no event is lost, both readers end, errors are raised, the stop is completed.
    async def main(lone: Lan) -> None:
        engine = pycarp.anyio.Engine(virtual_host(name="carp0"))
        assert [event async for event in engine.events()] == [] and not await _fails(engine.stop())
        async with engine:
            assert repr(engine) == "<pycarp.anyio.Engine carp0 running>"
            seen: list[Event] = []

            async def read() -> None:
                async for event in engine.events():
                    seen.append(event)

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.sleep(0)
                group.cancel_scope.cancel()
            seen += await until_taken(engine.events(timeout=WITHIN))
            assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [BACKUP, MASTER]
            before = anyio.current_time()
            assert [event async for event in engine.events(timeout=0.1)] == []
            assert 0.09 <= anyio.current_time() - before < 2
            assert await engine.demote(2) == 2 == engine.demotion(VHID)
            async with engine.demoted("a reason"):
                assert engine.demotion(VHID) == 3
            await engine.reconfigure(virtual_host(name="carp0", advskew=30))
            assert (await engine.stats("carp0"))["opackets"] > 0 and (await engine.snapshot()).instances[0].owns
            assert isinstance(await _fails(engine.stats(5)), EngineError)
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                group.start_soon(_cancelled, engine.stop)
            assert interface(lone["main"], "carp0") is None
            assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [BACKUP, MASTER, INIT]
        with pytest.raises(InterfaceError, match="no interface eth9"):
            async with pycarp.anyio.Engine(virtual_host(carpdev="eth9")):
                raise AssertionError("it started")

    run(main)


async def _fails(awaitable: Coroutine[Any, Any, Any]) -> Exception | None:
    try:
        await awaitable
    except Exception as error:
        return error
    return None


async def _cancelled(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with anyio.move_on_after(0.001):
        await function()


@pytest.mark.parametrize("kind", [aio.Owner, pycarp.anyio.Owner], ids=["aio", "anyio"])
def test_an_owner(run: Run, request: pytest.FixtureRequest, kind: Any) -> None:
    # Fault: None: a program takes, renews and releases.
    # Expected: As with pycarp.Owner.
    if kind is aio.Owner and "trio" in request.node.callspec.params.values():
        return

    async def main(lone: Lan) -> None:
        async with kind(f"{VIP}/24", vhid=VHID) as owner:
            assert await owner.take(5) and owner.held and VIP in held(lone["main"])
            await until_taken(owner.events(timeout=WITHIN))
            assert await owner.renew(5) and owner.state is MASTER
            await owner.announce()
            await owner.release()
            assert not owner.held and not await owner.renew(5) and VIP not in held(lone["main"])
            assert await owner.measures() and not (await owner.snapshot()).instances[0].owns

    run(main)
