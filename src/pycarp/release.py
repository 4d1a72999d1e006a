"""Addresses go to another host first, and then the program ends: `release_first`.

A server that ends at SIGTERM stops accepting at once, and finishes what is open for seconds or minutes. Meanwhile the
addresses must be where somebody accepts.

Thread: main; `_release`: one of its own
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from ._unpatched import threading
from .errors import CarpError, EngineError

if TYPE_CHECKING:
    from . import aio, anyio
    from .engine.engine import Engine

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What ends a server in order."""


class release_first:
    """From now on, each of these signals first has the engine hand over and stop, and then what was there before.

    The program's own handler for the signal is called when another host serves, or `within` seconds later at the
    latest: until then the signal's handler waits, and so does the main thread. Drain hooks count. Alone in its group
    the engine drops its addresses after 0.1 s, and nobody serves. Handlers of asyncio, uvloop, trio, gunicorn and
    Twisted count as the program's own: install this one after them, as in ASGI's lifespan. A signal that the program
    ignores stays ignored. A forked child passes signals on and releases nothing.

    `restore` puts back the handlers that were there, unless others were installed since; so does the end of a `with`
    statement. Raises `EngineError` outside of the main thread, where Python takes no handlers, and where a signal is
    handled in C, as uWSGI does: no handler can be chained in front of that, nor put back.
    """

    def __init__(
        self, engine: Engine | aio.Engine | anyio.Engine, signals: Iterable[int] = SIGNALS, within: float = 2.0
    ) -> None:
        self._engine: Any = getattr(engine, "blocking", engine)
        self._within = within
        self._pid = os.getpid()
        self._released = threading.Event()
        self._releasing: threading.Thread | None = None
        self._installed = True
        # All of them are known before the first signal can come.
        found = {number: signal.getsignal(number) for number in signals}
        caught = _caught()
        for number, former in found.items():
            if former is None or (former == signal.SIG_DFL and caught >> number - 1 & 1):
                raise EngineError(
                    f"{signal.Signals(number).name} is handled by this process's C code, which Python cannot call: "
                    "call engine.hand_over() and engine.stop() where that code tells the program that it ends"
                )
        self._former: dict[int, Any] = {number: former for number, former in found.items() if former != signal.SIG_IGN}
        try:
            for number in self._former:
                signal.signal(number, self._handle)
        except ValueError:
            raise EngineError("handlers of signals belong to the main thread: call release_first there") from None
        except OSError:
            self.restore()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.restore()

    @property
    def alone(self) -> bool:
        """Whether this process has no other handler for SIGTERM: then a server ends by other means than a signal."""
        return self._former.get(signal.SIGTERM) == signal.SIG_DFL

    def restore(self) -> None:
        """Put back the former handlers, and wait for a release that has begun. May be called again."""
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._installed = False
        if self._releasing is not None and os.getpid() == self._pid:
            self._releasing.join()

    def _handle(self, number: int, frame: Any) -> None:
        former = self._former.get(number, signal.SIG_DFL)
        if self._installed and os.getpid() == self._pid and self._releasing is None:
            # The interrupted code may hold what a stop needs: that runs elsewhere, and is not waited for without end.
            self._releasing = threading.Thread(target=self._release, name="pycarp-release")
            self._releasing.start()
            self._released.wait(self._within)
        _call(former, number, frame)

    def _release(self) -> None:
        try:
            if self._engine.hand_over(timeout=self._within):
                self._released.set()
        except CarpError:
            pass  # it does not run
        finally:
            self._engine.stop()
            self._released.set()


def _caught() -> int:
    """Which signals this process handles, a bit for each from 1 on. Python knows only of handlers that it installed."""
    try:
        with open("/proc/self/status") as file:
            return int(next(line for line in file if line.startswith("SigCgt:")).split()[1], 16)
    except (OSError, StopIteration):
        return 0


def _call(handler: Callable[[int, Any], object] | int | None, number: int, frame: Any) -> None:
    """What the signal would have done without us."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
