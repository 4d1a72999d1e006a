"""`aio.Engine` where nothing runs; what runs is in tests/wire."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from pycarp import ConfigError, Engine, EngineError, VirtualHost, aio

HOST = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], name="carp0")


def test_it_has_what_the_blocking_engine_has() -> None:
    """The same names and the same arguments; `poll` and `fileno` are what asyncio does itself."""
    public = {name for name in vars(Engine) if not name.startswith("_")}
    assert public - {"poll", "fileno"} <= {name for name in vars(aio.Engine) if not name.startswith("_")}
    for name in public - {"poll", "fileno", "hosts"}:
        ours, theirs = (inspect.signature(getattr(one, name)) for one in (aio.Engine, Engine))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
    assert inspect.signature(aio.Engine).parameters == inspect.signature(Engine).parameters


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
