"""Frames taken apart and put together: every field, every length, and what no IP layer would hand on."""

from __future__ import annotations

import ctypes
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire
from support.wire import Frame

from pycarp._impl import Implementation
from pycarp.protocol import BOWOUT, NS_PER_SECOND, NS_PER_SKEW, Advert
from pycarp.protocol.abc import Datagram
from pycarp.protocol.frames import virtual_mac

V4 = Frame()
V6 = Frame(source="2001:db8::12", addresses=("2001:db8::42",))
BOTH = pytest.mark.parametrize("good", [V4, V6], ids=["IPv4", "IPv6"])


def parsed(impl: Implementation, frame: Frame | bytes) -> Advert | None:
    datagram = impl.packet.dissect(bytes(frame))
    return None if datagram is None else impl.packet.advert(datagram)


# What stands in a frame


@BOTH
def test_datagram(impl: Implementation, good: Frame) -> None:
    datagram = impl.packet.dissect(bytes(good))
    raw = bytes(good)
    at = 22 if good.ipv6 else 26
    width = 16 if good.ipv6 else 4
    assert isinstance(datagram, Datagram)
    assert datagram == Datagram(
        6 if good.ipv6 else 4,
        raw[:6],
        raw[6:12],
        raw[at : at + width],
        raw[at + width : at + 2 * width],
        255,
        raw[-36:],
    )


@BOTH
def test_every_field(impl: Implementation, good: Frame) -> None:
    advert = parsed(
        impl,
        good.but(first=0x3C, vhid=7, advskew=1, authlen=2, pad=3, advbase=4, counter=b"\x80" + bytes(6) + b"\x01"),
    )
    assert advert == Advert(
        family=6 if good.ipv6 else 4,
        source=good.source,
        destination=good.to,
        source_mac=bytes.fromhex("00005e000107"),
        version=3,
        type=12,
        vhid=7,
        advskew=1,
        authlen=2,
        demotion=3,
        advbase=4,
        counter=b"\x80" + bytes(6) + b"\x01",
        digest=good.but(vhid=7, counter=b"\x80" + bytes(6) + b"\x01").signature,
    )
    assert advert.interval == 4 * NS_PER_SECOND + NS_PER_SKEW
    assert not advert.bowout


@pytest.mark.parametrize(
    ("advbase", "advskew", "bowout"), [(255, 255, True), (255, 254, False), (254, 255, False), (1, 255, False)]
)
def test_bowout_is_255_255(impl: Implementation, advbase: int, advskew: int, bowout: bool) -> None:
    advert = parsed(impl, V4.but(advbase=advbase, advskew=advskew))
    assert advert is not None and advert.bowout is bowout


@BOTH
def test_addresses_are_text_in_their_shortest_form(impl: Implementation, good: Frame) -> None:
    advert = parsed(impl, good.but(source="2001:db8:0:0:1::" if good.ipv6 else "0.0.0.0"))
    assert advert is not None and advert.source == ("2001:db8:0:0:1::" if good.ipv6 else "0.0.0.0")


# What an IP layer hands on, and what it does not


@BOTH
@pytest.mark.parametrize("trailer", [b"", b"\0", b"x" * 7, bytes(1464), bytes(60000)], ids=len)
def test_trailing_bytes_and_padding(impl: Implementation, good: Frame, trailer: bytes) -> None:
    """Bytes within the datagram stay in the payload; Ethernet padding after it is cut off."""
    datagram = impl.packet.dissect(bytes(good.but(trailer=trailer, padding=b"pad")))
    assert datagram is not None and datagram.payload == good.header + trailer
    assert impl.packet.advert(datagram) == parsed(impl, good)
    assert impl.packet.checksum_ok(datagram)


@BOTH
def test_truncated_at_every_length(impl: Implementation, good: Frame) -> None:
    """A capture that stops short of what its IP header promises is nothing."""
    raw = bytes(good)
    for length in range(len(raw)):
        assert impl.packet.dissect(raw[:length]) is None, length


@BOTH
def test_every_payload_length(impl: Implementation, good: Frame) -> None:
    """A datagram that is short but honest is a datagram; an advert only from 36 bytes on."""
    for length in range(36):
        datagram = impl.packet.dissect(bytes(good.but(cut=36 - length)))
        assert datagram is not None and len(datagram.payload) == length
        assert impl.packet.advert(datagram) is None
        assert impl.packet.checksum_ok(datagram) in (True, False)


TAGS = [
    b"\x81\x00\xe0\x00",
    b"\x88\xa8\x10\x00",
    b"\x81\x00\x00\x00\x81\x00\x00\x00",
    b"\x88\xa8\x00\x00\x81\x00\xf0\x00",
]


@BOTH
@pytest.mark.parametrize("tags", TAGS, ids=bytes.hex)
def test_tags_of_vlan_id_0_are_skipped(impl: Implementation, good: Frame, tags: bytes) -> None:
    raw = bytes(good)
    tagged = raw[:12] + tags + raw[12:]
    datagram = impl.packet.dissect(tagged)
    assert datagram == impl.packet.dissect(raw) is not None
    for length in range(len(tagged)):
        assert impl.packet.dissect(tagged[:length]) is None, length


NOT_HANDED_ON = {
    "another protocol": {"protocol": 89},
    "IP version 5": {"ip_version": 5},
    "ARP": {"ethertype": b"\x08\x06"},
    "VLAN tag": {"ethertype": b"\x81\x00\x00\x07\x08\x00"},
    "priority tag, then VLAN": {"ethertype": b"\x81\x00\xe0\x00\x81\x00\x00\x07\x08\x00"},
    "three tags in the bytes": {"ethertype": b"\x81\x00\x00\x00" * 3 + b"\x08\x00"},
    "a tag and nothing else": {"ethertype": b"\x81\x00\x00\x00", "protocol": 112},
    "802.3 length": {"ethertype": b"\x00\x38"},
    "jumbo length": {"total_length": 65535},
    "one byte more than there is": {"total_length": 57},
    "length zero": {"total_length": 0},
    "length below the header": {"total_length": 19},
    "IHL 4": {"ihl": 4},
    "IHL 0": {"ihl": 0},
    "IHL past the end": {"ihl": 15},
    "header checksum wrong": {"header_checksum_flip": 1},
    "header checksum byte swapped": {"header_checksum_flip": 0x0100},
    "first fragment": {"fragment": 0x2000},
    "last fragment": {"fragment": 0x0001},
    "fragment with DF": {"fragment": 0x4000 | 5},
    "source 224.0.0.18": {"source": "224.0.0.18"},
    "source 239.255.255.255": {"source": "239.255.255.255"},
    "source 127.0.0.1": {"source": "127.0.0.1"},
    "destination 127.0.0.1": {"destination": "127.0.0.1"},
}


@pytest.mark.parametrize("changes", NOT_HANDED_ON.values(), ids=NOT_HANDED_ON.keys())
def test_not_handed_on(impl: Implementation, changes: dict[str, object]) -> None:
    assert impl.packet.dissect(bytes(V4.but(**changes))) is None


NOT_HANDED_ON_6 = {
    "another next header": {"protocol": 59},
    "hop-by-hop first": {"protocol": 0},
    "IP version 4": {"ip_version": 4},
    "VLAN tag": {"ethertype": b"\x81\x00\x00\x07\x86\xdd"},
    "ethertype of IPv4": {"ethertype": b"\x08\x00"},
    "jumbo length": {"total_length": 65535},
    "one byte more than there is": {"total_length": 37},
    "source multicast": {"source": "ff02::12"},
    "source loopback": {"source": "::1"},
    "destination loopback": {"destination": "::1"},
}


@pytest.mark.parametrize("changes", NOT_HANDED_ON_6.values(), ids=NOT_HANDED_ON_6.keys())
def test_not_handed_on_ipv6(impl: Implementation, changes: dict[str, object]) -> None:
    assert impl.packet.dissect(bytes(V6.but(**changes))) is None


HANDED_ON = {
    "no DF, TOS 0, an id": {"fragment": 0, "tos": 0, "ident": 4711},
    "reserved flag": {"fragment": 0x8000},
    "DSCP 56 as FreeBSD": {"tos": 0xE0},
    "NOP options": {"options": b"\x01\x01\x01\x01"},
    "router alert": {"options": b"\x94\x04\x00\x00"},
    "most options there can be": {"options": b"\x01" * 40},
    "source 0.0.0.0": {"source": "0.0.0.0"},
    "source 255.255.255.255": {"source": "255.255.255.255"},
    "source 223.255.255.255": {"source": "223.255.255.255"},
    "source 240.0.0.1": {"source": "240.0.0.1"},
    "source 126.0.0.1": {"source": "126.0.0.1"},
    "source 128.0.0.1": {"source": "128.0.0.1"},
    "TTL 0": {"ttl": 0},
}


@pytest.mark.parametrize("changes", HANDED_ON.values(), ids=HANDED_ON.keys())
def test_handed_on(impl: Implementation, changes: dict[str, object]) -> None:
    frame = V4.but(**changes)
    datagram = impl.packet.dissect(bytes(frame))
    assert datagram is not None
    assert datagram.payload == V4.header and datagram.ttl == frame.ttl
    assert str(IPv4Address(datagram.source)) == frame.source


def test_ipv6_length_zero_is_an_empty_payload(impl: Implementation) -> None:
    """Without a hop-by-hop option a zero length means zero, not jumbo (RFC 2675)."""
    datagram = impl.packet.dissect(bytes(V6.but(total_length=0)))
    assert datagram is not None and datagram.payload == b""


def test_ipv6_traffic_class_and_flow_label_do_not_matter(impl: Implementation) -> None:
    raw = bytearray(bytes(V6))
    raw[14:18] = b"\x6f\xff\xff\xff"
    assert parsed(impl, bytes(raw)) == parsed(impl, V6)


# Checksums


@BOTH
@pytest.mark.parametrize("bit", range(16))
def test_checksum_wrong_in_one_bit(impl: Implementation, good: Frame, bit: int) -> None:
    datagram = impl.packet.dissect(bytes(good.but(checksum_flip=1 << bit)))
    assert datagram is not None and not impl.packet.checksum_ok(datagram)


def test_pseudo_header_checksum_is_for_ipv6_only(impl: Implementation) -> None:
    """NetBSD after 2017 sums the pseudo-header in IPv6, OpenBSD and FreeBSD do not: both are right."""
    for good in (V6, V6.but(pseudo_header=True), V6.but(pseudo_header=True, trailer=b"more")):
        datagram = impl.packet.dissect(bytes(good))
        assert datagram is not None and impl.packet.checksum_ok(datagram)
    plain, pseudo = V6.header, V6.but(pseudo_header=True).header
    assert plain[6:8] != pseudo[6:8]
    # The sum that would be right with a pseudo-header of IPv4 addresses is not right.
    packed = IPv4Address(V4.source).packed + IPv4Address(V4.to).packed
    right = wire.internet_checksum(packed + struct.pack("!BBH", 0, 112, 36) + V4.header[:6] + b"\0\0" + V4.header[8:])
    flip = right ^ int.from_bytes(V4.header[6:8], "big")
    datagram = impl.packet.dissect(bytes(V4.but(checksum_flip=flip)))
    assert datagram is not None and not impl.packet.checksum_ok(datagram)


# What we build


@BOTH
@pytest.mark.parametrize(("advbase", "advskew"), [(0, 1), (1, 0), (1, 100), (254, 254), (BOWOUT, BOWOUT)])
@pytest.mark.parametrize("vhid", [1, 101, 255])
def test_advert_template(impl: Implementation, good: Frame, advbase: int, advskew: int, vhid: int) -> None:
    wanted = good.but(advbase=advbase, advskew=advskew, vhid=vhid)
    template = impl.packet.AdvertTemplate(vhid, virtual_mac(vhid), good.source)
    # Twice: the template does not keep what it was given for one frame.
    for counter in (bytes(8), b"\xff" * 8, wanted.counter):
        expected = wanted.but(counter=counter)
        assert template.frame(advbase, advskew, counter, expected.signature) == bytes(expected)


@BOTH
def test_template_takes_address_objects_and_other_macs(impl: Implementation, good: Frame) -> None:
    source = IPv6Address(good.source) if good.ipv6 else IPv4Address(good.source)
    template = impl.packet.AdvertTemplate(101, wire.CARPDEV_MAC, source)
    expected = good.but(source_mac=wire.CARPDEV_MAC)
    assert template.frame(1, 0, good.counter, good.signature) == bytes(expected)


# Properties


def carp_frames() -> st.SearchStrategy[Frame]:
    byte = st.integers(0, 255)
    addresses4 = st.ip_addresses(v=4).map(str)
    addresses6 = st.ip_addresses(v=6).map(str)
    return st.builds(
        Frame,
        vhid=st.integers(1, 255),
        advbase=byte,
        advskew=byte,
        first=byte,
        authlen=byte,
        pad=byte,
        counter=st.binary(min_size=8, max_size=8),
        digest=st.binary(min_size=20, max_size=20),
        ttl=byte,
        source=addresses4 | addresses6,
        trailer=st.binary(max_size=8),
        padding=st.binary(max_size=8),
        pseudo_header=st.booleans(),
    )


@given(frame=carp_frames())
def test_round_trip(impl: Implementation, frame: Frame) -> None:
    """What stands in a frame is what we read; what we read, built again, is the frame."""
    source = IPv6Address(frame.source) if frame.ipv6 else IPv4Address(frame.source)
    advert = parsed(impl, frame)
    if source.is_multicast or source.is_loopback:
        assert advert is None
        return
    assert advert is not None
    assert (advert.version << 4 | advert.type, advert.vhid, advert.advskew) == (frame.first, frame.vhid, frame.advskew)
    assert (advert.authlen, advert.demotion, advert.advbase) == (frame.authlen, frame.pad, frame.advbase)
    assert (advert.counter, advert.digest) == (frame.counter, frame.signature)
    template = impl.packet.AdvertTemplate(advert.vhid, advert.source_mac, advert.source)
    plain = frame.but(first=0x21, authlen=7, pad=0, ttl=255, trailer=b"", padding=b"", pseudo_header=False)
    assert template.frame(advert.advbase, advert.advskew, advert.counter, advert.digest) == bytes(plain)


@given(data=st.binary(max_size=120))
def test_dissect_never_raises(impl: Implementation, data: bytes) -> None:
    impl.packet.dissect(data)
    for ethertype in (b"\x08\x00", b"\x86\xdd"):
        datagram = impl.packet.dissect(data[:12].ljust(12, b"\0") + ethertype + data)
        if datagram is not None:
            impl.packet.advert(datagram)
            impl.packet.checksum_ok(datagram)


@BOTH
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_buffers_will_do(impl: Implementation, good: Frame, kind: type[bytearray] | type[memoryview]) -> None:
    """What a socket received into need not be copied first, and it is left as it was."""
    raw = bytearray(bytes(good) + b"x")
    given_ = kind(raw)
    datagram = impl.packet.dissect(given_)  # type: ignore[arg-type]
    assert datagram == impl.packet.dissect(bytes(raw))
    assert datagram is not None and type(datagram.payload) is bytes
    assert raw == bytes(good) + b"x"


# Bad use by our own side


@pytest.mark.parametrize("counter", [b"", bytes(7), bytes(9)], ids=len)
def test_frame_wants_eight_bytes(impl: Implementation, counter: bytes) -> None:
    with pytest.raises(ValueError, match="counter"):
        impl.packet.AdvertTemplate(101, wire.VIRTUAL_MAC, wire.PEER).frame(1, 0, counter, bytes(20))


@pytest.mark.parametrize("digest", [b"", bytes(19), bytes(21)], ids=len)
def test_frame_wants_twenty_bytes(impl: Implementation, digest: bytes) -> None:
    with pytest.raises(ValueError, match="digest"):
        impl.packet.AdvertTemplate(101, wire.VIRTUAL_MAC, wire.PEER).frame(1, 0, bytes(8), digest)


@pytest.mark.parametrize(("advbase", "advskew"), [(256, 0), (0, 256), (-1, 0), (0, -1)])
def test_frame_wants_bytes_for_the_header(impl: Implementation, advbase: int, advskew: int) -> None:
    with pytest.raises(ValueError, match="advbase|advskew"):
        impl.packet.AdvertTemplate(101, wire.VIRTUAL_MAC, wire.PEER).frame(advbase, advskew, bytes(8), bytes(20))


@pytest.mark.parametrize("vhid", [256, -1])
def test_vhid_out_of_range(impl: Implementation, vhid: int) -> None:
    with pytest.raises(ValueError, match="vhid"):
        impl.packet.AdvertTemplate(vhid, wire.VIRTUAL_MAC, wire.PEER)


@pytest.mark.parametrize("mac", [b"", bytes(5), bytes(7)], ids=len)
def test_mac_of_another_length(impl: Implementation, mac: bytes) -> None:
    with pytest.raises(ValueError, match="mac has 6 bytes"):
        impl.packet.AdvertTemplate(101, mac, wire.PEER)


def test_what_has_a_length_but_no_bytes(impl: Implementation) -> None:
    """Elements are not bytes. The native implementation would read, and send, what lies behind them."""
    template = impl.packet.AdvertTemplate(1, bytes(6), "192.0.2.1")
    authenticator = impl.auth.Authenticator("secret", 1, ["192.0.2.1"])
    empty = [((ctypes.c_char * 0) * length)() for length in (6, 8, 20)]
    with pytest.raises(ValueError, match="source_mac has 6 bytes, not 0"):
        impl.packet.AdvertTemplate(1, empty[0], "192.0.2.1")
    with pytest.raises(ValueError, match="counter has 8 bytes, not 0"):
        template.frame(1, 0, empty[1], bytes(20))
    with pytest.raises(ValueError, match="digest has 20 bytes, not 0"):
        template.frame(1, 0, bytes(8), empty[2])
    for method in (authenticator.sign, lambda counter: authenticator.verify(counter, bytes(20))):
        with pytest.raises(ValueError, match="a counter has 8 bytes, not 0"):
            method(empty[1])
