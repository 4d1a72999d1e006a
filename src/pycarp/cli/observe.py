"""``pycarp observe``: how punctual is whoever speaks CARP on an interface, or in a capture."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ..monitor.text import exact, microseconds, plural, printable
from ..monitor.timeline import Timeline
from ..monitor.timing import Meter, Series, Takeover
from .group import fail
from .output import complain
from .watch import JsonView, Report, View, follow, source, source_options

_HELP = """Measure how punctual every CARP speaker is, from outside, by the kernel's receive timestamps.

For each host and group: its intervals against the interval it promises (mean, standard deviation, and how far 50, 90
and 99 per cent of them and the worst are off), the drift of its clock per interval, adverts missed, and how long
takeovers took. It only listens, and needs no more than CAP_NET_RAW (none for a capture). Ctrl-C ends it.

\b
Examples:
  pycarp observe -i eth0 --seconds 60
  pycarp observe -i eth0 --count 1000 --json
  pycarp observe -r failover.pcap
  pycarp observe -i eth0 --seconds 60 --plot adverts.svg

Exit code: 0; 1 if the interface vanished or the capture is damaged half-way, or nobody spoke; 2 if it cannot be done
as asked for.
"""
_HEADINGS = ("vhid", "host", "adverts", "promised", "mean", "sd", "p50", "p90", "p99", "worst", "drift", "missed")
_OPTIONAL = ("mean", "p90", "sd", "p50")
"""Columns that a narrow terminal does not get, the first one first."""


@click.command(help=_HELP)
@source_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print each change, and all figures in the end, as lines of JSON."
)
@click.option(
    "--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw it in the end: FILE.svg or FILE.png."
)
@click.pass_context
def observe(
    ctx: click.Context,
    interface: str | None,
    capture: str | None,
    count: int | None,
    seconds: float | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    meter, timeline = Meter(), Timeline()
    if plot is not None:
        _may_draw(ctx, plot)
    with source(ctx, interface, capture, seconds) as chosen:
        if chosen.live:
            complain(f"{ctx.command_path}: listens on {printable(chosen.where)} {_until(seconds, count)}")
        view = (JsonView if as_json else View)(ObserveReport(meter, chosen.where), sys.stdout)

        def take(at: int, frame: bytes | None) -> bool:
            if frame is not None:
                view.show(meter.frame(frame, at), at)
                if plot is not None:
                    timeline.frame(frame, at)
            return count is None or meter.adverts < count

        code = follow(ctx, view, chosen.frames(lambda: None, None), take)
    if plot is not None and timeline.speakers:
        _draw(ctx, meter, timeline, plot)
    ctx.exit(code if code or meter.adverts else 1)


def _may_draw(ctx: click.Context, path: Path) -> None:
    """End the command before it listens, where the picture could not be drawn."""
    if path.suffix not in (".svg", ".png"):
        fail(ctx, "--plot draws SVG or PNG: give FILE.svg or FILE.png")
    if not path.absolute().parent.is_dir():
        fail(ctx, "--plot names a file in a directory that does not exist: make it first")
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        fail(ctx, "--plot needs matplotlib: install it with pip install 'pycarp[plot]'")


def _draw(ctx: click.Context, meter: Meter, timeline: Timeline, path: Path) -> None:
    from ..monitor.plot import draw

    try:
        draw(timeline, meter.takeovers, path)
    except OSError as error:
        fail(ctx, f"the picture cannot be written ({error.strerror}): the figures above are all")
    complain(f"{ctx.command_path}: {printable(str(path))} is drawn")


def _until(seconds: float | None, count: int | None) -> str:
    """When the figures come: Ctrl-C is always one way."""
    ends = [f"for {seconds:g} s"] if seconds is not None else []
    ends += [f"for {plural(count, 'advert')}"] if count is not None else []
    until = f"{' or '.join(ends)}, or until Ctrl-C" if ends else "until Ctrl-C (--seconds N ends it by itself)"
    return f"{until}; the figures come then, takeovers when they happen"


class ObserveReport(Report):
    """The figures."""

    def __init__(self, meter: Meter, where: str) -> None:
        super().__init__(where)
        self._meter = meter

    def values(self) -> dict[str, Any]:
        return {"at": None, "where": self.where, "span_ns": self._span(), **self._meter.as_dict()}

    def lines(self, width: int | None) -> list[str]:
        series = [self._meter.series[key] for key in sorted(self._meter.series, key=lambda key: key.rank)]
        table = _table([_row(one) for one in series], width) if series else []
        return [f"{self.where}: {self._total()}", *table, *_takeovers(self._meter.takeovers)]

    def _span(self) -> int:
        return (self.last or 0) - (self.first or 0)

    def _total(self) -> str:
        meter = self._meter
        parts = [f"{plural(meter.adverts, 'advert')} in {self._span() / 1e9:.1f} s"]
        if twins := sum(series.twins for series in meter.series.values()):
            parts.append(f"{plural(twins, 'twin')} (the same under another key)")
        if meter.second_master:
            parts.append(f"{meter.second_master} of a second master")
        parts += [f"{count} {reason}" for reason, count in sorted(meter.refused.items())]
        return ", ".join(parts)


def _table(rows: list[tuple[str, ...]], width: int | None) -> list[str]:
    """All columns, or on a terminal those that it has room for, with bold headings."""
    columns = {heading: (heading, *cells) for heading, *cells in zip(_HEADINGS, *rows, strict=True)}
    widths = {heading: max(map(len, cells)) for heading, cells in columns.items()}
    for heading in _OPTIONAL:
        if width is not None and sum(widths.values()) + 2 * (len(widths) - 1) > width:
            del widths[heading]
    lines = []
    for number in range(len(rows) + 1):
        cells = ((columns[heading][number], heading, size) for heading, size in widths.items())
        lines.append("  ".join(c.ljust(size) if h == "host" else c.rjust(size) for c, h, size in cells).rstrip())
    return lines if width is None else [click.style(lines[0], bold=True), *lines[1:]]


def _row(series: Series) -> tuple[str, ...]:
    errors, key = series.errors, series.key
    head = (str(key.vhid), key.source, str(series.adverts), microseconds(series.interval))
    mean, drift = series.mean_interval, series.trend.slope
    if mean is None:
        return (*head, *[""] * 7, str(series.missed))
    figures = (errors.deviation, *errors.magnitude(0.5, 0.9, 0.99), max(abs(errors.low), abs(errors.high)))
    slope = "" if drift is None else exact(drift, signed=True)
    return (*head, microseconds(mean), *map(exact, figures), slope, str(series.missed))


def _takeovers(takeovers: Iterable[Takeover]) -> list[str]:
    """One line for each kind: how many, how long, and how long it should have been."""
    kinds: dict[tuple[int, str, int], list[int]] = {}
    for one in takeovers:
        due = one.due if one.cause == "silence" else 0
        kinds.setdefault((one.vhid, one.cause, due), []).append(one.gap)
    lines = []
    for (vhid, cause, due), gaps in sorted(kinds.items()):
        low, high = min(gaps) / 1e9, max(gaps) / 1e9
        long = f"{low:.6f} s" if len(gaps) == 1 else f"{low:.6f}-{high:.6f} s"
        promise = f" (due {microseconds(due)})" if due else ""
        lines.append(f"vhid {vhid}: {plural(len(gaps), 'takeover')} by {cause}, {long} after the last advert{promise}")
    return lines
