"""Adverts in another wrapping, by another way, and what is no advert but comes by the same protocol."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from support import wire
from support.lan import Lan, stays, wait_until
from support.wire import Frame

from pycarp import Reason, State, events
from pycarp.lab.namespaces import Host

MASTER, BACKUP = State.MASTER, State.BACKUP
BETTER = {"advbase": 0, "advskew": 1}


def mac_of(host: Host, name: str = "eth0") -> bytes:
    with host.enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.bind((name, 0))
        return bytes(opened.getsockname()[4])


def tagged(frame: Frame, *tags: int) -> bytes:
    raw = bytes(frame)
    return raw[:12] + b"".join(struct.pack("!I", tag) for tag in tags) + raw[12:]


def test_priority_tags_are_of_the_untagged_lan(net: Lan, with_impl: str) -> None:
    # Fault: A switch hands adverts on with an 802.1Q tag: of VLAN 5, and of VLAN id 0, which has a priority only.
    # Expected: The MASTER yields to a better one with id 0, once and nested, and never hears of VLAN 5.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    better = Frame(**BETTER, source=net["client"].address)
    net.inject("client", tagged(better, 0x81000005), tagged(better, 0x81000000, 0x81000005))
    stays(lambda: main.state() is MASTER, 0.2)
    for tags in ((0x8100E000,), (0x88A80000,), (0x81000000, 0x8100A000)):
        main.become(MASTER)
        net.forget()
        net.inject("client", tagged(better, *tags))
        change = main.wait(events.StateChanged, after=BACKUP)
        assert (change.reason, change.peer) == (Reason.BETTER, net["client"].address)


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_the_group_under_our_own_mac(net: Lan, with_impl: str, mac: str) -> None:
    # Fault: An access point turns multicasts into unicasts: adverts come with this host's own MAC for a destination.
    # Expected: They are obeyed like others, and counted once; what has another TTL is not.
    main = net.start("main", advskew=10, mac=mac)
    main.become(MASTER)
    better = Frame(**BETTER, source=net["client"].address, destination_mac=mac_of(net["main"]))
    net.forget()
    net.inject("client", bytes(better.but(ttl=254)))
    stays(lambda: main.state() is MASTER, 0.2)
    net.inject("client", bytes(better))
    change = main.wait(events.StateChanged, after=BACKUP)
    assert (change.reason, change.peer) == (Reason.BETTER, net["client"].address)
    assert (main.heard()["ipackets"], main.heard()["badttl"], main.heard()["badif"]) == (2, 1, 0)


def test_adverts_by_unicast_are_told(net: Lan, with_impl: str) -> None:
    # Fault: A partner is configured for unicast (carppeer, peer): its adverts come to this host's own address.
    # Expected: They are not obeyed; one event says so. What is not signed with our secret says nothing.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    host = net["main"]
    better = Frame(**BETTER, source=net["client"].address, destination_mac=mac_of(host), destination=host.address)
    net.inject("client", bytes(better.but(digest_flip=1)), *[bytes(better)] * 3)
    told = main.wait(events.AdvertRejected)
    assert (told.counter, told.peer, told.name) == ("badif", net["client"].address, "carp101")
    assert "carppeer" in told.text
    stays(lambda: main.state() is MASTER, 0.2)
    assert len(main.log.find(events.AdvertRejected)) == 1 and main.heard()["badif"] == 4


def vrrp(router: int, source: str, version: int = 2, addresses: int = 1) -> bytes:
    payload = bytes((version << 4 | 1, router, 100, addresses, 0, 1, 0, 0)) + bytes((10, 13, 37, 50)) * addresses
    return bytes(Frame(cut=36, trailer=payload + bytes(8 * (version == 2)), source=source, tos=0xC0))


def test_vrrp_with_our_number_is_told(net: Lan, with_impl: str) -> None:
    # Fault: A VRRP router on this LAN has the number of a virtual host, so that both use one virtual MAC.
    # Expected: One event for each router says so, with the remedy. The counters rise; another number is not told.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    one, other = net["client"].address, net["second"].address
    frames = [vrrp(101, one), vrrp(101, one, addresses=8), vrrp(101, one, version=3), vrrp(7, one, addresses=8)]
    net.inject("client", *frames * 3, vrrp(101, other))
    main.wait(events.VrrpHeard, peer=other)
    heard = main.log.find(events.VrrpHeard)
    assert [(event.peer, event.vhid) for event in heard] == [(one, 101), (other, 101)]
    assert "virtual_router_id" in heard[0].text and "00:00:5e:00:01:65" in heard[0].text
    assert not main.log.find(events.AdvertRejected)
    assert (main.heard()["badlen"], main.heard()["badsum"]) == (7, 6)
    assert main.state() is MASTER


def test_openbsds_demotion_is_obeyed(net: Lan, with_impl: str) -> None:
    # Fault: An OpenBSD master that is more eager demotes itself; then we do. Its counter is one constant.
    # Expected: A BACKUP relieves it at once, without preempt, though it stays the more eager one; demoted, we yield to
    #           a slower one that is less so. NetBSD, with a counter for each advert, says nothing by that byte.
    main = net.start("main", advskew=100)
    theirs = Frame(advbase=1, advskew=10, source=net["client"].address)
    main.become(BACKUP)
    for number in range(3):
        net.inject("client", bytes(theirs.but(pad=9, counter=bytes((number,)) * 8)))
    stays(lambda: main.state() is BACKUP, 0.2)
    net.inject("client", *[bytes(theirs.but(pad=9))] * 9)  # a frame that comes again and again is no constant yet
    stays(lambda: main.state() is BACKUP, 0.05)
    for _ in range(8):
        net.inject("client", bytes(theirs))
        time.sleep(0.1)
    net.inject("client", bytes(theirs.but(pad=1)))
    change = main.wait(events.StateChanged, after=MASTER)
    assert (change.reason, change.peer) == (Reason.DEMOTED, net["client"].address)
    net.inject("client", *[bytes(theirs.but(pad=1))] * 3)
    stays(lambda: main.state() is MASTER, 0.3)
    main.engine.demote(7)
    wait_until(lambda: any(frame.data[38] == 7 for frame in net.capture.frames.copy() if frame.data[23] == 112))
    net.inject("client", bytes(theirs.but(pad=7, advskew=250)))
    stays(lambda: main.state() is MASTER, 0.2)
    net.forget()
    net.inject("client", bytes(theirs.but(pad=6, advskew=250)))
    assert main.wait(events.StateChanged, after=BACKUP).reason is Reason.BETTER


def test_a_link_local_address_beside_openbsd(net: Lan, with_impl: str) -> None:
    # Fault: A group has a link-local address, and a peer signs without it, as OpenBSD does.
    # Expected: It is believed, and from then on adverts are signed as it believes them.
    addresses = ("10.13.37.42/24", "fe80::42/64")
    main = net.start("main", addresses=addresses, advskew=100)
    main.become(MASTER)
    better = Frame(source=net["client"].address, addresses=addresses, link_local=False)
    net.inject("client", bytes(better))
    assert main.wait(events.PeerHeard).dialect == "openbsd"
    main.wait(events.StateChanged, after=BACKUP)
    began = time.time_ns()
    main.become(MASTER)
    wait_until(lambda: len(adverts(net, began)) >= 4)
    for data in adverts(net, began):
        assert data[-20:] == wire.digest(wire.key(wire.PASSPHRASE), wire.VHID, addresses, data[-28:-20], False)


def adverts(net: Lan, since: int) -> list[bytes]:
    heard = [one for one in net.capture.frames.copy() if one.port == "main" and not one.outgoing]
    frames = [one.data for one in heard if one.at_ns > since]
    return [data for data in frames if data[23 if data[12:14] == b"\x08\x00" else 20] == 112]
