"""A pace, on the wire."""

from __future__ import annotations

import itertools
import time

from support.lan import Lan, stays, wait_until

from pycarp import State, events

MASTER, BACKUP = State.MASTER, State.BACKUP


def test_a_silent_cut_with_a_pace(net: Lan, with_impl: str) -> None:
    # Fault: The cable of a MASTER with a pace is cut, unseen; later it comes back. Before, its engine moves on to
    # another pace and back.
    # Expected: The backup takes over after some of those adverts, not after 3 s; every advert has the interval of the
    # MASTER. When the cable is back the better host is MASTER again, and the other one obeys its pace anew.
    pace = 3 if with_impl == "native" else 20
    main = net.start("main", advbase=1, advskew=0, pace=pace, dialect="bsd")
    main.become(MASTER)
    second = net.start("second", advbase=1, advskew=100, dialect="bsd")
    second.wait(events.PeerHeard)
    stays(lambda: net.masters() == ["main"], 64 * pace / 1000 + 1.2)
    host = main.hosts[0]
    main.reconfigure(host.replace(pace=2 * pace))
    main.reconfigure(host)
    stays(lambda: net.masters() == ["main"], 64 * pace / 1000 + 0.5)
    before = len(net.capture.frames)
    time.sleep(1)
    adverts = [
        (one.at_ns, one.data[39], one.data[36])
        for one in net.capture.frames[before:].copy()
        if one.port == "main" and not one.outgoing and one.data[12:14] == b"\x08\0" and one.data[23] == 112
    ]
    assert {advert[1:] for advert in adverts} == {(1, 0)}
    gaps = sorted(later[0] - sooner[0] for sooner, later in itertools.pairwise(adverts))
    assert 0.8 * pace <= gaps[len(gaps) // 2] / 1e6 <= 1.5 * pace
    pinger = net.ping()
    assert pinger.wait(3)
    net.lab.unplug("main", seen=False)
    since = time.monotonic()
    second.become(MASTER)
    change = second.wait(events.StateChanged, after=MASTER)
    assert change.at / 1e9 - since < 1
    net.forget()
    net.lab.plug("main")
    second.become(BACKUP)
    wait_until(lambda: net.masters() == ["main"])
    stays(lambda: net.masters() == ["main"], 0.5)
    assert main.log.find(events.StateChanged) == []
