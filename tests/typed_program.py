"""A user's program, for a type checker: where no error is, a comment that ignores one is an error itself.

tests/test_events.py has mypy check it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import assert_never, assert_type

import pycarp
import pycarp.aio
import pycarp.anyio
from pycarp import events
from pycarp.engine.snapshot import InstanceSnapshot
from pycarp.stats import EngineStats


def describe(event: pycarp.Event) -> str:
    """Every kind of event, and no other."""
    match event:
        case events.StateChanged(before=before, after=after):
            return f"{before.name} -> {after.name}"
        case events.AddressesTaken() | events.AddressesDropped():
            return ", ".join(event.addresses)
        case events.CheckChanged(check=check, up=up):
            assert_type(up, bool)
            return check
        case (
            events.AddressConflict()
            | events.AdvertRejected()
            | events.CarpdevChanged()
            | events.CarpdevMacUsed()
            | events.ChangedAtOnce()
            | events.ChangedByOthers()
            | events.ChangeStep()
            | events.ControlClientDropped()
            | events.Demoted()
            | events.DemotionReason()
            | events.EventsLost()
            | events.Failed()
            | events.FamilySilent()
            | events.GateUnavailable()
            | events.GuardianLost()
            | events.GuardianReplaced()
            | events.HandedOn()
            | events.HookDone()
            | events.HookFailed()
            | events.HookSaid()
            | events.HooksSkipped()
            | events.HostFinding()
            | events.Inherited()
            | events.LeaseUnavailable()
            | events.NativeUnavailable()
            | events.PeerHeard()
            | events.RivalDeaf()
            | events.RivalHeard()
            | events.SiblingHeard()
            | events.Stalled()
            | events.PaceChanged()
            | events.TakeoverDelayed()
            | events.TenureEnded()
            | events.UnicastPeer()
            | events.VirtualMacFiltered()
            | events.VrrpHeard()
            | events.Waiting()
            | events.WatchdogExpired()
            | events.WatchdogFed()
        ):
            return event.text
        case _:
            assert_never(event)


def forgets(event: pycarp.Event) -> str:
    match event:
        case events.StateChanged():
            return event.text
        case _:
            assert_never(event)  # type: ignore[arg-type]


def calls_back(event: pycarp.Event) -> None:
    events.log(event, logging.getLogger("mine"))


def make(host: pycarp.VirtualHost) -> pycarp.Engine:
    callback: Callable[[pycarp.Event], None] = events.log
    pycarp.Engine(host, on_event=callback)
    pycarp.VirtualHost(vhid=1, passphrase="", preempt="no")  # type: ignore[arg-type]
    pycarp.Engine(host, missing="perhaps")  # type: ignore[arg-type]
    return pycarp.Engine(host, on_event=calls_back)


def figures(engine: pycarp.Engine) -> int:
    stats = engine.stats("carp0")
    assert_type(stats, EngineStats)
    assert_type(stats["ipackets"], int)
    assert_type(stats["wakeup"], tuple[int, ...])
    stats["ipackages"]  # type: ignore[typeddict-item]
    (first, *_others) = engine.snapshot().instances
    assert_type(first, InstanceSnapshot)
    assert_type(first.state, pycarp.State)
    assert_type(first.master.source if first.master else None, str | None)
    for event in engine.events(timeout=1):
        assert_type(event, pycarp.Event)
    return stats["opackets"] + len(first.peers)


async def awaited(engine: pycarp.aio.Engine | pycarp.anyio.Engine) -> int:
    assert_type(await engine.stats(101), EngineStats)
    assert_type((await engine.snapshot()).guardian, int | None)
    async for event in engine.events():
        describe(event)
    return await engine.demote(reason="a test")


def owner() -> bool:
    with pycarp.Owner("10.13.37.42/24", vhid=42, on_event=events.log) as mine:
        assert_type(mine.take(10), bool)
        return mine.renew(10.5) and mine.held
