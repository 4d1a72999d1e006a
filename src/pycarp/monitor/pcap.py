"""Recorded frames: reading pcap and pcapng files, and writing pcap. Works on any stream of bytes, on every system.

A reader gives Ethernet frames for every link type: Ethernet, Linux cooked v1 and v2 (``tcpdump -i any``), raw IP. Where
the capture lacks the Ethernet header, it is made up from what is known, and zeros for the rest.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, and the link types' pages of tcpdump.org.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from ..errors import CarpError
from ..protocol import NS_PER_SECOND
from .text import plural, printable

_LONGEST_FRAME = 262_144
"""What libpcap allows at most; a record that claims more is no record."""
_LONGEST_BLOCK = 16 * 1024 * 1024
_MOST_INTERFACES = 4096

_MAGICS = {
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
"""A pcap file's first bytes: byte order, and ns in one unit of a timestamp's second half."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED, _OLD_PACKET = 0x0A0D0D0A, 1, 3, 6, 2

_ETHERNET = 1
_NO_MAC = bytes(6)


class CaptureError(CarpError, ValueError):
    """A file is no capture, is damaged, or holds what cannot be read. One sentence with the file's name."""


class Captured(NamedTuple):
    """A frame and when it was recorded: nanoseconds since 1970, UTC."""

    at: int
    frame: bytes


def read(path: str | Path) -> Iterator[Captured]:
    """The frames of a capture file, in the file's order. Raises `CaptureError` where the file stops making sense.

    What stood before a damaged place has been given out by then.
    """
    with _open(path, "rb", "read") as file:
        yield from read_stream(file, str(path))


def read_stream(stream: BinaryIO, name: str = "the capture") -> Iterator[Captured]:
    """As `read`, from a stream that is open for reading bytes; `name` stands in messages."""
    reader = _Reader(stream, printable(name))
    magic = reader.take(4, "its header", may_end=True)
    if magic in _MAGICS:
        yield from _read_pcap(reader, *_MAGICS[magic])
    elif magic == _PCAPNG:
        yield from _read_pcapng(reader)
    elif not magic:
        raise CaptureError(f"{reader.name} is empty: give a file that tcpdump -w or Wireshark wrote")
    else:
        raise CaptureError(f"{reader.name} is neither pcap nor pcapng: give a file that tcpdump -w or Wireshark wrote")


def write(path: str | Path, frames: Iterable[tuple[int, bytes]]) -> int:
    """Write (ns since 1970, Ethernet frame) pairs to a pcap file with such timestamps; returns how many there were."""
    count = 0
    with _open(path, "wb", "written") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _LONGEST_FRAME, _ETHERNET))
        for at, frame in frames:
            file.write(struct.pack("<IIII", *divmod(at, NS_PER_SECOND), len(frame), len(frame)) + frame)
            count += 1
    return count


def _open(path: str | Path, mode: Literal["rb", "wb"], what: str) -> BinaryIO:
    try:
        return open(path, mode)
    except OSError as error:
        raise CaptureError(f"{printable(str(path))} cannot be {what}: {error.strerror or error}") from None


class _Reader:
    """A stream that is read in whole pieces; its errors name the file and how far it was read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self.name = name
        self.frames = 0

    def take(self, size: int, what: str, *, may_end: bool = False) -> bytes:
        """`size` bytes, the whole of `what`; where the file `may_end`, b"" at its end."""
        pieces = []
        while size:
            try:
                piece = self._stream.read(size)
            except OSError as error:
                raise CaptureError(f"{self.name} cannot be read: {error.strerror or error}") from None
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        if size and (pieces or not may_end):
            raise CaptureError(f"{self.name} ends in the middle of {what}{self._where()}: it was cut short")
        return b"".join(pieces)

    def damaged(self, what: str) -> CaptureError:
        return CaptureError(f"{self.name} is damaged{self._where()}: {what}")

    def _where(self) -> str:
        return f", after {plural(self.frames, 'frame')}"


def _read_pcap(reader: _Reader, order: str, unit: int) -> Iterator[Captured]:
    header = reader.take(20, "its header")
    link = _link(struct.unpack(order + "I", header[16:20])[0] & 0xFFFF, reader)
    record = struct.Struct(order + "IIII")
    while head := reader.take(record.size, "a record", may_end=True):
        seconds, fraction, length, _original = record.unpack(head)
        if length > _LONGEST_FRAME:
            raise reader.damaged(f"a frame of {length} bytes cannot be")
        data = reader.take(length, "a frame")
        reader.frames += 1
        frame = link(data)
        if frame is not None:
            yield Captured(seconds * NS_PER_SECOND + fraction * unit, frame)


class _Interface(NamedTuple):
    """An interface of a pcapng section; its clock has `ticks` a second; `link` is None when its frames are foreign."""

    link: Callable[[bytes], bytes | None] | None
    ticks: int
    offset: int
    snaplen: int


def _read_pcapng(reader: _Reader) -> Iterator[Captured]:
    order = ""
    interfaces: list[_Interface] = []
    foreign = 0
    head = _PCAPNG
    while head:
        kind, body, order = _block(reader, head, order)
        if kind == _SECTION:
            interfaces = []
        elif kind == _INTERFACE:
            if len(interfaces) >= _MOST_INTERFACES:
                raise reader.damaged(f"more than {_MOST_INTERFACES} interfaces cannot be")
            interfaces.append(_interface(reader, body, order))
        elif kind in (_ENHANCED, _OLD_PACKET, _SIMPLE):
            interface, at, data = _packet(reader, kind, body, order, interfaces)
            reader.frames += 1
            if interface.link is None:
                foreign += 1
            elif (frame := interface.link(data)) is not None:
                yield Captured(at, frame)
        head = reader.take(4, "a block", may_end=True)
    if foreign and foreign == reader.frames:
        raise CaptureError(f"{reader.name} has no frames of Ethernet, Linux cooked capture or raw IP: nothing to read")


def _block(reader: _Reader, head: bytes, order: str) -> tuple[int, bytes, str]:
    """The block that begins with the four bytes `head`: its kind, its body, and the byte order from here on."""
    rest = reader.take(4, "a block")
    if head == _PCAPNG:
        magic = reader.take(4, "a block")
        orders = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
        if magic not in orders:
            raise reader.damaged("a section has no byte order")
        order, done = orders[magic], 12
    else:
        done = 8
    kind, length = struct.unpack(order + "II", head + rest)
    if length % 4 or not done + 4 <= length <= _LONGEST_BLOCK:
        raise reader.damaged(f"a block of {length} bytes cannot be")
    body = reader.take(length - done - 4, "a block")
    if struct.unpack(order + "I", reader.take(4, "a block"))[0] != length:
        raise reader.damaged("a block does not end where it says")
    return kind, body, order


def _interface(reader: _Reader, body: bytes, order: str) -> _Interface:
    if len(body) < 8:
        raise reader.damaged("an interface is described in too few bytes")
    link_type, _, snaplen = struct.unpack_from(order + "HHI", body)
    ticks, offset, at = 1_000_000, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == 9 and len(value) == 1:  # if_tsresol
            power = value[0] & 0x7F
            ticks = 2**power if value[0] & 0x80 else 10**power
        elif code == 14 and len(value) == 8:  # if_tsoffset
            offset = struct.unpack(order + "q", value)[0]
        at += 4 + length + -length % 4
    return _Interface(_LINKS.get(link_type), ticks, offset, snaplen)


def _packet(
    reader: _Reader, kind: int, body: bytes, order: str, interfaces: list[_Interface]
) -> tuple[_Interface, int, bytes]:
    layout = {_ENHANCED: "IIIII", _OLD_PACKET: "HHIIII", _SIMPLE: "I"}[kind]
    size = struct.calcsize(order + layout)
    if len(body) < size:
        raise reader.damaged("a frame is described in too few bytes")
    fields = struct.unpack_from(order + layout, body)
    number = 0 if kind == _SIMPLE else fields[0]
    if number >= len(interfaces):
        raise reader.damaged(f"a frame comes from interface {number}, which was never described")
    interface = interfaces[number]
    if kind == _SIMPLE:
        # It has no time of its own, and its length is the original one.
        at, length = 0, min(fields[0], interface.snaplen or fields[0], len(body) - size)
    else:
        high, low, length = fields[-4:-1]
        at = interface.offset * NS_PER_SECOND + (high << 32 | low) * NS_PER_SECOND // interface.ticks
    if length > len(body) - size:
        raise reader.damaged("a frame is longer than its block")
    return interface, at, body[size : size + length]


# Link types: what turns a recorded frame into an Ethernet frame, or None when it cannot be one


def _ethernet(data: bytes) -> bytes | None:
    return data


def _raw(data: bytes) -> bytes | None:
    ethertype = {4: b"\x08\x00", 6: b"\x86\xdd"}.get(data[0] >> 4) if data else None
    return None if ethertype is None else _made_up(_NO_MAC, ethertype, data, False)


def _cooked_v1(data: bytes) -> bytes | None:
    if len(data) < 16:
        return None
    packet_type, _hardware, length = struct.unpack_from("!HHH", data)
    return _made_up(_mac(data[6:14], length), data[14:16], data[16:], packet_type == 1)


def _cooked_v2(data: bytes) -> bytes | None:
    if len(data) < 20:
        return None
    return _made_up(_mac(data[12:20], data[11]), data[0:2], data[20:], data[10] == 1)


def _mac(octets: bytes, length: int) -> bytes:
    return octets[:6] if length == 6 else _NO_MAC


def _made_up(source: bytes, ethertype: bytes, payload: bytes, broadcast: bool) -> bytes:
    """An Ethernet frame whose destination is what the IP destination would have been sent to."""
    destination = _NO_MAC
    if broadcast:
        destination = b"\xff" * 6
    elif ethertype == b"\x08\x00" and len(payload) >= 20:
        if 224 <= payload[16] <= 239:
            destination = b"\x01\x00\x5e" + bytes((payload[17] & 0x7F,)) + payload[18:20]
        elif payload[16:20] == b"\xff" * 4:
            destination = b"\xff" * 6
    elif ethertype == b"\x86\xdd" and len(payload) >= 40 and payload[24] == 0xFF:
        destination = b"\x33\x33" + payload[36:40]
    return destination + source + ethertype + payload


_LINKS: dict[int, Callable[[bytes], bytes | None]] = {
    _ETHERNET: _ethernet,
    12: _raw,  # DLT_RAW, as some systems number it
    14: _raw,  # and others
    101: _raw,
    113: _cooked_v1,
    228: _raw,  # IPv4
    229: _raw,  # IPv6
    276: _cooked_v2,
}


def _link(number: int, reader: _Reader) -> Callable[[bytes], bytes | None]:
    try:
        return _LINKS[number]
    except KeyError:
        raise CaptureError(
            f"{reader.name} has link type {number}: give one of Ethernet (1), Linux cooked (113, 276) or raw IP (101)"
        ) from None
