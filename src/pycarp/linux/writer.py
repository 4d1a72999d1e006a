"""The narrow interface through which addresses come and go: take, renew, drop, by number.

Here it is a thread of this process; whoever offers the same methods can stand in its place. The runtime never waits
for it: taking a link down keeps its caller for milliseconds, although the address is mute at once.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from . import netlink

if TYPE_CHECKING:
    from .device import Device

What = Literal["take", "renew", "drop"]
Done = Callable[[int, What, OSError | None, int, int], None]
"""(index, what, error or None, started, finished), times of CLOCK_MONOTONIC in ns; called in the writer's thread."""

_FINE: dict[What, frozenset[int]] = {
    # Already there.
    "take": frozenset({errno.EEXIST}),
    "renew": frozenset(),
    # Already gone, perhaps with the interface.
    "drop": frozenset({errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH}),
}


class AddressWriter:
    """One thread and one netlink socket, in the network namespace of the thread that constructs it.

    Of several orders for one virtual host that wait, the last counts: it alone is carried out and reported. A renewal
    gives way to either of the others.
    """

    def __init__(self, on_done: Done) -> None:
        self._on_done = on_done
        self._devices: dict[int, Device] = {}
        self._waiting: dict[int, What] = {}
        self._busy: int | None = None
        self._closing = False
        self._change = threading.Condition()
        self._route = netlink.RouteSocket()
        self._thread = threading.Thread(target=self._run, name="pycarp-writer", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._route.close()
            raise

    def add(self, index: int, device: Device) -> None:
        """Orders with this number are for this device, from the next one on."""
        with self._change:
            self._devices[index] = device

    def remove(self, index: int) -> None:
        """Carry out what waits for this number, then forget it. Not from `on_done`."""
        with self._change:
            self._change.wait_for(lambda: index not in self._waiting and self._busy != index)
            self._devices.pop(index, None)

    def take(self, index: int) -> None:
        self._order(index, "take")

    def renew(self, index: int) -> None:
        self._order(index, "renew")

    def drop(self, index: int) -> None:
        self._order(index, "drop")

    def close(self) -> None:
        """Carry out what waits, end the thread, close the socket."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._route.close()

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist: close the descriptor, and that is all."""
        self._route.close()

    def _order(self, index: int, what: What) -> None:
        with self._change:
            if self._closing or index not in self._devices:
                return
            if what == "renew" and index in self._waiting:
                return
            self._waiting[index] = what
            self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._change:
                self._busy = None
                self._change.notify_all()
                self._change.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                # A drop goes first: an address on two hosts harms more than one that comes a little later.
                index = next((one for one, what in self._waiting.items() if what == "drop"), next(iter(self._waiting)))
                what = self._waiting.pop(index)
                requests: bytes = getattr(self._devices[index], what)
                counted = self._devices[index].essential if what == "take" else None
                mute = self._mute() if what == "drop" else b""
                self._busy = index
            started = time.monotonic_ns()
            if mute:
                # What fails here is tried again, and reported, by each one's own drop.
                self._execute(mute, frozenset())
            error = self._execute(requests, _FINE[what], counted)
            finished = time.monotonic_ns()
            try:
                self._on_done(index, what, error, started, finished)
            except Exception:
                # The next order must be carried out whatever the listener does.
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))

    def _mute(self) -> bytes:
        """The quick part of all drops that wait behind this one."""
        waiting = [self._devices[index].mute for index, what in self._waiting.items() if what == "drop"]
        return netlink.batch(*itertools.chain.from_iterable(waiting))

    def _execute(self, requests: bytes, fine: frozenset[int], counted: int | None = None) -> OSError | None:
        """Send a batch; the first error that is not fine among the last so many requests, or all."""
        try:
            outcome = self._route.execute(requests)
        except OSError as error:
            with contextlib.suppress(OSError):
                # What the acknowledgements said is lost; a fresh socket keeps them apart from the next order's.
                self._reopen()
            return error
        considered = outcome[-counted:] if counted else outcome
        return next((error for error in considered if error is not None and error.errno not in fine), None)

    def _reopen(self) -> None:
        fresh = netlink.RouteSocket()
        self._route.close()
        self._route = fresh
