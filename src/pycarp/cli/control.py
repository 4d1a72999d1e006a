"""What the commands have to do with control sockets: they listen on one, or ask those that there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CarpError
from .output import complain

if TYPE_CHECKING:
    from ..control import Client
    from ..control.calls import Reload
    from ..engine.engine import Engine

_F = TypeVar("_F", bound=Callable[..., Any])


def control_option(function: _F) -> _F:
    """``--control``, of a command that runs an engine."""
    text = "Where to listen for pycarp status and ctl, or off; group and mode may follow.  [default: /run/pycarp/...]"
    return click.option("--control", "control", metavar="PATH|off", default="", help=text)(function)


@contextlib.contextmanager
def controlled(engine: Engine, place: str, name: str, command: str, reload: Reload | None) -> Iterator[None]:
    """Listen while the context lasts; where that cannot be, one sentence says so, and the engine runs all the same."""
    from ..control.places import parse_place
    from ..control.server import Server

    server = None
    try:
        path, access = parse_place(place.split()) if place else ("", None)
        if path != "off":
            gid, mode = (None, None) if access is None else (access.gid, access.mode)
            server = Server(engine, path or None, name=name, group=gid, mode=mode, reload=reload)
    except CarpError as error:
        complain(f"{command}: {error}")
    try:
        yield
    finally:
        if server is not None:
            server.close()


def state_file(name: str) -> Path:
    """What keeps the mode of maintenance past a restart."""
    return Path(os.environ.get("PYCARP_STATE_DIRECTORY") or "/var/lib/pycarp") / f"{name}.maintenance"


def socket_option(function: _F) -> _F:
    """``--socket``, of a command that asks."""
    text = "The control socket to ask.  [default: all of this machine]"
    return click.option("--socket", "path", type=click.Path(path_type=Path), help=text)(function)


def places_to_ask(path: Path | None) -> Sequence[Path]:
    """The sockets that there are, or the one that was given. Raises `ControlError` where there is none."""
    from ..control.client import ControlError
    from ..control.places import directory, sockets

    if path is not None:
        return [path]
    found = sockets()
    if not found:
        remedy = "start pycarp run, or give --socket for a program that has its own"
        raise ControlError(f"nothing of pycarp runs here: no socket in {directory()} answers; {remedy}")
    return found


def ask(path: Path, call: str, **arguments: Any) -> dict[str, Any]:
    """One call on one socket. Raises `ControlError`."""
    from ..control.client import Client

    with Client(path) as client:
        return client.call(call, **arguments)


def statuses(path: Path | None, name: str | None) -> list[tuple[Path, dict[str, Any]]]:
    """What every process says, or those that have a virtual host of this name or vhid. Raises `ControlError`."""
    from ..control.client import ControlError
    from .status_view import look_through

    found, wrong = [], None
    for place in places_to_ask(path):
        try:
            status = ask(place, "status")
            try:
                look_through(status)
            except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError, OSError):
                raise ControlError(
                    f"{place} gives a status that makes no sense: is it pycarp's, of this version?"
                ) from None
            found.append((place, status))
        except ControlError as error:
            wrong = error  # it may have ended just now; one that refuses us is told if there is no other
    if not found and wrong is not None:
        raise wrong
    if name is None:
        return found
    which = int(name) if name.isdecimal() else name
    chosen = []
    for place, status in found:
        instances = [one for one in status["instances"] if which in (one["name"], one["vhid"])]
        if instances:
            chosen.append((place, {**status, "instances": instances, "well": all(one["well"] for one in instances)}))
    if not chosen:
        known = ", ".join(one["name"] for _, status in found for one in status["instances"])
        raise ControlError(f"no virtual host {name!r} runs here: there is {known or 'none'}")
    return chosen


def connect(path: Path) -> Client:
    """A client. Raises `ControlError`."""
    from ..control.client import Client

    return Client(path)
