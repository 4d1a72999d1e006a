"""The observer on recorded, simulated and hostile frames."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from support.scene import EPOCH, MAIN, SECOND_HOST, SECRET, VIP, Scene, observed
from support.wire import PEER, Frame

from pycarp.lab.simulation import SECOND
from pycarp.monitor.observer import MOST_SPEAKERS, Observer
from pycarp.monitor.speakers import Condition
from pycarp.protocol.frames import checksum

VECTORS_AT = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((VECTORS_AT / "netbsd-frames.json").read_text())


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


def test_adverts_to_peers_say_where_they_go() -> None:
    observer, said = Observer(), []
    for turn in range(3):
        for at, peer in enumerate(("10.13.37.12", "10.13.37.13")):
            said += observer.frame(bytes(Frame(destination=peer)), turn * SECOND + at)
    (speaker,) = observer.speakers.values()
    assert speaker.as_dict()["destinations"] == ["10.13.37.12", "10.13.37.13"]
    assert (speaker.median, speaker.condition) == (SECOND, Condition.ADVERTISING)  # one beat for both
    assert [change.kind for change in said] == ["master"] and ", to 10.13.37.12" in said[0].text


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
    assert change.text == "10.13.37.11 now says advbase 1, advskew 240, demotion 1 (was 1, 0, 0)"


def test_silence_is_noticed_when_the_deadline_comes() -> None:
    observer = Observer()
    observer.frame(bytes(Frame(advbase=1, advskew=128)), EPOCH)
    assert observer.deadline == EPOCH + 3 * SECOND + SECOND // 2
    assert observer.tick(observer.deadline - 1) == []
    (change,) = observer.tick(observer.deadline)
    assert (change.kind, change.details["last"]) == ("silent", EPOCH)
    assert observer.deadline is None


# Faults, with the kernel's names


@pytest.mark.parametrize(
    ("fault", "frame"),
    [
        ("badttl", Frame(ttl=254)),
        ("badsum", Frame(checksum_flip=1)),
        ("badver", Frame(first=0x41)),
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
    assert _looks(*[bytes(Frame())] * 2) == ""
    ucarp = bytes(Frame())
    assert _looks(ucarp[:6] + bytes.fromhex("00005e000065") + ucarp[12:]) == "UCarp"
    assert _looks(*(bytes(Frame(counter=bytes((n,)) * 8)) for n in range(3))) == ""


def _looks(*frames: bytes) -> str:
    (speaker,) = observed(Observer(), *frames).speakers.values()
    return speaker.looks_like


def test_tagged_adverts_and_broken_datagrams_are_counted_apart() -> None:
    advert = bytes(Frame())
    observer = Observer()
    observer.frame(advert[:12] + b"\x81\x00\x00\x05" + advert[12:], EPOCH)
    observer.frame(advert[:20] + b"\x20" + advert[21:], EPOCH)
    assert observer.overlooked == {"of another VLAN": 1, "not an intact IP datagram": 1}


def test_recorded_openbsd_has_its_own_formula() -> None:
    records = json.loads((VECTORS_AT / "openbsd-frames.json").read_text())["records"]
    seen = 0
    for record in records:
        adverts = [frame for frame in record["frames"] if frame["kind"] == "advert" and frame["advskew"] != 255]
        if len(adverts) < 3 or len({bytes.fromhex(one["hex"])[12:14] for one in adverts}) > 1:
            continue
        observer = Observer()
        for frame in adverts:
            observer.frame(bytes.fromhex(frame["hex"]), int(frame["at_s"] * SECOND))
        speaker, *others = observer.speakers.values()
        if others or adverts[-1]["at_s"] - adverts[0]["at_s"] < 1.6:
            continue
        seen += 1
        assert speaker.looks_like == "OpenBSD"
        third = speaker.advbase * SECOND + speaker.advskew * SECOND // 256
        assert abs(speaker.master_down - 3 * third - 20_000_000) <= 3
        observer.tick(speaker.last + 3 * third)
        assert speaker.condition is Condition.ADVERTISING
        assert observer.deadline == speaker.last + speaker.master_down
        observer.tick(speaker.last + 3 * third + 21_000_000)
        assert speaker.condition is Condition.SILENT
    assert seen >= 5


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
