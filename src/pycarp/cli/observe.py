"""``pycarp observe``: how punctual is whoever speaks CARP on an interface, or in a capture."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..errors import InterfaceError
from ..monitor.observer import Change
from ..monitor.pcap import CaptureError
from ..monitor.timing import Meter, Series, Takeover
from .group import fail
from .monitor import Source, _from_file, _interfaces, _listener, _terminable
from .monitor_view import clock, printable
from .output import complain

if TYPE_CHECKING:
    from ..monitor.listener import Listener

_HELP = """Measure how punctual every CARP speaker is, from outside, by the kernel's receive timestamps.

For each host and group: its intervals against the interval it promises (mean, standard deviation, and how far 50, 90
and 99 per cent of them and the worst are off), the drift of its clock per interval, adverts missed, and how long
takeovers took. It only listens, and needs no more than CAP_NET_RAW (none for a capture). Ctrl-C ends it.

\b
Examples:
  pycarp observe -i eth0 --seconds 60
  pycarp observe -i eth0 --count 1000 --json
  pycarp observe -r failover.pcap

Exit code: 0; 1 if the interface vanished or the capture is damaged half-way, or nobody spoke; 2 if it cannot be done
as asked for.
"""
_HEADINGS = ("vhid", "host", "adverts", "promised", "mean", "sd", "p50", "p90", "p99", "worst", "drift", "missed")
_LEFT = {"host"}


@click.command(help=_HELP)
@click.option("-i", "--interface", metavar="IF", help="Listen on this interface.")
@click.option("-r", "--read", "capture", metavar="FILE", help="Read a pcap or pcapng file; - is standard input.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="End after S seconds.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N adverts.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print each change, and all figures in the end, as lines of JSON."
)
@click.pass_context
def observe(
    ctx: click.Context,
    interface: str | None,
    capture: str | None,
    seconds: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    if (interface is None) == (capture is None):
        fail(ctx, f"give either -i INTERFACE or -r FILE{_interfaces()}")
    meter = Meter()
    if capture is not None:
        view = _View(meter, "standard input" if capture == "-" else capture, as_json)
        ctx.exit(_watch(ctx, meter, _from_file(capture, seconds), view, count))
    assert interface is not None
    if sys.platform != "linux":
        fail(ctx, "listening on an interface needs Linux: read a capture with -r FILE")
    with _listener(ctx, interface) as listener:
        ctx.exit(_watch(ctx, meter, _from_interface(listener, seconds), _View(meter, interface, as_json), count))


def _watch(ctx: click.Context, meter: Meter, source: Source, view: _View, count: int | None) -> int:
    """Feed the meter until the source ends, the count is reached, or a signal comes; returns the exit code."""
    code, trouble, first, last = 0, "", None, None
    with _terminable():
        try:
            for at, frame in source:
                if frame is None:
                    continue
                first, last = at if first is None else first, at
                view.show(meter.frame(frame, at))
                if count is not None and meter.adverts >= count:
                    break
        except KeyboardInterrupt:
            pass
        except (CaptureError, InterfaceError) as error:
            # What was heard before is worth its figures; where nothing was, it could not be done at all.
            code, trouble = (2 if first is None else 1), str(error)
    view.summary(0 if first is None or last is None else last - first)
    if trouble:
        complain(f"{ctx.command_path}: {trouble}")
    return code if code or meter.adverts else 1


def _from_interface(listener: Listener, seconds: float | None) -> Iterator[tuple[int, bytes | None]]:
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        heard = listener.read(None if end is None else max(0.0, end - time.monotonic()))
        if heard is not None:
            yield heard


class _View:
    """Changes as they come and the figures in the end: JSON, or lines for people."""

    def __init__(self, meter: Meter, where: str, as_json: bool, out: TextIO | None = None) -> None:
        self._meter = meter
        self._where = printable(where)
        self._as_json = as_json
        self._out = sys.stdout if out is None else out

    def show(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if self._as_json:
                self._json(change.as_dict())
            else:
                self._line(f"{clock(change.at)} vhid {change.vhid}: {change.text}")

    def summary(self, span: int) -> None:
        """`span`: ns from the first frame to the last."""
        if self._as_json:
            self._json({"event": "summary", "at": None, "where": self._where, "span_ns": span, **self._meter.as_dict()})
            return
        self._line(f"{self._where}: {_total(self._meter, span)}")
        if self._meter.series:
            self._table([_row(series) for series in self._ordered()])
        for line in _takeovers(list(self._meter.takeovers)):
            self._line(line)

    def _ordered(self) -> list[Series]:
        return sorted(self._meter.series.values(), key=lambda one: (one.key.vhid, one.key.family, one.key.source))

    def _table(self, rows: list[tuple[str, ...]]) -> None:
        columns = list(zip(_HEADINGS, *rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        for row in (_HEADINGS, *rows):
            cells = [
                cell.ljust(width) if heading in _LEFT else cell.rjust(width)
                for heading, cell, width in zip(_HEADINGS, row, widths, strict=True)
            ]
            line = "  ".join(cells).rstrip()
            self._line(click.style(line, bold=True) if row is _HEADINGS and self._out.isatty() else line)

    def _json(self, values: dict[str, Any]) -> None:
        at = values["at"]
        moment = None
        if at is not None:
            whole = datetime.fromtimestamp(at // 1_000_000_000, UTC).astimezone()
            moment = whole.replace(microsecond=at % 1_000_000_000 // 1000).isoformat(timespec="microseconds")
        self._line(json.dumps({"time": moment, **values}))

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def _total(meter: Meter, span: int) -> str:
    parts = [f"{meter.adverts} advert{'s' * (meter.adverts != 1)} in {span / 1e9:.1f} s"]
    if twins := sum(series.twins for series in meter.series.values()):
        parts.append(f"{twins} twin{'s' * (twins != 1)} (the same under another key)")
    if meter.second_master:
        parts.append(f"{meter.second_master} of a second master")
    parts += [f"{count} {reason}" for reason, count in sorted(meter.refused.items())]
    return ", ".join(parts)


def _row(series: Series) -> tuple[str, ...]:
    errors = series.errors
    key = series.key
    head = (str(key.vhid), key.source, str(series.adverts), f"{series.interval / 1e9:.6f} s")
    mean, drift = series.mean_interval, series.trend.slope
    if mean is None:
        return (*head, *[""] * 7, str(series.missed))
    p50, p90, p99 = errors.magnitude(0.5, 0.9, 0.99)
    figures = (errors.deviation, p50, p90, p99, max(abs(errors.low), abs(errors.high)))
    return (
        *head,
        f"{mean / 1e9:.6f} s",
        *map(duration, figures),
        "" if drift is None else duration(drift, signed=True),
        str(series.missed),
    )


def _takeovers(takeovers: list[Takeover]) -> list[str]:
    """One line for each kind: how many, how long, and how long it should have been."""
    kinds: dict[tuple[int, str, int], list[int]] = {}
    for one in takeovers:
        due = one.due if one.cause == "silence" else 0
        kinds.setdefault((one.vhid, one.cause, due), []).append(one.gap)
    lines = []
    for (vhid, cause, due), gaps in sorted(kinds.items()):
        low, high = min(gaps) / 1e9, max(gaps) / 1e9
        long = f"{low:.6f} s" if len(gaps) == 1 else f"{low:.6f}-{high:.6f} s"
        promise = f" (due {due / 1e9:.6f} s)" if due else ""
        count = f"{len(gaps)} takeover{'s' * (len(gaps) != 1)}"
        lines.append(f"vhid {vhid}: {count} by {cause}, {long} after the last advert{promise}")
    return lines


def duration(nanoseconds: float, *, signed: bool = False) -> str:
    """A duration for people, in the unit that suits it: 12.3 us, 3.41 ms, 1.200000 s."""
    size = abs(nanoseconds)
    sign = "+" if signed else ""
    if size >= 1e9:
        return f"{nanoseconds / 1e9:{sign}.6f} s"
    if size >= 1e6:
        return f"{nanoseconds / 1e6:{sign}.2f} ms"
    return f"{nanoseconds / 1e3:{sign}.1f} us"
