"""Frames out of fuzzed bytes: adverts of the group with some bytes changed, and then made right again where asked.

Mending is what gets a fuzzer past checksums and digests, which it cannot guess.
"""

from __future__ import annotations

import functools
import struct

from support import wire

from pycarp import VirtualHost

from .reader import Reader

OTHER_VHID = 50
"""Added to a vhid of ours, or taken from it: a group that nobody here carries."""
_ADVBASES = (0, 1, 2, 3, 255)
_ADVSKEWS = (0, 1, 99, 100, 101, 239, 240, 241, 254, 255)
_DIGEST, _CHECKSUM, _PSEUDO, _IP = 1, 2, 4, 8
"""What a byte asks to be made right: the digest, the CARP checksum (and it in IPv6's way), the IP header."""


def keys(passphrase: str | bytes | None) -> dict[str, bytes]:
    """Both readings of a passphrase."""
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase or b""
    # Only well-formed ones without zeros come here; what others become is for the fuzzing of the authenticator.
    as_data = bytes.fromhex(secret[2:].decode()) if secret[:2] == b"0x" else secret
    return {"bsd": wire.key(secret, "bsd"), "netbsd": wire.key(as_data, "netbsd")}


def read_frame(reader: Reader, hosts: list[VirtualHost], sent: list[bytes]) -> bytes:
    """The next frame: raw bytes, one of ours that comes back, or an advert in the group of one of the hosts."""
    kind = reader.byte()
    host = hosts[kind & 1]
    way = kind >> 1 & 7
    if way == 0:
        frame = bytearray(reader.take(reader.byte()))
    elif way == 1 and sent:
        frame = bytearray(sent[reader.byte() % len(sent)])
    elif way == 7:
        frame = bytearray(_vrrp(reader, host, ipv6=bool(kind & 16)))
    else:
        frame = bytearray(_advert(reader, host, ipv6=bool(kind & 16), other_vhid=bool(kind & 32)))
    for _ in range(kind >> 6):
        at, value = reader.byte(), reader.byte()
        if frame:
            frame[at % len(frame)] = value
    if kind >> 6:
        _mend(frame, reader.byte(), host)
    if way == 6:
        frame[12:12] = _tags(reader.byte())
    return bytes(frame)


def _tags(choice: int) -> bytes:
    """One to three VLAN tags; mostly of VLAN id 0, some with a priority, some cut."""
    kinds = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")
    tag = kinds[choice % 3] + (b"\0\0", b"\xf0\0", b"\0\x05", b"\x0f\xff")[choice // 3 % 4]
    return tag * (1 + choice // 12 % 3) + (b"\x81\x00" if choice >= 252 else b"")


def _advert(reader: Reader, host: VirtualHost, ipv6: bool, other_vhid: bool) -> bytes:
    choice, flags, peer = reader.byte(), reader.byte(), reader.byte()
    if choice & 128:  # as likely as all others together: what this very host would send, and a bow-out
        advbase, advskew = (255, 255) if choice & 64 else (host.advbase, host.advskew)
    else:
        advbase, advskew = _ADVBASES[choice % 5], _ADVSKEWS[choice // 5 % 10]
    secret = host.passphrase or b""
    addresses = tuple(str(one.ip) for one in host.addresses)
    vhid = host.vhid
    if other_vhid:
        vhid += OTHER_VHID if peer & 4 else -OTHER_VHID
    return _crafted(secret, addresses, vhid, advbase, advskew, flags, peer & 3, ipv6)


def _vrrp(reader: Reader, host: VirtualHost, ipv6: bool) -> bytes:
    """A VRRP advertisement of version 2 or 3, of the length that it should have or nearly, to the group or to us."""
    choice, count, flags = reader.byte(), reader.byte() % 24, reader.byte()
    version = 2 + choice % 2
    payload = bytes((version << 4 | 1 + (flags & 1), host.vhid if flags & 6 else 7, 100, count, 0, 1, 0, 0))
    payload += bytes((4 + 12 * (ipv6 and version == 3)) * count + 8 * (version == 2) + (flags >> 6 == 3))
    frame = wire.Frame(cut=36, trailer=payload, source="fe80::12" if ipv6 else wire.PEER)
    if flags & 8:
        frame = frame.but(destination_mac=wire.CARPDEV_MAC, destination="fe80::b" if ipv6 else wire.CARPDEV)
    return bytes(frame)


# The usual ones are made once.
@functools.lru_cache(maxsize=20_000)
def _crafted(
    secret: str | bytes,
    addresses: tuple[str, ...],
    vhid: int,
    advbase: int,
    advskew: int,
    flags: int,
    peer: int,
    ipv6: bool,
) -> bytes:
    dialect = "netbsd" if flags & 1 else "bsd"
    counter = bytes((flags, peer)) * 4
    key = keys(secret)[dialect]
    if flags & 8:
        vouched = advskew ^ 7 if flags & 16 else advskew
        if peer & 1:
            counter = wire.counter_of(key, vhid, advbase, vouched, peer, nonce=flags & 7, pace=peer & 15)
        else:
            counter = wire.tagged_counter(key, vhid, advbase, vouched, peer)
    frame = wire.Frame(
        vhid=vhid,
        advbase=advbase,
        advskew=advskew,
        digest=wire.digest(key, vhid, addresses, counter, not flags & 2),
        pseudo_header=bool(flags & 4),
        counter=counter,
        digest_flip=flags >> 5 & 1,
        source=f"fe80::{12 + peer}" if ipv6 else f"10.13.37.{12 + peer}",
        trailer=b"trailer" if flags & 128 else b"",
    )
    if flags & 64:
        own = "fe80::b" if ipv6 else wire.CARPDEV
        # Half of them to the group, as an access point sends them.
        frame = frame.but(destination_mac=wire.CARPDEV_MAC, destination=None if flags & 4 else own)
    return bytes(frame)


def _mend(frame: bytearray, wanted: int, host: VirtualHost) -> None:
    if len(frame) < 34 or bytes(frame[12:14]) not in (b"\x08\x00", b"\x86\xdd"):
        return
    ipv6 = frame[12] == 0x86
    start = 54 if ipv6 else 14 + 4 * max(5, frame[14] & 15)
    if len(frame) >= start + 36:
        header = memoryview(frame)[start : start + 36]
        if wanted & _DIGEST:
            key = keys(host.passphrase)["netbsd" if wanted & 16 else "bsd"]
            addresses = [str(one.ip) for one in host.addresses]
            header[16:] = wire.digest(key, header[1], addresses, bytes(header[8:16]), not wanted & 32)
        if wanted & _CHECKSUM:
            pseudo = bytes(frame[22:54]) + struct.pack("!IHBB", 36, 0, 0, 112) if ipv6 and wanted & _PSEUDO else b""
            header[6:8] = b"\0\0"
            header[6:8] = struct.pack("!H", wire.internet_checksum(pseudo + bytes(header)))
        header.release()
    if wanted & _IP and not ipv6 and len(frame) >= start:
        frame[24:26] = b"\0\0"
        frame[24:26] = struct.pack("!H", wire.internet_checksum(bytes(frame[14:start])))
