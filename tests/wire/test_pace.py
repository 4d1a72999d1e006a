"""A pace, on the wire."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest
from support.lan import VIP, Lan, stays, virtual_host, wait_until
from support.wire import Frame

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


@pytest.mark.usefixtures("with_impl")
def test_a_reload_shares_out_anew_what_an_interface_sends(net: Lan) -> None:
    # Fault: A reload asks two MASTERs of one interface for paces that are too fast together; then one of them has none.
    # Expected: Both are slower, and say why; then the other one has its own.
    wanted = [virtual_host(advbase=1, advskew=0, vhid=vhid, addresses=[f"10.13.37.{vhid}/24"], pace=50, dialect="bsd")
              for vhid in (101, 102)]  # fmt: skip
    main = net.start("main", *wanted)
    for vhid in (101, 102):
        main.become(MASTER, vhid)
    main.reconfigure(*(one.replace(pace=1) for one in wanted))
    for vhid in (101, 102):
        assert "too fast" in main.wait(events.PaceChanged, vhid=vhid).what
    main.reconfigure(wanted[0].replace(pace=1), wanted[1].replace(pace=0))
    main.log.until(lambda: "too fast" not in main.log.find(events.PaceChanged, vhid=101)[-1].what)


# Natively alone: the flood comes from the process of the MASTER, which could not keep such a pace in Python.
def test_an_advert_behind_a_flood_is_read_before_a_takeover(net: Lan, secret: str) -> None:
    # Fault: A backup of a MASTER with a pace stands still for longer than its silence, during a flood of forgeries.
    # Expected: It finds the MASTER's adverts behind the forgeries, and does not take over.
    pace, times = 10, 8
    main = net.start("main", advbase=1, advskew=0, pace=pace, dialect="bsd")
    main.become(MASTER)
    words = ("vhid", "101", "passfile", secret, "advbase", "1", "advskew", "100", f"{VIP}/24")
    second = net.command("second", "up", "carp101", *words)
    second.wait("PeerHeard")
    forged = [bytes(Frame(advbase=0, advskew=1, source="10.13.37.13", digest_flip=1))] * 200
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            net.inject("client", *forged)

    time.sleep(64 * pace / 1000 + 0.3)
    sender = threading.Thread(target=flood)
    sender.start()
    try:
        for _ in range(times):
            time.sleep(0.1)
            second.send_signal(signal.SIGSTOP)
            time.sleep(5 * pace / 1000)
            second.send_signal(signal.SIGCONT)
    finally:
        ended.set()
        sender.join()
    time.sleep(0.2)
    assert [event["after"] for event in second.log.find("StateChanged")] == ["BACKUP"]
    assert main.state() is MASTER
