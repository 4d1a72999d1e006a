"""One process for each virtual host: the kernel gives a name to one process, and takes it back when that one ends."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from pathlib import Path

from ..errors import InterfaceError
from .interfaces import Interface
from .sockets import SocketOwner, closed_on_error

_ASKERS = 128
_CREDENTIALS = struct.Struct("=iII")
_RELEASED_WITHIN = 5.0
"""The guardian of a dead engine lets go within this many seconds; it needs some milliseconds."""
_TRIED_EVERY = 0.005

# The locks of this process: (network namespace, name). If the kernel says that it has another one, that is left from
# the program that ran in it before an exec.
_ours: set[tuple[int, bytes]] = set()


class VirtualHostLock(SocketOwner):
    """Held from construction to `close`, or to the end of the process, however that comes.

    An abstract unix socket: it belongs to the calling thread's network namespace, as the virtual host does, and leaves
    no file. The engine's guardian keeps a copy, and drops the addresses before it closes that: where the process that
    made the lock has ended, or is this one before an exec, the constructor waits, 5 s at most. `fileno` is the
    descriptor that holds the lock; a copy in another process holds it as long. Raises `InterfaceError` with the other
    process's number where the virtual host is run already.
    """

    def __init__(self, name: str, carpdev: Interface, vhid: int) -> None:
        self._key = (_namespace(), _name(carpdev.index, vhid))
        give_up = time.monotonic() + _RELEASED_WITHIN
        while (bound := _bind(self._key[1])) is None:
            pid = holder(carpdev.index, vhid)
            abandoned = self._is_abandoned(pid)
            if not abandoned and pid == 0 and not held(carpdev.index, vhid):
                continue  # it has let go in between
            if abandoned and time.monotonic() < give_up:
                time.sleep(_TRIED_EVERY)
                continue
            who = f"process {pid}" if pid else "another process"
            if abandoned:
                who += ", which has ended but left a process behind that keeps the lock"
            raise InterfaceError(
                f"{name} (vhid {vhid} on {carpdev.name}) is already run by {who}: stop that one or give another vhid"
            )
        self._socket = bound
        _ours.add(self._key)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            _ours.discard(self._key)
        super().close()

    def _is_abandoned(self, pid: int) -> bool:
        if pid == os.getpid():
            return self._key not in _ours
        return pid != 0 and not lives(pid)


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
    """The lock, or None where a process has it."""
    try:
        with closed_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as opened:
            opened.bind(name)
            # Others connect to learn who holds it; none is accepted, so there is room for many who ask.
            opened.listen(_ASKERS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return opened


def lives(pid: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        # A process that has ended and was not yet waited for is still there. The state follows the name in parentheses.
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
