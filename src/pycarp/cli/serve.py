"""Runs an engine in the foreground and prints its events until a signal stops it."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..config import VirtualHost
from ..errors import CarpError
from .notify import notify, reloading
from .output import Printer, complain

if TYPE_CHECKING:
    from ..engine.engine import Engine

Reload = Callable[[], Sequence[VirtualHost] | None]
"""Reads the configuration again; None when it is broken, which it has reported."""


def make_engine(*hosts: VirtualHost) -> Engine:
    """An engine; its module is imported when it is needed."""
    from ..engine.engine import Engine

    return Engine(*hosts)


def serve(hosts: Sequence[VirtualHost], printer: Printer, *, command: str, reload: Reload | None = None) -> int:
    """Run an engine until SIGINT or SIGTERM, and return the exit code.

    0 after an orderly stop, whichever signal asked for it; 2 if the engine could not be started; 1 if it could not be
    stopped in order. SIGHUP calls `reload`; without one it ends the engine as well, unless nohup(1) had it ignored.
    """
    with Signals(hangup_reloads=reload is not None) as signals:
        try:
            engine = make_engine(*hosts)
            engine.start()
        except (CarpError, OSError) as error:
            complain(f"{command}: {error}")
            return 2
        notify(f"READY=1\nSTATUS={_status(hosts)}")
        code = 0
        try:
            _loop(engine, printer, signals, command, reload)
        finally:
            notify("STOPPING=1")
            printer.hurry = True
            try:
                engine.stop()
                for event in engine.events(timeout=0):
                    printer.event(event)
            except (CarpError, OSError) as error:
                complain(f"{command}: {error}")
                code = 1
        return code


def _loop(engine: Engine, printer: Printer, signals: Signals, command: str, reload: Reload | None) -> None:
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    poll.register(signals.fileno(), select.POLLIN)
    while not signals.stopping:
        poll.poll()
        signals.read()
        with signals.may_interrupt():
            for event in engine.events(timeout=0):
                printer.event(event)
                if signals.stopping:
                    return
        if signals.take_hangup() and reload is not None:
            reloading()
            hosts = reload()
            try:
                if hosts is not None:
                    engine.reconfigure(*hosts)
                    notify(f"STATUS={_status(hosts)}")
            except (CarpError, OSError) as error:
                complain(f"{command}: {error}")
                hosts = None
            if hosts is None:
                complain(f"{command}: the old configuration stays")
            notify("READY=1")


def _status(hosts: Sequence[VirtualHost]) -> str:
    return ", ".join(f"{host.name} (vhid {host.vhid})" for host in hosts)


class _Interrupted(Exception):
    """A signal to stop came while a line was being written."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP as flags and a descriptor while the context lasts; a second one changes nothing."""

    def __init__(self, *, hangup_reloads: bool) -> None:
        self.stopping = False
        """Whether a signal to stop has come."""
        self._hangup = False
        self._hangup_reloads = hangup_reloads
        self._writing = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A signal that is ignored stays so: SIGINT in a shell's background job, SIGHUP under nohup(1).
            reloads = number == signal.SIGHUP and self._hangup_reloads
            if reloads or number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        signal.set_wakeup_fd(self._former_fd)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._hangup_reloads:
            self._hangup = True
            return
        self.stopping = True
        if self._writing:
            # The reader of a full pipe may never come: the write would go on waiting after this handler.
            self._writing = False
            raise _Interrupted

    def fileno(self) -> int:
        """Readable after a signal."""
        return self._reader.fileno()

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(64):
                pass

    def take_hangup(self) -> bool:
        """Whether a SIGHUP has come since the last call."""
        taken, self._hangup = self._hangup, False
        return taken

    @contextlib.contextmanager
    def may_interrupt(self) -> Iterator[None]:
        """A block that a signal to stop leaves at once."""
        try:
            self._writing = not self.stopping
            yield
        except _Interrupted:
            pass
        finally:
            self._writing = False
