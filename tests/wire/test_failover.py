"""Who is master, and who becomes it when that one goes: the main job, on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, Node, held, stays, virtual_host, wait_until
from support.wire import Frame

from pycarp import EngineError, Reason, State, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
Values = dict[str, Any]
FIRST: Values = {"advskew": 10}
SECOND: Values = {"advskew": 25}
THIRD: Values = {"advskew": 40}


def pair(net: Lan, **changes: Any) -> tuple[Node, Node]:
    """A master in main and its backup in second."""
    main = net.start("main", **{**FIRST, **changes})
    second = net.start("second", **{**SECOND, **changes})
    main.become(MASTER)
    second.wait(events.PeerHeard)
    return main, second


@pytest.mark.parametrize("first, second", [(10, 25), (25, 10)])
def test_the_lowest_advskew_is_elected(net: Lan, with_impl: str, first: int, second: int) -> None:
    # Fault: None: two hosts start.
    # Expected: The lower advskew becomes MASTER by master-down, holds the address and answers; the other is BACKUP.
    nodes = [net.start("main", advskew=first), net.start("second", advskew=second)]
    best, other = nodes if first < second else reversed(nodes)
    best.become(MASTER)
    change = best.wait(events.StateChanged, after=MASTER)
    assert change.reason is Reason.MASTER_DOWN
    assert change.peer is None
    heard = other.wait(events.PeerHeard)
    assert heard.peer == best.host.address
    assert (heard.advbase, heard.advskew) == (0, min(first, second))
    assert other.state() is BACKUP
    assert net.ping().wait(3)
    assert VIP in held(best.host)
    assert VIP not in held(other.host)


def test_equal_hosts_agree_on_one_master(net3: Lan) -> None:
    # Fault: Three equal hosts start.
    # Expected: One becomes MASTER, and stays so for ten intervals.
    nodes = [net3.start(name) for name in ("main", "second", "third")]
    wait_until(lambda: len(net3.masters()) == 1)
    chosen = net3.masters()
    # Ten intervals: a tie that is not settled changes hands in each.
    stays(lambda: net3.masters() == chosen, 0.8)
    assert sum(node.state() is BACKUP for node in nodes) == 2


@pytest.mark.parametrize("seen", [True, False], ids=["carrier-lost", "unseen"])
def test_a_cut_cable_hands_over(net: Lan, with_impl: str, seen: bool) -> None:
    # Fault: The MASTER's cable is cut, with or without loss of carrier.
    # Expected: The backup takes over; the old MASTER goes to INIT only if it can see the cut.
    main, second = pair(net)
    pinger = net.ping()
    assert pinger.wait(3)
    net.forget()
    net.lab.unplug("main", seen=seen)
    second.become(MASTER)
    assert second.wait(events.StateChanged).reason is Reason.MASTER_DOWN
    assert pinger.wait(3)
    if seen:
        main.become(INIT)
        assert main.wait(events.StateChanged).reason is Reason.LINK_DOWN
        assert main.wait(events.CarpdevChanged).up is False
        assert main.engine.demotion(101) == 1
    else:
        # It cannot know: it speaks for the address on its side of the cut.
        assert main.state() is MASTER


@pytest.mark.parametrize("seen", [True, False], ids=["carrier-lost", "unseen"])
@pytest.mark.parametrize("preempt", [True, False], ids=["preempt", "stay"])
def test_the_cable_comes_back(net: Lan, seen: bool, preempt: bool) -> None:
    # Fault: A cut cable comes back.
    # Expected: The better host is MASTER again if it preempts or never knew of the cut; otherwise it stays BACKUP.
    main, second = pair(net, preempt=preempt)
    pinger = net.ping()
    net.lab.unplug("main", seen=seen)
    second.become(MASTER)
    net.forget()
    net.lab.plug("main")
    if seen and not preempt:
        main.become(BACKUP)
        stays(lambda: net.masters() == ["second"], 0.5)
    else:
        # Both were MASTER (the cut was not seen), or it preempts: the better one is master in the end.
        wait_until(lambda: net.masters() == ["main"])
        main.become(MASTER)
        second.become(BACKUP)
        assert second.wait(events.StateChanged, after=BACKUP).reason is Reason.BETTER
    assert pinger.wait(5)
    if seen:
        assert main.engine.demotion(101) == 0


def test_a_stop_bows_out(net: Lan, with_impl: str) -> None:
    # Fault: The MASTER's engine stops.
    # Expected: It drops and bows out; the backup takes over for that reason, without waiting for silence.
    main, second = pair(net)
    pinger = net.ping()
    assert pinger.wait(3)
    net.forget()
    main.stop()
    second.become(MASTER)
    change = second.wait(events.StateChanged)
    assert (change.reason, change.peer) == (Reason.BOWOUT, main.host.address)
    assert pinger.wait(3)
    assert [event.after for event in main.log.find(events.StateChanged)] == [INIT]
    assert main.log.find(events.AddressesDropped)


def test_three_hosts_two_failures(net3: Lan) -> None:
    # Fault: Of three hosts the best two are cut off, one after the other, and come back.
    # Expected: The next best takes over each time; the third becomes MASTER only once.
    nodes = {
        name: net3.start(name, **values) for name, values in (("main", FIRST), ("second", SECOND), ("third", THIRD))
    }
    nodes["main"].become(MASTER)
    pinger = net3.ping()
    assert pinger.wait(3)
    net3.lab.unplug("main")
    nodes["second"].become(MASTER)
    assert pinger.wait(3)
    net3.lab.unplug("second", seen=False)
    nodes["third"].become(MASTER)
    assert pinger.wait(3)
    net3.lab.plug("second")
    wait_until(lambda: net3.masters() == ["second"])
    net3.lab.plug("main")
    nodes["main"].become(BACKUP)
    stays(lambda: net3.masters() == ["second"], 0.3)
    assert pinger.wait(3)
    # The third was master once, between the failures, and for no other reason than silence.
    assert [change.reason for change in nodes["third"].transitions() if change.after is MASTER] == [Reason.MASTER_DOWN]


def test_after_a_bowout_the_best_backup_wins_and_no_other_flaps(net3: Lan) -> None:
    # Fault: The MASTER of three hosts stops.
    # Expected: The best backup takes over; the other has no transition at all.
    main, second, third = (
        net3.start(name, **values)
        for name, values in (("main", FIRST), ("second", SECOND), ("third", {"advskew": 200}))
    )
    main.become(MASTER)
    third.wait(events.PeerHeard)
    net3.forget()
    main.stop()
    second.become(MASTER)
    third.wait(events.PeerHeard, peer=second.host.address)
    stays(lambda: second.state() is MASTER, 0.4)
    assert third.log.find(events.StateChanged) == []


@pytest.mark.parametrize(
    "addresses",
    [
        [f"{VIP6}/64"],
        [f"{VIP}/24", f"{VIP6}/64"],
        [f"{VIP}/24", "10.13.37.43/24", f"{VIP6}/64", "2001:db8::43/64"],
        [f"{VIP}/24", "fe80::42/64"],
    ],
    ids=["ipv6", "both", "several", "link-local"],
)
def test_addresses_of_both_families(net: Lan, with_impl: str, addresses: list[str]) -> None:
    # Fault: A cut cable, with addresses of IPv4, IPv6 or both.
    # Expected: All addresses move, and answer on the new host; none is left on the old one.
    main, second = pair(net, addresses=addresses)
    ips = [address.partition("/")[0] for address in addresses]
    pingers = [net.ping(ip) for ip in ips if not ip.startswith("fe80")]
    assert all(pinger.wait(3) for pinger in pingers)
    assert set(ips) <= held(main.host)
    taken = main.wait(events.AddressesTaken)
    assert sorted(taken.addresses) == sorted(addresses)
    net.forget()
    net.lab.unplug("main")
    second.become(MASTER)
    assert set(ips) <= held(second.host)
    assert all(pinger.wait(3) for pinger in pingers)
    main.become(INIT)
    assert not set(ips) & held(main.host)
    net.lab.plug("main")
    main.become(BACKUP)
    stats = second.stats()
    assert (stats["opackets"] > 0) == any(":" not in ip for ip in ips)
    assert (stats["opackets6"] > 0) == any(":" in ip for ip in ips)


def test_one_silent_family_is_told_and_takes_nothing_over(net: Lan, with_impl: str) -> None:
    # Fault: The master falls silent in IPv6 only, as NetBSD's always is; then in both families.
    # Expected: FamilySilent and no takeover; silence in both is a takeover.
    addresses = (f"{VIP}/24", f"{VIP6}/64")
    second = net.start("second", addresses=addresses, advskew=25)
    ipv4 = bytes(Frame(advbase=0, advskew=10, addresses=addresses))
    ipv6 = bytes(Frame(advbase=0, advskew=10, addresses=addresses, source="2001:db8::99"))

    def speak(*frames: bytes, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 8
        while not until():
            assert time.monotonic() < deadline
            net.inject("client", *frames)
            time.sleep(0.03)

    speak(ipv4, ipv6, until=lambda: second.stats()["ipackets6"] > 3)
    speak(ipv4, until=lambda: bool(second.log.find(events.FamilySilent)))
    assert [event.family for event in second.log.find(events.FamilySilent)] == [6]
    assert second.state() is BACKUP
    # Silence in both is the master's end.
    second.become(MASTER)


def test_several_virtual_hosts_share_the_load(net: Lan) -> None:
    # Fault: One of two hosts, each MASTER of one group, stops.
    # Expected: The other holds the addresses of both groups.
    one = virtual_host(vhid=1, addresses=["10.13.37.51/24"])
    two = virtual_host(vhid=2, addresses=["10.13.37.52/24", f"{VIP6}/64"])
    main = net.start("main", one.replace(advskew=10), two.replace(advskew=50))
    second = net.start("second", one.replace(advskew=50), two.replace(advskew=10))
    main.become(MASTER, "carp1")
    second.become(MASTER, 2)
    assert (main.state(2), second.state("carp1")) == (BACKUP, BACKUP)
    pingers = [net.ping("10.13.37.51"), net.ping("10.13.37.52"), net.ping(VIP6)]
    assert all(pinger.wait(3) for pinger in pingers)
    main.stop()
    second.become(MASTER, 1)
    assert second.state(2) is MASTER
    assert all(pinger.wait(3) for pinger in pingers)


def test_groups_with_different_vhids_do_not_hear_each_other(net: Lan) -> None:
    # Fault: None: two groups with their own addresses share a link.
    # Expected: Each is MASTER; each counts and reports badvhid once.
    main = net.start("main", vhid=1, addresses=["10.13.37.51/24"])
    second = net.start("second", vhid=2, addresses=["10.13.37.52/24"])
    main.become(MASTER)
    second.become(MASTER)
    wait_until(lambda: main.stats()["badvhid"] > 0 and second.stats()["badvhid"] > 0)
    rejected = main.wait(events.AdvertRejected)
    assert (rejected.counter, rejected.peer, rejected.vhid) == ("badvhid", second.host.address, 2)
    assert net.masters() == ["main", "second"]


@pytest.mark.parametrize("preempt", [True, False])
def test_demotion_hands_over(net: Lan, with_impl: str, preempt: bool) -> None:
    # Fault: The MASTER is demoted, and later not.
    # Expected: The backup takes over, preempt or not; the demoted host takes back only with preempt.
    main, second = pair(net, preempt=preempt)
    pinger = net.ping()
    assert pinger.wait(3)
    net.forget()
    assert main.engine.demote() == 1
    second.become(MASTER)
    assert second.wait(events.StateChanged).reason is Reason.DEMOTED
    main.become(BACKUP)
    assert main.wait(events.Demoted).demotion == 1
    net.forget()
    assert main.engine.undemote() == 0
    if preempt:
        main.become(MASTER)
        assert main.wait(events.StateChanged).reason is Reason.PREEMPT
        second.become(BACKUP)
    else:
        stays(lambda: net.masters() == ["second"], 0.3)
    assert pinger.wait(3)


def test_demotion_without_preempt_keeps_the_master(net: Lan) -> None:
    # Fault: A MASTER with advbase 1 is demoted; the backup neither preempts nor looks at demotions.
    # Expected: It sends advskew 240, which is not slow enough for a takeover.
    main = net.start("main", advbase=1, advskew=0, state=MASTER)
    second = net.start("second", advbase=1, advskew=25, demotion="ignore")
    main.become(MASTER)
    second.wait(events.PeerHeard)
    main.engine.demote()
    second_advert = net.capture.wait(lambda frame: frame.data[36:37] == b"\xf0" and frame.data[23:24] == b"\x70")
    assert second_advert is not None
    stays(lambda: net.masters() == ["main"], 0.3)


def test_a_forced_state(net: Lan) -> None:
    # Fault: A worse host is forced to MASTER, then the better one to BACKUP.
    # Expected: The worse one yields to the better; in the end there is one MASTER.
    main, second = pair(net)
    net.forget()
    second.engine.force(101, MASTER)
    # The better one does not give way: it goes on as MASTER, and the forced one hears it.
    second.become(BACKUP)
    assert [change.reason for change in second.log.find(events.StateChanged)] == [Reason.FORCED, Reason.BETTER]
    main.engine.force(101, BACKUP)
    assert main.wait(events.StateChanged).reason is Reason.FORCED
    wait_until(lambda: len(net.masters()) == 1)


def test_several_interfaces_in_one_engine(make_lan: Callable[..., Lan]) -> None:
    # Fault: One of the two links of an engine fails, and comes back.
    # Expected: The group there goes to INIT, the host's other group is demoted and stays MASTER; then all is as before.
    net = make_lan()
    net.remember("main")
    net["main"].run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", net["client"].path])
    for name, address in (("main", "192.0.2.1/24"), ("client", "192.0.2.2/24")):
        net[name].run(["ip", "address", "add", address, "dev", "eth1"])
        net[name].run(["ip", "link", "set", "eth1", "up"])
    net._before.clear()
    inner = virtual_host(vhid=7, addresses=["192.0.2.42/24"])
    outer = virtual_host()
    main = net.start("main", outer, inner)
    main.become(MASTER, 101)
    main.become(MASTER, "carp7")
    pingers = [net.ping(VIP), net.ping("192.0.2.42")]
    assert all(pinger.wait(3) for pinger in pingers)
    net.forget()
    # A fault on one link demotes the other: this host should not be half a router.
    net["client"].run(["ip", "link", "set", "eth1", "down"])
    main.become(INIT, 7)
    assert main.state(101) is MASTER
    # Once for the link, and once for the adverts that could not be sent before the kernel told of it.
    assert main.engine.demotion(101) in (1, 2)
    assert VIP in held(main.host)
    net["client"].run(["ip", "link", "set", "eth1", "up"])
    main.become(MASTER, 7)
    wait_until(lambda: main.engine.demotion(101) == 0)


def test_one_vhid_on_two_interfaces(make_lan: Callable[..., Lan]) -> None:
    # Fault: None: one vhid on two interfaces of one engine.
    # Expected: Both groups work; a call by vhid alone is refused as ambiguous.
    net = make_lan()
    net.cable("main", "client")
    outer, inner = virtual_host(name="outer"), virtual_host(name="inner", addresses=["192.0.2.42/24"])
    main = net.start("main", outer, inner)
    main.become(MASTER, "outer")
    main.become(MASTER, "inner")
    assert net.ping(VIP).wait(3)
    with pytest.raises(EngineError, match="vhid 101 stands on several interfaces"):
        main.state(101)
