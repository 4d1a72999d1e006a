"""Peers that are not ours: UCarp as it is in Debian, and hosts that sign as NetBSD does."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, held, lan, wait_until
from support.wire import PASSPHRASE, Frame

from pycarp import Reason, State, events
from pycarp.linux.arp_listener import ArpListener
from pycarp.protocol.frames import arp_request, gratuitous_arp, neighbour_advertisement

MASTER, BACKUP = State.MASTER, State.BACKUP
TRUNCATED = "motdepassehalako"
"""What NetBSD's ifconfig makes of the passphrase."""


class Ucarp:
    """The real thing in one host of the lab."""

    def __init__(self, net: Lan, name: str, directory: Path, *options: str) -> None:
        for script, word in (("up", "add"), ("down", "del")):
            path = directory / script
            path.write_text(f"#!/bin/sh\nexec ip address {word} {VIP}/32 dev $1\n")
            path.chmod(0o755)
        self.host = net[name]
        words = ["-i", "eth0", "-s", self.host.address, "-v", "101", "-p", PASSPHRASE, "-a", VIP]
        words += ["--upscript", str(directory / "up"), "--downscript", str(directory / "down")]
        self.process = self.host.popen(
            ["ucarp", *words, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @property
    def master(self) -> bool:
        return VIP in held(self.host)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(autouse=True)
def ucarp_is_there(request: pytest.FixtureRequest) -> None:
    if "ucarp" in request.node.name and shutil.which("ucarp") is None:
        pytest.fail("ucarp is not installed: apt-get install ucarp")


@pytest.mark.slow
def test_ucarp_as_master(net: Lan, tmp_path: Path) -> None:
    # Fault: ucarp as MASTER is killed.
    # Expected: pycarp understands its adverts, stays BACKUP, and takes over after its master-down.
    ucarp = Ucarp(net, "main", tmp_path, "-b", "1", "-k", "0")
    second = net.start("second", advbase=1, advskew=50)
    heard = second.wait(events.PeerHeard)
    assert (heard.peer, heard.dialect, heard.advbase, heard.advskew) == (net["main"].address, "bsd", 1, 0)
    wait_until(lambda: ucarp.master)
    assert second.state() is BACKUP
    assert net.ping().wait(3)
    assert second.stats()["badauth"] == 0
    ucarp.kill()
    second.become(MASTER)
    assert second.wait(events.StateChanged, after=MASTER).reason is Reason.MASTER_DOWN


@pytest.mark.slow
def test_ucarp_as_backup(net: Lan, tmp_path: Path) -> None:
    # Fault: A MASTER with ucarp as backup stops, and comes back.
    # Expected: ucarp takes over on the bow-out, and yields when pycarp preempts.
    main = net.start("main", advbase=1, advskew=0, state=MASTER)
    main.become(MASTER)
    pinger = net.ping()
    assert pinger.wait(3)
    ucarp = Ucarp(net, "second", tmp_path, "-b", "1", "-k", "50")
    # After more than its master-down, 3.2 s, it would be master if it did not hear us. (An advert is two frames.)
    before = main.stats()["opackets"]
    wait_until(lambda: main.stats()["opackets"] >= before + 8)
    assert not ucarp.master and main.state() is MASTER
    # Our bow-out is understood: it does not wait for our silence.
    main.stop()
    wait_until(lambda: ucarp.master, 2.5)
    assert pinger.wait(3)
    assert net.ping().wait(3)
    # And it yields when we are back.
    again = net.start("main", advbase=1, advskew=0, preempt=True)
    again.become(MASTER)
    assert again.wait(events.StateChanged, after=MASTER).reason is Reason.PREEMPT
    wait_until(lambda: not ucarp.master)


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_ucarp_takes_over_late(tmp_path: Path, mac: Any, with_impl: str) -> None:
    # Fault: On a bow-out pycarp takes over at once, and ucarp some 150 ms later: its ARP tells clients to ask there.
    # Expected: pycarp advertises and announces again; ucarp yields, and has clients' packets for 100 ms at most.
    with lan(("main", "second", "third", "client")) as net:
        main = net.start("main", advbase=1, advskew=0, mac=mac, state=MASTER)
        main.become(MASTER)
        second = net.start("second", advbase=1, advskew=20, mac=mac)
        ucarp = Ucarp(net, "third", tmp_path, "-b", "1", "-k", "100")
        second.wait(events.PeerHeard)
        time.sleep(1.5)  # until it has heard the master and would obey a bow-out
        with net.ping(interval=0.005) as pinger:
            assert pinger.wait(3)
            main.stop()
            seen = net.capture.wait(lambda one: one.port == "third" and not one.outgoing and gratuitous(one.data))
            assert seen is not None
            time.sleep(0.5)
            assert pinger.longest < 100_000_000
        assert second.state() is MASTER and not ucarp.master
        strayed = [one.at_ns for one in net.capture.frames if one.port == "third" and one.outgoing and asked(one.data)]
        assert not strayed or strayed[-1] - seen.at_ns < 100_000_000
        assert not second.log.find(events.AddressConflict)
        ucarp.kill()


def gratuitous(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == socket.inet_aton(VIP)


def asked(frame: bytes) -> bool:
    """Whether it is a client's ping for the address."""
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[30:34] == socket.inet_aton(VIP)


def test_a_host_that_does_not_yield(net: Lan, with_impl: str) -> None:
    # Fault: A host without CARP has the address, and announces it again and again, in both families.
    # Expected: The MASTER defends it, at growing intervals, and reports that host once for each address.
    main = net.start("main", advbase=1, advskew=0, state=MASTER, addresses=[f"{VIP}/24", f"{VIP6}/64"])
    main.become(MASTER)
    mac = bytes.fromhex("02deadbeef01")
    announcements = (gratuitous_arp(mac, VIP), neighbour_advertisement(mac, VIP6))
    before, began = main.stats()["opackets"], time.monotonic()
    while time.monotonic() < began + 2:
        net.inject("client", *announcements)
        time.sleep(0.02)
    # Pauses of 50, 100, 200, 400 and 800 ms, and two or three adverts of its own; each in two forms.
    assert 2 * 5 <= main.stats()["opackets"] - before <= 2 * 9
    told = [(event.address, event.mac, event.held) for event in main.log.find(events.AddressConflict)]
    assert sorted(told) == [(VIP, mac.hex(":"), True), (VIP6, mac.hex(":"), True)]
    assert main.state() is MASTER


def test_who_is_heard_of_many_addresses(net: Lan) -> None:
    # Fault: A carpdev has more addresses than a socket filter can compare.
    # Expected: Announcements are heard, questions from these addresses are not.
    addresses = [ip_address("10.99.0.0") + number for number in range(300)]
    mac, one = bytes.fromhex("02deadbeef01"), addresses[-1]
    with net["main"].enter(), ArpListener(socket.if_nametoindex("eth0")) as listener:
        listener.listen([*addresses, ip_address(VIP6)])
        net.inject("client", arp_request(mac, one.packed, addresses[0].packed), gratuitous_arp(mac, "10.98.0.1"))
        net.inject("client", gratuitous_arp(mac, str(one)), neighbour_advertisement(mac, VIP6))
        heard: list[object] = []
        wait_until(lambda: heard.extend(listener.read()) or len(heard) >= 2)
        assert heard == [(one, mac), (ip_address(VIP6), mac)]


def test_a_peer_with_netbsds_truncated_key(net: Lan, with_impl: str) -> None:
    # Fault: A peer knows only NetBSD's key form.
    # Expected: `dialect auto` finds out, counts no badauth, and signs in that form once it is MASTER.
    main = net.start("main", advskew=10, dialect="netbsd")
    second = net.start("second", advskew=25)
    main.become(MASTER)
    heard = second.wait(events.PeerHeard)
    assert (heard.peer, heard.dialect) == (net["main"].address, "netbsd")
    assert second.state() is BACKUP
    assert second.stats()["badauth"] == 0
    main.engine.demote()
    second.become(MASTER)
    # It has heard nobody but NetBSD, and signs so: the other hears every advert as valid.
    before = main.stats()
    wait_until(lambda: main.stats()["ipackets"] >= before["ipackets"] + 5 or main.state() is MASTER)
    assert main.stats()["badauth"] == before["badauth"]


def test_frames_signed_by_hand_with_the_truncated_key(net: Lan, with_impl: str) -> None:
    # Fault: A frame that is made from docs/protocol.md alone, in NetBSD's key form.
    # Expected: It is understood; the adverts sent afterwards verify by the same document.
    second = net.start("second", advskew=25)
    frame = Frame(advbase=0, advskew=10, source=net["client"].address, dialect="netbsd")
    assert bytes(frame) == bytes(frame.but(passphrase=TRUNCATED, dialect="bsd"))
    net.inject("client", bytes(frame))
    assert second.wait(events.PeerHeard).dialect == "netbsd"
    second.become(MASTER)
    sent = net.capture.wait(lambda one: one.port == "second" and not one.outgoing and one.data[23:24] == b"\x70")
    assert sent is not None
    counter = sent.data[42:50]
    assert sent.data[50:70] == frame.but(counter=counter).signature


def test_both_forms_are_spoken_until_a_peer_is_heard(net: Lan) -> None:
    # Fault: None: a MASTER hears no peer.
    # Expected: It signs its adverts in both key forms.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    wait_until(lambda: main.stats()["opackets"] >= 6)
    signed = set()
    for one in net.capture.frames:
        if one.port == "main" and not one.outgoing and one.data[23:24] == b"\x70":
            base = Frame(counter=one.data[42:50])
            for dialect in ("bsd", "netbsd"):
                if one.data[50:70] == base.but(dialect=dialect).signature:
                    signed.add(dialect)
    assert signed == {"bsd", "netbsd"}


def test_a_mixed_group(net3: Lan) -> None:
    # Fault: One peer knows only one key form, another only the other.
    # Expected: Both understand every second advert, and stay BACKUP.
    middle = net3.start("main", advskew=10)
    old = net3.start("second", advskew=25, dialect="netbsd")
    new = net3.start("third", advskew=40, dialect="bsd")
    middle.become(MASTER)
    old.wait(events.PeerHeard)
    new.wait(events.PeerHeard)
    assert (old.state(), new.state()) == (BACKUP, BACKUP)
    # The others understand every second advert, which is enough.
    wait_until(lambda: old.stats()["badauth"] > 3 and new.stats()["badauth"] > 3)
    assert (old.state(), new.state()) == (BACKUP, BACKUP)
