"""The frames that say where addresses are, byte for byte, and the checksum in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import wire

from pycarp.protocol.frames import arp_reply, checksum, gratuitous_arp, neighbour_advertisement, virtual_mac


def test_checksum_by_example() -> None:
    """RFC 1071, section 3."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2
    assert checksum(b"") == 0xFFFF
    assert checksum(b"\xff\xff") == 0
    assert checksum(b"\x01") == 0xFEFF


@given(data=st.binary(max_size=300))
@example(data=b"\xff" * 299)
@example(data=b"\xff" * 70000)
def test_checksum(data: bytes) -> None:
    assert checksum(data) == wire.internet_checksum(data)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_checksum_of_any_buffer(kind: Callable[[bytes], Any]) -> None:
    for data in (bytes(range(70)), bytes(range(1, 72))):
        assert checksum(kind(data)) == wire.internet_checksum(data)


@pytest.mark.parametrize("vhid", [1, 101, 254, 255])
def test_virtual_mac(vhid: int) -> None:
    assert virtual_mac(vhid) == bytes.fromhex("00005e0001") + bytes((vhid,))


def test_gratuitous_arp() -> None:
    raw = gratuitous_arp(wire.VIRTUAL_MAC, IPv4Address(wire.VIP))
    vip = IPv4Address(wire.VIP).packed
    body = bytes.fromhex("0001080006040001") + wire.VIRTUAL_MAC + vip + bytes(6) + vip
    assert raw == wire.BROADCAST_MAC + wire.VIRTUAL_MAC + b"\x08\x06" + body


def test_neighbour_advertisement() -> None:
    """RFC 4861: to all nodes, hop limit 255, override but neither router nor solicited, our MAC as an option."""
    raw = neighbour_advertisement(wire.VIRTUAL_MAC, "2001:db8::42")
    address, all_nodes = IPv6Address("2001:db8::42").packed, IPv6Address("ff02::1").packed
    icmp = b"\x88\x00\x00\x00" + b"\x20\x00\x00\x00" + address + b"\x02\x01" + wire.VIRTUAL_MAC
    right = wire.internet_checksum(address + all_nodes + struct.pack("!IHBB", len(icmp), 0, 0, 58) + icmp)
    assert raw == (
        bytes.fromhex("333300000001")
        + wire.VIRTUAL_MAC
        + b"\x86\xdd"
        + struct.pack("!IHBB", 0x60000000, len(icmp), 58, 255)
        + address
        + all_nodes
        + icmp[:2]
        + struct.pack("!H", right)
        + icmp[4:]
    )


def test_arp_reply() -> None:
    client, asker = bytes.fromhex("021122334455"), IPv4Address("10.13.37.99").packed
    raw = arp_reply(wire.VIRTUAL_MAC, wire.VIP, client, "10.13.37.99")
    body = bytes.fromhex("0001080006040002") + wire.VIRTUAL_MAC + IPv4Address(wire.VIP).packed + client + asker
    assert raw == client + wire.VIRTUAL_MAC + b"\x08\x06" + body


@pytest.mark.parametrize("vhid", [256, -1])
def test_vhid_out_of_range(vhid: int) -> None:
    with pytest.raises(ValueError):
        virtual_mac(vhid)


@pytest.mark.parametrize("mac", [b"", bytes(5), bytes(7)], ids=len)
def test_mac_of_another_length(mac: bytes) -> None:
    with pytest.raises(ValueError, match="mac has 6 bytes"):
        gratuitous_arp(mac, wire.VIP)
    with pytest.raises(ValueError, match="mac has 6 bytes"):
        arp_reply(mac, wire.VIP, bytes(6), wire.PEER)
    with pytest.raises(ValueError, match="mac has 6 bytes"):
        arp_reply(bytes(6), wire.VIP, mac, wire.PEER)
    with pytest.raises(ValueError, match="mac has 6 bytes"):
        neighbour_advertisement(mac, "2001:db8::42")


def test_the_neighbour_advertisement_of_a_router() -> None:
    """RFC 4861 7.2.5: without the flag, hosts give up a default router that they had."""
    host = neighbour_advertisement(wire.VIRTUAL_MAC, "fe80::1")
    router = neighbour_advertisement(wire.VIRTUAL_MAC, "fe80::1", router=True)
    assert (host[58], router[58]) == (0x20, 0xA0)
    pseudo = router[22:54] + struct.pack("!IHBB", 32, 0, 0, 58)
    assert checksum(pseudo + router[54:]) == 0


@pytest.mark.parametrize("build", [gratuitous_arp, neighbour_advertisement])
def test_address_of_the_other_family(build: Callable[[bytes, str], bytes]) -> None:
    with pytest.raises(ValueError):
        build(bytes(6), "2001:db8::1" if build is gratuitous_arp else "10.0.0.1")
