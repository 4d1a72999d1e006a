"""A picture of a `Timeline`: who was MASTER when, how punctual everybody was, and the takeovers. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from .timeline import Timeline
from .timing import Takeover

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")


def draw(timeline: Timeline, takeovers: Iterable[Takeover], path: Path) -> None:
    """Write it, as the name's ending says. Raises `OSError`."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    masters, punctuality = figure.subplots(2, 1, sharex=True)
    keys = sorted(timeline.speakers, key=lambda key: key.rank)
    for row, key in enumerate(keys):
        line, colour = timeline.speakers[key], f"C{row % 10}"
        bars = [((span.begin - timeline.first) / 1e9, max((span.end - span.begin) / 1e9, 0.001)) for span in line.spans]
        masters.broken_barh(bars, (row - 0.35, 0.7), color=colour)
        times = [(at - timeline.first) / 1e9 for at, _ in line.errors]
        punctuality.plot(times, [error / 1e6 for _, error in line.errors], ".", color=colour, markersize=3)
    masters.set_yticks(range(len(keys)), [f"vhid {key.vhid}\n{key.source}" for key in keys])
    masters.set_title("who advertises")
    _mark(masters, timeline, takeovers)
    punctuality.set_ylabel("late by, ms")
    punctuality.set_xlabel("seconds")
    punctuality.set_title("intervals against what was promised")
    figure.savefig(path)


def _mark(axes: Axes, timeline: Timeline, takeovers: Iterable[Takeover]) -> None:
    for one in takeovers:
        at = (one.at - timeline.first) / 1e9
        axes.axvline(at, color="0.4", linestyle=":", linewidth=1)
        place = ("data", "axes fraction")
        text = f"{one.gap / 1e6:.0f} ms "
        axes.annotate(text, (at, 0.5), xycoords=place, fontsize=8, rotation=90, va="center", ha="right")
