"""Tells systemd the state of the service (sd_notify(3)), without its library."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

from ..errors import CarpError


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` to the service manager; False if there is none, or it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def watchdog() -> float | None:
    """Every how many seconds the service manager wants to hear of this process, or None (sd_watchdog_enabled(3))."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or int(usec) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6


class Keepalive:
    """Tells the service manager that the engine runs, twice in the time that it allows: its runtime has just answered.

    A runtime that hangs makes this thread wait for it, so that nothing is told and the service is started anew.
    """

    def __init__(self, answers: Callable[[], object]) -> None:
        limit = watchdog()
        self._interval = None if limit is None else limit / 2
        self._answers = answers
        self._next = time.monotonic()

    def wait(self) -> float | None:
        """Milliseconds until `feed` is due, or None: it never is."""
        return None if self._interval is None else max(0.0, self._next - time.monotonic()) * 1000

    def feed(self) -> None:
        """Tell it, if it is time to."""
        if self._interval is None or time.monotonic() < self._next:
            return
        with contextlib.suppress(CarpError):
            self._answers()
            notify("WATCHDOG=1")
        self._next = time.monotonic() + self._interval


def reloading() -> bool:
    """Say that the configuration is being read again (``Type=notify-reload`` needs the time, too)."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
