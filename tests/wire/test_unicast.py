"""Adverts to peers alone: where a switch passes no multicast, and beyond a router."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, stays, virtual_host, wait_until
from support.wire import passfile

from pycarp import State, events
from pycarp.lab.namespaces import Frame

MASTER, BACKUP = State.MASTER, State.BACKUP
BOTH = [f"{VIP}/24", f"{VIP6}/64"]
GROUPS = ["239.1.2.3", "ff02::1234"]
MEMBERS = {*GROUPS, "239.9.9.9"}
GROUPED: dict[str, Any] = {"addresses": BOTH, "advbase": 0}
SKEWS = {"main": 50, "second": 120}
NO_MULTICAST = (
    "add table bridge t",
    "add chain bridge t c { type filter hook forward priority 0; }",
    "add rule bridge t c ether daddr { 01:00:5e:00:00:12, 33:33:00:00:00:12 } drop",
)


def adverts(net: Lan, name: str, since: int = 0) -> list[Frame]:
    """Those that came from a host, of both families."""
    frames = [one for one in list(net.capture.frames) if one.port == name and not one.outgoing and one.at_ns > since]
    return [one for one in frames if carp(one)]


def carp(one: Frame) -> bool:
    return (one.ethertype == 0x0800 and one.data[23] == 112) or (one.ethertype == 0x86DD and one.data[20] == 112)


def destinations(frames: list[Frame]) -> set[tuple[bytes, str]]:
    return {
        (one.data[:6], str(ip_address(one.data[30:34] if one.ethertype == 0x0800 else one.data[38:54])))
        for one in frames
    }


def test_three_hosts_without_multicast(
    make_lan: Callable[..., Lan], with_impl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fault: The switch drops multicast. The master is killed; a backup gets another MAC; of four peers one is nobody.
    # Expected: Adverts go to each peer's MAC, in both families; the one that is nobody is told of. The guardian's
    #   bow-out reaches the next one in time, which follows the other's new MAC. What the worse one says when it yields
    #   goes to the better one alone.
    from pycarp.engine import peer_macs

    monkeypatch.setattr(peer_macs, "_TOLD_AFTER", 0.5)
    net = make_lan(("main", "second", "third", "client"))
    for words in NO_MULTICAST:
        net.lab.switch.run(["nft", words])
    names = ("main", "second", "third")
    peers = [net[name].address for name in names] + ["10.13.37.99"] + [net[name].address6 for name in names]
    words = [passfile(tmp_path), "preempt", *(word for one in peers for word in ("peer", one)), *BOTH]
    main = net.command("main", "up", "carp0", "vhid", "101", "advskew", "0", "passfile", *words)
    main.become(MASTER)
    second = net.start("second", peers=peers, addresses=BOTH, advbase=1, advskew=50, preempt=True)
    third = net.start("third", peers=peers, addresses=BOTH, advbase=1, advskew=100)
    for node in (second, third):
        for address in (net["main"].address, net["main"].address6):
            node.wait(events.PeerHeard, peer=address)
    assert second.wait(events.UnicastPeer, peer="10.13.37.99")
    shown = second.engine.snapshot().instances[0].unicast
    assert (shown[net["main"].address], shown["10.13.37.99"]) == (net["main"].mac.hex(":"), "")
    known = {(net[name].mac, str(at)) for name in names[1:] for at in (net[name].address, net[name].address6)}
    began = time.time_ns()
    wait_until(lambda: {*destinations(adverts(net, "main", began))} >= known)
    assert destinations(adverts(net, "main", began)) == known | {(b"\xff" * 6, "10.13.37.99")}
    assert main.process.poll() is None and third.state() is BACKUP
    begun = time.monotonic()
    main.send_signal(signal.SIGKILL)
    second.become(MASTER)
    assert time.monotonic() - begun < 1.5  # no master-down, which is three seconds
    other = bytes.fromhex("020000000077")
    net["third"].run(["ip", "link", "set", "eth0", "address", other.hex(":")])
    wait_until(lambda: (other, net["third"].address) in destinations(adverts(net, "second")))
    stays(lambda: third.state() is BACKUP, 1.5)
    main = net.command("main", "up", "carp0", "vhid", "101", "advskew", "0", "passfile", *words)
    main.become(MASTER)
    second.become(BACKUP)
    wait_until(lambda: len(adverts(net, "second", began)) > 0)
    made_way = [one for one in adverts(net, "second", began) if one.data[34 + 2] == one.data[34 + 5] == 255]
    assert {to for _mac, to in destinations(made_way)} <= {net["main"].address, net["main"].address6}
    assert third.state() is BACKUP
    third.stop()
    net["third"].run(["ip", "link", "set", "eth0", "address", net["third"].mac.hex(":")])
    assert not [one for name in names for one in adverts(net, name) if one.data[:3] in (b"\x01\0\x5e", b"\x33\x33\0")]


def test_two_peers_with_the_interfaces_own_mac(make_lan: Callable[..., Lan], with_impl: str) -> None:
    # Fault: Two hosts, `mac interface`, and a switch that drops multicast and frames from virtual MACs.
    # Expected: One is MASTER at a time; a hand-over and the way back take no master-down, and nobody else is told.
    net = make_lan()
    for words in (*NO_MULTICAST, "add rule bridge t c ether saddr & ff:ff:ff:ff:ff:00 == 00:00:5e:00:01:00 drop"):
        net.lab.switch.run(["nft", words])
    peers = [net[name].address for name in ("main", "second")]
    nodes = {name: net.start(name, peers=peers, mac="interface", advbase=1, advskew=at) for name, at in SKEWS.items()}
    main, second = nodes.values()
    main.become(MASTER)
    second.wait(events.PeerHeard, peer=net["main"].address)
    for giver, taker in ((main, second), (second, main)):
        begun = time.monotonic()
        giver.engine.hand_over()
        taker.become(MASTER)
        giver.become(BACKUP)
        assert time.monotonic() - begun < 1.5
    for name, other in (("main", "second"), ("second", "main")):
        sent = adverts(net, name)
        assert {to for _mac, to in destinations(sent)} == {net[other].address}
        assert {one.data[6:12] for one in sent} == {net[name].mac}


def test_beyond_a_router(make_lan: Callable[..., Lan], with_impl: str) -> None:
    # Fault: A peer is in another subnet.
    # Expected: Adverts go by the router's MAC and are heard with a lower TTL; the engine warns. A bow-out gets through.
    net = make_lan(("main", "router", "far", "client"))
    net.cable("router", "far")
    net["router"].run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    net["main"].run(["ip", "route", "add", "192.0.2.0/24", "via", net["router"].address])
    net["far"].run(["ip", "address", "flush", "dev", "eth0"])
    net["far"].run(["ip", "route", "add", "10.13.37.0/24", "via", "192.0.2.1"])
    main = net.start("main", peers=["192.0.2.2"], advbase=1)
    main.become(MASTER)
    far = net.start("far", peers=[net["main"].address], carpdev="eth1", advbase=1, advskew=100)
    far.wait(events.PeerHeard, peer=net["main"].address)
    told = main.wait(events.UnicastPeer, peer="192.0.2.2")
    assert net["router"].address in told.advice
    assert {mac for mac, _to in destinations(adverts(net, "main"))} >= {net["router"].mac}
    assert far.state() is BACKUP and far.stats()["badttl"] == 0
    begun = time.monotonic()
    main.stop()
    far.become(MASTER)
    assert time.monotonic() - begun < 1.5


def memberships(net: Lan, name: str) -> set[str]:
    shown = net[name].run(["ip", "maddress", "show", "dev", "eth0"]).stdout
    return {line.split()[1] for line in shown.splitlines() if line.split()[0] in ("inet", "inet6")}


def test_another_group_on_a_snooping_switch(make_lan: Callable[..., Lan], with_impl: str) -> None:
    # Fault: A switch with IGMP and MLD snooping, and an IGMP querier; the group is not carp(4)'s. A reload names
    #   another one.
    # Expected: The hosts are members of it, and hear each other by it; after the reload they have left the former one,
    #   and after their end both.
    net = make_lan(snooping=True)
    # Without one a bridge floods. This one asks in IPv4 only: it has no IPv6 address.
    for words in (["mcast_query_response_interval", "10"], ["mcast_querier", "1"]):
        net.lab.switch.run(["ip", "link", "set", "switch", "type", "bridge", *words])
    before = memberships(net, "main")
    nodes = {name: net.start(name, **GROUPED, groups=GROUPS, advskew=skew) for name, skew in SKEWS.items()}
    nodes["main"].become(MASTER)
    for group in (GROUPS, ["239.9.9.9", GROUPS[1]]):
        for name, node in nodes.items():
            node.reconfigure(virtual_host(**GROUPED, groups=group, advskew=SKEWS[name]))
        wait_until(lambda: all(memberships(net, name) & MEMBERS == {*group} for name in nodes))  # noqa: B023
        heard, began = nodes["second"].stats(), time.time_ns()
        wait_until(lambda: all(nodes["second"].stats()[one] >= heard[one] + 3 for one in ("ipackets", "ipackets6")))  # noqa: B023
        assert {to for _mac, to in destinations(adverts(net, "main", began))} == {*group}
        spread = [one for one in list(net.capture.frames) if one.port == "client" and one.at_ns > began + 10**9 // 5]
        assert {one.ethertype for one in spread if carp(one)} <= {0x86DD}
    assert nodes["second"].state() is BACKUP
    for node in nodes.values():
        node.stop()
    assert memberships(net, "main") == before
