"""`aio.Engine`: the same threads, the same events, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.lan import VIP, WITHIN, Lan, held, interface, virtual_host

from pycarp import EngineError, Event, InterfaceError, State, aio, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


@pytest.fixture
def run(make_lan: Callable[..., Lan]) -> Callable[[Callable[[Lan], Coroutine[Any, Any, None]]], Lan]:
    """Runs a coroutine function inside a host of a lab."""
    lone = make_lan(("main", "client"))
    lone.remember("main")

    def run(main: Callable[[Lan], Coroutine[Any, Any, None]]) -> Lan:
        async def bounded() -> None:
            await asyncio.wait_for(main(lone), 3 * WITHIN)

        with lone["main"].enter():
            asyncio.run(bounded())
        return lone

    return run


async def until_taken(engine: aio.Engine) -> list[Event]:
    seen = []
    async for event in engine.events(timeout=WITHIN):
        seen.append(event)
        if isinstance(event, events.AddressesTaken):
            return seen
    raise AssertionError(f"no address taken: {seen}")


def test_a_context_manager_and_its_events(run: Any, with_impl: str) -> None:
    # Fault: None: an engine runs in an async with block until it is MASTER.
    # Expected: Its events come in order, from BACKUP to INIT; it cannot start twice, and its device is gone.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host(name="carp0")) as engine:
            assert repr(engine) == "<pycarp.aio.Engine carp0 running>"
            seen = await until_taken(engine)
            assert engine.state(101) is engine.state("carp0") is MASTER
            assert engine.demotion(101) == 0
            assert (await engine.stats(101))["opackets"] > 0
            assert (await engine.measures()) is not None
            assert VIP in held(lone["main"])
        seen += [event async for event in engine.events()]
        assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [BACKUP, MASTER, INIT]
        await engine.stop()
        with pytest.raises(EngineError, match="runs once"):
            await engine.start()

    lone = run(main)
    assert interface(lone["main"], "carp101") is None


def test_every_call_is_awaited(run: Any) -> None:
    # Fault: None, then a call for an unknown vhid and one for a missing carpdev.
    # Expected: Each call does what the blocking one does, and the wrong ones raise.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host()) as engine:
            await until_taken(engine)
            assert await engine.demote(2) == 2
            assert engine.demotion(101) == 2
            assert await engine.undemote(2) == 0
            await engine.announce(101)
            await engine.force(101, BACKUP)
            assert engine.state(101) is BACKUP
            await engine.force(101, MASTER)
            await engine.reconfigure(virtual_host(advskew=30))
            assert engine.hosts == (virtual_host(advskew=30),)
            assert engine.state(101) is MASTER
            with pytest.raises(EngineError, match="no virtual host 5 here"):
                await engine.stats(5)
            with pytest.raises(InterfaceError, match="no interface eth9"):
                await engine.reconfigure(virtual_host(carpdev="eth9"))
            assert engine.hosts == (virtual_host(advskew=30),)

    run(main)


def test_a_stop_ends_those_who_wait(run: Any) -> None:
    # Fault: The engine stops while two tasks wait for events.
    # Expected: Both iterators end.
    async def main(lone: Lan) -> None:
        engine = aio.Engine(virtual_host())
        await engine.start()
        seen: list[Event] = []

        async def read() -> None:
            seen.extend([event async for event in engine.events()])

        readers = [asyncio.create_task(read()), asyncio.create_task(read())]
        while not any(isinstance(event, events.AddressesTaken) for event in seen):
            if engine.state(101) is MASTER:
                break
            await asyncio.sleep(0.01)
        await engine.stop()
        await asyncio.gather(*readers)

    run(main)


def test_a_stop_by_another_thread_ends_those_who_wait(run: Any) -> None:
    # Fault: A thread stops the blocking engine (as at SIGTERM) while a task waits for events.
    # Expected: The iterator ends, and the loop does not spin.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host()) as engine:
            await until_taken(engine)
            stopping = asyncio.get_running_loop().run_in_executor(None, engine.blocking.stop)
            seen = [event async for event in engine.events()]
            assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [INIT]
            await stopping
            assert [event async for event in engine.events()] == []

    run(main)


def test_events_end_after_a_silence(run: Any) -> None:
    # Fault: No event comes within the timeout.
    # Expected: The iterator ends after that time.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host()) as engine:
            await until_taken(engine)
            loop = asyncio.get_running_loop()
            before = loop.time()
            assert [event async for event in engine.events(timeout=0.1)] == []
            assert 0.09 <= loop.time() - before < 2

    run(main)


def test_it_does_not_spin_while_nobody_reads(run: Any) -> None:
    # Fault: Events wait, and no task reads them.
    # Expected: The loop is not woken again and again, though the descriptor stays readable.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host()) as engine:
            while engine.state(101) is not MASTER:
                await asyncio.sleep(0.01)
            loop: Any = asyncio.get_running_loop()
            turns = 0
            once = loop._run_once

            def counted() -> None:
                nonlocal turns
                turns += 1
                once()

            loop._run_once = counted
            await asyncio.sleep(0.2)
            assert turns < 20
            del loop._run_once

    run(main)


def test_the_loop_goes_on_during_a_stop(run: Any) -> None:
    # Fault: None: the engine stops while another task runs.
    # Expected: That task has its turns meanwhile.
    async def main(lone: Lan) -> None:
        engine = aio.Engine(virtual_host())
        await engine.start()
        await until_taken(engine)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        await engine.stop()
        ticking.cancel()
        assert ticks > 3

    run(main)


def test_a_cancelled_stop_is_completed(run: Any) -> None:
    # Fault: The task that stops the engine is cancelled.
    # Expected: The stop is completed, and its events can be read.
    async def main(lone: Lan) -> None:
        engine = aio.Engine(virtual_host())
        await engine.start()
        await until_taken(engine)
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert interface(lone["main"], "carp101") is None
        assert [event.after async for event in engine.events() if isinstance(event, events.StateChanged)] == [INIT]

    run(main)


def test_a_cancelled_reader_loses_nothing(run: Any) -> None:
    # Fault: The task that reads events is cancelled, twenty times.
    # Expected: No event is lost.
    async def main(lone: Lan) -> None:
        async with aio.Engine(virtual_host()) as engine:
            first: list[Event] = []

            async def read() -> None:
                async for event in engine.events():
                    first.append(event)

            for _ in range(20):
                reader = asyncio.create_task(read())
                await asyncio.sleep(0.02)
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            rest = [event async for event in engine.events(timeout=0.1)]
            seen = [event.after for event in (*first, *rest) if isinstance(event, events.StateChanged)]
            assert seen == [BACKUP, MASTER]

    run(main)


def test_a_start_that_fails(run: Any) -> None:
    # Fault: The named carpdev does not exist.
    # Expected: Entering the async with block raises.
    async def main(lone: Lan) -> None:
        with pytest.raises(InterfaceError, match="no interface eth9"):
            async with aio.Engine(virtual_host(carpdev="eth9")):
                raise AssertionError("it started")

    run(main)


def test_the_callback(run: Any) -> None:
    # Fault: None: an engine runs with a callback.
    # Expected: The callback gets the events, in a thread of its own.
    async def main(lone: Lan) -> None:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[Event] = loop.create_future()

        def callback(event: Event) -> None:
            if isinstance(event, events.AddressesTaken):
                loop.call_soon_threadsafe(taken.set_result, event)

        async with aio.Engine(virtual_host(), on_event=callback):
            assert (await taken).vhid == 101

    run(main)
