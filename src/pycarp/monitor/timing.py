"""How regularly hosts speak CARP: the figures behind ``pycarp observe``. Frames and their times come in. No I/O.

A `Meter` belongs to no group. It measures every advert that passes the kernel's checks before the digest, against the
interval that the speaker itself promises. All that it remembers is bounded.
"""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from .._impl import current
from .._records import dataclass, field, replace
from ..protocol import Advert
from ..protocol.checks import first_fault
from ..protocol.timing import OPENBSD_LATE, master_down
from .observer import Change
from .speakers import Advertiser, Key
from .text import microseconds, plural

MOST_SERIES = 1024
KEPT_SAMPLES = 8192
"""Beyond this many intervals of one speaker, percentiles come from a random choice of as many; all else stays exact."""
KEPT_TAKEOVERS = 1000
TWIN = 1_000_000
"""An advert this many ns after another with the same header is its twin under the other key, or a copy of it."""
_LATE, _ON_TIME = 2, 3
"""An interval above 3/2 of what was promised lacks an advert: a gap, not an error of timing."""


class Distribution:
    """Signed values in ns: exact count, mean, deviation and extremes, and percentiles of their magnitudes."""

    __slots__ = ("_random", "_samples", "_squares", "count", "high", "low", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.low = self.high = 0
        self._squares = 0.0
        self._samples = array("q")
        # Seeded, and of this object alone: the same capture gives the same figures.
        self._random = random.Random(112)

    def add(self, value: int) -> None:
        self.count += 1
        self.low = value if self.count == 1 else min(self.low, value)
        self.high = value if self.count == 1 else max(self.high, value)
        delta = value - self.mean
        self.mean += delta / self.count
        self._squares += delta * (value - self.mean)
        if len(self._samples) < KEPT_SAMPLES:
            self._samples.append(value)
        elif (place := self._random.randrange(self.count)) < KEPT_SAMPLES:
            self._samples[place] = value

    @property
    def samples(self) -> Sequence[int]:
        """The values, or a random choice of `KEPT_SAMPLES` of them."""
        return self._samples

    @property
    def deviation(self) -> float:
        """The sample's standard deviation; 0 below two values."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0

    def magnitude(self, *parts: float) -> list[int]:
        """Below which magnitudes these parts (0 to 1) of the values lie: each a value that occurred, or 0 for none."""
        return quantiles([abs(value) for value in self._samples], *parts)

    def as_dict(self) -> dict[str, Any] | None:
        """Plain values for JSON; None when there is nothing to tell."""
        if not self.count:
            return None
        p50, p90, p99 = self.magnitude(0.5, 0.9, 0.99)
        return {
            "count": self.count,
            "p50": p50,
            "p90": p90,
            "p99": p99,
            "max": max(abs(self.low), abs(self.high)),
            "mean": round(self.mean),
            "sd": round(self.deviation),
        }


def quantiles(values: Sequence[int], *parts: float) -> list[int]:
    """The values below or at which these parts (0 to 1) of all lie, by nearest rank; zeros when there are none."""
    ordered = sorted(values)
    return [ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0 for part in parts]


class Trend:
    """The slope of a straight line through points, by least squares: several runs, one common slope."""

    __slots__ = ("_count", "_mean_x", "_mean_y", "_xx", "_xy")

    def __init__(self) -> None:
        self._xx = self._xy = 0.0
        self.restart()

    def restart(self) -> None:
        """What follows lies on another line with the same slope."""
        self._count = 0
        self._mean_x = self._mean_y = 0.0

    def add(self, x: float, y: float) -> None:
        self._count += 1
        dx = x - self._mean_x
        self._mean_x += dx / self._count
        self._mean_y += (y - self._mean_y) / self._count
        self._xx += dx * (x - self._mean_x)
        self._xy += dx * (y - self._mean_y)

    @property
    def slope(self) -> float | None:
        """None until two points of one run are known."""
        return self._xy / self._xx if self._xx else None


@dataclass(slots=True, eq=False)
class Series(Advertiser):
    """One speaker's adverts; an interval belongs to the advert that begins it. `adverts` counts no twins."""

    twins: int = 0
    bowouts: int = 0
    gaps: int = 0
    missed: int = 0
    longest_gap: int = 0
    errors: Distribution = field(default_factory=Distribution)
    """Interval less what was promised, gaps left out."""
    trend: Trend = field(default_factory=Trend)
    running: bool = False
    """The last advert began an interval: it was no bow-out."""
    takeover: Takeover | None = None
    """Its last one, until its counter has told whose timer that was."""
    _begun: int = 0
    _turn: int = 0

    @property
    def mean_interval(self) -> float | None:
        """What it keeps, gaps left out; of use while the promise does not change."""
        return self.interval + self.errors.mean if self.errors.count else None

    def on_time(self, at: int) -> bool:
        """Whether its next advert is not overdue at this time."""
        return self.running and (at - self.last) * _LATE <= self.due * _ON_TIME

    def begin(self, at: int) -> None:
        """A new run: what came before says nothing about the phase of what follows."""
        self._begun, self._turn = at, 0
        self.trend.restart()
        self.trend.add(0, 0)

    def beat(self, at: int) -> None:
        """One more interval of the run has passed, as long as it should be or not."""
        self._turn += 1
        self.errors.add(at - self.last - self.interval)
        self.trend.add(self._turn, at - self._begun - self._turn * self.interval)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        mean, drift = self.mean_interval, self.trend.slope
        return {
            **self.key.as_dict(),
            "advbase": self.advbase,
            "advskew": self.advskew,
            "adverts": self.adverts,
            "twins": self.twins,
            "bowouts": self.bowouts,
            "first": self.first,
            "last": self.last,
            "interval_ns": {"advertised": self.interval, "mean": None if mean is None else round(mean)},
            "error_ns": self.errors.as_dict(),
            "drift_ns": None if drift is None else round(drift, 3),
            "gaps": {"count": self.gaps, "missed": self.missed, "longest_ns": self.longest_gap},
        }


@dataclass(frozen=True, slots=True)
class Takeover:
    """Another host speaks for a group. `gap` is from the last advert of the one before to the first of the new one.

    `cause` is "silence", "bow-out", or "preemption" where the former master was still on time. `due` is the new one's
    master-down time by its own values, which is what a silence should last.
    """

    at: int
    vhid: int
    family: int
    before: str
    after: str
    gap: int
    due: int
    cause: str

    @property
    def error(self) -> int | None:
        """How much later than due, in ns; None where no timer had to expire."""
        return self.gap - self.due if self.cause == "silence" else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "at": self.at,
            "vhid": self.vhid,
            "family": self.family,
            "before": self.before,
            "after": self.after,
            "cause": self.cause,
            "gap_ns": self.gap,
            "due_ns": self.due,
            "error_ns": self.error,
        }


class Meter:
    """Give it every frame with its time, in order; look at `series` and `takeovers`."""

    def __init__(self) -> None:
        self.series: dict[Key, Series] = {}
        self.takeovers: deque[Takeover] = deque(maxlen=KEPT_TAKEOVERS)
        self.takeover_count = 0
        self.adverts = 0
        """Those that were measured, twins not counted."""
        self.second_master = 0
        """Adverts of a master beside another one."""
        self.refused: Counter[str] = Counter()
        """Adverts that were not measured, by the kernel's name for the reason."""
        self._masters: dict[tuple[int, int], Series] = {}
        self._changes: list[Change] = []

    def frame(self, frame: bytes, at: int) -> list[Change]:
        """Take in one Ethernet frame; returns the news in it."""
        datagram = current.packet.dissect(frame)
        if datagram is None:
            return []
        advert = current.packet.advert(datagram)
        fault = first_fault(datagram, advert, current.packet.checksum_ok)
        if fault or advert is None:
            self.refused[fault] += 1
            return []
        return self.advert(advert, at)

    def advert(self, advert: Advert, at: int) -> list[Change]:
        """Take in one advert that is known to be right."""
        self._changes = []
        # Hosts are not told apart by MAC here: a host that changes it goes on.
        key = Key(advert.vhid, advert.family, advert.source)
        series = self.series.get(key)
        if series is None:
            if len(self.series) >= MOST_SERIES:
                self.refused[f"of more than {MOST_SERIES} speakers"] += 1
                return []
            series = self.series[key] = Series(key, advert.advbase, advert.advskew, at, at)
        elif _is_twin(series, advert, at):
            series.twins += 1
            return []
        self.adverts += 1
        series.adverts += 1
        if advert.bowout:
            series.bowouts += 1
            series.running, series.last = False, at
            self._say(at, "bowed out", series, f"{key.source} bows out")
        else:
            self._watch_master(series, advert, at)
            self._watch_interval(series, advert, at)
            series.advbase, series.advskew = advert.advbase, advert.advskew
            series.running, series.last = True, at
        series.count(advert.counter, at)
        self._judge_again(series)
        return self._changes

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "adverts": self.adverts,
            "rivals": self.second_master,
            "refused": dict(self.refused),
            "series": [self.series[key].as_dict() for key in sorted(self.series, key=lambda key: key.rank)],
            "takeover_count": self.takeover_count,
            "takeovers": [takeover.as_dict() for takeover in self.takeovers],
        }

    def _watch_interval(self, series: Series, advert: Advert, at: int) -> None:
        passed = at - series.last
        changed = (advert.advbase, advert.advskew) != (series.advbase, series.advskew)
        # An advert with new values (a demotion) goes out at once, out of turn. A clock that was set back tells nothing.
        if not series.running or changed or passed < 0:
            series.begin(at)
        elif passed * _LATE > (due := _due(series, advert)) * _ON_TIME:
            missed = max(1, round(passed / due) - 1)
            series.gaps += 1
            series.missed += missed
            series.longest_gap = max(series.longest_gap, passed)
            text = f"{series.key.source} was silent for {microseconds(passed)}: {plural(missed, 'advert')} missed"
            self._say(at, "gap", series, text, {"missed": missed, "gap_ns": passed})
            series.begin(at)
        else:
            series.beat(at)

    def _watch_master(self, series: Series, advert: Advert, at: int) -> None:
        group = series.key.group
        former = self._masters.get(group)
        if former is None or former is series:
            self._masters[group] = series
        elif series.on_time(at):
            # It never stopped speaking: two masters, or one that is preempted and has not heard it yet.
            self.second_master += 1
            if not former.on_time(at):
                self._masters[group] = series
        else:
            self._masters[group] = series
            self._take_over(former, series, advert, at)

    def _take_over(self, former: Series, series: Series, advert: Advert, at: int) -> None:
        cause = "preemption" if former.on_time(at) else "silence" if former.running else "bow-out"
        timing = "openbsd" if series.as_openbsd else "bsd"
        due, key = master_down(advert.advbase, advert.advskew, timing=timing), series.key
        takeover = Takeover(at, key.vhid, key.family, former.key.source, key.source, at - former.last, due, cause)
        self.takeovers.append(takeover)
        series.takeover = None if series.as_openbsd else takeover
        self.takeover_count += 1
        after = "the bow-out" if cause == "bow-out" else "the last advert"
        text = f"{key.source} takes over, {microseconds(takeover.gap)} after {after} of {former.key.source}"
        if takeover.error is not None:
            text += f" (due after {microseconds(due)})"
        self._say(at, "takeover", series, text, takeover.as_dict())

    def _judge_again(self, series: Series) -> None:
        """The third advert tells OpenBSD: then its takeover before that was by OpenBSD's formula."""
        former = series.takeover
        if former is None or not series.as_openbsd:
            return
        series.takeover = None
        if former in self.takeovers:
            self.takeovers[self.takeovers.index(former)] = replace(former, due=series.master_down)

    def _say(self, at: int, kind: str, series: Series, text: str, details: dict[str, Any] | None = None) -> None:
        key = series.key
        self._changes.append(Change(at, kind, text, key.vhid, key.family, key.source, details or {}))


def _due(series: Series, advert: Advert) -> int:
    """What OpenBSD keeps at an advbase of 0 may be many times what it promises: its second advert is on time, too."""
    if series.as_openbsd or (advert.counter == series.counter and not series.advbase):
        return max(series.due, OPENBSD_LATE)
    return series.due


def _is_twin(series: Series, advert: Advert, at: int) -> bool:
    if not 0 <= at - series.last < TWIN:
        return False
    if advert.bowout or not series.running:
        return advert.bowout and not series.running
    return (advert.advbase, advert.advskew) == (series.advbase, series.advskew)
