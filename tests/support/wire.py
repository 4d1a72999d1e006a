"""CARP frames made with struct and hmac from docs/protocol.md alone: the oracle that shares no code with pycarp."""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PASSPHRASE = "motdepassehalakon"
VHID = 101
VIP = "10.13.37.42"
CARPDEV = "10.13.37.11"
CARPDEV_MAC = bytes.fromhex("02000a0d250b")
VIRTUAL_MAC = bytes.fromhex("00005e000165")
PEER = "10.13.37.12"
BROADCAST_MAC = b"\xff" * 6
GROUP_MAC = bytes.fromhex("01005e000012")
GROUP_MAC6 = bytes.fromhex("333300000012")


def passfile(directory: Path, passphrase: str = PASSPHRASE) -> str:
    """The path of a file there with the passphrase, which its owner alone can read."""
    path = directory / "pass"
    path.write_text(passphrase + "\n")
    path.chmod(0o600)
    return str(path)


def key(passphrase: str | bytes, dialect: str = "bsd") -> bytes:
    """20 bytes; no hexadecimal here."""
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    length = 19 if dialect == "bsd" else max(0, min(len(secret), 20) - 1)
    return secret[:length] + bytes(20 - len(secret[:length]))


def digest(
    with_key: bytes, vhid: int, addresses: tuple[str, ...] | list[str], counter: bytes, link_local: bool = True
) -> bytes:
    """HMAC-SHA1 over version, type, vhid, sorted addresses and counter, by hashlib; RFC 2104 spelt out."""
    ipv4 = sorted({socket.inet_aton(a.partition("/")[0]) for a in addresses if ":" not in a})
    ipv6 = {socket.inet_pton(socket.AF_INET6, a.partition("/")[0]) for a in addresses if ":" in a}
    if not link_local:
        ipv6 = {a for a in ipv6 if not (a[0] == 0xFE and a[1] & 0xC0 == 0x80)}
    message = bytes((2, 1, vhid)) + b"".join(ipv4) + b"".join(sorted(ipv6)) + counter
    padded = with_key + bytes(64 - len(with_key))
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha1(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def tagged_counter(with_key: bytes, vhid: int, advbase: int, advskew: int, nonce: int) -> bytes:
    """tag 24 | nonce 24 | advbase 8 | advskew 8; the tag is the start of an HMAC over the other 40 bits."""
    rest = struct.pack("!I", nonce)[1:] + bytes((advbase, advskew))
    return hmac.new(with_key, b"pycarp" + b"\x01" + bytes((vhid,)) + rest, hashlib.sha1).digest()[:3] + rest


def counter_of(
    with_key: bytes,
    vhid: int,
    advbase: int,
    advskew: int,
    serial: int,
    *,
    nonce: int = 0,
    demotion: int | None = None,
    pace: int = 0,
) -> bytes:
    """A counter of today's layout; `tagged_counter` makes one of the first."""
    vouched = struct.pack("!BHBB", demotion or 0, serial, advbase, advskew)
    tag = hmac.digest(with_key, b"pycarp\x01" + bytes((vhid,)) + vouched, "sha1")[3:5]
    return tag + bytes((pace << 4 | (demotion is not None) << 3 | nonce,)) + vouched


def internet_checksum(data: bytes) -> int:
    """RFC 1071 in its plainest form, with end-around carry at each step."""
    total = 0
    for high, low in zip(data[::2], (data + b"\0")[1::2], strict=False):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An Ethernet frame with an advert, each part of which can be made wrong. `bytes(frame)` is the frame.

    None means: what is right, given the rest. IPv6 when `source` is an IPv6 address.
    """

    vhid: int = VHID
    advbase: int = 1
    advskew: int = 0
    first: int = 0x21
    authlen: int = 7
    pad: int = 0
    counter: bytes = bytes.fromhex("0123456789abcdef")
    passphrase: str | bytes = PASSPHRASE
    dialect: str = "bsd"
    addresses: tuple[str, ...] = (VIP,)
    link_local: bool = True
    digest: bytes | None = None
    digest_flip: int = 0
    checksum_flip: int = 0
    pseudo_header: bool = False
    cut: int = 0
    trailer: bytes = b""
    source: str = PEER
    destination: str | None = None
    ttl: int = 255
    tos: int = 0x10
    ident: int = 0
    fragment: int = 0x4000
    options: bytes = b""
    ihl: int | None = None
    ip_version: int | None = None
    protocol: int = 112
    total_length: int | None = None
    header_checksum_flip: int = 0
    source_mac: bytes | None = None
    destination_mac: bytes | None = None
    ethertype: bytes | None = None
    padding: bytes = b""

    def but(self, **changes: Any) -> Frame:
        return replace(self, **changes)

    @property
    def ipv6(self) -> bool:
        return ":" in self.source

    @property
    def to(self) -> str:
        return self.destination or ("ff02::12" if self.ipv6 else "224.0.0.18")

    @property
    def signature(self) -> bytes:
        right = self.digest or digest(
            key(self.passphrase, self.dialect), self.vhid, self.addresses, self.counter, self.link_local
        )
        return bytes((right[0] ^ self.digest_flip,)) + right[1:]

    @property
    def header(self) -> bytes:
        """The 36 bytes."""
        head = bytes((self.first, self.vhid, self.advskew, self.authlen, self.pad, self.advbase))
        tail = self.counter + self.signature
        covered = head + b"\0\0" + tail
        if self.pseudo_header and self.ipv6:
            packed = socket.inet_pton(socket.AF_INET6, self.source) + socket.inet_pton(socket.AF_INET6, self.to)
            covered = packed + struct.pack("!IHBB", 36, 0, 0, 112) + covered
        return head + struct.pack("!H", internet_checksum(covered) ^ self.checksum_flip) + tail

    @property
    def payload(self) -> bytes:
        header = self.header
        return header[: len(header) - self.cut] + self.trailer

    @property
    def datagram(self) -> bytes:
        payload = self.payload
        if self.ipv6:
            version = 6 if self.ip_version is None else self.ip_version
            length = len(payload) if self.total_length is None else self.total_length
            head = struct.pack("!IHBB", version << 28, length, self.protocol, self.ttl)
            addresses = (socket.inet_pton(socket.AF_INET6, address) for address in (self.source, self.to))
            return head + b"".join(addresses) + payload
        version = 4 if self.ip_version is None else self.ip_version
        ihl = 5 + len(self.options) // 4 if self.ihl is None else self.ihl
        length = 20 + len(self.options) + len(payload) if self.total_length is None else self.total_length
        first = struct.pack("!BBHHHBB", version << 4 | ihl, self.tos, length, self.ident, self.fragment, self.ttl, 112)
        first = first[:9] + bytes((self.protocol,))
        addressed = socket.inet_aton(self.source) + socket.inet_aton(self.to) + self.options
        right = internet_checksum((first + b"\0\0" + addressed)[: 4 * max(ihl, 5)])
        return first + struct.pack("!H", right ^ self.header_checksum_flip) + addressed + payload

    def __bytes__(self) -> bytes:
        source = bytes.fromhex("00005e0001") + bytes((self.vhid,)) if self.source_mac is None else self.source_mac
        group = GROUP_MAC6 if self.ipv6 else GROUP_MAC
        destination = group if self.destination_mac is None else self.destination_mac
        ethertype = (b"\x86\xdd" if self.ipv6 else b"\x08\x00") if self.ethertype is None else self.ethertype
        return destination + source + ethertype + self.datagram + self.padding
