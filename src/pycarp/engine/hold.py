"""A process of its own that holds what an engine has, between two lives of its program.

A program that replaces itself by exec, and a service that its manager stops before it starts it again, have no moment
in which the old and the new one both run. The holder is the successor of the one and the predecessor of the other: a
Python process with an engine and nothing else.

Thread: any caller; in the holder: main
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _impl
from .._unpatched import socket, time
from ..config import VirtualHost
from ..errors import CarpError, EngineError
from ..events import HandedOn
from ..linux.guardian_client import interpreter
from ..protocol.keys import passphrase_bytes
from . import line as lines
from .line import Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .supervisor import Supervisor

_HELD_WITHIN = 10.0
"""Seconds until the holder has everything. Its start takes a third of one."""
_LOOK = 0.003
_LINE = 3
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pycarp.engine.hold import main; main()"


def hold(supervisor: Supervisor, hosts: Iterable[VirtualHost], options: dict[str, Any], seconds: float) -> None:
    """Start a holder and hand on to it. Raises `EngineError` where it does not take everything: then the rest goes on
    here."""
    words = {
        "hosts": [_whole(one) for one in hosts],
        "seconds": seconds,
        "impl": _impl.current.name,
        "options": options,
    }
    package = "_native" if _impl.current.name == "native" else "_python"
    spawner = importlib.import_module(f"pycarp.{package}.spawn")
    program = interpreter("a process that holds virtual hosts")
    # What this program imports, it imports as well.
    path = json.dumps([str(Path(__file__).resolve().parents[2]), *(os.path.abspath(one) for one in sys.path)])
    argv = [os.fsencode(one) for one in (program, "-IS", "-c", _PROGRAM, path)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    line = Line(ours)
    before = supervisor.bequest.ended
    try:
        with theirs, open(os.memfd_create("pycarp-holder", os.MFD_CLOEXEC), "w+b") as file:
            file.write(json.dumps(words).encode())
            file.seek(0)
            fds = [file.fileno(), -1, -1, theirs.fileno()]
            supervisor.serve(line, lambda: spawner.spawn(program, argv, fds))
    except BaseException:
        line.close()
        raise
    give_up = time.monotonic() + _HELD_WITHIN
    while supervisor.bequest.ended == before and time.monotonic() < give_up:
        time.sleep(_LOOK)
    if any(supervisor.instances):
        why = supervisor.bequest.why or "it takes too long"
        raise EngineError(f"no other process goes on with the virtual hosts ({why}): they go on here")


def _whole(host: VirtualHost) -> dict[str, Any]:
    following = None if host.nextpass is None else passphrase_bytes(host.nextpass).hex()
    return lines.plain(host) | {"passphrase": passphrase_bytes(host.passphrase).hex(), "nextpass": following}


def _host(values: dict[str, Any]) -> VirtualHost:
    secrets = {name: bytes.fromhex(values[name]) for name in ("passphrase", "nextpass") if values[name] is not None}
    return VirtualHost(**values | secrets)


def main() -> None:
    """The holder's program: descriptor 0 has its configuration, 3 is the line to the engine that it succeeds."""
    with open(0, "rb", closefd=False) as file:
        words = json.load(file)
    os.environ["PYCARP_IMPL"] = words["impl"]
    from .engine import Engine

    hosts = [_host(one) for one in words["hosts"]]
    options = words["options"]
    aside = options.pop("aside")
    engine = Engine(*hosts, inherit=_LINE, **options)
    engine._held, engine._aside = True, aside
    try:
        engine.start()
    except (CarpError, OSError):
        sys.exit(1)
    os.close(_LINE)
    give_up = time.monotonic() + words["seconds"]
    while engine.hosts and (left := give_up - time.monotonic()) > 0:
        for event in engine.events(timeout=left):
            if isinstance(event, HandedOn):
                break
    engine.stop()
