"""Times, counts and names as people read them, safe to print on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ..protocol import NS_PER_SECOND


def seconds(nanoseconds: int) -> str:
    """A duration to the millisecond or so: 1.391 s, 12.3 ms, 80 us."""
    if nanoseconds >= 999_950_000:  # what rounds to 1000.0 ms
        return f"{nanoseconds / NS_PER_SECOND:.3f} s"
    if nanoseconds >= 999_500:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e3:.0f} us"


def exact(nanoseconds: float, *, signed: bool = False) -> str:
    """A duration in more digits, with its sign if asked for: 12.3 us, 3.41 ms, 1.200000 s."""
    size, sign = abs(nanoseconds), "+" if signed else ""
    if size >= NS_PER_SECOND:
        return f"{nanoseconds / NS_PER_SECOND:{sign}.6f} s"
    return f"{nanoseconds / 1e6:{sign}.2f} ms" if size >= 1e6 else f"{nanoseconds / 1e3:{sign}.1f} us"


def microseconds(nanoseconds: float) -> str:
    """A duration in seconds to the microsecond: 3.390700 s."""
    return f"{nanoseconds / NS_PER_SECOND:.6f} s"


def local_time(at: int) -> datetime:
    """The time of day, here, of a time in ns since 1970."""
    moment = datetime.fromtimestamp(at // NS_PER_SECOND, UTC).astimezone()
    return moment.replace(microsecond=at % NS_PER_SECOND // 1000)


def clock(moment: datetime) -> str:
    """To the millisecond: 12:34:56.789."""
    return f"{moment:%H:%M:%S.%f}"[:-3]


def iso(moment: datetime) -> str:
    """To the microsecond, with the offset from UTC, for JSON."""
    return moment.isoformat(timespec="microseconds")


def plural(count: int, noun: str) -> str:
    """1 advert, 2 adverts."""
    return f"{count} {noun}{'s' * (count != 1)}"


def vlan_text(vlan: Sequence[int]) -> str:
    """VLAN 10 and a blank, VLAN 5.10 for a tag in another; empty for the untagged LAN."""
    return f"VLAN {'.'.join(map(str, vlan))} " if vlan else ""


def mac_text(mac: bytes) -> str:
    """00:00:5e:00:01:65; empty for a frame that came without."""
    return mac.hex(":") if any(mac) else ""


def printable(name: str) -> str:
    """A name from outside; what a terminal would take as an order is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)
