"""Signals: those that end a command, those that must not, and those that ask a running engine for something."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

HELP = """\b
Signals:
  SIGTERM, SIGINT  stop in order: bow out where MASTER, and remove what was made
  SIGUSR1          print the state of each virtual host, in a line
  SIGUSR2          hand over where MASTER: another host takes the addresses at once, and this one stands back while
                   it is heard (SIGUSR2 there brings them back); alone it stays MASTER
"""
"""For the help of a command that runs an engine."""
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_SUDDEN = ("SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR", "SIGSTKFLT")
"""The system ends a process that has not asked for one of these: here it ends in order."""


def interrupt(*_: Any) -> NoReturn:
    """The handler of a signal that ends the command as Ctrl-C does."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def on_signals(handler: Callable[..., Any] | signal.Handlers, *names: str) -> Iterator[None]:
    """Signals of these names go to `handler`; a system that does not have one goes without it.

    An ignored SIGINT stays ignored: that is how shells start jobs in the background.
    """
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [each for each in numbers if each != signal.SIGINT or signal.getsignal(each) is not signal.SIG_IGN]
    former = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, each in zip(numbers, former, strict=True):
            signal.signal(number, each)


class _Interrupted(Exception):
    """A signal to stop came while a line was being written."""


class Signals:
    """Signals as flags and a descriptor while the context lasts; a second one to stop changes nothing.

    SIGINT, SIGTERM and what else would end the process stop it. SIGUSR1 and SIGUSR2 are asked for by `take`, and so is
    SIGHUP if `hangup_reloads`; otherwise it stops.
    """

    def __init__(self, *, hangup_reloads: bool) -> None:
        self.stopping = False
        """Whether a signal to stop has come."""
        self.terminated = False
        """Whether the first one was SIGTERM, as a service manager sends it."""
        self._taken_up = {signal.SIGUSR1, signal.SIGUSR2, *([signal.SIGHUP] if hangup_reloads else [])}
        self._pending: set[int] = set()
        self._writing = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        ending = {getattr(signal, name) for name in (*_ENDING, *_SUDDEN) if hasattr(signal, name)}
        for number in ending | self._taken_up:
            # A signal that is ignored stays so: SIGINT in a shell's background job, SIGHUP under nohup(1).
            wanted = number == signal.SIGTERM or number in self._taken_up
            if wanted or signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._former[number] = signal.signal(number, self._handle)
        # What waited for a handler comes now, and nothing that this process starts inherits that it waits.
        self._former_mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, set(self._former))
        return self

    def __exit__(self, *error: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)
        for number, former in self._former.items():
            signal.signal(number, former)
        signal.set_wakeup_fd(self._former_fd)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in self._taken_up:
            self._pending.add(number)
            return
        self.terminated = self.terminated or (number == signal.SIGTERM and not self.stopping)
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

    def take(self, number: int) -> bool:
        """Whether this signal has come since the last call."""
        came = number in self._pending
        self._pending.discard(number)
        return came

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
