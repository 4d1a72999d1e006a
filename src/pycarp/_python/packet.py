"""Adverts as bytes: what goes onto the wire, built whole, and what came from it, taken apart. No I/O, no state.

Source: NetBSD `carp_send_ad`.
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
from ..protocol.frames import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    IPV6_HEADER,
    VLAN_TAGS,
    checksum,
    exactly,
    untagged,
)

_GROUP_MAC = {4: bytes.fromhex("01005e000012"), 6: bytes.fromhex("333300000012")}
_GROUP = {4: IPv4Address(GROUP_IPV4).packed, 6: IPv6Address(GROUP_IPV6).packed}
_TOS_LOW_DELAY = 0x10
_DONT_FRAGMENT = 0x4000
_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_CARP_HEADER = struct.Struct("!BBBBBBH8s20s")


def _byte(name: str, value: int) -> int:
    if not 0 <= value <= 255:
        raise ValueError(f"{name} {value} does not fit a byte: give 0-255")
    return value


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
        source_mac = exactly("source_mac", source_mac, 6)
        if family == 4:
            self._mac = _GROUP_MAC[4] + source_mac + ETHERTYPE_IPV4
            fields = [0x45, _TOS_LOW_DELAY, 20 + CARP_HEADER_LENGTH, 0, _DONT_FRAGMENT, CARP_TTL, IPPROTO_CARP, 0]
            fields[7] = checksum(_IPV4_HEADER.pack(*fields, source.packed, _GROUP[4]))
            self._ip = _IPV4_HEADER.pack(*fields, source.packed, _GROUP[4])
        else:
            self._mac = _GROUP_MAC[6] + source_mac + ETHERTYPE_IPV6
            self._ip = IPV6_HEADER.pack(
                0x60000000, CARP_HEADER_LENGTH, IPPROTO_CARP, CARP_TTL, source.packed, _GROUP[6]
            )

    def frame(self, advbase: int, advskew: int, counter: bytes, digest: bytes, demotion: int = 0) -> bytes:
        """The whole frame. `counter` is 8 bytes, `digest` 20; 255/255 makes it a bow-out. `demotion` is OpenBSD's byte.

        The checksum in IPv6 is the plain one, as OpenBSD and FreeBSD send it.
        """
        first = CARP_VERSION << 4 | CARP_TYPE_ADVERTISEMENT
        advbase, advskew = _byte("advbase", advbase), _byte("advskew", advskew)
        counter, digest = exactly("counter", counter, 8), exactly("digest", digest, 20)
        demotion = _byte("demotion", demotion)
        header = _CARP_HEADER.pack(first, self._vhid, advskew, CARP_AUTHLEN, demotion, advbase, 0, counter, digest)
        header = header[:6] + checksum(header).to_bytes(2, "big") + header[8:]
        return self._mac + self._ip + header


def dissect(frame: bytes) -> Datagram | None:
    """The CARP datagram in an Ethernet frame; None for everything that an IP layer would not hand on as one.

    That is: another protocol, another VLAN, a wrong IPv4 header checksum, lengths that contradict each other, a
    fragment, a multicast or loopback source (NetBSD `ip_input`, `ip6_input`). Ethernet padding is cut off, IP options
    and tags of VLAN id 0 are skipped.
    """
    frame = bytes(frame)
    if frame[12:14] in VLAN_TAGS:
        frame = untagged(frame)
    ethertype = frame[12:14]
    if ethertype == ETHERTYPE_IPV4:
        return _dissect_ipv4(frame)
    if ethertype == ETHERTYPE_IPV6:
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
