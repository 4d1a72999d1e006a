"""The stages of ``pycarp demo``: real hosts in network namespaces, or a simulated LAN in memory."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from .._records import dataclass
from .demo_story import (
    ADDRESS,
    CLIENT,
    FIRST,
    HOSTS,
    PASSPHRASE,
    PING_INTERVAL,
    SUBNET,
    DemoError,
    Happening,
    Stage,
    Tell,
)

_LOOK = 0.05
"""Seconds between two looks at a condition, and two moments for the view to move."""
_STOPPED_WITHIN = 3.0
"""Seconds in which a host's process ends; after that it is killed."""


def this_program() -> list[str]:
    """How to start this program again. The working directory is searched for modules only if it was for this one."""
    here = os.getcwd() in sys.path or "" in sys.path
    return [sys.executable, *([] if here else ["-P"]), "-m", "pycarp"]


def words(name: str) -> list[str]:
    """What is typed on a host. The passphrase comes through a pipe: no file has to be removed afterwards."""
    host = HOSTS[name]
    netmask = str(host.addresses[0].network.netmask)
    skew = ["advskew", str(host.advskew)] if host.advskew else []
    line = ["up", host.name, "vhid", str(host.vhid), "passfile", "/dev/stdin", *skew, ADDRESS, "netmask", netmask]
    return [*line, "--preempt"]


@dataclass(slots=True, eq=False)
class _Process:
    host: str
    process: subprocess.Popen[bytes]
    rest: bytes = b""
    """The beginning of a line that is still to be read."""
    complaint: str = "it printed no error"
    """Its last line that is no event."""
    stopping: bool = False


class LabStage(Stage):
    """Hosts in network namespaces, each with a `pycarp up` of its own, and a client, on a switch that is a bridge."""

    real = True

    def __init__(self, where: str, tell: Tell, idle: Callable[[], None]) -> None:
        from ..lab.namespaces import Lab

        super().__init__(where, tell, idle)
        self._processes: dict[str, _Process] = {}
        self._lab = Lab((*HOSTS, CLIENT), SUBNET, None, FIRST)
        self._selector = selectors.DefaultSelector()
        self._began = time.monotonic_ns()
        self._zero = time.time_ns()

    def now(self) -> int:
        return time.monotonic_ns() - self._began

    def start(self) -> None:
        for name in HOSTS:
            process = self._lab[name].popen(
                [*_dies_with_us(), *this_program(), *words(name), "--json"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this program alone, which then stops the others in order.
                process_group=0,
            )
            entry = self._processes[name] = _Process(name, process)
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(PASSPHRASE.encode() + b"\n")
                process.stdin.close()
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, entry)

    def ping(self) -> None:
        self._pinging = self._lab[CLIENT].ping(ADDRESS, PING_INTERVAL / 1e9)

    def cable(self, host: str, plugged: bool) -> None:
        (self._lab.plug if plugged else self._lab.unplug)(host)

    def stop(self, host: str) -> None:
        self._processes[host].stopping = True
        self._processes[host].process.terminate()

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if until is not None and until():
                return True
            for key, _ in self._selector.select(min(left, _LOOK)):
                self._read(key.data)
            self._idle()
        return until is not None and until()

    def close(self) -> None:
        """Stop the hosts in order, or by force those that do not end; take the lab apart."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lab.close)
            stack.callback(self._selector.close)
            running = [entry for entry in self._processes.values() if entry.process.poll() is None]
            for entry in running:
                entry.stopping = True
                entry.process.terminate()
            self._tell = lambda happening: None
            end = time.monotonic() + _STOPPED_WITHIN
            for entry in running:
                # Their last lines are read, so that none of them waits for a full pipe.
                while entry.process.poll() is None and time.monotonic() < end:
                    for key, _ in self._selector.select(_LOOK):
                        self._read(key.data)

    def _read(self, entry: _Process) -> None:
        assert entry.process.stdout is not None
        data = entry.process.stdout.read(65536)
        if data is None:
            return
        *lines, entry.rest = (entry.rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
                happening = Happening(int(event["at"]) - self._began, entry.host, event)
            except (ValueError, KeyError, TypeError):
                entry.complaint = line.decode("utf-8", "backslashreplace")
            else:
                self._tell(happening)
        if not data:
            self._selector.unregister(entry.process.stdout)
            if not entry.stopping:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    entry.process.wait(_STOPPED_WITHIN)
                code = entry.process.returncode
                raise DemoError(f"the pycarp of {entry.host} has ended (exit code {code}): {entry.complaint}")


def _dies_with_us() -> list[str]:
    """Whatever ends this program, SIGKILL too, stops the hosts in order. setpriv(1) is part of util-linux."""
    return ["setpriv", "--pdeathsig", "SIGTERM", "--"] if shutil.which("setpriv") else []


class SimulatedStage(Stage):
    """The same hosts on a simulated LAN: the protocol is real, the time and the wire are not."""

    def __init__(self, where: str, tell: Tell, idle: Callable[[], None], seed: int) -> None:
        from ..lab.simulation import Lan

        super().__init__(where, tell, idle)
        self._lan = Lan(seed=seed)
        for number, (name, host) in enumerate(HOSTS.items(), FIRST):
            self._lan.host(name, f"10.13.37.{number}/24", host)
        self._client = self._lan.client(CLIENT, f"10.13.37.{FIRST + len(HOSTS)}/24")
        self._told = 0

    def now(self) -> int:
        return self._lan.now

    def start(self) -> None:
        for host in self._lan.hosts.values():
            host.start()

    def ping(self) -> None:
        self._pinging = self._client.ping(ADDRESS, interval=PING_INTERVAL)

    def cable(self, host: str, plugged: bool) -> None:
        (self._lan.plug if plugged else self._lan.unplug)(self._lan.hosts[host])

    def stop(self, host: str) -> None:
        self._lan.hosts[host].stop()

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        end = self._lan.now + int(seconds * 1e9)
        while self._lan.now < end and not (until is not None and until()):
            self._lan.run_until(min(end, self._lan.now + 1_000_000))
            for record in self._lan.log[self._told :]:
                self._tell(Happening(record.at, record.host, record.event.as_dict()))
            self._told = len(self._lan.log)
            self._idle()
        return until is not None and until()
