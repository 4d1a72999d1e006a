"""The frames that say or ask where an address is, and the MAC of a virtual host. No I/O, no state.

For both implementations. Sources: NetBSD `carp_send_arp`, `carp_send_na`; RFC 826, RFC 1071, RFC 4861 section 4.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

ETHERTYPE_IPV4 = b"\x08\x00"
ETHERTYPE_ARP = b"\x08\x06"
ETHERTYPE_IPV6 = b"\x86\xdd"
VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")
"""The ethertypes of 802.1Q and of 802.1ad."""
MOST_TAGS = 2
"""This many tags of VLAN id 0 are skipped, besides the outer one that Linux takes out of a frame."""
IPV6_HEADER = struct.Struct("!IHBB16s16s")
_BROADCAST_MAC = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1").packed
_ROUTER, _OVERRIDE = 0x80000000, 0x20000000
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]


def exactly(name: str, value: bytes, length: int) -> bytes:
    """`value` as bytes; ValueError if their number is another. The native implementation relies on that."""
    data = bytes(memoryview(value))
    if len(data) != length:
        raise ValueError(f"{name} has {length} bytes, not {len(data)}")
    return data


def untagged(frame: bytes) -> bytes:
    """The frame without its first `MOST_TAGS` tags of VLAN id 0: those are of the untagged LAN (IEEE 802.1Q 6.9)."""
    for _ in range(MOST_TAGS):
        if frame[12:14] in VLAN_TAGS and len(frame) >= 18 and not (frame[14] & 0x0F or frame[15]):
            frame = frame[:12] + frame[16:]
    return frame


def vlans(frame: bytes) -> tuple[tuple[int, ...], bytes]:
    """The ids of all VLAN tags but those with id 0, the outer one first, and the frame without its tags."""
    ids: list[int] = []
    while frame[12:14] in (*VLAN_TAGS, b"\x91\x00") and len(frame) >= 18:
        vlan = (frame[14] & 0x0F) << 8 | frame[15]
        ids += [vlan] if vlan else []
        frame = frame[:12] + frame[16:]
    return tuple(ids), frame


def virtual_mac(vhid: int) -> bytes:
    """The MAC address of a virtual host, 00:00:5e:00:01:VHID, for both address families."""
    return b"\x00\x00\x5e\x00\x01" + bytes((vhid,))


def is_virtual(mac: bytes) -> bool:
    """Whether it is the virtual MAC of some vhid."""
    return mac[:5] == b"\x00\x00\x5e\x00\x01"


def checksum(data: bytes) -> int:
    """The internet checksum of `data`, padded with a zero byte when its length is odd (RFC 1071).

    Over data that carries its own checksum the result is 0 when that is right.
    """
    even = bytes(data) + b"\0" if len(data) % 2 else data
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def _arp(ethernet: bytes, operation: int, mac: bytes, address: bytes, to_mac: bytes, to_address: bytes) -> bytes:
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return ethernet + ETHERTYPE_ARP + header + mac + address + to_mac + to_address


def arp_request(mac: bytes, source: bytes, address: bytes) -> bytes:
    """A broadcast question for an IPv4 address. A host that has none yet asks from 0.0.0.0 (RFC 5227)."""
    return _arp(_BROADCAST_MAC + exactly("mac", mac, 6), 1, mac, source, bytes(6), address)


def gratuitous_arp(mac: bytes, address: IPv4Address | str) -> bytes:
    """A broadcast ARP request for one's own address (NetBSD `carp_send_arp`).

    The Ethernet source is `mac` too, so that switches learn where the virtual MAC is now; NetBSD has the carpdev's.
    """
    packed = IPv4Address(address).packed
    return arp_request(bytes(mac), packed, packed)


def arp_reply(mac: bytes, address: IPv4Address | str, to_mac: bytes, to_address: IPv4Address | str) -> bytes:
    """The answer to an ARP request: `address` is at `mac`, in the Ethernet header as in the body."""
    mac, to_mac = exactly("mac", mac, 6), exactly("to_mac", to_mac, 6)
    return _arp(to_mac + mac, 2, mac, IPv4Address(address).packed, to_mac, IPv4Address(to_address).packed)


def gratuitous_arp_reply(mac: bytes, address: IPv4Address | str) -> bytes:
    """A broadcast ARP reply that nobody asked for: some devices learn from replies alone (RFC 5944, 4.6)."""
    packed = IPv4Address(address).packed
    mac = exactly("mac", mac, 6)
    return _arp(_BROADCAST_MAC + mac, 2, mac, packed, mac, packed)


def neighbour_advertisement(mac: bytes, address: IPv6Address | str, router: bool = False) -> bytes:
    """An unsolicited neighbour advertisement to all nodes, override flag set, for one IPv6 address (RFC 4861 4.4).

    Without `router`, hosts that have this address as a default router give that up (RFC 4861 7.2.5).
    """
    mac, packed = exactly("mac", mac, 6), IPv6Address(address).packed
    flags = _OVERRIDE | (_ROUTER if router else 0)
    return _icmpv6(mac, packed, _ALL_NODES, struct.pack("!BBHI", 136, 0, 0, flags) + packed + b"\x02\x01" + mac)


def neighbour_solicitation(mac: bytes, source: bytes | None, address: bytes) -> bytes:
    """A question for an IPv6 address, to its solicited-node group (RFC 4861 4.3). From :: without a `source`."""
    option = b"" if source is None else b"\x01\x01" + mac
    icmp = struct.pack("!BBHI", 135, 0, 0, 0) + address + option
    return _icmpv6(mac, source or bytes(16), _SOLICITED_NODE + address[13:], icmp)


def _icmpv6(mac: bytes, source: bytes, group: bytes, icmp: bytes) -> bytes:
    pseudo = source + group + struct.pack("!IHBB", len(icmp), 0, 0, 58)
    icmp = icmp[:2] + checksum(pseudo + icmp).to_bytes(2, "big") + icmp[4:]
    ip = IPV6_HEADER.pack(0x60000000, len(icmp), 58, 255, source, group)
    return b"\x33\x33" + group[12:] + mac + ETHERTYPE_IPV6 + ip + icmp
