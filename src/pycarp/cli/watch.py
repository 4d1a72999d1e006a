"""What ``monitor`` and ``observe`` share: where frames come from, how long they are read, and how changes are shown."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

import click

from .._records import dataclass
from ..errors import CarpError, InterfaceError
from ..monitor.observer import Change
from ..monitor.pcap import CaptureError, read, read_stream
from ..monitor.text import clock, iso, local_time, printable, vlan_text
from .group import fail
from .output import complain
from .signals import interrupt, on_signals

if TYPE_CHECKING:
    from ..monitor.listener import Listener

_F = TypeVar("_F", bound=Callable[..., Any])
Frames = Iterator[tuple[int, bytes | None]]
"""Frames with their times; None for a time at which there was none."""


def source_options(function: _F) -> _F:
    """``-i``, ``-r``, ``--count`` and ``--seconds``."""
    for option in (
        click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="End after S seconds."),
        click.option("--count", type=click.IntRange(1), metavar="N", help="End after N adverts."),
        click.option(
            "-r", "--read", "capture", metavar="FILE", help="Read a pcap or pcapng file; - is standard input."
        ),
        click.option("-i", "--interface", metavar="IF", help="Listen on this interface."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Source:
    """An interface (`live`) or a capture. `frames(due, refresh)` gives every frame with its time.

    On an interface it also gives the time: when it is `due` (ns since 1970, None: never), and every `refresh` seconds.
    """

    where: str
    live: bool
    frames: Callable[[Callable[[], int | None], float | None], Frames]


@contextlib.contextmanager
def source(ctx: click.Context, interface: str | None, capture: str | None, seconds: float | None) -> Iterator[Source]:
    """The one source that was asked for; ends the command where there is none, or more than one."""
    if (interface is None) == (capture is None):
        fail(ctx, f"give either -i INTERFACE or -r FILE{_interfaces()}")
    if capture is not None:
        yield Source("standard input" if capture == "-" else capture, False, lambda *_: _from_file(capture, seconds))
        return
    assert interface is not None
    if sys.platform != "linux":
        fail(ctx, "listening on an interface needs Linux: read a capture with -r FILE")
    from ..monitor.listener import Listener

    try:
        listener = Listener(interface)
    except (CarpError, OSError) as error:
        fail(ctx, str(error) if isinstance(error, CarpError) else f"cannot listen on {interface}: {error.strerror}")
    with listener:
        yield Source(interface, True, lambda due, refresh: _from_interface(listener, seconds, due, refresh))


def _from_file(name: str, seconds: float | None) -> Frames:
    first = None
    for at, frame in read_stream(sys.stdin.buffer, "standard input") if name == "-" else read(Path(name)):
        first = at if first is None else first
        if seconds is not None and at - first > seconds * 1e9:
            return
        yield at, frame


def _from_interface(
    listener: Listener, seconds: float | None, due: Callable[[], int | None], refresh: float | None
) -> Frames:
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        waits = [] if refresh is None else [refresh]
        if end is not None:
            waits.append(end - time.monotonic())
        if (deadline := due()) is not None:
            waits.append((deadline - time.time_ns()) / 1e9)
        yield listener.read(max(0.001, min(waits)) if waits else None) or (time.time_ns(), None)


def _interfaces() -> str:
    import socket

    try:
        names = ", ".join(name for _, name in socket.if_nameindex())
    except (AttributeError, OSError):
        return ""
    return f"; this machine has the interfaces {names}" if names else ""


def follow(ctx: click.Context, view: View, frames: Frames, take: Callable[[int, bytes | None], bool]) -> int:
    """Give every frame to `take` until it returns False, the frames end, or a signal comes; returns the exit code."""
    code, trouble, heard = 0, "", False
    with on_signals(interrupt, "SIGINT", "SIGTERM"), view:
        try:
            for at, frame in frames:
                heard = heard or frame is not None
                if not take(at, frame):
                    break
        except KeyboardInterrupt:
            pass
        except (CaptureError, InterfaceError) as error:
            # What was heard before is worth its summary; where nothing was, it could not be done at all.
            code, trouble = (1 if heard else 2), str(error)
        if code != 2:
            view.summary()
    if trouble:
        complain(f"{ctx.command_path}: {trouble}")
    return code


class Report:
    """What was found, in the end. `first` and `last` are the times of the first frame and of the last frame or look."""

    def __init__(self, where: str) -> None:
        self.where = printable(where)
        self.first: int | None = None
        self.last: int | None = None

    def values(self) -> dict[str, Any]:
        """One object of JSON."""
        raise NotImplementedError

    def lines(self, width: int | None) -> list[str]:
        """For people; `width` is the terminal's, None where there is none."""
        raise NotImplementedError


class View:
    """Shows changes as they come, and a report in the end: here as plain lines.

    `moving`: `show` is to be called several times a second, also without changes.
    """

    moving = False

    def __init__(self, report: Report, out: IO[str]) -> None:
        self.report = report
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def show(self, changes: Sequence[Change], at: int) -> None:
        """`at` is the time of what is shown."""
        self.report.first = at if self.report.first is None else self.report.first
        self.report.last = at
        for change in changes:
            self.change(change)

    def change(self, change: Change) -> None:
        group = "" if change.vhid is None else f"{vlan_text(change.vlan)}vhid {change.vhid}: "
        self._print(f"{clock(local_time(change.at))} {group}{change.text}")

    def summary(self) -> None:
        for line in self.report.lines(shutil.get_terminal_size().columns if self._out.isatty() else None):
            self._print(line)

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class JsonView(View):
    """One object a line: each change with its time, then one of the event "summary"."""

    def change(self, change: Change) -> None:
        self._json(change.as_dict())

    def summary(self) -> None:
        self._json({"event": "summary", **self.report.values()})

    def _json(self, values: dict[str, Any]) -> None:
        time = None if values["at"] is None else iso(local_time(values["at"]))
        self._print(json.dumps({"time": time, **values}))
