"""One process for one virtual host: a name that the kernel gives to one holder and takes back when it dies."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from pathlib import Path
from typing import Self

from ..errors import InterfaceError
from .interfaces import Interface

_ASKERS = 128
_CREDENTIALS = struct.Struct("=iII")


_PATIENCE = 5.0
"""Seconds for the guardian of a dead engine to let go. It needs some milliseconds."""
_LOOK = 0.005

# What this process holds: (network namespace, name). What the kernel says it holds beyond that is left from the program
# that ran in it before an exec.
_ours: set[tuple[int, bytes]] = set()


class VirtualHostLock:
    """Held from construction to `close`, or to the end of the process, however that comes.

    An abstract unix socket: it belongs to the calling thread's network namespace, as the virtual host does, and leaves
    no file. The engine's guardian keeps it open as well, and drops the addresses before it lets go: where the process
    that made it has ended, or is this one before an exec, the constructor waits, 5 s at most. Raises `InterfaceError`
    with the other process's number where the virtual host is run already.
    """

    def __init__(self, name: str, carpdev: Interface, vhid: int) -> None:
        self._key = (_namespace(), _name(carpdev.index, vhid))
        give_up = time.monotonic() + _PATIENCE
        while (bound := _bind(self._key[1])) is None:
            pid = holder(carpdev.index, vhid)
            abandoned = self._is_abandoned(pid)
            if not abandoned and pid == 0 and not held(carpdev.index, vhid):
                continue  # it has let go in between
            if abandoned and time.monotonic() < give_up:
                time.sleep(_LOOK)
                continue
            who = f"process {pid}" if pid else "another process"
            if abandoned:
                who += ", which has ended but left somebody behind who holds on"
            raise InterfaceError(
                f"{name} (vhid {vhid} on {carpdev.name}) is already run by {who}: stop that one or give another vhid"
            )
        self._socket = bound
        _ours.add(self._key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor that holds it; a copy in another process holds it as long."""
        return self._socket.fileno()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            _ours.discard(self._key)
        self._socket.close()

    def _is_abandoned(self, pid: int) -> bool:
        if pid == os.getpid():
            return self._key not in _ours
        return pid != 0 and not _lives(pid)


def held(carpdev: int, vhid: int) -> bool:
    """Whether some process, this one included, runs the virtual host on the interface of index `carpdev`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.bind(_name(carpdev, vhid))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def holder(carpdev: int, vhid: int) -> int:
    """The process that runs the virtual host; 0 where that cannot be told (none, one of a foreign PID namespace)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(_name(carpdev, vhid))
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0
    return int(_CREDENTIALS.unpack(raw)[0])


def _bind(name: bytes) -> socket.socket | None:
    """The lock, or None where somebody has it."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        opened.bind(name)
        # Others connect to learn who holds it; nobody ever accepts, so there is room for many who ask.
        opened.listen(_ASKERS)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return opened


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        # One that has ended and was not yet waited for is still found. The state follows the name in parentheses.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in ("Z", "X")


def _namespace() -> int:
    """The calling thread's network namespace; 0 where that cannot be told."""
    try:
        return os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return 0


def _name(carpdev: int, vhid: int) -> bytes:
    return b"\0pycarp/%d/%d" % (carpdev, vhid)
