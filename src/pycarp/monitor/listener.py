"""Listening as a bystander: every advert on an interface, this host's own too, with the kernel's time of arrival."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from types import TracebackType
from typing import Self

from ..errors import InterfaceError
from ..linux import capabilities
from ..linux.sockets import FRAME_LIMIT, join_groups, receive_socket

_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_GONE = (errno.ENODEV, errno.ENXIO)


class Listener:
    """Hears the adverts on an interface; changes nothing there. Use it in a ``with`` statement.

    Raises `CapabilityError` without CAP_NET_RAW, and `InterfaceError`, which lists the interfaces, for an unknown one.
    """

    def __init__(self, interface: str) -> None:
        try:
            self.index = socket.if_nametoindex(interface)
        except OSError:
            names = ", ".join(name for _, name in socket.if_nameindex())
            raise InterfaceError(f"there is no interface {_shown(interface)}: this machine has {names}") from None
        self.interface = interface
        capabilities.require("CAP_NET_RAW")
        with contextlib.ExitStack() as stack:
            self._socket = stack.enter_context(receive_socket(self.index))
            # The engine does not want to hear itself; a bystander wants to hear everybody.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            for membership in join_groups(self.index, (4, 6)):
                stack.enter_context(membership)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def read(self, patience: float | None) -> tuple[int, bytes] | None:
        """The next frame and when it came (ns since 1970), or None after `patience` seconds.

        Raises `InterfaceError` once the interface is gone; while it is merely down there is nothing to hear.
        """
        give_up = None if patience is None else time.monotonic() + patience
        while True:
            try:
                data, ancillary, _flags, _source = self._socket.recvmsg(FRAME_LIMIT, 64)
            except BlockingIOError:
                left = None if give_up is None else give_up - time.monotonic()
                if left is not None and left <= 0:
                    return None
                select.select([self._socket], [], [], left)
            except OSError as error:
                # ENETDOWN is told once, when it goes down; it may come back.
                if error.errno in _GONE or not self._exists():
                    raise InterfaceError(f"the interface {self.interface} is gone") from None
            else:
                return _stamp(ancillary), data

    def _exists(self) -> bool:
        try:
            socket.if_indextoname(self.index)
        except OSError:
            return False
        return True


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def _shown(name: str) -> str:
    """A name as it may stand on a terminal."""
    return repr(name[:40]) if name.isprintable() else ascii(name[:40])
