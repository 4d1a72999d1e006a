"""Frames of a simulated LAN that are not CARP's: ARP and ICMP echo in IPv4."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from .._records import dataclass
from ..protocol.frames import checksum

IPV4, IPV6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
ECHO_REQUEST, ECHO_REPLY = 8, 0
_BROADCAST = b"\xff" * 6
_ARP_HEADER = struct.Struct("!HHBBH")
_ICMP = 1


@dataclass(frozen=True, slots=True)
class Arp:
    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class Echo:
    source: IPv4Address
    destination: IPv4Address
    body: bytes


def build_arp_request(mac: bytes, address: IPv4Address, target: IPv4Address) -> bytes:
    body = _ARP_HEADER.pack(1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + target.packed
    return _BROADCAST + mac + ARP + body


def dissect_arp(frame: bytes) -> Arp | None:
    if len(frame) < 42 or frame[14:20] != b"\x00\x01\x08\x00\x06\x04":
        return None
    operation = int.from_bytes(frame[20:22], "big")
    return Arp(operation, frame[22:28], IPv4Address(frame[28:32]), IPv4Address(frame[38:42]))


def build_echo(
    kind: int, to_mac: bytes, mac: bytes, source: IPv4Address, destination: IPv4Address, body: bytes
) -> bytes:
    icmp = struct.pack("!BBH", kind, 0, 0) + body
    icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, _ICMP, 0, source.packed, destination.packed)
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return to_mac + mac + IPV4 + ip + icmp


def dissect_echo(frame: bytes, kind: int) -> Echo | None:
    if len(frame) < 38 or frame[14] != 0x45 or frame[23] != _ICMP or frame[34] != kind:
        return None
    return Echo(IPv4Address(frame[26:30]), IPv4Address(frame[30:34]), frame[38:])
