"""Listening as a bystander: every advert on an interface, this host's own too, with the kernel's time of arrival."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from typing import Self

from ..errors import InterfaceError
from ..linux import capabilities
from ..linux.sockets import FRAME_LIMIT, arrival, join_groups, receive_socket, want_times

_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
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
            # An engine does not hear its own frames; a bystander hears everybody's.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)
            want_times(self._socket)
            for membership in join_groups(self.index, (4, 6)):
                stack.enter_context(membership)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def read(self, timeout: float | None) -> tuple[int, bytes] | None:
        """The next frame and when it came (ns since 1970), or None after `timeout` seconds.

        Raises `InterfaceError` once the interface is gone; while it is only down there is nothing to hear.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                data, ancillary, _flags, _source = self._socket.recvmsg(FRAME_LIMIT, 64)
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._poll.poll(None if left is None else left * 1000)
            except OSError as error:
                # ENETDOWN comes once, when the interface goes down; it may come up again.
                if error.errno in _GONE or not self._exists():
                    raise InterfaceError(f"the interface {self.interface} is gone") from None
            else:
                return arrival(ancillary), data

    def _exists(self) -> bool:
        try:
            socket.if_indextoname(self.index)
        except OSError:
            return False
        return True


def _shown(name: str) -> str:
    """A name as it may stand on a terminal."""
    return repr(name[:40]) if name.isprintable() else ascii(name[:40])
