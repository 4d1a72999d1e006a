"""What demotes, by reason, for all virtual hosts or for one, and what a fault does, between two hosts."""

from __future__ import annotations

import pytest
from support.lan import SWIFT, Lan, stays, virtual_host

from pycarp import EngineError, State, events
from pycarp.engine.snapshot import DemotedBy

MASTER, BACKUP = State.MASTER, State.BACKUP


def test_reasons_add_up_for_one_and_for_all(net: Lan, with_impl: str) -> None:
    # Fault: Reasons demote one virtual host and all, are taken back too often, and one of two goes and comes back.
    # Expected: Sums are right for each; the snapshot and the events name the reasons; what goes is forgotten.
    first, other = virtual_host(), virtual_host(vhid=102, addresses=["10.13.37.43/24"])
    node = net.start("main", first, other)
    engine = node.engine
    assert engine.demote(2, "disk") == 2 and engine.demote(3, "db", 102) == 5 and engine.demote(1, "db") == 3
    assert (engine.demotion(101), engine.demotion(102)) == (3, 6)
    engine.fault("never", on=False)
    assert engine.undemote(9, "nothing") == 3 and engine.undemote(9, "disk") == 1
    assert {reason for _, reason in engine._supervisor.demotions._entries} == {"db"}, "empty ones are kept"
    assert node.wait(events.DemotionReason, reason="db", vhid=102).by == 3
    assert node.wait(events.DemotionReason, reason="disk", by=0).text == "no longer demoted by: disk"
    whole = engine.snapshot()
    assert whole.demotions == (DemotedBy(reason="db", by=1),)
    assert whole.instances[1].demotions == (DemotedBy(reason="db", by=1), DemotedBy(reason="db", by=3))
    with engine.demoted("a backup runs", by=4, which="carp101"):
        assert engine.demotion(101) == 5 and engine.demotion(102) == 4
    assert engine.demotion(101) == 1
    node.reconfigure(first)
    node.reconfigure(first, other)
    assert engine.demotion(102) == 1
    with pytest.raises(EngineError, match="no virtual host 9"):
        engine.fault("none", which=9)


def test_a_fault_hands_over_once(net: Lan, with_impl: str) -> None:
    # Fault: Both hosts have a fault, without preempt, one after the other; then the first with preempt gets well.
    # Expected: Each fault moves the address once; two faulty hosts leave it where it is; alone a host is MASTER.
    main, second = net.start("main"), net.start("second", advskew=SWIFT["advskew"] + 1)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    main.engine.fault("resolver")
    second.become(MASTER)
    main.become(BACKUP)
    standing = main.engine.snapshot().instances[0].standing_back
    assert standing is not None and standing.why == "fault"
    assert not main.engine.snapshot().well  # though with advbase 0 it demotes by nothing
    main.engine.fault("resolver")  # it has begun already
    second.engine.fault("resolver", which=101)
    main.become(MASTER)
    second.become(BACKUP)
    stays(lambda: (main.state(), second.state()) == (MASTER, BACKUP), 0.5)
    second.engine.fault("resolver", on=False, which=101)
    stays(lambda: main.state() is MASTER, 0.3)
    second.reconfigure(*(host.replace(preempt=True, advskew=SWIFT["advskew"] - 1) for host in second.hosts))
    second.become(MASTER)
    main.become(BACKUP)
    second.stop()
    main.become(MASTER)
    main.engine.fault("resolver", on=False)
    assert main.state() is MASTER and main.engine.demotion(101) == 0
