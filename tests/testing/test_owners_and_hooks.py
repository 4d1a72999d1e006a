"""`carp_lan`: owners, and the programs of hooks."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

import pycarp
from pycarp import Hook, State, VirtualHost, _impl, aio, events
from pycarp.testing import CarpLan

VIP = "10.13.37.42"
GROUP = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=[f"{VIP}/24"], preempt=True)


@pytest.fixture(autouse=True)
def both(impl: _impl.Implementation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "current", impl)


def kinds(owner: pycarp.Owner | pycarp.Engine) -> list[str]:
    return [type(event).__name__ for event in owner.events(timeout=0)]


def test_an_owner_has_the_addresses_for_as_long_as_its_program_says(carp_lan: CarpLan) -> None:
    first = carp_lan.owner("first", f"{VIP}/24", vhid=7)
    second = carp_lan.owner("second", f"{VIP}/24", vhid=7)
    client = carp_lan.client("client", "10.13.37.200/24")
    assert isinstance(first, pycarp.Owner)
    with first, second:
        assert first.state is State.INIT and not first.held and not first.renew(5)
        assert first.take(5) and first.held and carp_lan.holder(VIP) == "first"
        carp_lan.run(4)
        assert first.renew(5)
        carp_lan.run(4.5)
        assert first.held
        carp_lan.run(0.6)
        assert not first.held and carp_lan.holder(VIP) is None and not first.renew(5)
        assert kinds(first)[-3:] == ["TenureEnded", "AddressesDropped", "StateChanged"]
        # A lease that outlives the holder's program does not outlive it here.
        assert first.take()
        carp_lan.run(3600)
        assert first.held
        pings = client.ping(VIP)
        carp_lan.run(1)
        assert pings.received >= pings.sent - 1 > 5
        carp_lan.kill("first")
        assert carp_lan.holder(VIP) is None and second.take(10)
        carp_lan.run(1)
        assert carp_lan.holder(VIP) == "second" and sum(one.lost for one in pings.outages()) <= 1
        # A cable that is back within the tenure.
        carp_lan.cut("second")
        carp_lan.run(1)
        assert not second.held and second.state is State.INIT
        carp_lan.heal("second")
        carp_lan.run(1)
        assert second.held
        second.release()
        assert not second.held
        # Nobody heard an advert; a group with the same virtual MAC is told of.
        assert "AdvertRejected" not in kinds(second)
        with carp_lan.engine("third", GROUP.replace(vhid=7)):
            carp_lan.run(5)
            assert "AdvertRejected" in kinds(second)


def test_the_owner_has_every_member_as_it_is(carp_lan: CarpLan) -> None:
    for simulated, real in ((carp_lan.owner, pycarp.Owner), (carp_lan.aio_owner, aio.Owner)):
        owner = simulated(real.__module__, f"{VIP}/24", vhid=7)
        assert isinstance(owner, real)
        names = {name for name in dir(real) if not name.startswith("_")}
        assert names == {name for name in dir(type(owner)) if not name.startswith("_")}
        for name in names:
            theirs, ours = inspect.getattr_static(real, name), inspect.getattr_static(type(owner), name)
            assert type(ours) is type(theirs) and (
                not callable(ours) or inspect.signature(ours) == inspect.signature(theirs)
            )


def test_an_owner_for_asyncio(carp_lan: CarpLan) -> None:
    async def story() -> None:
        async with carp_lan.aio_owner("first", f"{VIP}/24", vhid=7) as owner:
            assert await owner.take(3)
            await carp_lan.arun(5)
            seen = [event async for event in owner.events(timeout=0.05)]
            assert any(isinstance(event, events.TenureEnded) for event in seen)

    asyncio.run(story())


def test_programs_of_hooks_run_before_time_goes_on(carp_lan: CarpLan, tmp_path: Path) -> None:
    log = tmp_path / "log"
    say = f'echo "$1 $PYCARP_STATE $PYCARP_VHID" >> {log}; cat > /dev/null; echo said'
    hooks = [Hook(when=when, command=["/bin/sh", "-c", say, "sh", when]) for when in ("master", "backup", "drain")]
    broken = Hook(when="master", command=["/bin/sh", "-c", "exit 3"])
    threads = threading.active_count()
    host = GROUP.replace(hooks=[*hooks, broken])
    first, second = carp_lan.engine("first", host), carp_lan.engine("second", GROUP.replace(advskew=100))
    first.start()
    second.start()
    assert threading.active_count() == threads
    carp_lan.run_until(lambda: carp_lan.master() == "first")
    carp_lan.run(0)
    assert log.read_text() == "backup BACKUP 101\nmaster MASTER 101\n"
    seen = list(first.events(timeout=0))
    (failed,) = [event for event in seen if isinstance(event, events.HookFailed)]
    (master,) = [event for event in seen if isinstance(event, events.StateChanged) and event.after is State.MASTER]
    assert failed.why == "exit code 3" and failed.at == master.at
    assert [event.line for event in seen if isinstance(event, events.HookSaid)] == ["said", "said"]
    # The program that drains has ended before the addresses go.
    carp_lan.run(5)
    assert first.hand_over(timeout=5)
    assert carp_lan.master() == "second"
    assert log.read_text().splitlines()[2:] == ["drain MASTER 101", "backup BACKUP 101"]
    first.stop()
    # stop() of a BACKUP: it is INIT at the end, which no hook here is about
    assert len(log.read_text().splitlines()) == 4
