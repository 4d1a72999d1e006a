"""What an observer knows of each host that speaks CARP."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from ..protocol import NS_PER_SECOND, NS_PER_SKEW
from ..protocol.abc import IPAddress
from .keysearch import Signature

KEPT_INTERVALS = 512

FAULTS = {
    "badttl": "the TTL is not 255: it has crossed a router, or is forged",
    "badlen": "it is shorter than an advert",
    "badsum": "its checksum is wrong: damaged on its way, or built wrongly",
    "badver": "it is of another version of the protocol",
    "badauth": "its signature fits neither form of the passphrase with the addresses given",
    "tampered": "its header was altered after it was signed",
}
"""Why an advert is not obeyed, by the kernel's counter; `tampered` is this package's own."""


class Condition(str, Enum):
    """What a speaker is doing."""

    ADVERTISING = "advertising"
    SILENT = "silent"
    BOWED_OUT = "bowed out"
    FAULTY = "not obeyed"

    def __str__(self) -> str:
        return self.value


class Key(NamedTuple):
    """What makes a speaker: the group, and where its adverts say and seem to come from."""

    vhid: int
    family: int
    source: str
    mac: bytes

    @property
    def address(self) -> IPAddress:
        return IPv4Address(self.source) if self.family == 4 else IPv6Address(self.source)

    @property
    def rank(self) -> tuple[int, int, bytes, bytes]:
        """For sorting: by group, family, address, MAC."""
        return self.vhid, self.family, self.address.packed, self.mac


@dataclass(slots=True, eq=False)
class Speaker:
    """One host as master of one group in one family. Times in ns; `first` and `last` are of adverts that are obeyed."""

    key: Key
    advbase: int
    advskew: int
    demotion: int
    first: int
    last: int
    condition: Condition = Condition.FAULTY
    adverts: int = 0
    beats: int = 0
    """Adverts since it last began to speak, a twin not counted."""
    beat_at: int = 0
    """When its last beat came."""
    shortest: int = 0
    longest: int = 0
    intervals: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_INTERVALS))
    faults: Counter[str] = field(default_factory=Counter)
    signatures: dict[Signature, int] = field(default_factory=dict)
    unexplained: int = 0
    investigations: int = 0
    known_addresses: int = 0
    """How many addresses there were to try at the last investigation."""
    looks_like: str = ""
    counter: bytes = b""
    same_counter: int = 0
    tagged: bool = False

    @property
    def interval(self) -> int:
        """What its adverts promise."""
        return self.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    @property
    def patience(self) -> int:
        """How long a backup with its values waits before it takes over."""
        return self.interval * 3 if self.advbase == 0 else self.advbase * 2 * NS_PER_SECOND + self.interval

    @property
    def beat_before(self) -> int:
        """When the beat before the last one came; of use once there were two."""
        return self.beat_at - (self.intervals[-1] if self.intervals else 0)

    @property
    def median(self) -> int | None:
        return int(statistics.median(self.intervals)) if self.intervals else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "vhid": self.key.vhid,
            "family": self.key.family,
            "source": self.key.source,
            "mac": mac_text(self.key.mac),
            "condition": str(self.condition),
            "advbase": self.advbase,
            "advskew": self.advskew,
            "demotion": self.demotion,
            "adverts": self.adverts,
            "first": self.first,
            "last": self.last,
            "interval_ns": {"min": self.shortest, "median": self.median, "max": self.longest}
            if self.intervals
            else None,
            "faults": dict(self.faults),
            "signatures": [
                {"form": one.form, "vhid": one.vhid, "addresses": [str(a) for a in one.addresses], "adverts": count}
                for one, count in self.signatures.items()
            ],
            "looks_like": self.looks_like or None,
        }


def seconds(nanoseconds: int) -> str:
    """A duration for people: 1.391 s, 12.3 ms, 80 us."""
    if nanoseconds >= NS_PER_SECOND:
        return f"{nanoseconds / NS_PER_SECOND:.3f} s"
    if nanoseconds >= 1_000_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e3:.0f} us"


def mac_text(mac: bytes) -> str:
    """00:00:5e:00:01:65; empty for a frame that came without."""
    return mac.hex(":") if any(mac) else ""
