"""`Engine` where nothing runs: what it refuses before it touches the machine. What runs is in tests/wire."""

from __future__ import annotations

import os

import pytest

import pycarp
from pycarp import ConfigError, Engine, EngineError, State, VirtualHost

HOST = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], name="carp0")


def test_no_virtual_hosts() -> None:
    with pytest.raises(ConfigError, match="an engine without virtual hosts has nothing to do"):
        Engine()


def test_a_virtual_host_without_addresses() -> None:
    with pytest.raises(ConfigError, match="carp101 has no address: give at least one") as caught:
        Engine(VirtualHost(vhid=101, passphrase=""))
    assert caught.value.field == "addresses"


@pytest.mark.parametrize("wrong", [[HOST], (HOST, HOST), {HOST.name: HOST}, "vhid 101", None])
def test_what_is_no_virtual_host(wrong: object) -> None:
    several = r"give them as separate arguments: Engine\(\*hosts\)"
    remedy = several if isinstance(wrong, list | tuple) else "make one"
    with pytest.raises(ConfigError, match=f"was given a {type(wrong).__name__}: {remedy}"):
        Engine(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("allow", 1), ("allow", "no"), ("on_event", 5), ("queue", "many"), ("queue", 1.5), ("queue", True)],
)
def test_an_argument_of_the_wrong_type(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is of type {type(value).__name__}") as caught:
        Engine(HOST, **{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


@pytest.mark.parametrize("queue", [0, -5])
def test_a_queue_that_holds_nothing(queue: int) -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        Engine(HOST, queue=queue)


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.state(101),
        lambda engine: engine.stats("carp0"),
        lambda engine: engine.demotion(101),
        lambda engine: engine.demote(),
        lambda engine: engine.undemote(),
        lambda engine: engine.force(101, State.MASTER),
        lambda engine: engine.hand_over(101),
        lambda engine: engine.announce(101),
        lambda engine: engine.reconfigure(HOST),
        lambda engine: engine.measures(),
    ],
)
def test_what_needs_a_running_engine_says_so(call: object) -> None:
    with pytest.raises(EngineError, match="the engine is not running: start it first, or make a new one"):
        call(Engine(HOST))  # type: ignore[operator]


def test_stopping_what_never_ran() -> None:
    engine = Engine(HOST)
    engine.stop()
    engine.stop()
    assert engine.poll() is None
    assert list(engine.events(timeout=0)) == []


def test_what_it_shows_of_itself_has_no_secret() -> None:
    engine = Engine(HOST)
    assert repr(engine) == "<pycarp.Engine carp0 not running>"
    assert "motdepasse" not in repr(engine) + repr(engine.hosts) + str(vars(engine))
    assert engine.hosts == (HOST,)


def test_an_engine_that_is_only_made_costs_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    engines = [Engine(HOST, on_event=print) for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == len(before)
    del engines


def test_its_name_is_public() -> None:
    assert pycarp.Engine is Engine
    assert "Engine" in pycarp.__all__
