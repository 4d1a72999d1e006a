"""Captures: what is written is read again, every pcap and pcapng is understood, and damage gets one sentence."""

from __future__ import annotations

import io
import json
import random
import struct
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, PcapWriter, rdpcap

from pycarp.errors import CarpError
from pycarp.monitor.pcap import Captured, CaptureError, read, read_stream, write

VECTORS = Path(__file__).parents[1] / "vectors" / "netbsd-frames.json"
FRAMES = [bytes.fromhex(frame["hex"]) for group in json.loads(VECTORS.read_text()) for frame in group["frames"]]
ADVERT = FRAMES[0]
AT = 1_795_000_000_123_456_789


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    stamped = [(AT + n, frame) for n, frame in enumerate(FRAMES)]
    assert write(tmp_path / "a.pcap", stamped) == len(FRAMES)
    assert list(read(tmp_path / "a.pcap")) == stamped


def test_others_read_what_is_written(tmp_path: Path) -> None:
    write(tmp_path / "a.pcap", [(AT, frame) for frame in FRAMES])
    packets = rdpcap(str(tmp_path / "a.pcap"))
    assert [bytes(packet) for packet in packets] == FRAMES
    assert int(packets[0].time * 1_000_000_000) == AT


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_of_either_byte_order_and_unit(order: str, magic: int, unit: int) -> None:
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    for frame in FRAMES:
        stamp = divmod(AT, 1_000_000_000)
        data += struct.pack(order + "IIII", stamp[0], stamp[1] // unit, len(frame), len(frame)) + frame
    assert parse(data) == [(AT // unit * unit, frame) for frame in FRAMES]


@pytest.mark.parametrize("nano", [False, True])
def test_pcap_as_scapy_writes_it(tmp_path: Path, nano: bool) -> None:
    path = tmp_path / "a.pcap"
    with PcapWriter(str(path), nano=nano) as writer:
        for frame in FRAMES:
            packet = Ether(frame)
            packet.time = 1_795_000_000.5
            writer.write(packet)
    assert list(read(path)) == [(1_795_000_000_500_000_000, frame) for frame in FRAMES]


def test_pcapng_as_scapy_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapNgWriter(str(path)) as writer:
        for frame in FRAMES:
            writer.write(Ether(frame))
    assert [captured.frame for captured in read(path)] == FRAMES


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int = 1, options: bytes = b"", order: str = "<", snaplen: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(number: int, ticks: int, data: bytes, order: str = "<") -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, order)


def parse(data: bytes) -> list[Captured]:
    return list(read_stream(io.BytesIO(data), "x"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "ticks", "at"),
    [
        (None, 1_500_000, 1_500_000_000),
        (9, 1_500_000_001, 1_500_000_001),
        (3, 1_500, 1_500_000_000),
        (0x80 | 10, 1536, 1_500_000_000),
        (12, 1_500_000_000_999, 1_500_000_000),
    ],
)
def test_pcapng_timestamp_resolutions(order: str, resolution: int | None, ticks: int, at: int) -> None:
    options = b"" if resolution is None else option(9, bytes((resolution,)), order) + option(0, b"", order)
    data = section(order) + interface(options=options, order=order) + enhanced(0, ticks, ADVERT, order)
    assert parse(data) == [(at, ADVERT)]


def test_pcapng_offset_simple_and_old_packets_and_unknown_blocks() -> None:
    old = block(2, struct.pack("<HHIIII", 0, 7, 0, 2_000_000, len(ADVERT), len(ADVERT)) + ADVERT)
    simple = block(3, struct.pack("<I", len(ADVERT)) + ADVERT)
    data = section() + interface(options=option(14, struct.pack("<q", 10))) + block(0xBAD, b"whatever") + old + simple
    assert parse(data) == [(12_000_000_000, ADVERT), (0, ADVERT)]


def test_a_new_section_has_its_own_byte_order_and_interfaces() -> None:
    data = section() + interface() + enhanced(0, 1, ADVERT)
    data += section(">") + interface(101, order=">") + enhanced(0, 2, ADVERT[14:], ">")
    first, second = parse(data)
    assert first == (1000, ADVERT)
    assert second.frame[12:] == ADVERT[12:]


def test_foreign_interfaces_are_passed_over_unless_there_is_nothing_else() -> None:
    foreign = section() + interface(147) + enhanced(0, 1, b"something")
    assert parse(foreign + interface(1) + enhanced(1, 1, ADVERT)) == [(1000, ADVERT)]
    with pytest.raises(CaptureError, match="no frames of Ethernet"):
        parse(foreign)


def pcap(link: int, *records: bytes, order: str = "<") -> bytes:
    data = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return data + b"".join(struct.pack(order + "IIII", 1, 2, len(record), len(record)) + record for record in records)


def test_cooked_and_raw_captures_get_an_ethernet_header_again() -> None:
    mac = ADVERT[6:12]
    v1 = struct.pack("!HHH", 2, 1, 6) + mac + b"\0\0" + ADVERT[12:]
    v2 = ADVERT[12:14] + struct.pack("!HIHBB", 0, 3, 1, 2, 6) + mac + b"\0\0" + ADVERT[14:]
    assert [parse(pcap(113, v1))[0].frame, parse(pcap(276, v2))[0].frame] == [ADVERT, ADVERT]
    for link in (12, 14, 101, 228):
        (captured,) = parse(pcap(link, ADVERT[14:]))
        assert captured.frame == ADVERT[:6] + bytes(6) + ADVERT[12:]


def test_made_up_destinations() -> None:
    ipv6 = (
        bytes.fromhex("60000000002470ff") + bytes(15) + b"\x07" + bytes.fromhex("ff02" + "00" * 13 + "12") + bytes(36)
    )
    assert parse(pcap(229, ipv6))[0].frame[:14].hex() == "333300000012" + "00" * 6 + "86dd"
    arp = struct.pack("!HHH", 1, 1, 6) + ADVERT[6:12] + b"\0\0\x08\x06" + bytes(28)
    assert parse(pcap(113, arp))[0].frame[:6] == b"\xff" * 6
    unicast = ADVERT[14:30] + bytes((10, 0, 0, 1)) + ADVERT[34:]
    assert parse(pcap(101, unicast))[0].frame[:6] == bytes(6)


def test_records_too_short_for_their_link_type_are_passed_over() -> None:
    for link in (101, 113, 276):
        assert parse(pcap(link, b"", ADVERT[14:17] if link != 101 else b"\x00")) == []


def test_the_link_type_may_carry_the_length_of_a_checksum() -> None:
    assert parse(pcap(1 | 0x2400_0000, ADVERT)) == [(1_000_002_000, ADVERT)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "neither pcap nor pcapng"),
        (pcap(1, ADVERT)[:10], "in the middle of its header"),
        (pcap(1, ADVERT)[:30], "in the middle of a record, after 0 frames"),
        (pcap(1, ADVERT, ADVERT)[:-1], "in the middle of a frame, after 1 frame:"),
        (pcap(1) + struct.pack("<IIII", 1, 2, 300_000, 300_000), "300000 bytes cannot be"),
        (pcap(147, b"x"), "link type 147"),
        (section()[:9], "in the middle of a block"),
        (section()[:8] + b"abcd" + section()[12:], "no byte order"),
        (section() + struct.pack("<II", 6, 13), "13 bytes cannot be"),
        (section() + struct.pack("<II", 6, 0xFFFF_FFFC), "cannot be"),
        (section() + interface()[:-1] + b"\x01", "does not end where it says"),
        (section() + interface() + b"\x06\x00", "in the middle of a block"),
        (section() + enhanced(0, 0, ADVERT), "interface 0, which was never described"),
        (section() + interface() + block(6, b"1234"), "too few bytes"),
        (section() + block(1, b"1234"), "too few bytes"),
        (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 999, 999)), "longer than its block"),
        (section() + interface() * 4097, "interfaces cannot be"),
    ],
)
def test_damage_gets_one_sentence_with_the_name(data: bytes, says: str) -> None:
    with pytest.raises(CaptureError) as raised:
        parse(data)
    message = str(raised.value)
    assert says in message
    assert message.startswith("x ") and "\n" not in message
    assert isinstance(raised.value, CarpError)


def test_what_stands_before_the_damage_is_given_out() -> None:
    reading = read_stream(io.BytesIO(pcap(1, ADVERT, ADVERT)[:-1]), "x")
    assert next(reading).frame == ADVERT
    with pytest.raises(CaptureError):
        next(reading)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        list(read(tmp_path / "missing.pcap"))
    with pytest.raises(CaptureError, match="cannot be read"):
        list(read(tmp_path))
    with pytest.raises(CaptureError, match="cannot be written"):
        write(tmp_path / "missing" / "a.pcap", [])


def test_a_hostile_name_does_not_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as raised:
        list(read(tmp_path / "a\x1b[2J.pcap"))
    assert "\x1b" not in str(raised.value)


def test_garbage_never_raises_anything_else() -> None:
    dice = random.Random(1)
    whole = [
        pcap(1, *FRAMES[:5]),
        section() + interface() + b"".join(enhanced(0, n, f) for n, f in enumerate(FRAMES[:5])),
    ]
    for _ in range(2000):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.choice((0, 1, 6, 0x7F, 0xFF, dice.randrange(256)))
        try:
            parse(bytes(data[: dice.randrange(len(data) + 1)]))
        except CaptureError as error:
            assert "\n" not in str(error)
