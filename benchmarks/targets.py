"""The targets, all in one place: those of the core (ratios within one run) and those on the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pycarp.monitor.timing import quantiles

NATIVE = "pycarp native"
"""Whose figures are held against the targets on the wire."""
ORDERED_WAIT = 2_500_000
"""ns that a backup of advskew 100 waits after a bow-out, at most: 100 x 20 us and up to 500 us of chance."""
FIGURES: dict[str, float] = {}
"""Seconds for one of each, the fastest round of this run: the least disturbed one."""
Measure = Callable[..., Any]
"""The fixture `measure`."""
_Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A row of the table. `holds` is None where nothing was measured."""

    what: str
    target: str
    measured: str
    holds: bool | None

    def row(self) -> tuple[str, str, str, str]:
        verdict = "" if self.holds is None else "holds" if self.holds else "**missed**"
        return self.what, self.target, self.measured, verdict


# The core


@dataclass(frozen=True)
class Ratio:
    """`over` took `limit` times as long as `than`, "at most" or "at least"; without `than` the limit is in ns."""

    what: str
    over: str
    than: str
    bound: str
    limit: float

    def compare(self, seconds: dict[str, float]) -> Target:
        """Against the fastest rounds of a run."""
        unit = "x" if self.than else "ns"
        target = f"{self.bound} {self.limit:g} {unit}"
        if self.over not in seconds or (self.than and self.than not in seconds):
            return Target(self.what, target, "not measured", None)
        value = seconds[self.over] / (seconds[self.than] if self.than else 1e-9)
        holds = value <= self.limit if self.bound == "at most" else value >= self.limit
        return Target(self.what, target, f"{value:.2f} {unit}", holds)


RATIOS = (
    Ratio("verify one advert, native / one SHA-1 block", "verify native one", "sha1 block", "at most", 2.6),
    Ratio("verify one of many, native / one SHA-1 block", "verify native of many", "sha1 block", "at most", 0.6),
    Ratio("forged advert, one of many / alone", "input native forged of many", "input native forged", "at most", 0.7),
    Ratio("model of the kernel's way / native", "verify model", "verify native one", "at least", 5),
    Ratio("hmac.digest / native", "verify hmac.digest", "verify native one", "at least", 15),
    Ratio("scapy building the same / native", "verify scapy", "verify native one", "at least", 100),
    Ratio("forged advert, frame to verdict, native", "input native forged", "", "at most", 250),
)


def core_targets(core: _Row) -> list[Target]:
    seconds = {name: value / 1e9 for name, value in core["nanoseconds"].items()}
    return [ratio.compare(seconds) for ratio in RATIOS]


# The wire


def wire_targets(wire: _Row) -> list[Target]:
    found = timing_targets(wire) + takeover_targets(wire.get("takeover", {}).get(NATIVE, {}))
    if flood := wire.get("flood", {}).get(NATIVE):
        found += flood_targets(flood)
    found += load_targets(wire.get("load", {}).get(NATIVE, {}), wire["many"])
    if wire.get("import"):
        more = wire["import"]["difference"]["p50"]
        found.append(_at_most("import pycarp, beyond bare Python", "at most 60 ms", more, 60e6, us))
    return found


def timing_targets(wire: _Row) -> list[Target]:
    many = f"{wire['many']} virtual hosts"
    timing = wire.get("timing", {}).get(NATIVE, {})
    found = []
    for condition, limit in (("idle", 10), ("every core busy", 10), ("GIL held", 10), (many, 100)):
        row = timing.get(condition, {})
        found += [
            _at_most(f"interval error p50, {condition}", "at most 2 us", row.get("p50"), 2e3, us),
            _at_most(f"interval error p99, {condition}", f"at most {limit} us", row.get("p99"), limit * 1e3, us),
        ]
    drift = timing.get("idle", {}).get("drift")
    found.append(_at_most("drift an interval, idle", "at most 1 us", None if drift is None else abs(drift), 1e3, us))
    peers = [
        rows["idle"]["p99"]
        for name, rows in wire.get("timing", {}).items()
        if not name.startswith("pycarp") and rows["idle"]["count"]
    ]
    if peers:
        without = timing.get("idle, no SCHED_FIFO", {}).get("p99")
        best = min(peers)
        found.append(
            _at_most("interval error p99, idle, no SCHED_FIFO", f"the best peer's {us(best)}", without, best, us)
        )
    return found


def takeover_targets(rows: _Row) -> list[Target]:
    """Answers after SIGTERM have no target: in a lab, the old master's link going down holds the lock of both hosts."""

    def samples(name: str) -> list[int]:
        return [value for kind in ("cut", "SIGKILL") for value in rows.get(kind, {}).get(name, {}).get("samples", ())]

    late, answers = samples("late"), samples("answer")
    gap = rows.get("SIGTERM", {}).get("gap", {}).get("max")
    beyond = None if gap is None else gap - ORDERED_WAIT
    return [
        _at_most("deadline to first advert, p99", "at most 100 us", _p99(late), 100e3, us),
        _at_most("deadline to an answered ping, worst", "at most 1 ms", max(answers, default=None), 1e6, us),
        _at_most("bow-out to advert, beyond the longest wait ordered", "at most 200 us", beyond, 200e3, us),
    ]


def flood_targets(flood: _Row) -> list[Target]:
    rate = f"{flood['rate']:.0f} forged adverts/s"
    spoke = flood["adverts of the backup"] + flood["timing"]["missed"]
    master = flood["master"]
    return [
        _at_most(f"{rate}: transitions, adverts missed", "none", spoke, 0, lambda value: f"{value:.0f}"),
        _at_most(f"{rate}: interval error p99", "at most 50 us", flood["timing"].get("p99"), 50e3, us),
        _at_most(f"{rate}: CPU as MASTER", "at most 3 %", master["cpu_percent"], 3, percent),
        _at_most(f"{rate}: CPU a frame", "at most 250 ns", master["ns_per_frame"], 250, nanoseconds),
    ]


def load_targets(costs: _Row, many: int) -> list[Target]:
    most, one = costs.get(str(many)), costs.get("1")
    found = []
    for role, limit in (("master", 2), ("backup", 0.2)):
        what, target = f"{many} virtual hosts, idle: CPU as {role.upper()}", f"at most {limit} %"
        found.append(_at_most(what, target, most[role]["cpu_percent"] if most else None, limit, percent))
    each = (most["backup"]["private"] - one["backup"]["private"]) / (many - 1) if most and one else None
    found.append(_at_most("memory of each virtual host", "at most 8 KiB", each, 8192, kibibytes))
    return found


def _at_most(what: str, target: str, value: float | None, limit: float, show: Callable[[float], str]) -> Target:
    if value is None:
        return Target(what, target, "not measured", None)
    return Target(what, target, show(value), value <= limit)


def _p99(values: list[int]) -> float | None:
    return quantiles(values, 0.99)[0] if values else None


# How figures are shown


def us(value: float | None) -> str:
    """ns as microseconds or, beyond ten thousand of them, as milliseconds."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 1e7:
        return f"{value / 1e6:.1f} ms"
    return f"{value / 1e3:.1f} us" if size < 1e5 else f"{value / 1e3:.0f} us"


def percent(value: float) -> str:
    return f"{value:.3f} %"


def nanoseconds(value: float) -> str:
    return f"{value:.0f} ns"


def kibibytes(value: float) -> str:
    return f"{value / 1024:.1f} KiB"
