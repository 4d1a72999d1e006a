"""``pycarp monitor``: who speaks CARP on an interface, or in a capture, and why hosts do not understand each other."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CarpError, InterfaceError
from ..monitor.observer import Observer
from ..monitor.pcap import CaptureError, read, read_stream
from .group import fail
from .monitor_view import View, make_view
from .output import complain

if TYPE_CHECKING:
    from ..monitor.listener import Listener

_HELP = """Show who speaks CARP: which group, which host, how regularly, and what is wrong.

With the group's secret and addresses it also says why hosts do not understand each other: which form of the passphrase,
which addresses, which vhid. It only listens, and needs no more than CAP_NET_RAW (none for a capture). Ctrl-C ends it.

\b
Examples:
  pycarp monitor -i eth0
  pycarp monitor -i eth0 --vhid 101 --passfile /etc/carp.pass --address 10.13.37.42
  pycarp monitor -r trouble.pcap --json
  ssh router tcpdump -U -w - -i eth0 carp | pycarp monitor -r -

Exit code: 0; 1 if the interface vanished or the capture is damaged half-way; 2 if it cannot be done as asked for.
"""
_REFRESH = 0.25
"""Seconds between two looks at a table on a terminal."""

Source = Iterator[tuple[int, bytes | None]]
"""Frames with their times; None for a time at which there was none."""


@click.command(help=_HELP)
@click.option("-i", "--interface", metavar="IF", help="Listen on this interface.")
@click.option("-r", "--read", "capture", metavar="FILE", help="Read a pcap or pcapng file; - is standard input.")
@click.option("--passfile", metavar="FILE", help="The file that holds the group's passphrase.")
@click.option("--address", "addresses", metavar="A", multiple=True, help="An address of the group; give it for each.")
@click.option("--vhid", type=click.IntRange(1, 255), metavar="N", help="The group that secret and addresses belong to.")
@click.option("--json", "as_json", is_flag=True, help="Print each change, and a summary, as one line of JSON.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N adverts.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="End after S seconds.")
@click.pass_context
def monitor(
    ctx: click.Context,
    interface: str | None,
    capture: str | None,
    passfile: str | None,
    addresses: tuple[str, ...],
    vhid: int | None,
    as_json: bool,
    count: int | None,
    seconds: float | None,
) -> None:
    if (interface is None) == (capture is None):
        fail(ctx, f"give either -i INTERFACE or -r FILE{_interfaces()}")
    observer = Observer(_secret(ctx, passfile), _valid(ctx, addresses), vhid=vhid)
    if capture is not None:
        source, where = _from_file(capture, seconds), "standard input" if capture == "-" else capture
        ctx.exit(_watch(ctx, observer, source, make_view(observer, where, as_json=as_json, live=False), count))
    assert interface is not None
    if sys.platform != "linux":
        fail(ctx, "listening on an interface needs Linux: read a capture with -r FILE")
    with _listener(ctx, interface) as listener:
        view = make_view(observer, interface, as_json=as_json, live=True)
        source = _from_interface(listener, observer, seconds, _REFRESH if view.moving else None)
        ctx.exit(_watch(ctx, observer, source, view, count))


def _watch(ctx: click.Context, observer: Observer, source: Source, view: View, count: int | None) -> int:
    """Feed the observer until the source ends, the count is reached, or a signal comes; returns the exit code."""
    code, trouble, at = 0, "", None
    with _terminable(), view:
        try:
            for at, frame in source:
                view.show(observer.tick(at) if frame is None else observer.frame(frame, at), at)
                if count is not None and observer.adverts >= count:
                    break
        except KeyboardInterrupt:
            pass
        except (CaptureError, InterfaceError) as error:
            # What was heard before is worth its summary; where nothing was, it could not be done at all.
            code, trouble = (1 if observer.frames else 2), str(error)
        if code != 2:
            view.summary(at)
    if trouble:
        complain(f"{ctx.command_path}: {trouble}")
    return code


def _from_file(name: str, seconds: float | None) -> Source:
    frames = read_stream(sys.stdin.buffer, "standard input") if name == "-" else read(Path(name))
    first = None
    for at, frame in frames:
        first = at if first is None else first
        if seconds is not None and at - first > seconds * 1e9:
            return
        yield at, frame


def _from_interface(listener: Listener, observer: Observer, seconds: float | None, refresh: float | None) -> Source:
    """Frames as they come, and a None where the observer or the view wants to know that time has passed."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        waits = [] if refresh is None else [refresh]
        if end is not None:
            waits.append(end - time.monotonic())
        if observer.deadline is not None:
            waits.append((observer.deadline - time.time_ns()) / 1e9)
        heard = listener.read(max(0.001, min(waits)) if waits else None)
        yield heard if heard is not None else (time.time_ns(), None)


def _listener(ctx: click.Context, interface: str) -> Listener:
    from ..monitor.listener import Listener

    try:
        return Listener(interface)
    except (CarpError, OSError) as error:
        fail(ctx, str(error) if isinstance(error, CarpError) else f"cannot listen on {interface}: {error.strerror}")


def _secret(ctx: click.Context, passfile: str | None) -> bytes | None:
    if passfile is None:
        return None
    from ..ifconfig.passphrase import read_passfile
    from ..ifconfig.values import Wrong

    try:
        secret, readers = read_passfile(passfile, None)
    except Wrong as error:
        fail(ctx, str(error))
    if readers is not None:
        complain(f"{ctx.command_path}: warning: {readers} may read the passphrase in {ascii(passfile)[1:-1]}")
    return secret


def _valid(ctx: click.Context, addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        try:
            ip_interface(address)
        except ValueError:
            fail(ctx, f"--address {address[:60]!a} is not an IP address: give one like 10.13.37.42")
    return addresses


def _interfaces() -> str:
    import socket

    try:
        names = ", ".join(name for _, name in socket.if_nameindex())
    except (AttributeError, OSError):
        return ""
    return f"; this machine has the interfaces {names}" if names else ""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C while the context lasts."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    former: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
