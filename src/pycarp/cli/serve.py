"""Runs an engine in the foreground and prints its events until a signal stops it."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._records import dataclass
from ..config import VirtualHost
from ..engine.mailbox import Mailbox, Outcome
from ..errors import CarpError
from ..events import CarpdevChanged, Waiting
from ..linux.lock import ENGINES_WAIT
from .changes import changes
from .control import controlled, state_file
from .measured import measured
from .notify import Keepalive, notify, reloading
from .output import Printer, complain
from .restart import leave_for_the_next, see_off
from .signals import Signals

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..metrics.words import Place

Reload = Callable[[], Sequence[VirtualHost] | None]
"""Reads the configuration again; None when it is broken, which it has reported."""


def make_engine(*hosts: VirtualHost, wait: bool, maintenance_file: Path | None, take_over: bool = False) -> Engine:
    """An engine; its module is imported when it is needed."""
    from ..engine.engine import Engine

    return Engine(
        *hosts,
        missing="wait" if wait else "refuse",
        maintenance_file=maintenance_file,
        inherit="auto" if take_over else "held",
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """What a command has beside its engine.

    Where to listen, as ``--control`` has it, and the name of the usual place; where figures are served; and whether it
    takes over from another process.
    """

    control: str = "off"
    name: str = "run"
    metrics: Place | None = None
    take_over: bool = False


_NOTHING_BESIDE = Beside()


def _for_commands(text: str) -> str:
    """An engine's error, with a command's remedy in the place of a program's."""
    return text.replace(ENGINES_WAIT, "`pycarp status` shows what runs, `pycarp run --take-over` goes on in its place")


def serve(
    hosts: Sequence[VirtualHost],
    printer: Printer,
    *,
    command: str,
    reload: Reload | None = None,
    beside: Beside = _NOTHING_BESIDE,
) -> int:
    """Run an engine until SIGINT or SIGTERM, or until another process has taken over, and return the exit code.

    0 after an orderly stop, whichever signal asked for it; 2 if the engine could not be started; 1 if it could not be
    stopped in order. SIGHUP calls `reload`; without one it ends the engine as well, unless nohup(1) had it ignored.
    With a `reload`, virtual hosts wait for interfaces that are missing.
    SIGUSR1 prints the state of each virtual host, SIGUSR2 hands over those that are MASTER here.
    """
    with Signals(hangup_reloads=reload is not None) as signals:
        try:
            kept, wait = state_file(beside.name), reload is not None
            engine = make_engine(*hosts, wait=wait, maintenance_file=kept, take_over=beside.take_over)
            engine.start()
            if beside.take_over:
                see_off(engine)
        except (CarpError, OSError) as error:
            complain(f"{command}: {_for_commands(str(error))}")
            return 2
        notify(f"READY=1\nSTATUS={_status(engine)}")
        code = 0
        desk = Desk(engine, command, reload)
        try:
            asked = desk.ask if reload is not None else None
            listening = controlled(engine, beside.control, beside.name, command, asked)
            with listening, measured(engine, beside.metrics, command):
                _loop(engine, printer, signals, desk)
                if signals.terminated:
                    leave_for_the_next(engine, command)
        finally:
            desk.close()
            notify("STOPPING=1")
            printer.hurry = True
            try:
                engine.stop()
                for event in engine.events(timeout=0):
                    printer.event(event)
                printer.close()
            except (CarpError, OSError) as error:
                complain(f"{command}: {error}")
                code = 1
        return code


class Desk:
    """Reads the configuration again, for a signal or for another thread that asks."""

    def __init__(self, engine: Engine, command: str, reload: Reload | None) -> None:
        self.mailbox = Mailbox()
        self.command = command
        self._engine = engine
        self._reload = reload

    def ask(self) -> Outcome[str]:
        """From another thread: have it read again; the text says what was wrong."""
        return self.mailbox.post(self.read_again)

    def read_again(self) -> str:
        """What is wrong is printed as well."""
        if self._reload is None:
            return ""
        reloading()
        wrong = "the files are not in order: pycarp check says what is wrong, and the old configuration stays"
        try:
            hosts, former = self._reload(), self._engine.hosts
            if hosts is not None:
                self._engine.reconfigure(*hosts)
                complain(f"{self.command}: {changes(former, hosts)}")
                notify(f"STATUS={_status(self._engine)}")
                wrong = ""
        except (CarpError, OSError, MemoryError) as error:
            what = str(error) or "there is no memory for the new configuration"
            complain(f"{self.command}: {what}")
            wrong = f"{what}: the old configuration stays"
        if wrong:
            complain(f"{self.command}: the old configuration stays")
        notify("READY=1")
        return wrong

    def close(self) -> None:
        self.mailbox.close()


def _loop(engine: Engine, printer: Printer, signals: Signals, desk: Desk) -> None:
    poll = select.poll()
    for one in (engine, signals, desk.mailbox):
        poll.register(one.fileno(), select.POLLIN)
    # Counters are asked for of the runtime itself.
    keepalive = Keepalive(lambda: [engine.stats(host.name) for host in engine.hosts[:1]])
    while not signals.stopping and engine.hosts:
        poll.poll(keepalive.wait())
        keepalive.feed()
        signals.read()
        desk.mailbox.work()
        with signals.may_interrupt():
            for event in engine.events(timeout=0):
                if isinstance(event, Waiting | CarpdevChanged):
                    notify(f"STATUS={_status(engine)}")
                printer.event(event)
                if signals.stopping:
                    return
            if signals.take(signal.SIGUSR1):
                for instance in engine.snapshot().instances:
                    printer.status(instance)
        # Whoever hands over lets the rest of each group take over from this host.
        if signals.take(signal.SIGUSR2) and not engine.begin_hand_over().names:
            complain(f"{desk.command}: SIGUSR2 hands over what is MASTER, and nothing is MASTER here")
        if signals.take(signal.SIGHUP):
            desk.read_again()


def _status(engine: Engine) -> str:
    waiting = engine.waiting
    shown = (
        f"{host.name} (vhid {host.vhid})" + (f" waits: {waiting[host.name]}" if host.name in waiting else "")
        for host in engine.hosts
    )
    return ", ".join(shown)
