"""One process for one virtual host: a name that the kernel gives to one holder and takes back when it dies."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Self

from ..errors import InterfaceError
from .interfaces import Interface

_ASKERS = 128
_CREDENTIALS = struct.Struct("=iII")


class VirtualHostLock:
    """Held from construction to `close`, or to the end of the process, however that comes.

    An abstract unix socket: it belongs to the calling thread's network namespace, as the virtual host does, and leaves
    no file. Raises `InterfaceError` with the other process's number where the virtual host is run already.
    """

    def __init__(self, name: str, carpdev: Interface, vhid: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(_name(carpdev.index, vhid))
            # Others connect to learn who holds it; nobody ever accepts, so there is room for many who ask.
            self._socket.listen(_ASKERS)
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            pid = holder(carpdev.index, vhid)
            who = f"process {pid}" if pid else "another process"
            raise InterfaceError(
                f"{name} (vhid {vhid} on {carpdev.name}) is already run by {who}: stop that one or give another vhid"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()


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


def _name(carpdev: int, vhid: int) -> bytes:
    return b"\0pycarp/%d/%d" % (carpdev, vhid)
