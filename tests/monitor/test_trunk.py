"""Captures of trunks: one group for each VLAN, and what is said of them."""

from __future__ import annotations

import struct

from support.wire import PASSPHRASE, Frame

from pycarp.monitor.trunk import MOST_VLANS, Trunk

SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND


def tagged(frame: Frame, *vlans: int, ethertype: int = 0x8100) -> bytes:
    raw = bytes(frame)
    return raw[:12] + b"".join(struct.pack("!HH", ethertype, vlan) for vlan in vlans) + raw[12:]


def test_each_vlan_is_a_lan_of_its_own() -> None:
    trunk = Trunk()
    changes = []
    for number in range(4):
        beat = Frame(counter=number.to_bytes(8, "big"))
        for at, raw in enumerate([
            bytes(beat), tagged(beat.but(source="10.0.0.1"), 10), tagged(beat.but(source="10.0.0.2"), 20),
            tagged(beat.but(source="10.0.0.3"), 5, 10), tagged(beat, 0xE000),
            tagged(beat.but(source="10.0.0.4"), 7, ethertype=0x9100),
        ]):  # fmt: skip
            changes += trunk.frame(raw, EPOCH + number * SECOND + at)
    assert [(change.vlan, change.source) for change in changes if change.kind == "master"] == [
        ((), "10.13.37.12"), ((10,), "10.0.0.1"), ((20,), "10.0.0.2"), ((5, 10), "10.0.0.3"), ((7,), "10.0.0.4"),
    ]  # fmt: skip
    assert not [change for change in changes if change.kind == "two masters"]
    assert [group[0].key.vlan for group in trunk.by_group()] == [(), (5, 10), (7,), (10,), (20,)]
    assert (trunk.frames, trunk.adverts) == (24, 24) and not trunk.overlooked
    assert [change.as_dict().get("vlan") for change in changes if change.kind == "master"][:4] == [
        None,
        "10",
        "20",
        "5.10",
    ]


def test_two_masters_of_one_vlan_are_named_with_it() -> None:
    trunk = Trunk(PASSPHRASE, ["10.13.37.42"])
    for number in range(6):
        counter = number.to_bytes(8, "big")
        for at, source in ((0, "10.0.0.1"), (300_000_000, "10.0.0.2")):
            trunk.frame(tagged(Frame(counter=counter, source=source), 10), EPOCH + number * SECOND + at)
    (finding,) = trunk.findings()
    assert finding.startswith("VLAN 10 vhid 101: 10.0.0.1 and 10.0.0.2 are master at once")
    assert "mac interface" in finding
    changes = trunk.tick(EPOCH + 60 * SECOND)
    assert {change.vlan for change in changes} == {(10,)}


def test_vlans_are_bounded_and_other_traffic_makes_none() -> None:
    trunk = Trunk()
    trunk.frame(tagged(Frame(protocol=17), 9), EPOCH)
    for vlan in range(1, MOST_VLANS + 3):
        trunk.frame(tagged(Frame(), vlan), EPOCH + vlan)
    assert trunk.overlooked == {f"of more than {MOST_VLANS} VLANs": 3}
    for cut in range(12, 24):
        trunk.frame(tagged(Frame(), 1, 2, 3)[:cut], EPOCH + SECOND)
