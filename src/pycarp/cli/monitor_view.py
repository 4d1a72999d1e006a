"""What ``pycarp monitor`` shows: a table that lives, plain lines, or JSON."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TextIO

from ..monitor.observer import Change, Observer
from ..monitor.speakers import Condition, Speaker
from ..monitor.text import clock, local_time, mac_text, plural, seconds, vlan_text
from ..monitor.trunk import Trunk
from .watch import JsonView, Report, View

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_COUNT = 12
_RECENT = 6
_REDRAWN_AFTER = 50_000_000
"""The table is drawn at most this often (ns): a flood must not be slowed down by it."""
_STYLES = {
    "master": "green",
    "silent": "dim",
    "bowed out": "cyan",
    "fault": "yellow",
    "two masters": "bold red",
    "one master": "green",
    "vrrp": "yellow",
}
"""By the kind of a change; any other kind is shown without colour."""
_COLUMNS = {
    "vhid": "right",
    "host": "left",
    "state": "left",
    "base/skew": "right",
    "interval": "right",
    "": "left",
    "adverts": "right",
    "signed": "left",
    "like": "left",
    "faults": "left",
}
_OPTIONAL = ("", "like", "signed", "interval")
"""Columns that a narrow terminal does not get, the first one first."""


def make_view(observer: Observer | Trunk, where: str, *, as_json: bool, live: bool, out: TextIO | None = None) -> View:
    """The view that suits the reader: JSON if asked for, rich on a terminal, plain lines otherwise."""
    out = sys.stdout if out is None else out
    report = MonitorReport(observer, where)
    if as_json:
        return JsonView(report, out)
    if not out.isatty():
        return View(report, out)
    from rich.console import Console

    console = Console(file=out, highlight=False, emoji=False)
    return (LiveView if live and not console.is_dumb_terminal else ColourView)(report, console)


class MonitorReport(Report):
    """The speakers and the findings."""

    def __init__(self, observer: Observer | Trunk, where: str) -> None:
        super().__init__(where)
        self.observer = observer

    def values(self) -> dict[str, Any]:
        observer = self.observer
        return {
            "at": self.last,
            "where": self.where,
            "frames": observer.frames,
            "adverts": observer.adverts,
            "speakers": [speaker.as_dict() for group in observer.by_group() for speaker in group],
            "findings": observer.findings(),
            "overlooked": dict(observer.overlooked),
        }

    def lines(self, width: int | None) -> list[str]:
        lines = [f"{self.where}: {self.total()}"]
        for speakers in self.observer.by_group():
            for speaker in speakers:
                parts = [
                    f"{vlan_text(speaker.key.vlan)}vhid {speaker.key.vhid} {speaker.key.source}",
                    _condition(speaker, self.last),
                    f"advbase {speaker.advbase} advskew {speaker.advskew}",
                    _measured(speaker),
                    _signed(speaker),
                    speaker.destinations and f"to {' and '.join(speaker.destinations)}",
                    speaker.looks_like and f"looks like {speaker.looks_like}",
                    _faults(speaker),
                    mac_text(speaker.key.mac),
                ]
                lines.append("  " + ", ".join(part for part in parts if part))
        return lines + [f"! {finding}" for finding in self.observer.findings()]

    def total(self) -> str:
        observer = self.observer
        parts = [f"{plural(observer.adverts, 'advert')} in {observer.frames} frames"]
        parts += [f"{count} {reason}" for reason, count in sorted(observer.overlooked.items())]
        return ", ".join(parts)


class ColourView(View):
    """One line a change, and a table in the end: for a capture, or a terminal that cannot move its cursor."""

    report: MonitorReport

    def __init__(self, report: MonitorReport, console: Console) -> None:
        super().__init__(report, console.file)
        self._console = console
        self._columns = list(_COLUMNS)

    def change(self, change: Change) -> None:
        self._console.print(_change_line(change))

    def summary(self) -> None:
        self._console.print(self.picture(()))

    def picture(self, recent: Iterable[Change]) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        findings = [Text(f"! {finding}", style="yellow") for finding in self.report.observer.findings()]
        return Group(self._table(), *findings, *map(_change_line, recent))

    def _table(self) -> Table:
        """All columns, or those that the terminal has room for; what was left out once stays away."""
        table = self._table_of(self._columns)
        endless = self._console.options.update(max_width=10_000)
        while self._console.measure(table, options=endless).maximum > self._console.width:
            optional = [heading for heading in _OPTIONAL if heading in self._columns]
            if not optional:
                break
            self._columns.remove(optional[0])
            table = self._table_of(self._columns)
        return table

    def _table_of(self, columns: Sequence[str]) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        observer, report = self.report.observer, self.report
        table = Table(box=box.SIMPLE_HEAD, expand=False, title_justify="left", caption_justify="left")
        table.title = Text.assemble(("CARP", "bold"), " on ", (report.where, "bold"))
        nobody = "" if observer.by_group() else "nobody so far; "
        table.caption = Text(nobody + report.total(), style="dim")
        for heading in columns:
            table.add_column(heading, justify=_COLUMNS[heading], no_wrap=heading != "faults")  # type: ignore[arg-type]
        contenders = observer.contenders
        for speakers in observer.by_group():
            for number, speaker in enumerate(speakers):
                cells = _cells(speaker, report.last, contends=speaker.key in contenders, first=number == 0)
                table.add_row(*(cells[heading] for heading in columns))
        return table


class LiveView(ColourView):
    """A table that is redrawn where it stands, with the latest changes under it."""

    moving = True

    def __init__(self, report: MonitorReport, console: Console) -> None:
        super().__init__(report, console)
        from rich.live import Live

        self._recent: deque[Change] = deque(maxlen=_RECENT)
        self._drawn: int | None = None
        self._live = Live(
            console=console,
            auto_refresh=False,
            get_renderable=lambda: self.picture(self._recent),
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, changes: Sequence[Change], at: int) -> None:
        super().show(changes, at)
        if changes or self._drawn is None or at - self._drawn >= _REDRAWN_AFTER:
            self._drawn = at
            self._live.refresh()

    def change(self, change: Change) -> None:
        self._recent.append(change)

    def summary(self) -> None:
        # What did not fit the terminal while it lived is shown in full now.
        self._live.vertical_overflow = "visible"
        self._live.refresh()


def _cells(speaker: Speaker, at: int | None, *, contends: bool, first: bool) -> dict[str, RenderableType]:
    """A row of the table, by heading."""
    from rich.text import Text

    signed = _signed(speaker)
    return {
        "vhid": Text(f"{vlan_text(speaker.key.vlan)}{speaker.key.vhid}" if first else "", style="bold"),
        "host": Text(speaker.key.source),
        "state": _state(speaker, at, contends),
        "base/skew": f"{speaker.advbase}/{speaker.advskew}" + (f" d{speaker.demotion}" if speaker.demotion else ""),
        "interval": seconds(speaker.median) if speaker.median is not None else "",
        "": Text(_spark(speaker), style="green"),
        "adverts": str(speaker.adverts),
        "signed": Text(signed, style="" if signed != "not as given" else "red"),
        "like": Text(speaker.looks_like, style="dim"),
        "faults": Text(_faults(speaker), style="red"),
    }


def _state(speaker: Speaker, at: int | None, contends: bool) -> Text:
    from rich.text import Text

    if speaker.condition is Condition.ADVERTISING:
        return Text("● one of several", style="bold red") if contends else Text("● master", style="bold green")
    if speaker.condition is Condition.FAULTY:
        return Text("✗ not obeyed", style="red")
    style = "cyan" if speaker.condition is Condition.BOWED_OUT else "dim"
    return Text(f"○ {_condition(speaker, at)}", style=style)


def _condition(speaker: Speaker, at: int | None) -> str:
    ago = "" if at is None else f" {_rough(at - speaker.last)}"
    if speaker.condition is Condition.BOWED_OUT:
        return f"bowed out{ago and ago + ' ago'}"
    return f"silent{ago}" if speaker.condition is Condition.SILENT else str(speaker.condition)


def _measured(speaker: Speaker) -> str:
    if speaker.median is None:
        return plural(speaker.adverts, "advert")
    return (
        f"{speaker.adverts} adverts every {seconds(speaker.median)}"
        f" ({seconds(speaker.shortest)} to {seconds(speaker.longest)})"
    )


def _signed(speaker: Speaker) -> str:
    if speaker.signatures:
        return "+".join(dict.fromkeys(signature.form for signature in speaker.signatures))
    return "not as given" if speaker.faults["badauth"] else ""


def _faults(speaker: Speaker) -> str:
    return " ".join(f"{fault} {count}" for fault, count in sorted(speaker.faults.items()))


def _spark(speaker: Speaker) -> str:
    """The last intervals as columns: the lowest is half of what the adverts promise, the highest one and a half."""
    if not speaker.interval:
        return ""
    last = list(speaker.intervals)[-_SPARK_COUNT:]
    top = len(_SPARKS) - 1
    return "".join(_SPARKS[max(0, min(top, round((gap / speaker.interval - 0.5) * top)))] for gap in last)


def _rough(nanoseconds: int) -> str:
    whole = max(0, nanoseconds) // 1_000_000_000
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _change_line(change: Change) -> Text:
    from rich.text import Text

    line = Text(f"{clock(local_time(change.at))} ", style="dim")
    if change.vhid is not None:
        line.append(f"{vlan_text(change.vlan)}vhid {change.vhid} ", style="not dim bold")
    line.append(change.text, style=f"not dim {_STYLES.get(change.kind, '')}".strip())
    return line
