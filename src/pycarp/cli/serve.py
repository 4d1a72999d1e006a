"""Runs an engine in the foreground and prints its events until a signal stops it."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..config import VirtualHost
from ..errors import CarpError
from ..events import CarpdevChanged, StateChanged, Waiting
from ..protocol import State
from .notify import notify, reloading
from .output import Printer, complain
from .signals import Signals

if TYPE_CHECKING:
    from ..engine.engine import Engine

Reload = Callable[[], Sequence[VirtualHost] | None]
"""Reads the configuration again; None when it is broken, which it has reported."""


def make_engine(*hosts: VirtualHost, wait: bool) -> Engine:
    """An engine; its module is imported when it is needed."""
    from ..engine.engine import Engine

    return Engine(*hosts, missing="wait" if wait else "refuse")


def serve(hosts: Sequence[VirtualHost], printer: Printer, *, command: str, reload: Reload | None = None) -> int:
    """Run an engine until SIGINT or SIGTERM, and return the exit code.

    0 after an orderly stop, whichever signal asked for it; 2 if the engine could not be started; 1 if it could not be
    stopped in order. SIGHUP calls `reload`; without one it ends the engine as well, unless nohup(1) had it ignored.
    With a `reload`, virtual hosts wait for interfaces that are missing.
    SIGUSR1 prints the state of each virtual host, SIGUSR2 hands over those that are MASTER here.
    """
    with Signals(hangup_reloads=reload is not None) as signals:
        try:
            engine = make_engine(*hosts, wait=reload is not None)
            engine.start()
        except (CarpError, OSError) as error:
            complain(f"{command}: {error}")
            return 2
        notify(f"READY=1\nSTATUS={_status(engine)}")
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
    since: dict[str, int] = {}
    while not signals.stopping:
        poll.poll()
        signals.read()
        with signals.may_interrupt():
            for event in engine.events(timeout=0):
                if isinstance(event, StateChanged):
                    since[event.name] = event.at
                elif isinstance(event, Waiting | CarpdevChanged):
                    notify(f"STATUS={_status(engine)}")
                printer.event(event)
                if signals.stopping:
                    return
            if signals.take(signal.SIGUSR1):
                for host in engine.hosts:
                    state, demotion = engine.state(host.name), engine.demotion(host.name)
                    printer.status(host, state, since.get(host.name), demotion)
        if signals.take(signal.SIGUSR2):
            _hand_over(engine, command)
        if signals.take(signal.SIGHUP) and reload is not None:
            reloading()
            hosts = reload()
            try:
                if hosts is not None:
                    engine.reconfigure(*hosts)
                    notify(f"STATUS={_status(engine)}")
            except (CarpError, OSError, MemoryError) as error:
                complain(f"{command}: {error or 'there is no memory for the new configuration'}")
                hosts = None
            if hosts is None:
                complain(f"{command}: the old configuration stays")
            notify("READY=1")


def _hand_over(engine: Engine, command: str) -> None:
    """Let the rest of each group take over from this host."""
    masters = [host for host in engine.hosts if engine.state(host.name) is State.MASTER]
    for host in masters:
        engine.hand_over(host.name)
    if not masters:
        complain(f"{command}: SIGUSR2 hands over what is MASTER, and nothing is MASTER here")


def _status(engine: Engine) -> str:
    waiting = engine.waiting
    shown = (
        f"{host.name} (vhid {host.vhid})" + (f" waits: {waiting[host.name]}" if host.name in waiting else "")
        for host in engine.hosts
    )
    return ", ".join(shown)
