"""What an engine says of itself while it runs, and what it is told to do, from Python and from outside."""

from __future__ import annotations

import json
import time
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest
from support.lan import SWIFT, WITHIN, Lan, wait_until
from support.wire import VIP, Frame

from pycarp import Reason, State, events
from pycarp.engine.snapshot import SCHEMA, DemotedBy, InstanceSnapshot, Snapshot
from pycarp.stats import Stats

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
VIRTUAL_MAC = "00:00:5e:00:01:65"
MAIN, SECOND = "10.13.37.11", "10.13.37.12"


def one(snapshot: Snapshot) -> InstanceSnapshot:
    [instance] = snapshot.instances
    return instance


def test_a_snapshot_says_who_is_master_and_why(net: Lan) -> None:
    # Fault: A hand-over, a demotion, and adverts with the right digest from forty source addresses.
    # Expected: Each host's snapshot says its state, since when and why, its master, whom it hears, and who demotes it.
    main, second = net.start("main"), net.start("second", advskew=SWIFT["advskew"] + 1)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    before = time.monotonic_ns()
    whole = main.engine.snapshot()
    here, there = one(whole), one(second.engine.snapshot())
    assert (here.state, here.why, here.master, here.owns) == (MASTER, Reason.MASTER_DOWN, None, True)
    assert here.since <= before <= whole.taken <= time.monotonic_ns() and whole.guardian and whole.since < here.since
    assert abs(whole.time - time.time_ns()) < WITHIN * 1_000_000_000
    assert (here.mac, here.carpdev, here.addresses) == (VIRTUAL_MAC, "eth0", (f"{VIP}/24",))
    assert here.due is not None and here.due > here.since and here.well and whole.well and here.lease is not None
    assert (there.state, there.why, there.standing_back) == (BACKUP, Reason.STARTED, None)
    master = there.master
    assert master is not None and master is there.peers[0]
    assert (master.source, master.mac, master.vhid, master.kind) == (MAIN, VIRTUAL_MAC, 101, "advert")
    assert (master.advbase, master.advskew) == (SWIFT["advbase"], SWIFT["advskew"])
    assert set(master.dialects) == {"bsd", "netbsd"} and master.heard <= time.monotonic_ns() and master.count > 0
    with pytest.raises(FrozenInstanceError):
        here.state = BACKUP  # type: ignore[misc]

    main.engine.hand_over(101)
    wait_until(lambda: (known := one(main.engine.snapshot()).master) is not None and known.source == SECOND)
    here = one(main.engine.snapshot())
    assert (here.state, here.why) == (BACKUP, Reason.HANDED_OVER)
    assert here.standing_back is not None and here.standing_back.why == "handed over"
    there = one(second.engine.snapshot())
    assert (there.state, there.why, there.cause, there.master) == (MASTER, Reason.BOWOUT, MAIN, None)
    assert there.peers[0].source == MAIN and there.peers[0].kind == "bow-out"

    main.engine.demote(2)
    whole = main.engine.snapshot()
    assert whole.demotion == one(whole).demotion == 2 and whole.demotions == (DemotedBy(reason="", by=2),)
    assert one(whole).effective_advskew == 240 and one(whole).advskew == SWIFT["advskew"] and not whole.well
    main.engine.undemote(2)

    frame = Frame(advbase=SWIFT["advbase"], advskew=SWIFT["advskew"] + 2)
    forged = [frame.but(source=f"10.13.37.{number}") for number in range(100, 140)]
    net.inject("client", *map(bytes, forged))
    wait_until(lambda: len(one(main.engine.snapshot()).peers) == 32)
    wait_until(lambda: (known := one(main.engine.snapshot()).master) is not None and known.source == SECOND)
    assert len(main.log.find(events.PeerHeard)) <= 32
    stands = as_json(main.engine.snapshot())
    assert stands["schema"] == SCHEMA == 1
    assert stands["instances"][0]["master"]["source"] == SECOND and stands["instances"][0]["state"] == "BACKUP"
    assert set(stands["instances"][0]["counters"]) == set(asdict(Stats()))


def as_json(snapshot: Snapshot) -> Any:
    """As it is after it has gone through JSON."""
    return json.loads(json.dumps(snapshot.as_dict()))
