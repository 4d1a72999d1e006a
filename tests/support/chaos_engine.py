"""An engine as a process of its own, to be killed, stopped and misled; told what to be by JSON in its one argument.

Prints every event as one line of JSON, "Ready" once the engine runs. Each line on its standard input is an order:
see `_ORDERS`. SIGTERM stops the engine in order. Uses the public API alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from typing import Any

import pycarp

_NOBODY = 65534


class Program:
    """The program around the engine, with the faults that it can have."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.stopping = threading.Event()
        self.starving = threading.Event()
        # Written to, so that the pages are there: the kernel needs time to take them apart.
        self.ballast = b"\xa5" * (told.get("megabytes", 0) << 20)
        hosts = [pycarp.VirtualHost(**_values(host)) for host in told["hosts"]]
        callback = self.block if told.get("deaf") else self.tell
        self.engine = pycarp.Engine(*hosts, on_event=callback, **told.get("options", {}))

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stopping.set())
        threading.Thread(target=self.obey, daemon=True).start()
        if at := self.told.get("start_at"):
            time.sleep(max(0.0, (at - time.monotonic_ns()) / 1e9))
        self.engine.start()
        say({"event": "Ready", "pid": os.getpid(), "impl": pycarp.__impl__})
        watchdog = self.told.get("options", {}).get("watchdog")
        while not self.stopping.wait(watchdog / 5 if watchdog else None):
            if not self.starving.is_set():
                self.engine.alive()
        self.engine.stop()

    def tell(self, event: pycarp.Event) -> None:
        say(event.as_dict())

    def block(self, event: pycarp.Event) -> None:
        """A consumer that never comes back."""
        say({"event": "Blocked"})
        threading.Event().wait()

    def obey(self) -> None:
        for line in sys.stdin:
            order, *words = line.split()
            _ORDERS[order](self, *words)

    def counters(self) -> None:
        which = self.engine.hosts[0].name
        say({"event": "Counters", "state": self.engine.state(which).name, **self.engine.stats(which)})

    def starve(self) -> None:
        """The program's own loop hangs: nobody calls `alive`."""
        self.starving.set()

    def feed(self) -> None:
        self.starving.clear()

    def hold_gil(self, seconds: str) -> None:
        """What a badly written extension module does."""
        ctypes.PyDLL(None).sleep(int(seconds))

    def become_nobody(self) -> None:
        """As a DNS server does once its sockets are bound."""
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        say({"event": "Nobody", "uid": os.getuid()})

    def exec_another(self) -> None:
        """The same process becomes a program that knows nothing of addresses."""
        os.execv("/bin/sleep", ["sleep", "1000"])

    def fork(self) -> None:
        """A child that outlives its parent, with copies of what the parent had open."""
        child = os.fork()
        if child == 0:
            threading.Event().wait()
        say({"event": "Forked", "child": child})

    def fork_unseen(self) -> None:
        """The same by C's fork, of which Python hears nothing: all descriptors stay open in the child."""
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            signal.pause()
        say({"event": "Forked", "child": child})


_ORDERS = {
    "counters": Program.counters,
    "starve": Program.starve,
    "feed": Program.feed,
    "hold-gil": Program.hold_gil,
    "become-nobody": Program.become_nobody,
    "exec": Program.exec_another,
    "fork": Program.fork,
    "fork-unseen": Program.fork_unseen,
}


def _values(host: dict[str, Any]) -> dict[str, Any]:
    return {**host, "state": pycarp.State[host["state"]]} if host.get("state") else host


def say(line: dict[str, Any]) -> None:
    # One write: two threads speak.
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    Program(json.loads(sys.argv[1])).run()
