"""What is known of each host that speaks CARP."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from enum import Enum
from ipaddress import ip_address
from typing import Any, NamedTuple

from .._records import dataclass, field
from ..protocol import NS_PER_SECOND, NS_PER_SKEW
from ..protocol.timing import OPENBSD_LATE, master_down
from .keysearch import Signature
from .text import mac_text

KEPT_INTERVALS = 512
KEPT_DESTINATIONS = 8
_CONSTANT = 3 * NS_PER_SECOND // 2
"""A counter that stays for longer is OpenBSD's: ours has the seconds in it, and other BSDs count theirs up."""
_TICK = OPENBSD_LATE // 2


class Key(NamedTuple):
    """Whose adverts they are: the group, the address family, and where they say and seem to come from.

    `mac` is empty where hosts are not told apart by it. `vlan` has the VLAN ids, the outer one first; none is untagged.
    """

    vhid: int
    family: int
    source: str
    mac: bytes = b""
    vlan: tuple[int, ...] = ()

    @property
    def group(self) -> tuple[int, int]:
        """The vhid and the family: in each of these one host should be MASTER."""
        return self.vhid, self.family

    @property
    def rank(self) -> tuple[tuple[int, ...], int, int, bytes, bytes]:
        """For sorting: by VLAN, group, family, address, MAC."""
        return self.vlan, self.vhid, self.family, ip_address(self.source).packed, self.mac

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        vlan = {"vlan": ".".join(map(str, self.vlan))} if self.vlan else {}
        return {**vlan, "vhid": self.vhid, "family": self.family, "source": self.source}


@dataclass(slots=True, eq=False)
class Advertiser:
    """One host as MASTER of one group in one family, by what it advertises. Times in ns of the frames' clock."""

    key: Key
    advbase: int
    advskew: int
    first: int
    last: int
    adverts: int = 0
    counter: bytes = b""
    same_counter: int = 0
    """How many adverts before the last one had the same counter."""
    same_since: int = 0
    """When the first of these came."""

    @property
    def interval(self) -> int:
        """What its last advert promises; without advbase and advskew as OpenBSD has it."""
        return self.advbase * NS_PER_SECOND + max(self.advskew, 0 if self.advbase else 1) * NS_PER_SKEW

    @property
    def as_openbsd(self) -> bool:
        """Whether it speaks as OpenBSD, whose counter stays."""
        return self.same_counter >= 2 and self.last - self.same_since > _CONSTANT

    @property
    def due(self) -> int:
        """What it keeps: the interval, and on OpenBSD whole ticks of 10 ms and one more."""
        return (max(1, self.interval // _TICK) + 1) * _TICK if self.as_openbsd else self.interval

    @property
    def master_down(self) -> int:
        """After this silence a BACKUP with its values, on its system, takes over."""
        return master_down(self.advbase, self.advskew, timing="openbsd" if self.as_openbsd else "bsd")

    def count(self, counter: bytes, at: int) -> None:
        """Take in the counter of an advert that came at `at`, which is then `last`."""
        if counter == self.counter:
            self.same_counter += 1
        else:
            self.counter, self.same_counter, self.same_since = counter, 0, at


class Condition(str, Enum):
    """What a speaker is doing."""

    ADVERTISING = "advertising"
    SILENT = "silent"
    BOWED_OUT = "bowed out"
    FAULTY = "not obeyed"

    def __str__(self) -> str:
        return self.value


@dataclass(slots=True, eq=False)
class Speaker(Advertiser):
    """An advertiser and what the observer found out about it. `first` and `last` are of adverts that are obeyed."""

    demotion: int = 0
    condition: Condition = Condition.FAULTY
    beats: int = 0
    """Adverts since it last began to speak, a twin not counted."""
    beat_at: int = 0
    """When its last beat came."""
    shortest: int = 0
    longest: int = 0
    intervals: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_INTERVALS))
    faults: Counter[str] = field(default_factory=Counter)
    signatures: dict[Signature, int] = field(default_factory=dict)
    unmatched: int = 0
    searches: int = 0
    addresses_tried: int = 0
    """How many addresses could be tried at the last search for its key."""
    looks_like: str = ""
    tagged: bool = False
    destinations: dict[str, None] = field(default_factory=dict)
    """Where its adverts go if that is not carp(4)'s group: peers, or another group; of many the first ones."""

    @property
    def beat_before(self) -> int:
        """When the beat before the last one came; of use once there were two."""
        return self.beat_at - (self.intervals[-1] if self.intervals else 0)

    @property
    def median(self) -> int | None:
        return int(statistics.median(self.intervals)) if self.intervals else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        intervals = {"min": self.shortest, "median": self.median, "max": self.longest} if self.intervals else None
        return {
            **self.key.as_dict(),
            "mac": mac_text(self.key.mac),
            "condition": str(self.condition),
            "advbase": self.advbase,
            "advskew": self.advskew,
            "demotion": self.demotion,
            "adverts": self.adverts,
            "first": self.first,
            "last": self.last,
            "interval_ns": intervals,
            "faults": dict(self.faults),
            "signatures": [{**one.as_dict(), "adverts": count} for one, count in self.signatures.items()],
            "looks_like": self.looks_like or None,
            "destinations": list(self.destinations),
        }
