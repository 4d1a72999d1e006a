"""Two masters that meet again: clients follow the one that stays, whoever heard whom first."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest
from support.lan import VIP, VIP6, Lan, stays, wait_until
from support.wire import BROADCAST_MAC, Frame

from pycarp import Reason, State, events
from pycarp.lab.namespaces import Frame as Recorded

MASTER, BACKUP = State.MASTER, State.BACKUP
BOTH = (f"{VIP}/24", f"{VIP6}/64")
ALL_NODES = bytes.fromhex("333300000001")


def announcements(net: Lan, name: str) -> list[Recorded]:
    """Gratuitous ARP and unsolicited neighbour advertisements that came from a host."""
    frames = [one for one in list(net.capture.frames) if one.port == name and not one.outgoing]
    return [
        one
        for one in frames
        if (one.data[:6] == BROADCAST_MAC and one.data[28:32] == one.data[38:42])
        or (one.data[:6] == ALL_NODES and one.data[54] == 136)
    ]


def words_to_the_rival(net: Lan, name: str) -> list[Recorded]:
    frames = [one for one in list(net.capture.frames) if one.port == name and not one.outgoing]
    return [one for one in frames if not one.data[0] & 1 and one.data[23] == 112 and one.ethertype == 0x0800]


@pytest.mark.parametrize("mac", ["virtual", "interface"])
@pytest.mark.parametrize("cut", ["main", "second"])
def test_the_one_that_yields_makes_the_other_announce(
    make_lan: Callable[..., Lan], with_impl: str, mac: str, cut: str
) -> None:
    # Fault: A cut behind a port of the switch, which no carrier tells, heals. The better or the worse host was cut off.
    # Expected: The worse one yields and says so to the other alone, from its own MAC. That one announces each address
    #   right after. A third host, which a bow-out to all would move, stays BACKUP.
    net = make_lan(("main", "second", "third", "client"))
    options = {"addresses": BOTH, "mac": mac, "preempt": True}
    main = net.start("main", advskew=10, **options)
    main.become(MASTER)
    second = net.start("second", advskew=100, **options)
    net.lab.unplug(cut, seen=False)
    second.become(MASTER)
    third = net.start("third", advskew=30, addresses=BOTH, mac=mac) if cut == "second" else None
    if third is not None:
        third.wait(events.PeerHeard, peer=net["main"].address)
    net.forget()
    net.lab.plug(cut)
    second.become(BACKUP)
    wait_until(lambda: bool(words_to_the_rival(net, "second")))
    said = words_to_the_rival(net, "second")[0]
    own = {one.source for one in net.capture.frames if one.port == "second" and not one.outgoing}
    assert said.source in own and said.source[:5] != bytes.fromhex("00005e0001")
    wait_until(lambda: len({one.data[12:14] for one in announcements(net, "main") if one.at_ns >= said.at_ns}) == 2)
    first = next(one for one in announcements(net, "main") if one.at_ns >= said.at_ns)
    assert first.at_ns - said.at_ns < 50_000_000
    if third is not None:
        assert not [one for one in third.transitions() if one.after is MASTER]
    assert main.state() is MASTER


def test_a_bow_out_to_one_that_has_yielded_itself(net: Lan, with_impl: str) -> None:
    # Fault: Of three masters that meet, the worst yields to the second best, which has just yielded to the best.
    # Expected: Its bow-out, which came to that host alone, makes nobody take over. A bow-out to all still does.
    main = net.start("main", advskew=25, advbase=1)
    main.become(MASTER)
    own = net["main"].run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    better = Frame(advbase=1, advskew=1, source=net["client"].address)
    bowout = Frame(advbase=255, advskew=255, source=net["second"].address)
    net.forget()
    net.inject("client", bytes(better), bytes(bowout.but(destination_mac=bytes.fromhex(own.replace(":", "")))))
    main.wait(events.StateChanged, after=BACKUP)
    stays(lambda: main.state() is BACKUP, 0.2)
    net.inject("client", bytes(bowout))
    change = main.wait(events.StateChanged, after=MASTER)
    assert change.reason is Reason.BOWOUT


def test_a_master_announces_again_and_again(net: Lan, with_impl: str) -> None:
    # Fault: A rival of another make (ucarp, a BSD) yields in silence: no sign that clients went astray.
    # Expected: It announces its addresses every so many seconds, with an advert, in both forms of ARP; or never.
    main, second = (
        net.start(name, vhid=vhid, addresses=[address], advskew=10, announcements=1, announce=every)
        for name, vhid, address, every in (("main", 101, f"{VIP}/24", 2), ("second", 102, "10.13.37.43/24", 0))
    )
    main.become(MASTER)
    second.become(MASTER)
    wait_until(lambda: len(announcements(net, "main")) >= 4)
    request, reply, again, last = announcements(net, "main")[:4]
    assert [one.data[20:22] for one in (request, reply, again, last)] == [b"\0\1", b"\0\2"] * 2
    assert 1.9e9 < again.at_ns - request.at_ns < 2.3e9
    assert len(announcements(net, "second")) == 2


def test_who_leaves_announces_nothing(net: Lan, with_impl: str) -> None:
    # Fault: A MASTER is asked to hand over between an advert and the announcement that follows it.
    # Expected: It announces nothing while it leaves: the switches' tables are its heir's.
    main = net.start("main", advskew=50, announcements=10)
    main.become(MASTER)
    for _ in range(5):
        sent = main.stats()["opackets"]
        while main.stats()["opackets"] == sent:
            time.sleep(0.0002)
        began = time.time_ns()
        main.engine.begin_hand_over()
        wait_until(lambda since=began: bowouts(net, since))  # type: ignore[misc]
        left = bowouts(net, began)[0]
        time.sleep(0.12)
        assert [one.at_ns - left for one in announcements(net, "main") if 0 < one.at_ns - left < 80e6] == []


def bowouts(net: Lan, since: int) -> list[int]:
    """When main bowed out."""
    heard = [one for one in list(net.capture.frames) if one.port == "main" and not one.outgoing and one.at_ns > since]
    return [one.at_ns for one in heard if one.data[23] == 112 and one.data[36] == one.data[39] == 255]


def guard_port(net: Lan, name: str) -> None:
    """Port security: the switch takes frames of a host's own MAC alone."""
    own = net[name].run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    net.lab.switch.run(["bridge", "fdb", "add", own, "dev", name, "master", "static"])
    net.lab.switch.run(["ip", "link", "set", name, "type", "bridge_slave", "locked", "on", "learning", "off"])


def test_port_security_is_told(net: Lan, with_impl: str) -> None:
    # Fault: The switch drops what comes from another MAC than the port's own: two masters, and neither hears the other.
    # Expected: The MASTER says that the virtual MAC is filtered, and names `mac interface`. With that all is well.
    net.audited = False  # the audit knows one kind of MAC for each host
    guard_port(net, "main")
    main = net.start("main", advskew=10)
    main.become(MASTER)
    second = net.start("second", advskew=25)
    second.become(MASTER)
    net["client"].run(["ping", "-c1", "-W1", VIP], check=False)
    told = main.wait(events.VirtualMacFiltered, timeout=16.0)
    assert "mac interface" in told.text and told.neighbour
    second.stop()
    main.reconfigure(*[dataclasses.replace(host, mac="interface") for host in main.hosts])
    main.become(MASTER)
    assert net.ping().wait(3)


def test_a_rival_that_does_not_hear_is_told(net: Lan, with_impl: str) -> None:
    # Fault: The MASTER's virtual MAC is filtered, the other host's is not: that one takes over and never yields.
    # Expected: The MASTER, which hears it, says after a second that the other does not hear, why that may be, and once.
    guard_port(net, "main")
    main = net.start("main", advskew=10)
    main.become(MASTER)
    second = net.start("second", advskew=25)
    told = main.wait(events.RivalDeaf, peer=net["second"].address)
    assert "mac interface" in told.text and "00:00:5e:00:01:65" in told.text
    stays(lambda: main.state() is second.state() is MASTER, 0.5)
    assert len(main.log.find(events.RivalDeaf)) == 1
