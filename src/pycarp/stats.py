"""Counters, with the names that `netstat -p carp` gives them."""

from __future__ import annotations

from ._records import dataclass, fields

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from ._types import EngineStats as EngineStats


@dataclass(slots=True)
class Stats:
    """What the input and output paths counted (NetBSD `struct carpstats`); every value only grows.

    `badaddrs`, `ostates` and `preempt` exist in the kernel and are never raised there; they stay 0 here too. `altered`,
    `echo` and `replayed` are ours: adverts whose priority was changed on the way, one's own that came back, and old
    ones of others.
    """

    ipackets: int = 0
    ipackets6: int = 0
    badif: int = 0
    badttl: int = 0
    hdrops: int = 0
    badsum: int = 0
    badver: int = 0
    badlen: int = 0
    badauth: int = 0
    badvhid: int = 0
    badaddrs: int = 0
    opackets: int = 0
    opackets6: int = 0
    onomem: int = 0
    ostates: int = 0
    preempt: int = 0
    altered: int = 0
    echo: int = 0
    replayed: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


BUCKETS = 40
"""Of a histogram: enough for nine minutes in ns."""


class Histogram:
    """Counts durations by powers of two: bucket i has what took less than 2**i ns and not less than half of that."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS

    def count(self, ns: int) -> None:
        """One more of this duration; what is negative counts as 0."""
        self._counts[min(max(ns, 0).bit_length(), BUCKETS - 1)] += 1

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(self._counts)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a runtime measured of itself since its start.

    The histograms are those of `Histogram`. `wakeup` is from a deadline to the runtime's looking at it, `sending`
    from a deadline to its advert being sent, `takeover` from the decision to the kernel's word that the addresses are
    here. `realtime` says whether its thread runs under SCHED_FIFO, `ring_losses` how many frames found no room.
    """

    realtime: bool = False
    ring_losses: int = 0
    wakeup: tuple[int, ...] = ()
    sending: tuple[int, ...] = ()
    takeover: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, bool | int | tuple[int, ...]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def __getattr__(name: str) -> object:
    if name == "EngineStats":
        from ._types import EngineStats

        return EngineStats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
