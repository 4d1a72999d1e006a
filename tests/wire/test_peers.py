"""Peers that are not ours: UCarp as it is in Debian, and hosts that sign as NetBSD does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.lan import VIP, Lan, held, wait_until
from support.wire import PASSPHRASE, Frame

from pycarp import Reason, State, events

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
