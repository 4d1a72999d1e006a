"""A host that is not MASTER sends no frame with the virtual MAC, answers nobody for the address, and holds it nowhere.

`support.audit` checks the record of the whole switch at the end of every test of this directory; here a client
asks all the time, in every way, while the hosts go through whatever might make one speak.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.audit import speaker
from support.lan import VIP, VIP6, Lan, held, stays, wait_until
from support.probe import echo_request

from pycarp import State, events
from pycarp.lab.namespaces import Frame as Recorded

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
VIRTUAL_MAC = bytes.fromhex("00005e000165")
BOTH = (f"{VIP}/24", f"{VIP6}/64")


@pytest.fixture
def asked(net: Lan) -> Lan:
    """A LAN whose client asks for both addresses: everybody, and each host alone."""
    net.probe(addresses=(VIP, VIP6), macs=(net["main"].mac, net["second"].mac, VIRTUAL_MAC))
    return net


def answers(net: Lan, name: str, since: int = 0) -> list[bytes]:
    """What a host has sent for one of the addresses, or from the virtual MAC, from a moment of CLOCK_REALTIME on."""
    found = []
    for frame in list(net.capture.frames):
        if frame.port == name and not frame.outgoing and frame.at_ns >= since:
            said = speaker(frame.data)
            if said.mac == VIRTUAL_MAC or said.address in (VIP, VIP6):
                found.append(frame.data)
    return found


def test_a_backup_that_only_starts_and_stops(asked: Lan) -> None:
    # Fault: None: a BACKUP starts, runs and stops while a client asks all hosts.
    # Expected: It never answers and never holds an address.
    main = asked.start("main", advskew=10, addresses=BOTH)
    main.become(MASTER)
    second = asked.start("second", advskew=25, addresses=BOTH)
    second.wait(events.PeerHeard)
    before = len(answers(asked, "main"))
    stays(lambda: second.state() is BACKUP, 0.4)
    second.stop()
    wait_until(lambda: len(answers(asked, "main")) > before + 10)
    assert answers(asked, "second") == []
    assert not held(asked["second"]) & {VIP, VIP6}


def test_a_host_that_never_started(asked: Lan) -> None:
    # Fault: The carpdev of a host that is configured down has no carrier, then has one.
    # Expected: INIT from start to end, and not one frame.
    asked.lab.unplug("main")
    main = asked.start("main", addresses=BOTH, up=False)
    assert main.state() is INIT
    asked.lab.plug("main")
    stays(lambda: main.state() is INIT, 0.4)
    main.stop()
    assert answers(asked, "main") == []


@pytest.mark.parametrize("preempt", [True, False], ids=["preempt", "stay"])
def test_all_the_way_round(asked: Lan, preempt: bool) -> None:
    # Fault: Demotion, cables in and out, forced states, a stop, while a client asks all hosts.
    # Expected: Only a MASTER ever answers (`support.audit`), and each was one.
    main = asked.start("main", advskew=10, addresses=BOTH, preempt=preempt)
    second = asked.start("second", advskew=25, addresses=BOTH, preempt=preempt)
    main.become(MASTER)
    main.engine.demote()
    second.become(MASTER)
    main.engine.undemote()
    asked.lab.unplug("second")
    main.become(MASTER)
    asked.lab.plug("second")
    second.become(BACKUP)
    main.engine.force(101, BACKUP)
    wait_until(lambda: len(asked.masters()) == 1)
    asked.lab.unplug("main", seen=False)
    second.become(MASTER)
    asked.lab.plug("main")
    wait_until(lambda: asked.masters() == ["main"])
    main.become(MASTER)
    second.become(BACKUP)
    for _ in range(3):
        asked.lab.unplug("main")
        asked.lab.plug("main")
    wait_until(lambda: len(asked.masters()) == 1)
    main.stop()
    second.become(MASTER)
    assert answers(asked, "main") and answers(asked, "second")


def test_with_the_carpdevs_own_mac(net: Lan) -> None:
    # Fault: A cut and its end, with `mac interface`.
    # Expected: The MAC of the MASTER answers, and the client learns it; a BACKUP answers nothing.
    net.probe(addresses=(VIP, VIP6), macs=(net["main"].mac, net["second"].mac))
    main = net.start("main", advskew=10, addresses=BOTH, mac="interface", preempt=True)
    second = net.start("second", advskew=25, addresses=BOTH, mac="interface", preempt=True)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    assert answers(net, "second") == []
    pingers = [net.ping(VIP), net.ping(VIP6)]
    assert all(pinger.wait(3) for pinger in pingers)
    net.lab.unplug("main")
    second.become(MASTER)
    # The client has learnt another MAC: by our announcements, for its own entries were fresh.
    assert all(pinger.wait(3) for pinger in pingers)
    net.lab.plug("main")
    main.become(MASTER)
    second.become(BACKUP)
    assert all(pinger.wait(3) for pinger in pingers)
    since = time.time_ns()
    stays(lambda: answers(net, "second", since) == [], 0.3)
    assert answers(net, "second")


def test_a_host_that_forwards_does_not_act_on_what_is_flooded(net: Lan) -> None:
    # Fault: A BACKUP that routes receives frames for the virtual MAC, as a switch floods them.
    # Expected: It forwards what is sent to its own MAC, and nothing that is sent to the virtual one.
    net["second"].run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    second = net.start("second", advskew=200)
    to_main = echo_request(net["client"].mac, net["client"].address, net["main"].address, VIRTUAL_MAC)
    net.inject("client", to_main, to_main, to_main)
    assert net.capture.wait(lambda one: one.port == "second" and one.outgoing and one.data == to_main)
    # The same to its own MAC it does forward: then the others would have been seen by now.
    net.inject("client", net["second"].mac + to_main[6:])

    def forwarded(one: Recorded) -> bool:
        return one.port == "second" and not one.outgoing and one.data[34:] == to_main[34:]

    assert net.capture.wait(forwarded)
    assert [one.source for one in net.capture.frames if forwarded(one)] == [net["second"].mac]
    assert second.state() is BACKUP


def test_many_quick_changes_leave_one_owner(make_lan: Callable[..., Lan]) -> None:
    # Fault: Take and drop orders overtake each other, 15 times.
    # Expected: In the end the kernel holds what the state says, and the address answers.
    net = make_lan()
    main = net.start("main", addresses=BOTH)
    main.become(MASTER)
    for _ in range(15):
        main.engine.force(101, BACKUP)
        main.engine.force(101, MASTER)
    main.become(MASTER)
    main.engine.force(101, BACKUP)
    wait_until(lambda: not held(net["main"]) & {VIP, VIP6})
    main.become(MASTER)
    assert net.ping().wait(3)
    assert net.ping(VIP6).wait(3)
