"""Events as lines: for people (in colour on a terminal, where rich is installed), or as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from .. import events as ev
from ..protocol import State

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import VirtualHost

_STYLES = {State.MASTER: "bold green", State.BACKUP: "cyan", State.INIT: "yellow"}
_RULES = {
    "better": "it is the better one, this host yields",
    "tie": "it is as good, this host yields",
    "worse": "this host is the better one and stays",
}
_ALARMS = ev.Failed | ev.GuardianLost
_WARNINGS = (
    ev.AdvertRejected
    | ev.FamilySilent
    | ev.SiblingHeard
    | ev.RivalHeard
    | ev.Stalled
    | ev.WatchdogExpired
    | ev.TakeoverDelayed
    | ev.LeaseUnavailable
    | ev.AddressConflict
)
_PATIENCE = 0.2
"""Seconds that a line may wait for a slow reader while the engine is being stopped."""


def complain(message: str) -> None:
    """One line on stderr. That nobody can read it any more is no reason to stop."""
    if sys.stderr is not None:  # closed before we began: print() would take stdout instead
        with contextlib.suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)


def wall_clock(at: int) -> datetime:
    """The time of day, here, of a moment of CLOCK_MONOTONIC in ns."""
    seconds = (time.time_ns() - time.monotonic_ns() + at) / 1e9
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def as_json(event: ev.Event) -> str:
    """One line: the event's own values, and the time of day it happened."""
    return json.dumps({"time": wall_clock(event.at).isoformat(timespec="microseconds"), **event.as_dict()})


def describe(event: ev.Event) -> str:
    """What happened, in one sentence without the name of the virtual host."""
    match event:
        case ev.StateChanged():
            peer = f" ({event.peer})" if event.peer is not None else ""
            return f"{event.before.name} -> {event.after.name}: {event.reason}{peer}"
        case ev.AddressesTaken():
            return f"holds {_list(event.addresses)} ({_milliseconds(event.took)})"
        case ev.AddressesDropped():
            return f"gave up {_list(event.addresses)} ({_milliseconds(event.took)})"
        case ev.PeerHeard():
            return f"heard {event.peer}: advbase {event.advbase}, advskew {event.advskew}, key as {event.dialect}"
        case ev.AdvertRejected():
            return f"refuses adverts of {event.peer}: {event.counter}, {event.hint}"
        case ev.SiblingHeard():
            return event.advice
        case ev.RivalHeard():
            return f"another master is heard, {event.peer}: {_RULES[event.rule]}"
        case ev.Stalled():
            return f"did not run for {_seconds(event.pause)}" + (
                "; the guardian let go of the addresses" if event.released else "; it stands by"
            )
        case ev.WatchdogExpired():
            return f"the program gave no sign of life for {_seconds(event.silence)}: adverts count as advskew 240"
        case ev.WatchdogFed():
            return "the program gives signs of life again"
        case ev.TakeoverDelayed():
            return f"no master is heard, but frames were lost here ({event.losses}): waits for one more interval"
        case ev.GuardianLost():
            return f"the guardian is lost: {event.what}"
        case ev.GuardianReplaced():
            return "there is a guardian again"
        case ev.LeaseUnavailable():
            return f"holds addresses without a time limit: {event.why}"
        case ev.AddressConflict():
            return f"{event.mac} answers for {event.address}, though no master is heard"
        case ev.FamilySilent():
            return f"the master is no longer heard in IPv{event.family}, though in the other family"
        case ev.Demoted():
            return (
                "no longer demoted"
                if event.demotion == 0
                else f"demoted, {event.demotion}: advskew counts as 240 or more"
            )
        case ev.CarpdevChanged():
            return f"{event.carpdev} is {'gone' if not event.present else 'up' if event.up else 'down'}"
        case ev.Failed():
            return f"failed: {event.what}"
        case ev.EventsLost():
            return f"{event.count} events are not shown: what reads them is too slow"
    values = {key: value for key, value in event.as_dict().items() if key not in ("event", "vhid", "name", "at")}
    return " ".join([type(event).__name__, *(f"{key}={value}" for key, value in values.items())])


def human(event: ev.Event) -> str:
    """One line with the time of day, the virtual host and what happened."""
    who = f"{event.name} " if event.name else ""
    return f"{wall_clock(event.at):%H:%M:%S.%f}"[:-3] + f" {who}{describe(event)}"


def addresses_of(host: VirtualHost) -> str:
    """The addresses as they were given: without a length where none was."""
    return ", ".join(str(a.ip) if a.network.prefixlen == a.max_prefixlen else str(a) for a in host.addresses)


def _list(addresses: tuple[str, ...]) -> str:
    return ", ".join(addresses) if addresses else "no address"


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f} ms"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.1f} s"


class Printer:
    """Prints events as they come. A reader that goes away is no reason to give up the address: it prints no more."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._quiet = quiet
        self._gone = self._out is None  # closed before we began
        self.hurry = False
        """Rather lose a line than wait for the reader: the engine is being stopped."""
        try:
            self._fd: int | None = self._out.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None
        self.terminal = self._fd is not None and os.isatty(self._fd)
        self._line: Callable[[ev.Event], str] = _json_line if as_json else human
        if self.terminal and not as_json:
            self._line = _rich_line() or human
        self._chatty = self.terminal and not as_json and not quiet

    def event(self, event: ev.Event) -> None:
        if not self._quiet:
            self._write(self._line(event) + "\n")
        elif isinstance(event, _ALARMS):
            complain(human(event))

    def remark(self, text: str) -> None:
        """A word for the person at the terminal; nothing for programs."""
        if self._chatty:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            if self._fd is None:
                self._out.write(text)
                self._out.flush()
                return
            # Not through the stream: its buffer would be written, and waited for, once more at the end of the process.
            data = text.encode("utf-8", "backslashreplace")
            while data:
                if self.hurry and not select.select([], [self._fd], [], _PATIENCE)[1]:
                    return
                data = data[os.write(self._fd, data) :]
        except (OSError, ValueError):
            self._gone = True
            complain("pycarp: nobody reads the events any more: they are not printed, the addresses stay")


_json_line = as_json


def _rich_line() -> Callable[[ev.Event], str] | None:
    """A function that renders an event in colour, or None where rich is not installed or the terminal is a dumb one."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        complain("pycarp: lines have no colour without rich: pip install 'pycarp[cli]'")
        return None
    console = Console(file=io.StringIO(), force_terminal=True, soft_wrap=True, highlight=False)
    if console.color_system is None:
        return None
    return lambda event: _render(console, event)


def _render(console: Console, event: ev.Event) -> str:
    from rich.text import Text

    line = Text(f"{wall_clock(event.at):%H:%M:%S.%f}"[:-3] + " ", style="dim")
    if event.name:
        line.append(f"{event.name} ", style="not dim bold")
    style: Any = "not dim"
    if isinstance(event, _ALARMS | ev.EventsLost):
        style = "not dim bold red"
    elif isinstance(event, _WARNINGS):
        style = "not dim yellow"
    if isinstance(event, ev.StateChanged):
        line.append(event.before.name, style="not dim")
        line.append(" -> ", style="dim")
        line.append(event.after.name, style=f"not dim {_STYLES[event.after]}")
        line.append(describe(event).removeprefix(f"{event.before.name} -> {event.after.name}"), style="not dim")
    else:
        line.append(describe(event), style=style)
    with console.capture() as captured:
        console.print(line, end="")
    return captured.get()
