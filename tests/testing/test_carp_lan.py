"""The fixture `carp_lan`: engines that are `pycarp.Engine`s, on a LAN and a clock of their own."""

from __future__ import annotations

import asyncio
import inspect
import select
import threading
import time
from typing import Any

import pytest

import pycarp
from pycarp import Check, EngineError, State, VirtualHost, _impl, aio, events
from pycarp.errors import ConfigError
from pycarp.testing import CarpLan, SimulatedEngine

VIP = "10.13.37.42"
GROUP = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=[f"{VIP}/24"], preempt=True)
SECOND_HOST = GROUP.replace(advskew=100)


@pytest.fixture(autouse=True)
def both(impl: _impl.Implementation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every LAN runs on each implementation."""
    monkeypatch.setattr(_impl, "current", impl)


def pair(lan: CarpLan, **of_first: Any) -> tuple[SimulatedEngine, SimulatedEngine]:
    first, second = lan.engine("first", GROUP, **of_first), lan.engine("second", SECOND_HOST)
    first.start()
    second.start()
    lan.run(5)
    assert lan.master() == "first" == lan.holder(VIP)
    return first, second


def texts(engine: pycarp.Engine) -> list[str]:
    return [event.text for event in engine.events(timeout=0)]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("simulated", "real"), [("engine", pycarp.Engine), ("aio_engine", aio.Engine)])
def test_it_has_every_public_member_of_the_engine_as_it_is(
    carp_lan: CarpLan, simulated: str, real: type[pycarp.Engine]
) -> None:
    engine = getattr(carp_lan, simulated)("host", GROUP)
    assert isinstance(engine, real)
    assert public(type(engine)) == public(real)
    for name in public(real):
        theirs, ours = inspect.getattr_static(real, name), inspect.getattr_static(type(engine), name)
        assert type(ours) is type(theirs), name
        if callable(theirs):
            assert inspect.signature(ours) == inspect.signature(theirs), name
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs), name
    # What a start of the engine hands to its runtime is there as well: each call of every member finds what it needs.
    given = set(inspect.signature(pycarp.Engine.__init__).parameters) - {"self", "hosts"}
    assert given >= {"on_event", "queue", "allow", "watchdog"}
    everything = {name: parameter.default for name, parameter in inspect.signature(pycarp.Engine).parameters.items()}
    del everything["hosts"]
    carp_lan.engine("other", GROUP, **everything)


def test_every_member_works(carp_lan: CarpLan, tmp_path: Any) -> None:
    """Each public member of `pycarp.Engine` is called; one that is new and not called here fails the last line."""
    called: set[str] = set()

    class Watched(SimulatedEngine):
        def __getattribute__(self, name: str) -> Any:
            called.add(name)
            return super().__getattribute__(name)

    first, _second = pair(carp_lan, watchdog=30.0, maintenance_file=tmp_path / "maintenance")
    first.__class__ = Watched
    assert first.hosts == (GROUP,) and first.waiting == {} and first.predecessor == 0
    assert first.state("carp101") is State.MASTER is first.state(101)
    assert first.stats(101)["opackets"] >= 2 and len(first.measures().takeover) == 40
    tap = first.tap()
    assert first.demote(2, "tired") == 2 == first.demotion(101)
    carp_lan.run(1)
    assert carp_lan.master() == "second"
    assert first.undemote(2, "tired") == 0
    carp_lan.run(2)
    with first.demoted("for a moment"):
        assert [one.reason for one in first.snapshot().demotions] == ["for a moment"]
    first.fault("broken")
    carp_lan.run(1)
    assert carp_lan.master() == "second" and first.snapshot().instances[0].standing_back.why == "fault"
    first.fault("broken", on=False)
    carp_lan.run(2)
    assert carp_lan.master() == "first"
    assert first.hand_over(timeout=1) and carp_lan.master() == "second"
    assert first.begin_hand_over().look() == {}
    assert first.maintenance(True) == "" and first.in_maintenance and (tmp_path / "maintenance").exists()
    carp_lan.run(5)
    assert first.snapshot().instances[0].standing_back.why == "maintenance"
    assert first.maintenance(False) == ""
    carp_lan.run(5)
    assert carp_lan.master() == "first"
    first.force(101, State.BACKUP)
    assert first.state(101) is State.BACKUP
    carp_lan.run(5)
    first.announce(101)
    first.alive()
    first.health.add("looks", lambda: True)
    first.report(events.HookSaid(vhid=0, name="", at=0, hook="h", line="hello"))
    with pytest.raises(EngineError, match="no process that could hold"):
        first.bequeath()
    with pytest.raises(ConfigError, match="nextpass"):
        first.speak("new")
    first.reconfigure(GROUP.replace(advskew=5), GROUP.replace(vhid=102, name=None, addresses=["10.13.37.43/24"]))
    carp_lan.run(5)
    assert carp_lan.masters(102) == ["first"] and first.hosts[0].advskew == 5
    snapshot = first.snapshot()
    assert snapshot.well and snapshot.as_dict()["instances"][1]["state"] == "MASTER"
    assert snapshot.taken == snapshot.since + int(carp_lan.now * 1e9)
    assert snapshot.instances[0].peers and snapshot.instances[0].checks[0].up
    with pytest.raises(ConfigError, match="both have vhid 101"):
        first.reconfigure(GROUP, GROUP.replace(name="carp9"))
    assert select.select([first.fileno()], [], [], 0)[0]
    assert first.poll().text == "INIT -> BACKUP: started"
    assert any(isinstance(event, events.DemotionReason) for event in first.events(timeout=0))
    assert tap.get(0) is not None
    first.untap(tap)
    with pytest.raises(EngineError, match="an engine runs once"):
        first.start()
    first.stop()
    with pytest.raises(EngineError, match="not running"):
        first.state(101)
    assert carp_lan.run_until(lambda: carp_lan.master(101) == "second") < 0.1
    assert public(pycarp.Engine) <= called


def test_cut_heal_kill_and_crash(carp_lan: CarpLan) -> None:
    first, second = pair(carp_lan)
    client = carp_lan.client("client")
    pings = client.ping(VIP)
    carp_lan.cut("first")
    assert 2 < carp_lan.run_until(lambda: carp_lan.holder(VIP) == "second") < 3.5
    carp_lan.heal("first")
    carp_lan.run_until(lambda: carp_lan.master() == "first", within=2)
    carp_lan.kill("first")
    assert carp_lan.run_until(lambda: carp_lan.holder(VIP) == "second") < 0.1
    with pytest.raises(EngineError, match="not running"):
        first.state(101)
    assert select.select([first], [], [], 0)[0]
    again = carp_lan.engine("first", GROUP)
    with again:
        carp_lan.run_until(lambda: carp_lan.master() == "first", within=2)
        carp_lan.deafen("first")
        carp_lan.run(1)
        carp_lan.heal("first")
        carp_lan.crash("first")
        assert 2 < carp_lan.run_until(lambda: carp_lan.holder(VIP) == "second") < 3.5
    assert [outage.duration > 2e9 for outage in pings.outages() if outage.duration > 0.1e9] == [True, True]
    assert "BACKUP -> MASTER: master-down" in " ".join(texts(second))
    with pytest.raises(ValueError, match="there is no host 'third'"):
        carp_lan.cut("third")


def test_a_cut_that_nobody_sees_makes_two_masters(carp_lan: CarpLan) -> None:
    first, _ = pair(carp_lan)
    carp_lan.cut("first", seen=False)
    carp_lan.run(5)
    assert carp_lan.masters() == ["first", "second"] and carp_lan.master() is carp_lan.holder(VIP) is None
    with pytest.raises(AssertionError, match="not so after 1 s: first: vhid 101 is MASTER; second: vhid 101 is MASTER"):
        carp_lan.run_until(carp_lan.master, within=1)
    carp_lan.heal("first")
    carp_lan.run(2)
    assert carp_lan.master() == "first"
    carp_lan.deafen("second")
    carp_lan.run(10)
    told = {type(event): event for event in first.events(timeout=0)}
    assert told[events.RivalHeard].rule == "worse" and "it does not hear these adverts" in told[events.RivalDeaf].text


def run_of(seed: int, loss: float) -> list[str]:
    with CarpLan(seed, loss=loss, jitter=0.02) as lan:
        for number in range(5):
            lan.engine(f"host{number}", GROUP.replace(advskew=10 * number)).start()
        lan.run(120)
        lan.kill(lan.masters()[0])
        lan.run(60)
        return [f"{record.at} {record.host} {record.event}" for record in lan.log]


def test_a_seed_gives_one_run_also_with_loss_and_jitter() -> None:
    assert run_of(1, 0.2) == run_of(1, 0.2) != run_of(2, 0.2)
    assert run_of(1, 0.2) != run_of(1, 0)


def test_loss_and_jitter_are_looked_at(carp_lan: CarpLan) -> None:
    with pytest.raises(ValueError, match="give 0 to 1"):
        carp_lan.loss = 2
    with pytest.raises(ValueError, match="before they are sent"):
        carp_lan.jitter = -1


def test_checks_look_in_their_turn(carp_lan: CarpLan) -> None:
    well, looked = True, []

    def look() -> bool:
        looked.append(carp_lan.now)
        return well

    async def look_too() -> bool:
        return well

    first, _ = pair(carp_lan)
    begun = carp_lan.now
    first.health.add("mine", look, interval=0.5, fall=2)
    first.health.add("awaited", look_too, interval=10, weight=3)
    carp_lan.run(2)
    assert looked == [pytest.approx(begun + 0.5 * number) for number in range(5)][: len(looked)] and len(looked) >= 4
    well = False
    assert carp_lan.run_until(lambda: carp_lan.master() == "second") <= 1.1
    checks = {check.name: check for check in first.snapshot().instances[0].checks}
    assert not checks["mine"].up and checks["mine"].fault and checks["awaited"].up
    assert any(event.text == "check mine fails: it says no" for event in first.events(timeout=0))
    well = True
    carp_lan.run_until(lambda: carp_lan.master() == "first", within=4)
    first.health.remove("mine")
    count = len(looked)
    carp_lan.run(5)
    assert len(looked) == count


def test_configured_checks_and_groups_that_move_together(carp_lan: CarpLan, tmp_path: Any) -> None:
    sign = tmp_path / "well"
    sign.touch()
    check = Check(name="sign", kind="file", words=(str(sign),), interval=0.1)
    other = GROUP.replace(vhid=102, name=None, addresses=["10.13.37.43/24"], preempt=False, sync=("carp101",))
    first = carp_lan.engine("first", GROUP.replace(checks=(check,), preempt=False), other)
    second = carp_lan.engine("second", SECOND_HOST.replace(preempt=False), other.replace(advskew=100))
    with first, second:
        carp_lan.run(5)
        assert carp_lan.masters(101) == carp_lan.masters(102) == ["first"]
        sign.unlink()
        carp_lan.run(1)
        assert carp_lan.masters(101) == carp_lan.masters(102) == ["second"]


def test_events_are_told_and_waiting_for_one_lets_time_pass(carp_lan: CarpLan) -> None:
    told: list[str] = []
    first = carp_lan.engine("first", GROUP, on_event=lambda event: told.append(event.text))
    first.start()
    before = time.monotonic()
    taken = next(event for event in first.events() if isinstance(event, events.AddressesTaken))
    assert taken.at == pytest.approx(3e9, rel=0.01) and time.monotonic() - before < 1
    assert list(first.events(timeout=2)) == [] and carp_lan.now == pytest.approx(5, abs=0.1)
    with pytest.raises(TimeoutError, match="no event comes in an hour"):
        next(first.events())
    assert told == [
        "INIT -> BACKUP: started",
        "BACKUP -> MASTER: master-down timer expired",
        f"holds {VIP}/24 (0.2 ms)",
    ]
    first.stop()
    assert [event.text for event in first.events()][-1] == "MASTER -> INIT: administratively down" == told[-1]


def test_threads_of_the_program_wait_and_let_no_time_pass(carp_lan: CarpLan) -> None:
    first, _ = pair(carp_lan)
    seen: list[str] = []
    consumer = threading.Thread(target=lambda: seen.extend(event.text for event in first.events()))
    consumer.start()
    now = carp_lan.now
    calls = [threading.Thread(target=lambda: [first.demote() and first.undemote() for _ in range(50)]) for _ in "ab"]
    for call in calls:
        call.start()
    time.sleep(0.01)
    assert carp_lan.now == now
    carp_lan.run(5)
    for call in calls:
        call.join()
    first.stop()
    consumer.join()
    # Whether it was MASTER then is the threads' affair: they demoted it at any time.
    assert seen[0] == "INIT -> BACKUP: started" and any("-> INIT: administratively down" in text for text in seen)


def test_the_watchdog(carp_lan: CarpLan) -> None:
    first, _ = carp_lan.engine("first", GROUP, watchdog=10.0), carp_lan.engine("second", SECOND_HOST).start()
    first.start()
    carp_lan.run_until(lambda: carp_lan.master() == "second", within=10.1)
    assert first.snapshot().watchdog.expired
    first.alive()
    carp_lan.run(2)
    assert carp_lan.master() == "first"


def test_adverts_are_not_obeyed_with_allow_false(carp_lan: CarpLan) -> None:
    pair(carp_lan)
    with carp_lan.engine("third", GROUP.replace(advskew=50), allow=False) as third:
        carp_lan.run(10)
        assert third.state(101) is State.MASTER and len(carp_lan.masters()) == 2


def test_one_engine_at_a_time(carp_lan: CarpLan) -> None:
    pair(carp_lan)
    with pytest.raises(ValueError, match="an engine runs on first already"):
        carp_lan.engine("first", GROUP)


def test_asyncio(carp_lan: CarpLan) -> None:
    async def program() -> None:
        served = 0

        async def serve() -> None:
            nonlocal served
            while True:
                served += 1
                await asyncio.sleep(0)

        serving = asyncio.create_task(serve())
        async with carp_lan.aio_engine("first", GROUP) as first, carp_lan.aio_engine("second", SECOND_HOST) as second:
            await carp_lan.arun(5)
            assert carp_lan.master() == "first" and served
            await first.demote(1, "tired")
            await carp_lan.arun(2)
            assert [event.text async for event in second.events(timeout=0.01)][-1] == f"holds {VIP}/24 (0.2 ms)"
            assert await second.hand_over(timeout=1)
            assert (await first.snapshot()).find(101).state is State.MASTER
        serving.cancel()

    asyncio.run(program())


def test_a_thousand_hosts(carp_lan: CarpLan) -> None:
    engines = [
        carp_lan.engine(f"host{number}", GROUP.replace(advskew=number % 250, advbase=1 + number // 250))
        for number in range(1000)
    ]
    for engine in engines:
        engine.start()
    carp_lan.run(4)
    assert carp_lan.master() == "host0"
    carp_lan.kill("host0")
    carp_lan.run(2)
    assert carp_lan.master() == "host1"
