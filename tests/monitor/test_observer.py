"""Watching: the observer on recorded, simulated and hostile frames, and the command around it."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.linux import needs_namespaces
from support.wire import PEER, Frame

from pycarp import VirtualHost
from pycarp.cli import main
from pycarp.lab.namespaces import Lab
from pycarp.lab.simulation import SECOND, Lan
from pycarp.monitor import pcap as captures
from pycarp.monitor.keysearch import KeySearch
from pycarp.monitor.observer import MOST_SPEAKERS, Change, Observer
from pycarp.monitor.signatures import PROPER_FORMS
from pycarp.monitor.speakers import Condition, Speaker
from pycarp.monitor.text import mac_text, seconds
from pycarp.protocol.frames import checksum

SECRET = "motdepassehalakon"
VIP = "10.13.37.42"
GROUP = VirtualHost(vhid=101, passphrase=SECRET, addresses=[f"{VIP}/24"], preempt=True)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "netbsd-frames.json").read_text())
EPOCH = 1_795_000_000 * SECOND


class Scene:
    """Two hosts on a simulated LAN and an observer that sees every frame."""

    def __init__(self, observer: Observer, main: dict[str, Any] | None = None, second: dict[str, Any] | None = None):
        self.observer = observer
        self.changes: list[Change] = []
        self.frames: list[tuple[int, bytes]] = []
        self.lan = Lan(seed=1)
        self.main = self.lan.host("main", "10.13.37.11/24", GROUP.replace(**(main or {})))
        self.second = self.lan.host("second", "10.13.37.12/24", GROUP.replace(**{"advskew": 100, **(second or {})}))
        self.lan.tap(self._see)
        self.main.start()
        self.second.start()

    def _see(self, at: int, _sender: str, frame: bytes) -> None:
        self.frames.append((EPOCH + at, frame))
        self.changes += self.observer.frame(frame, EPOCH + at)

    def run(self, duration: float) -> None:
        self.lan.run(int(duration * SECOND))
        self.changes += self.observer.tick(EPOCH + self.lan.now)

    def speaker(self, source: str) -> Speaker:
        return next(one for one in self.observer.speakers.values() if one.key.source == source)

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(change.kind, change.source) for change in self.changes]


MAIN, SECOND_HOST = "10.13.37.11", "10.13.37.12"


# What NetBSD sent


@pytest.mark.parametrize("group", VECTORS, ids=lambda group: group["name"])
def test_recorded_netbsd_is_recognised(group: dict[str, Any]) -> None:
    observer = Observer(group["passphrase"], group["addresses"])
    changes = [
        change
        for frame in group["frames"]
        for change in observer.frame(bytes.fromhex(frame["hex"]), int(frame["at_s"] * SECOND))
    ]
    (speaker,) = observer.speakers.values()
    (signature,) = speaker.signatures
    assert signature.vhid == group["vhid"]
    shortened = group["name"].endswith("netbsd_ifconfig_key") or group["name"] == "pass19_netbsd_ifconfig"
    expected = "none" if not group["passphrase"] else "netbsd" if shortened else "bsd"
    assert signature.form == expected
    assert speaker.condition is Condition.BOWED_OUT
    assert [change.kind for change in changes if change.kind != "fault"] == ["master", "bowed out"]
    interval = group["advbase"] * SECOND + group["advskew"] * SECOND // 256
    assert speaker.median is not None and 0 < speaker.median - interval < 25_000_000


# The life of a group


def test_a_takeover_and_the_way_back() -> None:
    scene = Scene(Observer(SECRET, [VIP]))
    scene.run(6)
    scene.lan.unplug(scene.main)
    scene.run(5)
    scene.lan.plug(scene.main)
    scene.run(4)
    scene.main.stop()
    scene.run(2)
    assert scene.kinds() == [
        ("master", MAIN),
        ("silent", MAIN),
        ("master", SECOND_HOST),
        ("master", MAIN),
        ("silent", SECOND_HOST),
        ("bowed out", MAIN),
        ("master", SECOND_HOST),
    ]
    takeover = scene.changes[2]
    assert takeover.details["after"] == MAIN
    assert 3 * SECOND < takeover.details["gap_ns"] <= 3 * SECOND + 100 * SECOND // 256 + 1_000_000
    assert "is silent now that 10.13.37.11 is master" in scene.changes[4].text
    assert scene.observer.findings() == []
    main = scene.speaker(MAIN)
    # Each advert came twice, under both keys: the beat is one second all the same.
    assert (main.shortest, main.median, main.longest) == (SECOND, SECOND, SECOND)
    assert main.adverts == 2 * (main.beats or main.adverts // 2)
    assert main.looks_like == "pycarp"
    assert scene.speaker(SECOND_HOST).condition is Condition.ADVERTISING


def test_a_twin_that_comes_late_is_no_beat() -> None:
    observer = Observer()
    for beat in range(5):
        for delay, tag in ((0, b"aaa"), (40_000_000, b"bbb")):
            counter = tag + bytes((beat, 1, 2, 1, 0))
            observer.frame(bytes(Frame(counter=counter)), beat * SECOND + delay)
    (speaker,) = observer.speakers.values()
    assert list(speaker.intervals) == [SECOND] * 4


def test_changed_values_are_told() -> None:
    scene = Scene(Observer())
    scene.run(5)
    scene.main.demote()
    scene.run(0.5)
    (change,) = [change for change in scene.changes if change.kind == "changed"]
    assert change.text == "10.13.37.11 now says advbase 1, advskew 240 (was 1, 0)"


def test_silence_is_noticed_when_the_deadline_comes() -> None:
    observer = Observer()
    observer.frame(bytes(Frame(advbase=1, advskew=128)), EPOCH)
    assert observer.deadline == EPOCH + 3 * SECOND + SECOND // 2
    assert observer.tick(observer.deadline - 1) == []
    (change,) = observer.tick(observer.deadline)
    assert (change.kind, change.details["last"]) == ("silent", EPOCH)
    assert observer.deadline is None


# Why they do not understand each other


def test_two_dialects() -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    assert ("two masters", SECOND_HOST) in scene.kinds() or ("two masters", MAIN) in scene.kinds()
    (finding,) = scene.observer.findings()
    assert "vhid 101: 10.13.37.11 and 10.13.37.12 are master at once" in finding
    assert "10.13.37.12 with the passphrase as NetBSD's ifconfig reads it, its last character lost" in finding
    assert {key.source for key in scene.observer.contenders} == {MAIN, SECOND_HOST}


def test_without_the_secret_it_says_how_to_learn_why() -> None:
    scene = Scene(Observer(), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert "--passfile and --address help to say why" in finding


def test_two_masters_end_when_one_of_them_does() -> None:
    scene = Scene(Observer(), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    scene.second.stop()
    scene.run(4)
    assert scene.observer.contenders == frozenset() == frozenset(scene.observer.findings())
    assert scene.kinds()[-1] == ("one master", MAIN)


@pytest.mark.parametrize(
    ("passphrase", "says"),
    [
        (SECRET + "\n", "a line end after it"),
        (SECRET[:-2], "without its last two characters"),
        (f'"{SECRET}"', None),
        (None, "no passphrase at all"),
        ("something else", "fits no form of this passphrase"),
    ],
)
def test_wrong_passphrases(passphrase: str | None, says: str | None) -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"passphrase": passphrase, "dialect": "bsd"})
    scene.run(8)
    assert scene.speaker(MAIN).faults["badauth"] > 0
    assert any((says or "fits no form") in finding for finding in scene.observer.findings())


@pytest.mark.parametrize(
    ("given", "configured", "form"),
    [
        ('"motdepassehalakon"', "motdepassehalakon", "stripped"),
        (" motdepassehalakon", "motdepassehalakon", "stripped"),
        ("mot de passé secret", "mot de passé secret".encode("latin-1"), "latin-1"),
        ("motdepassehalakon", b"motdepassehalakon\r\n", "line-end"),
    ],
)
def test_forms_that_people_make(given: str, configured: str | bytes, form: str) -> None:
    frame = bytes(Frame(passphrase=configured))
    (speaker,) = _observed(Observer(given, [VIP]), frame).speakers.values()
    assert [signature.form for signature in speaker.signatures] == [form]
    assert form not in PROPER_FORMS


def _observed(observer: Observer, *frames: bytes) -> Observer:
    for number, frame in enumerate(frames):
        observer.frame(frame, EPOCH + number * SECOND)
    return observer


def test_all_of_twenty_bytes() -> None:
    long = "abcdefghijklmnopqrstuvwxyz"
    # Twenty bytes as the key, where everybody pads the twentieth with zero: made by hand.
    import hashlib
    import hmac

    counter = bytes(8)
    digest = hmac.new(long[:20].encode(), bytes((2, 1, 101, 10, 13, 37, 42)) + counter, hashlib.sha1).digest()
    observer = _observed(Observer(long, [VIP]), bytes(Frame(counter=counter, digest=digest)))
    (speaker,) = observer.speakers.values()
    assert [signature.form for signature in speaker.signatures] == ["twenty"]


def test_missing_and_added_addresses() -> None:
    scene = Scene(
        Observer(SECRET, [VIP, "10.13.37.43"]),
        {"addresses": [f"{VIP}/24", "10.13.37.43/24", "10.13.37.11/24"]},
    )
    scene.run(8)
    findings = "\n".join(scene.observer.findings())
    assert "10.13.37.12 signs over 10.13.37.42, without 10.13.37.43" in findings
    assert "with 10.13.37.11 in addition" in findings
    assert "10.13.37.12 over 10.13.37.42: give both the same addresses" in findings


def test_addresses_are_learned_from_announcements_when_none_are_given() -> None:
    scene = Scene(Observer(SECRET), second={"addresses": [f"{VIP}/24", "10.13.37.43/24"]})
    scene.run(8)
    assert {str(address) for address in scene.observer.learned[101]} == {VIP, "10.13.37.43"}
    (finding,) = [one for one in scene.observer.findings() if "master at once" in one]
    assert "signs over 10.13.37.42, 10.13.37.12 over 10.13.37.42 and 10.13.37.43" in finding


def test_link_local_addresses_that_openbsd_leaves_out() -> None:
    addresses = (VIP, "2001:db8::42", "fe80::42")
    frame = bytes(Frame(addresses=addresses, link_local=False))
    observer = _observed(Observer(SECRET, addresses), frame)
    (finding,) = observer.findings()
    assert "leaves link-local addresses out of its digest, as OpenBSD does" in finding
    (speaker,) = observer.speakers.values()
    assert not speaker.faults
    assert _observed(Observer(SECRET, addresses), bytes(Frame(addresses=addresses))).findings() == []


def test_one_group_under_two_vhids() -> None:
    # As BSDs do it: hosts of ours would come to one owner, and one of them be silent.
    scene = Scene(Observer(SECRET, [VIP]), main={"siblings": "warn"}, second={"vhid": 102, "siblings": "warn"})
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert finding.startswith("10.13.37.42 is spoken for by 10.13.37.11 under vhid 101, 10.13.37.12 under vhid 102")


def test_another_group_is_not_judged_by_this_ones_secret() -> None:
    scene = Scene(
        Observer(SECRET, [VIP], vhid=101), second={"vhid": 7, "passphrase": "of another group", "addresses": []}
    )
    scene.second.stop()
    other = GROUP.replace(vhid=7, passphrase="of another group", addresses=["10.13.37.77/24"])
    scene.lan.host("other", "10.13.37.15/24", other).start()
    scene.run(8)
    assert scene.observer.findings() == []
    assert not scene.speaker("10.13.37.15").faults


def test_a_host_that_does_not_hear_the_other_signs_alike() -> None:
    scene = Scene(Observer(SECRET, [VIP]))
    scene.run(5)
    scene.lan.deafen(scene.second)
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert "they sign alike, so one does not hear the other" in finding


def test_signed_as_another_vhid() -> None:
    frame = bytearray(bytes(Frame(vhid=7)))
    frame[35] = 101
    # 7 became 101: the checksum follows, the digest does not.
    word = int.from_bytes(frame[40:42], "big") - (101 - 7)
    frame[40:42] = (word if word >= 0 else word + 0xFFFF).to_bytes(2, "big")
    observer = _observed(Observer(SECRET, [VIP]), bytes(frame))
    assert any("signs as vhid 7" in finding for finding in observer.findings())


def test_a_header_that_was_altered_on_its_way() -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"dialect": "bsd", "advskew": 50})
    scene.run(4)
    frame = bytearray(next(frame for _, frame in scene.frames if frame[23:24] == b"\x70"))
    frame[36] = 0
    word = int.from_bytes(frame[40:42], "big") + (50 << 8)
    frame[40:42] = (word if word <= 0xFFFF else word - 0xFFFF).to_bytes(2, "big")
    changes = scene.observer.frame(bytes(frame), EPOCH + scene.lan.now)
    assert [change.details.get("counter") for change in changes] == ["tampered"]
    assert scene.speaker(MAIN).advskew == 50


# Faults, with the kernel's names


@pytest.mark.parametrize(
    ("fault", "frame"),
    [
        ("badttl", Frame(ttl=254)),
        ("badsum", Frame(checksum_flip=1)),
        ("badver", Frame(first=0x31)),
        ("badauth", Frame(digest_flip=1)),
    ],
)
def test_faults_have_the_kernels_names(fault: str, frame: Frame) -> None:
    observer = Observer(SECRET, [VIP])
    changes = observer.frame(bytes(frame), EPOCH) + observer.frame(bytes(frame), EPOCH + SECOND)
    assert [change.details["counter"] for change in changes if change.kind == "fault"] == [fault]
    (speaker,) = observer.speakers.values()
    assert speaker.faults[fault] == 2
    assert (speaker.condition is Condition.FAULTY) == (fault != "badauth")


def test_short_adverts_and_neighbours_that_speak_vrrp() -> None:
    advert = bytes(Frame())
    short = _ipv4(advert, advert[34:50])
    vrrp2 = _ipv4(advert, bytes((0x21, 51, 100, 1, 0, 1, 0, 0)) + bytes(12))
    vrrp3 = _ipv4(advert, bytes((0x31, 52, 100, 1, 0, 100, 0, 0)) + bytes(4))
    observer = Observer()
    changes = [change for frame in (short, short, vrrp2, vrrp2, vrrp3) for change in observer.frame(frame, EPOCH)]
    assert [change.kind for change in changes] == ["fault", "vrrp", "vrrp"]
    assert "router 51" in changes[1].text and "00:00:5e:00:01:34" in changes[2].text
    assert observer.overlooked == {"badlen": 2, "VRRP": 3}
    assert observer.speakers == {}


def _ipv4(like: bytes, payload: bytes) -> bytes:

    header = bytearray(like[14:34])
    header[2:4] = (20 + len(payload)).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return like[:14] + bytes(header) + payload


def test_whose_implementation_it_looks_like() -> None:
    assert _looks(bytes(Frame(pad=3))) == "OpenBSD"
    assert _looks(*[bytes(Frame())] * 3) == "OpenBSD"
    ucarp = bytes(Frame())
    assert _looks(ucarp[:6] + bytes.fromhex("00005e000065") + ucarp[12:]) == "UCarp"
    assert _looks(*(bytes(Frame(counter=bytes((n,)) * 8)) for n in range(3))) == ""


def _looks(*frames: bytes) -> str:
    (speaker,) = _observed(Observer(), *frames).speakers.values()
    return speaker.looks_like


def test_tagged_adverts_and_broken_datagrams_are_counted_apart() -> None:
    advert = bytes(Frame())
    observer = Observer()
    observer.frame(advert[:12] + b"\x81\x00\x00\x05" + advert[12:], EPOCH)
    observer.frame(advert[:20] + b"\x20" + advert[21:], EPOCH)
    assert observer.overlooked == {"of another VLAN": 1, "not an intact IP datagram": 1}


# Hostile frames


@pytest.mark.slow
def test_the_table_is_bounded_and_those_who_speak_stay() -> None:
    observer = Observer(SECRET, [VIP])
    honest = bytes(Frame())
    observer.frame(honest, EPOCH)
    start = time.monotonic()
    for number in range(MOST_SPEAKERS + 500):
        source = f"10.{number >> 8}.{number & 255}.9"
        observer.frame(bytes(Frame(source=source, passphrase="a liar's")), EPOCH + number)
    assert len(observer.speakers) <= MOST_SPEAKERS
    assert any(key.source == PEER for key in observer.speakers)
    assert observer.overlooked[f"of more than {MOST_SPEAKERS} speakers"] > 0
    # The search for an explanation is rationed.
    assert time.monotonic() - start < 30


def test_a_flood_of_changes_is_not_a_flood_of_lines() -> None:
    observer = Observer()
    lines = 0
    for number in range(5000):
        lines += len(observer.frame(bytes(Frame(advskew=number % 200)), EPOCH + number * 1000))
    assert lines < 500
    assert observer.overlooked["changes, too many at once"] > 4000


def test_learned_addresses_are_bounded() -> None:
    observer = Observer()
    for number in range(200):
        arp = b"\xff" * 6 + bytes(6) + bytes.fromhex("08060001080006040001") + bytes.fromhex("00005e000165")
        observer.frame(arp + bytes((10, 0, 0, number)) + bytes(10), EPOCH)
    assert len(observer.learned[101]) == 32


def test_random_frames_never_raise_and_never_reach_the_terminal_raw() -> None:
    dice = random.Random(1)
    observer = Observer(SECRET, [VIP])
    seeds = [bytes(Frame()), bytes(Frame(source="fe80::1", addresses=("2001:db8::42",)))]
    texts = []
    for number in range(3000):
        frame = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        texts += [
            change.text for change in observer.frame(bytes(frame[: dice.randrange(20, 120)]), EPOCH + number * SECOND)
        ]
    assert all(text.isprintable() for text in texts + observer.findings())
    json.dumps([speaker.as_dict() for speaker in observer.speakers.values()])


def test_clocks_that_go_backwards_do_no_harm() -> None:
    observer = Observer()
    for at in (10, 5, 7, 3, 20):
        observer.frame(bytes(Frame(counter=bytes((at,)) * 8)), EPOCH + at * SECOND)
    (speaker,) = observer.speakers.values()
    assert all(gap > 0 for gap in speaker.intervals)


def test_secrets_show_nowhere() -> None:
    search = KeySearch(SECRET, [VIP])
    (speaker,) = _observed(Observer(SECRET, [VIP]), bytes(Frame())).speakers.values()
    shown = repr(search) + repr(speaker) + str(speaker.as_dict())
    assert SECRET not in shown and SECRET.encode().hex() not in shown and "motdepasse" not in shown


def test_durations_and_macs_for_people() -> None:
    assert [seconds(n) for n in (80_400, 12_300_000, 1_391_000_000)] == ["80 us", "12.3 ms", "1.391 s"]
    assert (mac_text(bytes.fromhex("00005e000165")), mac_text(bytes(6))) == ("00:00:5e:00:01:65", "")


# The command


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    scene = Scene(Observer())
    scene.run(5)
    scene.main.stop()
    scene.run(4)
    path = tmp_path / "group.pcap"
    captures.write(path, scene.frames)
    return path


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    path = tmp_path / "carp.pass"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_capture_as_lines(capture: Path, passfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--passfile", str(passfile), "--address", VIP]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} vhid 101: 10\.13\.37\.11 advertises every 1\.000 s \(advbase 1, advskew 0\)", lines[0]
    )
    assert "10.13.37.11 bows out" in lines[1]
    assert "10.13.37.12 advertises every 1.391 s" in lines[2]
    assert lines[3].startswith(f"{capture}: ")
    assert "bsd+netbsd, looks like pycarp, 00:00:5e:00:01:65" in lines[4]
    assert len(lines) == 6


def test_a_capture_as_json(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--json"]) == 0
    *changes, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [change["event"] for change in changes] == ["master", "bowed out", "master"]
    assert changes[0]["at"] > EPOCH and changes[0]["time"].startswith("2026-11-18T")
    assert summary["event"] == "summary" and len(summary["speakers"]) == 2
    assert summary["speakers"][0]["interval_ns"]["median"] == SECOND


def test_count_and_seconds_end_it(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--json", "--count", "3"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["adverts"] == 3
    assert main(["monitor", "-r", str(capture), "--json", "--seconds", "1.5"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["adverts"] == 4


def test_a_terminal_gets_a_table(capture: Path) -> None:
    from io import StringIO

    from rich.console import Console

    from pycarp.cli.monitor_view import ColourView, LiveView, MonitorReport

    observer = Observer(SECRET, [VIP])
    console = Console(file=StringIO(), force_terminal=True, width=140, highlight=False)
    with ColourView(MonitorReport(observer, "a\x1b[2Jfile"), console) as view:
        for at, frame in captures.read(capture):
            view.show(observer.frame(frame, at), at)
        view.summary()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "● master" in text and "○ bowed out" in text and "\x1b[2J" not in text and r"a\x1b[2Jfile" in text
    live = Observer()
    with LiveView(MonitorReport(live, "eth0"), console) as view:
        view.show([], EPOCH)
        view.show(live.frame(bytes(Frame()), EPOCH + SECOND), EPOCH + SECOND)
        view.summary()
    assert "nobody so far" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either -i INTERFACE or -r FILE"),
        (["-i", "eth0", "-r", "x"], "give either -i INTERFACE or -r FILE"),
        (["-i", "nonesuch"], "there is no interface 'nonesuch': this machine has lo"),
        (["-i", "none\x1b[2J"], r"none\x1b[2J"),
        (["-r", "/nonexistent.pcap"], "No such file"),
        (["-r", __file__], "neither pcap nor pcapng"),
        (["-r", "x", "--address", "10.0.0.300"], "is not an IP address"),
        (["-r", "x", "--passfile", "/nonexistent"], "does not exist"),
        (["-r", "x", "--count", "0"], "--count"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err and shown.err.count("\n") == 1 and "\x1b" not in shown.err


def test_a_capture_that_was_cut_short_is_shown_as_far_as_it_goes(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-5])
    assert main(["monitor", "-r", str(capture)]) == 1
    shown = capsys.readouterr()
    assert "10.13.37.12 advertises" in shown.out
    assert "was cut short" in shown.err and shown.err.count("\n") == 1


def test_a_passfile_that_others_may_read_is_remarked_upon(
    capture: Path, passfile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passfile.chmod(0o644)
    assert main(["monitor", "-r", str(capture), "--passfile", str(passfile)]) == 0
    assert "warning: everybody may read the passphrase" in capsys.readouterr().err


# On the wire


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(hosts=("main", "client"), subnet6=None) as lab:
        yield lab


def _send(lab: Lab, frames: list[bytes]) -> None:
    from pycarp.linux.sockets import send_socket

    host = lab["main"]
    with host.enter(), send_socket(host.index("eth0")) as opened:
        for frame in frames:
            opened.send(frame)


def _monitor(lab: Lab, host: str, *arguments: str) -> subprocess.Popen[str]:
    return lab[host].popen(
        [sys.executable, "-m", "pycarp", "monitor", "-i", "eth0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def _until_heard(lab: Lab, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Send adverts until the monitor, which takes a while to start, tells of one."""
    import select

    assert process.stdout is not None
    for number in range(600):
        _send(lab, [bytes(Frame(counter=number.to_bytes(8, "big")))])
        if select.select([process.stdout], [], [], 0.05)[0]:
            return dict(json.loads(process.stdout.readline()))
    pytest.fail("the monitor heard nothing")


class TestOnTheWire:
    pytestmark = needs_namespaces()

    @pytest.mark.parametrize("where", ["client", "main"])
    def test_it_hears_others_and_the_host_itself_and_ends_by_signal(self, lab: Lab, where: str) -> None:
        process = _monitor(lab, where)
        heard = _until_heard(lab, process)
        assert (heard["event"], heard["source"]) == ("master", PEER)
        assert abs(heard["at"] - time.time_ns()) < 5 * SECOND
        process.terminate()
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0 and err == ""
        assert json.loads(out.splitlines()[-1])["event"] == "summary"

    def test_it_ends_by_itself(self, lab: Lab) -> None:
        process = _monitor(lab, "client", "--seconds", "0.2")
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(out)["adverts"] == 0

    def test_an_interface_that_goes_away_ends_it(self, lab: Lab) -> None:
        process = _monitor(lab, "client")
        _until_heard(lab, process)
        lab["client"].run(["ip", "link", "delete", "eth0"])
        _, err = process.communicate(timeout=10)
        assert process.returncode == 1
        assert err == "pycarp monitor: the interface eth0 is gone\n"

    def test_without_the_capability_it_says_which(self, lab: Lab) -> None:
        argv = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-m", "pycarp", "monitor"]
        done = lab["client"].run([*argv, "-i", "eth0"], check=False, env=environment())
        assert done.returncode == 2
        assert done.stderr.startswith("pycarp monitor: missing CAP_NET_RAW") and done.stderr.count("\n") == 1
