"""How ``pycarp demo`` is shown: a timeline, in colour on a terminal, or JSON."""

from __future__ import annotations

import heapq
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from ..monitor.text import seconds
from .demo_stage import words
from .demo_story import ADDRESS, ALLOWANCE, CLIENT, FIRST, HOSTS, NOTABLE, PING_INTERVAL, Gap, Happening, Stage, Story

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDTH = 64
"""Cells of the strips."""
_LABEL = 10
_LOOK = 200_000_000
_DELAY = 400_000_000
"""A row is shown this many ns after its time, when nothing earlier can come."""
_LATE = ": late"
_CLEAN = "Everything is taken down again: no namespace, no device, no process, no file is left."
_STATE_STYLES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}
_ROW_STYLES = {"StateChanged": "bold", "act": "bold magenta", "lost": "red", "found": "green", "Failed": "bold red"}
_CELL_STYLES = {"MASTER": "green", "BACKUP": "cyan", "INIT": "yellow"}
_SIGNS = ("start", "unplug", "plug", "stop", "MASTER", "BACKUP", "INIT", "found", "lost")
_FANCY, _PLAIN = dict(zip(_SIGNS, "▶✂⇄■█░·▪✗", strict=True)), dict(zip(_SIGNS, ">x=##-.+x", strict=True))
Span = tuple[str, str]
"""A piece of a line and its style."""


_PICTURE_WIDTH = 110


def make_view(story: Story, *, as_json: bool, out: TextIO | None = None, picture: bool = False) -> DemoView:
    """The view that suits the reader: JSON if asked for, rich on a terminal, plain text otherwise.

    With `picture` it is in colour, and remembers what it prints.
    """
    out = sys.stdout if out is None else out
    if as_json:
        return JsonView(story, out)
    if picture:
        from rich.console import Console

        return ColourView(story, Console(file=out, highlight=False, emoji=False, record=True, width=_PICTURE_WIDTH))
    if not out.isatty():
        return PlainView(story, out)
    from rich.console import Console

    return ColourView(story, Console(file=out, highlight=False, emoji=False))


class DemoView:
    """Shows the story as it happens."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._stage: Stage | None = None
        story.told, story.acted = self.told, self.acted

    def opening(self, stage: Stage) -> None:
        """The story begins on this stage."""
        self._stage = stage

    def told(self, happening: Happening) -> None: ...
    def acted(self, at: int, what: str, host: str) -> None: ...
    def idle(self) -> None:
        """Called many times a second while time passes."""

    def closing(self) -> None:
        """The story is over: show what was measured."""

    def broken(self) -> None:
        """The story ends, perhaps early: stop moving."""

    def cleaned(self) -> None:
        """Everything is taken down."""


class JsonView(DemoView):
    """One object a line: what is done (event "act"), what hosts tell, and one of the event "summary" in the end."""

    def __init__(self, story: Story, out: TextIO) -> None:
        super().__init__(story)
        self._out = out

    def told(self, happening: Happening) -> None:
        self._line({**happening.event, "host": happening.host, "since_start_ns": happening.at})

    def acted(self, at: int, what: str, host: str) -> None:
        self._line({"event": "act", "act": what, "host": host or None, "since_start_ns": at})

    def closing(self) -> None:
        assert self._stage is not None
        sent, received = self._stage.pings()
        self._line(
            {
                "event": "summary",
                "where": self._stage.where,
                "acts": [act.as_dict() for act in self._story.acts],
                "pings": {"sent": sent, "received": received, "interval_ns": PING_INTERVAL},
            }
        )

    def _line(self, values: dict[str, Any]) -> None:
        print(json.dumps(values), file=self._out, flush=True)


class Row(NamedTuple):
    """A line of the timeline; `host` and `state` when a host's state changes with it. `number` tells equals apart."""

    at: int
    number: int
    text: str
    kind: str
    host: str
    state: str


class Timeline(DemoView):
    """Rows in the order of their times: what hosts tell comes over pipes, and not in that order.

    The strips under them show who was what when, in small squares: one row for each host, one for the pings.
    """

    def __init__(self, story: Story, *, fancy: bool) -> None:
        super().__init__(story)
        self._signs = _FANCY if fancy else _PLAIN
        self._waiting: list[Row] = []
        self._count = 0
        self._shown = dict.fromkeys(HOSTS, "-")
        self._looked = -_LOOK
        self._ended_gaps = 0
        self._lasting_gap = False

    def opening(self, stage: Stage) -> None:
        super().opening(stage)
        title, *rest = introduction(stage)
        self._print((title, "bold"))
        for line in rest:
            self._print((line, "dim"))
        self._print()
        self._print((f"{'time':>10}  {''.join(f'{host:<8}' for host in HOSTS)}", "dim"))

    def closing(self) -> None:
        assert self._stage is not None
        self.broken()
        self._print()
        for spans in self._strips(self._stage):
            self._print(*spans)
        self._print()
        heading, *lines = results(self._story, self._stage)
        self._print((heading, "dim"))
        for line in lines:
            self._print((line, "yellow" if line.endswith(_LATE) else ""))

    def broken(self) -> None:
        self._flush(1 << 63)

    def cleaned(self) -> None:
        self._print((_CLEAN, "green"))

    def told(self, happening: Happening) -> None:
        text = tale(happening)
        if text:
            self._add(happening.at, text, happening.event["event"], happening.host, happening.event.get("after", ""))

    def acted(self, at: int, what: str, host: str) -> None:
        self._add(at, f"{self._signs[what]} {deed(what, host)}", "act")

    def idle(self) -> None:
        assert self._stage is not None
        now = self._stage.now()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._look_for_gaps(self._stage)
            self._flush(now - _DELAY)

    def _look_for_gaps(self, stage: Stage) -> None:
        """Notice when the client is no longer answered, and when it is again."""
        gaps = [gap for gap in stage.gaps() if gap.lost >= NOTABLE]
        for gap in gaps[self._ended_gaps :]:
            if not self._lasting_gap:
                self._add(gap.asked, f"{CLIENT}: no longer answered", "lost")
            self._lasting_gap = gap.lasts
            if not gap.lasts:
                self._add(gap.end, f"{CLIENT}: answered again, after {seconds(gap.duration)}", "found")
                self._ended_gaps += 1

    def _add(self, at: int, text: str, kind: str, host: str = "", state: str = "") -> None:
        self._count += 1
        heapq.heappush(self._waiting, Row(at, self._count, text, kind, host, state))

    def _flush(self, until: int) -> None:
        while self._waiting and self._waiting[0].at <= until:
            row = heapq.heappop(self._waiting)
            if row.state:
                self._shown[row.host] = row.state
            if row.kind == "act":
                self._print()
            states = [(f"{state:<8}", _STATE_STYLES.get(state, "")) for state in self._shown.values()]
            self._print((f"{clock(row.at):>10}  ", "dim"), *states, (row.text, _ROW_STYLES.get(row.kind, "")))

    def _print(self, *spans: Span) -> None:
        """Print one line of pieces with their styles."""
        raise NotImplementedError

    def _strips(self, stage: Stage) -> Iterator[list[Span]]:
        now = stage.now()
        cell = max(now // _WIDTH, 250_000_000)
        edges = [(number * cell, (number + 1) * cell) for number in range(-(-now // cell))]
        yield [(f"{'':<{_LABEL}}{_ruler(cell, len(edges))}", "dim")]
        for host in HOSTS:
            yield [(f"{host:<{_LABEL}}", "dim"), *(self._state(host, start, end) for start, end in edges)]
        gaps = stage.gaps()
        yield [(f"{'pings':<{_LABEL}}", "dim"), *(self._ping(gaps, start, end) for start, end in edges)]
        signs = self._signs
        legend = f"{signs['MASTER']} master  {signs['BACKUP']} backup  {signs['INIT']} out"
        yield [(f"{'':<{_LABEL}}{legend}   {signs['found']} pings answered  {signs['lost']} not", "dim")]

    def _state(self, host: str, start: int, end: int) -> Span:
        """The sign of a cell. Who was MASTER for a part of it was MASTER: nothing that happened is left out."""
        states = {"INIT"}
        for happening in self._story.happenings:
            if happening.host == host and happening.event["event"] == "StateChanged" and happening.at < end:
                if happening.at <= start:
                    states.clear()
                states.add(happening.event["after"])
        state = next(state for state in _CELL_STYLES if state in states)
        return self._signs[state], _CELL_STYLES[state]

    def _ping(self, gaps: Sequence[Gap], start: int, end: int) -> Span:
        pinging = next((h.at for h in self._story.happenings if h.event["event"] == "AddressesTaken"), None)
        if pinging is None or end <= pinging:
            return " ", ""
        if any(gap.asked < end and gap.end > start for gap in gaps):
            return self._signs["lost"], "bold red"
        return self._signs["found"], "green"


class PlainView(Timeline):
    """The timeline as plain text."""

    def __init__(self, story: Story, out: TextIO) -> None:
        self._encoding = getattr(out, "encoding", None) or "ascii"
        super().__init__(story, fancy=self._encoding.lower().startswith("utf"))
        self._out = out

    def _print(self, *spans: Span) -> None:
        line = "".join(text for text, _ in spans).rstrip()
        # A terminal that lacks a sign shows another one.
        print(line.encode(self._encoding, "replace").decode(self._encoding), file=self._out, flush=True)


class ColourView(Timeline):
    """The timeline in colour; under it the strips grow as time passes."""

    def __init__(self, story: Story, console: Console) -> None:
        from rich.live import Live

        super().__init__(story, fancy=not console.options.ascii_only)
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)

    def opening(self, stage: Stage) -> None:
        super().opening(stage)
        if not self._console.is_dumb_terminal:
            self._live.start()

    def idle(self) -> None:
        looked = self._looked
        super().idle()
        if self._live.is_started and looked != self._looked:
            self._live.refresh()

    def broken(self) -> None:
        super().broken()
        self._live.stop()

    def save(self, path: str) -> None:
        """Draw what was printed, as SVG. Raises `OSError`."""
        drawn = self._console.export_svg(title="pycarp demo")
        # Whoever looks at it fetches no font from elsewhere.
        Path(path).write_text(re.sub(r"@font-face\s*\{[^}]*\}", "", drawn), encoding="utf-8")

    def _print(self, *spans: Span) -> None:
        from rich.text import Text

        self._console.print(Text.assemble(*spans))

    def _picture(self) -> RenderableType:
        from rich.text import Text

        strips = self._strips(self._stage) if self._stage is not None else ()
        return Text("\n").join(Text.assemble(*spans) for spans in strips)


def _ruler(cell: int, width: int) -> str:
    line = [" "] * (width + 8)
    for mark in range(0, width * cell, 5_000_000_000):
        text = f"{mark // 1_000_000_000} s"
        line[mark // cell : mark // cell + len(text)] = text
    return "".join(line)


def introduction(stage: Stage) -> list[str]:
    """The hosts, and where they are. The first line is the title."""
    lines = [f"A floating address between two hosts, {stage.where}"]
    for number, name in enumerate(HOSTS, FIRST):
        lines.append(f"  {name:<8} 10.13.37.{number}   $ pycarp {' '.join(words(name))}")
    lines.append(f"  {CLIENT:<8} 10.13.37.{FIRST + len(HOSTS)}   pings {ADDRESS} every {PING_INTERVAL // 1_000_000} ms")
    return lines


def tale(happening: Happening) -> str:
    """A host's event as half a sentence; "" for those that are not shown here."""
    host, event = happening.host, happening.event
    match event["event"]:
        case "StateChanged":
            return f"{host}: {event['before']} -> {event['after']}, {event['reason']}"
        case "AddressesTaken":
            return f"{host}: holds {ADDRESS}"
        case "AddressesDropped":
            return f"{host}: gave up {ADDRESS}"
        case "AdvertRejected":
            return f"{host}: refuses an advert of {event['peer']}: {event['counter']}"
        case "Failed":
            return f"{host}: {event['what']}"
    return ""


def deed(what: str, host: str) -> str:
    """Something that is done, in words."""
    return {
        "start": "both hosts start",
        "unplug": f"the cable of {host} is pulled out of the switch",
        "plug": f"the cable of {host} is put back",
        "stop": f"{host} is told to stop (SIGTERM)",
    }[what]


def results(story: Story, stage: Stage) -> list[str]:
    """What was measured, beside what the protocol allows: the first line is the heading."""
    lines = [f"{'':<26}{'lost':<6}{'no answer for':<15}{'allowed':<10}"]
    for act in story.acts:
        outage = seconds(act.outage) if act.lost else ""
        allowed = seconds(act.allowed) if act.allowed else ""
        late = _LATE if act.late else ""
        lines.append(f"{act.name:<26}{act.lost:<6}{outage:<15}{allowed:<10}{act.because}{late}")
    if any(act.outage > act.allowed and not act.late for act in story.acts):
        lines.append(
            f"Pings measure a gap up to {PING_INTERVAL // 1_000_000} ms too long;"
            f" more than {ALLOWANCE // 1_000_000} ms beyond that and what is allowed is called late."
        )
    sent, received = stage.pings()
    return [*lines, f"{received} of {sent} pings were answered."]


def clock(at: int) -> str:
    return f"{at / 1e9:.3f} s"
