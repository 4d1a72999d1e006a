"""Frames as bytes: what goes onto the wire, built whole, and what came from it, taken apart. No I/O, no state.

Sources: NetBSD `carp_send_ad`, `carp_send_arp`, `carp_send_na`; RFC 826, RFC 1071, RFC 4861 section 4.4.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from ..protocol import (
    CARP_AUTHLEN,
    CARP_HEADER_LENGTH,
    CARP_TTL,
    CARP_TYPE_ADVERTISEMENT,
    CARP_VERSION,
    GROUP_IPV4,
    GROUP_IPV6,
    IPPROTO_CARP,
    Advert,
)
from ..protocol.abc import Datagram, IPAddress

_ETHERTYPE_IPV4 = b"\x08\x00"
_ETHERTYPE_ARP = b"\x08\x06"
_ETHERTYPE_IPV6 = b"\x86\xdd"
_BROADCAST_MAC = b"\xff" * 6
_GROUP_MAC = {4: bytes.fromhex("01005e000012"), 6: bytes.fromhex("333300000012")}
_GROUP = {4: IPv4Address(GROUP_IPV4).packed, 6: IPv6Address(GROUP_IPV6).packed}
_ALL_NODES = IPv6Address("ff02::1").packed
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_TOS_LOW_DELAY = 0x10
_DONT_FRAGMENT = 0x4000
_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_CARP_HEADER = struct.Struct("!BBBBBBH8s20s")


def _exactly(name: str, value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise ValueError(f"{name} has {length} bytes, not {len(value)}")
    return bytes(value)


def _byte(name: str, value: int) -> int:
    if not 0 <= value <= 255:
        raise ValueError(f"{name} {value} does not fit a byte: give 0-255")
    return value


def virtual_mac(vhid: int) -> bytes:
    """The MAC address of a virtual host, 00:00:5e:00:01:VHID, for both address families."""
    return b"\x00\x00\x5e\x00\x01" + bytes((vhid,))


def checksum(data: bytes) -> int:
    """The internet checksum of `data`, padded with a zero byte when its length is odd (RFC 1071).

    Over data that carries its own checksum the result is 0 when that is right.
    """
    even = bytes(data) + b"\0" if len(data) % 2 else data
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


class AdvertTemplate:
    """An Ethernet frame with an advert in it, but for the four things that change from one advert to the next.

    `source_mac` is the virtual MAC, or the carpdev's own where the virtual host has none; `source` an address of the
    carpdev, or the virtual address itself when the carpdev has none in that family.
    """

    __slots__ = ("_ip", "_mac", "_vhid")

    def __init__(self, vhid: int, source_mac: bytes, source: IPAddress | str) -> None:
        source = ip_address(source)
        family = source.version
        self._vhid = _byte("vhid", vhid)
        source_mac = _exactly("source_mac", source_mac, 6)
        if family == 4:
            self._mac = _GROUP_MAC[4] + source_mac + _ETHERTYPE_IPV4
            fields = [0x45, _TOS_LOW_DELAY, 20 + CARP_HEADER_LENGTH, 0, _DONT_FRAGMENT, CARP_TTL, IPPROTO_CARP, 0]
            fields[7] = checksum(_IPV4_HEADER.pack(*fields, source.packed, _GROUP[4]))
            self._ip = _IPV4_HEADER.pack(*fields, source.packed, _GROUP[4])
        else:
            self._mac = _GROUP_MAC[6] + source_mac + _ETHERTYPE_IPV6
            self._ip = _IPV6_HEADER.pack(
                0x60000000, CARP_HEADER_LENGTH, IPPROTO_CARP, CARP_TTL, source.packed, _GROUP[6]
            )

    def frame(self, advbase: int, advskew: int, counter: bytes, digest: bytes) -> bytes:
        """The whole frame. `counter` is 8 bytes, `digest` 20; 255/255 makes it a bow-out.

        The checksum in IPv6 is the plain one, as OpenBSD and FreeBSD send it.
        """
        first = CARP_VERSION << 4 | CARP_TYPE_ADVERTISEMENT
        advbase, advskew = _byte("advbase", advbase), _byte("advskew", advskew)
        counter, digest = _exactly("counter", counter, 8), _exactly("digest", digest, 20)
        header = _CARP_HEADER.pack(first, self._vhid, advskew, CARP_AUTHLEN, 0, advbase, 0, counter, digest)
        header = header[:6] + checksum(header).to_bytes(2, "big") + header[8:]
        return self._mac + self._ip + header


def _arp(ethernet: bytes, operation: int, mac: bytes, address: bytes, to_mac: bytes, to_address: bytes) -> bytes:
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return ethernet + _ETHERTYPE_ARP + header + mac + address + to_mac + to_address


def gratuitous_arp(mac: bytes, address: IPv4Address | str) -> bytes:
    """A broadcast ARP request for one's own address (NetBSD `carp_send_arp`).

    The Ethernet source is `mac` too, so that switches learn where the virtual MAC is now; NetBSD has the carpdev's.
    """
    mac, packed = _exactly("mac", mac, 6), IPv4Address(address).packed
    return _arp(_BROADCAST_MAC + mac, 1, mac, packed, bytes(6), packed)


def arp_reply(mac: bytes, address: IPv4Address | str, to_mac: bytes, to_address: IPv4Address | str) -> bytes:
    """The answer to an ARP request: `address` is at `mac`, in the Ethernet header as in the body."""
    mac, to_mac = _exactly("mac", mac, 6), _exactly("to_mac", to_mac, 6)
    return _arp(to_mac + mac, 2, mac, IPv4Address(address).packed, to_mac, IPv4Address(to_address).packed)


def neighbour_advertisement(mac: bytes, address: IPv6Address | str) -> bytes:
    """An unsolicited neighbour advertisement to all nodes, override flag set, for one IPv6 address (RFC 4861 4.4)."""
    mac, packed = _exactly("mac", mac, 6), IPv6Address(address).packed
    icmp = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + packed + b"\x02\x01" + mac
    pseudo = packed + _ALL_NODES + struct.pack("!IHBB", len(icmp), 0, 0, 58)
    icmp = icmp[:2] + checksum(pseudo + icmp).to_bytes(2, "big") + icmp[4:]
    ip = _IPV6_HEADER.pack(0x60000000, len(icmp), 58, 255, packed, _ALL_NODES)
    return _ALL_NODES_MAC + mac + _ETHERTYPE_IPV6 + ip + icmp


def dissect(frame: bytes) -> Datagram | None:
    """The CARP datagram in an Ethernet frame; None for everything that an IP layer would not hand on as one.

    That is: another protocol, a VLAN tag, a wrong IPv4 header checksum, lengths that contradict each other, a fragment,
    a multicast or loopback source (NetBSD `ip_input`, `ip6_input`). Ethernet padding is cut off, IP options are
    skipped.
    """
    frame = bytes(frame)
    ethertype = frame[12:14]
    if ethertype == _ETHERTYPE_IPV4:
        return _dissect_ipv4(frame)
    if ethertype == _ETHERTYPE_IPV6:
        return _dissect_ipv6(frame)
    return None


def _dissect_ipv4(frame: bytes) -> Datagram | None:
    if len(frame) < 34 or frame[14] >> 4 != 4 or frame[23] != IPPROTO_CARP:
        return None
    header = 4 * (frame[14] & 15)
    total = int.from_bytes(frame[16:18], "big")
    if header < 20 or total < header or len(frame) < 14 + total or checksum(frame[14 : 14 + header]):
        return None
    if int.from_bytes(frame[20:22], "big") & 0x3FFF:
        return None
    source, destination = frame[26:30], frame[30:34]
    if 224 <= source[0] <= 239 or source[0] == 127 or destination[0] == 127:
        return None
    return Datagram(4, frame[0:6], frame[6:12], source, destination, frame[22], frame[14 + header : 14 + total])


def _dissect_ipv6(frame: bytes) -> Datagram | None:
    if len(frame) < 54 or frame[14] >> 4 != 6 or frame[20] != IPPROTO_CARP:
        return None
    length = int.from_bytes(frame[18:20], "big")
    if len(frame) < 54 + length:
        return None
    source, destination = frame[22:38], frame[38:54]
    if source[0] == 0xFF or source == bytes(15) + b"\x01" or destination == bytes(15) + b"\x01":
        return None
    return Datagram(6, frame[0:6], frame[6:12], source, destination, frame[21], frame[54 : 54 + length])


def advert(datagram: Datagram) -> Advert | None:
    """The fields of the advert in a datagram, none of them checked; None when it is shorter than an advert."""
    payload = datagram.payload
    if len(payload) < CARP_HEADER_LENGTH:
        return None
    first, vhid, advskew, authlen, demotion, advbase, _sum, counter, digest = _CARP_HEADER.unpack_from(payload)
    return Advert(
        family=datagram.family,
        source=str(ip_address(datagram.source)),
        destination=str(ip_address(datagram.destination)),
        source_mac=datagram.source_mac,
        version=first >> 4,
        type=first & 15,
        vhid=vhid,
        advskew=advskew,
        authlen=authlen,
        demotion=demotion,
        advbase=advbase,
        counter=counter,
        digest=digest,
    )


def checksum_ok(datagram: Datagram) -> bool:
    """Whether the CARP checksum is right: over the 36 bytes, or for IPv6 also with the pseudo-header.

    OpenBSD and FreeBSD send the plain one in IPv6, NetBSD after 2017 the other: both are accepted.
    """
    header = datagram.payload[:CARP_HEADER_LENGTH]
    if checksum(header) == 0:
        return True
    if datagram.family == 4:
        return False
    pseudo = datagram.source + datagram.destination + struct.pack("!IHBB", CARP_HEADER_LENGTH, 0, 0, IPPROTO_CARP)
    return checksum(pseudo + header) == 0
