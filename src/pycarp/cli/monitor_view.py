"""What ``pycarp monitor`` shows: a table that lives, plain lines, or JSON."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from ..monitor.observer import Change, Observer
from ..monitor.speakers import Condition, Speaker
from ..monitor.text import mac_text, seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_COUNT = 12
_RECENT = 6
_STYLES = {
    "master": "green",
    "silent": "dim",
    "bowed out": "cyan",
    "changed": "",
    "fault": "yellow",
    "two masters": "bold red",
    "one master": "green",
    "vrrp": "yellow",
}


def make_view(observer: Observer, where: str, *, as_json: bool, live: bool, out: TextIO | None = None) -> View:
    """The view that suits the reader: JSON if asked for, rich on a terminal, plain lines otherwise."""
    out = sys.stdout if out is None else out
    if as_json:
        return JsonView(observer, where, out)
    if not out.isatty():
        return PlainView(observer, where, out)
    from rich.console import Console

    console = Console(file=out, highlight=False, emoji=False)
    return (LiveView if live and not console.is_dumb_terminal else ColourView)(observer, where, console)


def clock(at: int) -> str:
    """The time of day, here, to the millisecond."""
    moment = datetime.fromtimestamp(at // 1_000_000_000, UTC).astimezone()
    return f"{moment:%H:%M:%S}.{at % 1_000_000_000 // 1_000_000:03d}"


class View:
    """Shows changes as they come and a summary in the end. `moving`: wants `show` several times a second anyhow."""

    moving = False

    def __init__(self, observer: Observer, where: str) -> None:
        self._observer = observer
        self._where = printable(where)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, changes: Sequence[Change], at: int) -> None:
        """`at` is the time of what is shown."""
        raise NotImplementedError

    def summary(self, at: int | None) -> None:
        """`at` is the time of the last frame or look, None if there was none."""
        raise NotImplementedError


class JsonView(View):
    """One object a line: each change with its time, then one of the event "summary"."""

    def __init__(self, observer: Observer, where: str, out: TextIO) -> None:
        super().__init__(observer, where)
        self._out = out

    def show(self, changes: Sequence[Change], at: int) -> None:
        for change in changes:
            self._line(change.as_dict(), change.at)

    def summary(self, at: int | None) -> None:
        observer = self._observer
        speakers = [speaker.as_dict() for group in observer.groups().values() for speaker in group]
        self._line(
            {
                "event": "summary",
                "at": at,
                "where": self._where,
                "frames": observer.frames,
                "adverts": observer.adverts,
                "speakers": speakers,
                "findings": observer.findings(),
                "overlooked": dict(observer.overlooked),
            },
            at,
        )

    def _line(self, values: dict[str, Any], at: int | None) -> None:
        time = None
        if at is not None:
            moment = datetime.fromtimestamp(at // 1_000_000_000, UTC).astimezone()
            time = moment.replace(microsecond=at % 1_000_000_000 // 1000).isoformat(timespec="microseconds")
        print(json.dumps({"time": time, **values}), file=self._out, flush=True)


class PlainView(View):
    """One line a change, and the table as lines in the end."""

    def __init__(self, observer: Observer, where: str, out: TextIO) -> None:
        super().__init__(observer, where)
        self._out = out

    def show(self, changes: Sequence[Change], at: int) -> None:
        for change in changes:
            group = "" if change.vhid is None else f"vhid {change.vhid}: "
            print(f"{clock(change.at)} {group}{change.text}", file=self._out, flush=True)

    def summary(self, at: int | None) -> None:
        for line in _plain_summary(self._observer, self._where, at):
            print(line, file=self._out)
        self._out.flush()


class ColourView(View):
    """As `PlainView`, in colour, with a table in the end: for a capture, or a terminal that cannot move its cursor."""

    def __init__(self, observer: Observer, where: str, console: Console) -> None:
        super().__init__(observer, where)
        self._console = console

    def show(self, changes: Sequence[Change], at: int) -> None:
        for change in changes:
            self._console.print(_change_line(change))

    def summary(self, at: int | None) -> None:
        self._console.print(_picture(self._observer, self._where, at, ()))


class LiveView(ColourView):
    """A table that is redrawn where it stands, with the latest changes under it."""

    moving = True

    def __init__(self, observer: Observer, where: str, console: Console) -> None:
        super().__init__(observer, where, console)
        from rich.live import Live

        self._recent: deque[Change] = deque(maxlen=_RECENT)
        self._at: int | None = None
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._picture, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, changes: Sequence[Change], at: int) -> None:
        self._recent.extend(changes)
        # Twenty redraws a second are enough for anybody, and a flood must not be slowed down by them.
        if changes or self._at is None or at - self._at >= 50_000_000:
            self._at = at
            self._live.refresh()

    def summary(self, at: int | None) -> None:
        self._at = at if at is not None else self._at
        # What did not fit the terminal while it lived is shown in full now.
        self._live.vertical_overflow = "visible"
        self._live.refresh()

    def _picture(self) -> RenderableType:
        return _picture(self._observer, self._where, self._at, self._recent)


def _plain_summary(observer: Observer, where: str, at: int | None) -> list[str]:
    lines = [f"{where}: {_total(observer)}"]
    for vhid, speakers in observer.groups().items():
        for speaker in speakers:
            parts = [
                f"vhid {vhid} {speaker.key.source}",
                _condition(speaker, at),
                f"advbase {speaker.advbase} advskew {speaker.advskew}",
                _measured(speaker),
                _signed(speaker),
                speaker.looks_like and f"looks like {speaker.looks_like}",
                _faults(speaker),
                mac_text(speaker.key.mac),
            ]
            lines.append("  " + ", ".join(part for part in parts if part))
    lines += [f"! {finding}" for finding in observer.findings()]
    return lines


def _picture(observer: Observer, where: str, at: int | None, recent: Iterable[Change]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_table(observer, where, at)]
    parts += [Text(f"! {finding}", style="yellow") for finding in observer.findings()]
    parts += [_change_line(change) for change in recent]
    return Group(*parts)


def _table(observer: Observer, where: str, at: int | None) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, expand=False, title_justify="left", caption_justify="left")
    table.title = Text.assemble(("CARP", "bold"), " on ", (where, "bold"))
    table.caption = Text(_total(observer), style="dim")
    for heading, justify in (
        ("vhid", "right"),
        ("host", "left"),
        ("state", "left"),
        ("base/skew", "right"),
        ("interval", "right"),
        ("", "left"),
        ("adverts", "right"),
        ("signed", "left"),
        ("like", "left"),
        ("faults", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=heading != "faults")  # type: ignore[arg-type]
    rivals = observer.contenders
    for vhid, speakers in observer.groups().items():
        for number, speaker in enumerate(speakers):
            table.add_row(
                Text(str(vhid) if number == 0 else "", style="bold"),
                Text(speaker.key.source),
                _state(speaker, at, speaker.key in rivals),
                f"{speaker.advbase}/{speaker.advskew}" + (f" d{speaker.demotion}" if speaker.demotion else ""),
                seconds(speaker.median) if speaker.median is not None else "",
                Text(_spark(speaker), style="green"),
                str(speaker.adverts),
                Text(_signed(speaker), style="" if _signed(speaker) != "not as given" else "red"),
                Text(speaker.looks_like, style="dim"),
                Text(_faults(speaker), style="red"),
            )
    if not observer.speakers:
        table.caption = Text(f"nobody so far; {_total(observer)}", style="dim")
    return table


def _state(speaker: Speaker, at: int | None, rival: bool) -> Text:
    from rich.text import Text

    if speaker.condition is Condition.ADVERTISING:
        return Text("● one of several", style="bold red") if rival else Text("● master", style="bold green")
    if speaker.condition is Condition.FAULTY:
        return Text("✗ not obeyed", style="red")
    style = "cyan" if speaker.condition is Condition.BOWED_OUT else "dim"
    return Text(f"○ {_condition(speaker, at)}", style=style)


def _condition(speaker: Speaker, at: int | None) -> str:
    if speaker.condition is Condition.ADVERTISING:
        return "advertising"
    if speaker.condition is Condition.FAULTY:
        return "not obeyed"
    ago = "" if at is None else f" {_rough(at - speaker.last)}"
    return f"bowed out{ago and ago + ' ago'}" if speaker.condition is Condition.BOWED_OUT else f"silent{ago}"


def _measured(speaker: Speaker) -> str:
    if speaker.median is None:
        return f"{speaker.adverts} advert{'s' * (speaker.adverts != 1)}"
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


def _total(observer: Observer) -> str:
    parts = [f"{observer.adverts} advert{'s' * (observer.adverts != 1)} in {observer.frames} frames"]
    parts += [f"{count} {reason}" for reason, count in sorted(observer.overlooked.items())]
    return ", ".join(parts)


def _spark(speaker: Speaker) -> str:
    """The last intervals as little columns: half of what is promised is the lowest, one and a half the highest."""
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

    line = Text(f"{clock(change.at)} ", style="dim")
    if change.vhid is not None:
        line.append(f"vhid {change.vhid} ", style="not dim bold")
    line.append(change.text, style=f"not dim {_STYLES.get(change.kind, '')}".strip())
    return line


def printable(text: str) -> str:
    """A name from outside as it may stand on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
