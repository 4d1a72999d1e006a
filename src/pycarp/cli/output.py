"""Events as lines: for people (in colour on a terminal, where rich is installed), or as JSON."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import select
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from .. import events as ev
from ..monitor.text import clock, iso, local_time

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import VirtualHost
    from ..engine.snapshot import InstanceSnapshot
    from .journal import Journal

_STATE_STYLES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}
_STYLES: dict[ev.Severity, str] = {"news": "", "warning": "yellow", "alarm": "bold red"}
_FOR_GOOD = (errno.EPIPE, errno.EBADF, errno.EIO)
"""The reader, the descriptor or the terminal is gone; what else may fail, as a full disk, may end."""
_LOST_AFTER = 0.2
"""Seconds after which a line is given up that a slow reader keeps back while the engine is being stopped."""


def complain(message: str) -> None:
    """Print one line on stderr, if it is still open: the program goes on without."""
    if sys.stderr is not None:  # closed before we began: print() would take stdout instead
        with contextlib.suppress(OSError, ValueError):
            priority = "<4>" if _journal_reads(sys.stderr) else ""
            print(priority + message, file=sys.stderr, flush=True)


def _journal_reads(stream: TextIO) -> bool:
    if "JOURNAL_STREAM" not in os.environ:
        return False
    from .journal import is_journal

    try:
        return is_journal(stream.fileno())
    except (OSError, ValueError):
        return False


def wall_clock(at: int) -> datetime:
    """The time of day, here, of a moment of CLOCK_MONOTONIC in ns."""
    return local_time(time.time_ns() - time.monotonic_ns() + at)


def as_json(event: ev.Event) -> str:
    """One line: the event's own values, and the time of day it happened."""
    return json.dumps({"time": iso(wall_clock(event.at)), **event.as_dict()})


def human(event: ev.Event) -> str:
    """One line with the time of day, the virtual host and what happened."""
    who = f"{event.name} " if event.name else ""
    return f"{clock(wall_clock(event.at))} {who}{event.text}"


def addresses_of(host: VirtualHost) -> str:
    """The addresses as they were given: without a length where none was."""
    return ", ".join(host.address_texts)


class Printer:
    """Prints events as they come. Without a reader it prints nothing, and the engine goes on."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, out: TextIO | None = None, log: str | None = None
    ) -> None:
        """`log` is "text", "json" or "journal", systemd's, by its fields; where that is not there, text."""
        as_json = as_json or log == "json"
        self._out = sys.stdout if out is None else out
        self._quiet = quiet
        self._json = as_json
        self._gone = self._out is None  # closed before we began
        self._full = False
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
        self._priorities = self._out is not None and _journal_reads(self._out)
        self._journal = _journal() if log == "journal" else None

    def event(self, event: ev.Event) -> None:
        if self._quiet and event.severity != "alarm":
            return
        if self._journal is not None:
            self._to_journal(self._journal, event)
        elif not self._quiet:
            self._write(self._priority(event) + self._line(event) + "\n")
        else:
            complain(human(event))

    def _priority(self, event: ev.Event) -> str:
        if not self._priorities:
            return ""
        from .journal import PRIORITIES

        return f"<{PRIORITIES[event.severity]}>"

    def _to_journal(self, journal: Journal, event: ev.Event) -> None:
        try:
            journal.send(event)
            self._full = False
        except BlockingIOError:
            if not self._full:
                self._full = True
                complain("pycarp: the journal is too slow: events are lost until it reads; the addresses stay")
        except OSError as error:
            journal.close()
            self._journal = None
            complain(f"pycarp: the journal is gone ({error.strerror or error}): events are printed from now on")
            self._write(self._line(event) + "\n")

    def close(self) -> None:
        """Of the journal's socket; a second time does nothing."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def status(self, instance: InstanceSnapshot) -> None:
        """One line on a virtual host, for whoever asks."""
        moment, now = wall_clock(instance.since), wall_clock(time.monotonic_ns())
        if self._json:
            values = {"since": iso(moment), "addresses": [one.partition("/")[0] for one in instance.addresses]}
            self._write(json.dumps({"time": iso(now), "event": "Status", **instance.as_dict(), **values}) + "\n")
            return
        master = f", master {instance.master.source}" if instance.master is not None else ""
        what = f"vhid {instance.vhid}, {instance.state.name} since {moment:%Y-%m-%d} {clock(moment)}{master}"
        rest = f"{', '.join(instance.addresses)}, demotion {instance.demotion}"
        self._write(f"{clock(now)} {instance.name}: {what}, {rest}\n")

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
                if self.hurry and not self._takes_more():
                    return
                data = data[os.write(self._fd, data) :]
            self._full = False
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) or error.errno in _FOR_GOOD:
                self._gone = True
                complain("pycarp: the reader of the events is gone: they are no longer printed, the addresses stay")
            elif not self._full:
                self._full = True
                why = error.strerror or error
                complain(f"pycarp: events cannot be printed ({why}) and are lost until they can; the addresses stay")

    def _takes_more(self) -> bool:
        assert self._fd is not None
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(_LOST_AFTER * 1000))


def _journal() -> Journal | None:
    from . import journal

    try:
        return journal.Journal(journal.SOCKET)
    except OSError as error:
        complain(f"pycarp: there is no journal ({error.strerror or error}): events are printed")
        return None


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

    line = Text(f"{clock(wall_clock(event.at))} ", style="dim")
    if event.name:
        line.append(f"{event.name} ", style="not dim bold")
    line.append(event.text, style=f"not dim {_STYLES[event.severity]}".strip())
    for state, style in _STATE_STYLES.items():
        line.highlight_regex(rf"(?<=-> ){state}\b", style)
    with console.capture() as captured:
        console.print(line, end="")
    return captured.get()
