"""How ``pycarp demo`` is shown: a timeline that is pleasant to read, in colour on a terminal, or JSON."""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from ..monitor.text import seconds
from .demo_stage import words
from .demo_story import ADDRESS, CLIENT, FIRST, HOSTS, NOTABLE, PING_INTERVAL, Act, Gap, Happening, Stage, Story

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_WIDTH = 64
"""Cells of the strips."""
_LABEL = 10
_LOOK = 200_000_000
_DELAY = 400_000_000
"""A row is shown this many ns after its time, when nothing earlier can come any more."""
_LATE = ": late"
_CLEAN = "Everything is taken down again: no namespace, no device, no process, no file is left."
_STATE_STYLES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}
_ROW_STYLES = {"StateChanged": "bold", "act": "bold magenta", "lost": "red", "found": "green", "Failed": "bold red"}
_SIGNS = {"start": "▶", "unplug": "✂", "plug": "⇄", "stop": "■"}
_PLAIN_SIGNS = {"start": ">", "unplug": "x", "plug": "=", "stop": "#"}


def make_view(story: Story, *, as_json: bool, out: TextIO | None = None) -> DemoView:
    """The view that suits the reader: JSON if asked for, rich on a terminal, plain text otherwise."""
    out = sys.stdout if out is None else out
    if as_json:
        return JsonView(story, out)
    if not out.isatty():
        return PlainView(story, out)
    from rich.console import Console

    return ColourView(story, Console(file=out, highlight=False, emoji=False))


class DemoView:
    """Shows the story while it happens."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._stage: Stage | None = None
        story.told, story.acted = self.told, self.acted

    def opening(self, stage: Stage) -> None:
        """The curtain rises."""
        self._stage = stage

    def told(self, happening: Happening) -> None:
        raise NotImplementedError

    def acted(self, at: int, what: str, host: str) -> None:
        raise NotImplementedError

    def idle(self) -> None:
        """Called many times a second while time passes."""

    def closing(self) -> None:
        """What was measured."""
        raise NotImplementedError

    def broken(self) -> None:
        """The story ends early: stop moving."""

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


@dataclass(order=True, slots=True)
class Row:
    """A line of the timeline; `host` and `state` when a host's state changes with it."""

    at: int
    number: int
    text: str = field(compare=False)
    kind: str = field(compare=False)
    host: str = field(default="", compare=False)
    state: str = field(default="", compare=False)


class Timeline(DemoView):
    """Rows in the order of their times: what hosts tell comes over pipes, and not in that order."""

    def __init__(self, story: Story, *, fancy: bool) -> None:
        super().__init__(story)
        self._strips = Strips(story, fancy=fancy)
        self._signs = _SIGNS if fancy else _PLAIN_SIGNS
        self._gaps = Gaps()
        self._waiting: list[Row] = []
        self._count = 0
        self._shown = dict.fromkeys(HOSTS, "-")
        self._looked = -_LOOK

    def told(self, happening: Happening) -> None:
        text = tale(happening)
        if text:
            self._add(happening.at, text, happening.event["event"], happening.host, happening.event.get("after", ""))

    def acted(self, at: int, what: str, host: str) -> None:
        self._add(at, f"{self._signs[what]} {deed(what, host)}", "act")

    def idle(self) -> None:
        assert self._stage is not None
        now = self._stage.now()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for at, text, kind in self._gaps.news(self._stage):
            self._add(at, text, kind)
        self._flush(now - _DELAY)
        self._move()

    def _finish(self) -> None:
        """Show what is waiting."""
        self._flush(1 << 63)

    def _add(self, at: int, text: str, kind: str, host: str = "", state: str = "") -> None:
        self._count += 1
        heapq.heappush(self._waiting, Row(at, self._count, text, kind, host, state))

    def _flush(self, until: int) -> None:
        while self._waiting and self._waiting[0].at <= until:
            row = heapq.heappop(self._waiting)
            if row.state:
                self._shown[row.host] = row.state
            self._write(row)

    def _write(self, row: Row) -> None:
        raise NotImplementedError

    def _move(self) -> None:
        """A chance to draw what moves."""


class PlainView(Timeline):
    """The timeline as plain text."""

    def __init__(self, story: Story, out: TextIO) -> None:
        self._encoding = getattr(out, "encoding", None) or "ascii"
        super().__init__(story, fancy=self._encoding.lower().startswith("utf"))
        self._out = out

    def opening(self, stage: Stage) -> None:
        super().opening(stage)
        for line in (*introduction(stage), "", _columns("time", list(HOSTS), "")):
            self._print(line)

    def closing(self) -> None:
        assert self._stage is not None
        self._finish()
        self._print("")
        for label, cells in self._strips.rows(self._stage):
            self._print(f"{label:<{_LABEL}}" + "".join(sign for sign, _ in cells).rstrip())
        for line in (self._strips.legend(), "", *results(self._story, self._stage)):
            self._print(line)

    def broken(self) -> None:
        self._finish()

    def cleaned(self) -> None:
        self._print(_CLEAN)

    def _write(self, row: Row) -> None:
        if row.kind == "act":
            self._print("")
        self._print(_columns(clock(row.at), list(self._shown.values()), row.text))

    def _print(self, line: str) -> None:
        # A terminal that cannot show a sign must not end the show.
        print(line.encode(self._encoding, "replace").decode(self._encoding), file=self._out, flush=True)


class ColourView(Timeline):
    """The timeline in colour; under it the strips grow while it plays."""

    def __init__(self, story: Story, console: Console) -> None:
        from rich.live import Live

        super().__init__(story, fancy=not console.options.ascii_only)
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)
        self._moving = not console.is_dumb_terminal

    def opening(self, stage: Stage) -> None:
        from rich.text import Text

        super().opening(stage)
        first, *rest = introduction(stage)
        self._console.print(Text(first, style="bold"))
        for line in rest:
            self._console.print(Text(line, style="dim"))
        self._console.print()
        self._console.print(Text(_columns("time", list(HOSTS), ""), style="dim"))
        if self._moving:
            self._live.start()

    def closing(self) -> None:
        from rich.text import Text

        assert self._stage is not None
        self._finish()
        self._live.stop()
        self._console.print()
        self._console.print(self._picture())
        self._console.print()
        heading, *lines = results(self._story, self._stage)
        self._console.print(Text(heading, style="dim"))
        for line in lines:
            self._console.print(Text(line, style="yellow" if line.endswith(_LATE) else ""))

    def broken(self) -> None:
        self._finish()
        self._live.stop()

    def cleaned(self) -> None:
        from rich.text import Text

        self._console.print(Text(_CLEAN, style="green"))

    def _write(self, row: Row) -> None:
        from rich.text import Text

        if row.kind == "act":
            self._console.print()
        line = Text(f"{clock(row.at):>10}  ", style="dim")
        for state in self._shown.values():
            line.append(f"{state:<8}", style=f"not dim {_STATE_STYLES.get(state, '')}".strip())
        line.append(row.text, style=f"not dim {_ROW_STYLES.get(row.kind, '')}".strip())
        self._console.print(line)

    def _move(self) -> None:
        if self._moving:
            self._live.refresh()

    def _picture(self) -> RenderableType:
        from rich.text import Text

        if self._stage is None:
            return Text("")
        lines: list[Text] = []
        for label, cells in self._strips.rows(self._stage):
            line = Text(f"{label:<{_LABEL}}", style="dim")
            for sign, style in cells:
                line.append(sign, style=f"not dim {style}".strip())
            lines.append(line)
        lines.append(Text(self._strips.legend(), style="dim"))
        return Text("\n").join(lines)


class Gaps:
    """Notices when the client is no longer answered, and when it is again."""

    def __init__(self) -> None:
        self._open = False
        self._known = 0

    def news(self, stage: Stage) -> list[tuple[int, str, str]]:
        """(time, text, kind) of each."""
        found: list[tuple[int, str, str]] = []
        gaps = [gap for gap in stage.gaps() if gap.lost >= NOTABLE]
        for gap in gaps[self._known :]:
            if not self._open:
                found.append((gap.asked, f"{CLIENT}: no answer any more", "lost"))
            self._open = gap.lasts
            if not gap.lasts:
                found.append((gap.end, f"{CLIENT}: answered again, after {seconds(gap.duration)}", "found"))
                self._known += 1
        return found


class Strips:
    """Who was what when, as rows of little squares: one for each host, one for the pings."""

    def __init__(self, story: Story, *, fancy: bool) -> None:
        self._story = story
        self.fancy = fancy
        self._master, self._backup, self._none = ("█", "░", "·") if fancy else ("#", "-", ".")
        self._answered, self._lost = ("▪", "✗") if fancy else ("+", "x")

    def legend(self) -> str:
        return (
            f"{'':<{_LABEL}}{self._master} master  {self._backup} backup  {self._none} out"
            f"   {self._answered} pings answered  {self._lost} not"
        )

    def rows(self, stage: Stage) -> list[tuple[str, list[tuple[str, str]]]]:
        """(label, cells) for each row; a cell is a sign and its style."""
        now = stage.now()
        cell = max(now // _WIDTH, 250_000_000)
        edges = [(number * cell, (number + 1) * cell) for number in range(-(-now // cell))]
        rows = [("", self._ruler(cell, len(edges)))]
        rows += [(host, [self._state(host, start, end) for start, end in edges]) for host in HOSTS]
        gaps = stage.gaps()
        rows.append(("pings", [self._ping(gaps, start, end) for start, end in edges]))
        return rows

    def _state(self, host: str, start: int, end: int) -> tuple[str, str]:
        """A master counts even when it was one for a part of the cell only: nothing that happened is left out."""
        states = {"INIT"}
        for happening in self._story.happenings:
            if happening.host == host and happening.event["event"] == "StateChanged" and happening.at < end:
                if happening.at <= start:
                    states.clear()
                states.add(happening.event["after"])
        if "MASTER" in states:
            return self._master, "green"
        return (self._backup, "cyan") if "BACKUP" in states else (self._none, "yellow")

    def _ping(self, gaps: Sequence[Gap], start: int, end: int) -> tuple[str, str]:
        pinging = next((h.at for h in self._story.happenings if h.event["event"] == "AddressesTaken"), None)
        if pinging is None or end <= pinging:
            return " ", ""
        if any(gap.asked < end and gap.end > start for gap in gaps):
            return self._lost, "bold red"
        return self._answered, "green"

    def _ruler(self, cell: int, width: int) -> list[tuple[str, str]]:
        line = [" "] * (width + 8)
        step = 5_000_000_000
        for mark in range(0, width * cell, step):
            for offset, sign in enumerate(f"{mark // 1_000_000_000} s"):
                line[mark // cell + offset] = sign
        return [(sign, "dim") for sign in line]


def introduction(stage: Stage) -> list[str]:
    """Who plays, and where. The first line is the title."""
    lines = [f"A floating address between two hosts, {stage.where}"]
    for number, name in enumerate(HOSTS, FIRST):
        lines.append(f"  {name:<8} 10.13.37.{number}   $ pycarp {' '.join(words(name))}")
    lines.append(f"  {CLIENT:<8} 10.13.37.{FIRST + len(HOSTS)}   pings {ADDRESS} every {PING_INTERVAL // 1_000_000} ms")
    return lines


def tale(happening: Happening) -> str:
    """A host's event as half a sentence, or "" if it would only be noise here."""
    host, event = happening.host, happening.event
    match event["event"]:
        case "StateChanged":
            peer = f" ({event['peer']})" if event.get("peer") else ""
            return f"{host}: {event['before']} -> {event['after']}, {event['reason']}{peer}"
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
    lines = [f"{'':<26}{'pings lost':<12}{'no answer for':<15}{'allowed':<10}"]
    lines += [_result(act) for act in story.acts]
    sent, received = stage.pings()
    lines.append(f"{received} of {sent} pings were answered.")
    return lines


def _result(act: Act) -> str:
    outage = seconds(act.outage) if act.lost else ""
    allowed = seconds(act.allowed) if act.allowed else ""
    return f"{act.name:<26}{act.lost:<12}{outage:<15}{allowed:<10}{act.because}{_LATE if act.late else ''}"


def clock(at: int) -> str:
    return f"{at / 1e9:.3f} s"


def _columns(time: str, states: Sequence[str], text: str) -> str:
    return f"{time:>10}  {''.join(f'{state:<8}' for state in states)}{text}".rstrip()
