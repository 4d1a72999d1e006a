"""Who is measured on the wire, each by the same handle: pycarp's two runtimes, ucarp, keepalived (VRRP)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycarp.lab.namespaces import Host
from pycarp.protocol import NS_PER_SECOND, NS_PER_SKEW

HERE = Path(__file__).resolve().parent
PASSPHRASE = "correct horse battery staple"
"""Beyond 20 bytes there is one dialect only. UCarp takes no more than 19."""
SUBNET = "10.13.0.0/16"
PREFIX = "10.13.1."
"""The address of virtual host N is 10.13.1.N."""
BACKUP_SKEW = 100
PRIORITIES = {True: 200, False: 100}
_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
    "text": True,
}


def address(vhid: int) -> str:
    return f"{PREFIX}{vhid}"


@dataclass
class Running:
    """A subject at work on a host, as one process or many."""

    host: Host
    processes: list[subprocess.Popen[str]]
    said: str = ""
    """What it printed in the end, once it is gone."""

    def pids(self) -> list[int]:
        """Every process in the host's network namespace: helpers and orphans too."""
        wanted = os.fstat(self.host.fd).st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "ns" / "net").stat().st_ino == wanted:
                        found.append(int(entry.name))
        # This process, too, may have a thread in there for a moment.
        return [pid for pid in found if pid != os.getpid()]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the subject's own processes and wait until they are gone."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def wait(self) -> None:
        """Wait for the processes; whatever else is left on the host is killed."""
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None and not process.stdout.closed:
                self.said += process.stdout.read()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Subject:
    """One program under test. `due`: ns of silence after which its backup has to speak; `protocol` as on the wire."""

    name: str
    protocol: str = "carp"
    own_mac: bool = True
    """The address has the group's virtual MAC, not the host's."""
    version: str = ""
    scratch: Path = field(default_factory=Path)
    bows_out_when_killed: bool = True
    """Another process says goodbye when the one that was started is killed: pycarp's guardian, keepalived's child."""

    @property
    def due(self) -> int:
        return 3 * NS_PER_SECOND + BACKUP_SKEW * NS_PER_SKEW

    def start(self, host: Host, master: bool, count: int = 1, **options: Any) -> Running:
        """Run `count` virtual hosts, as the one that should be master or as its backup."""
        raise NotImplementedError

    def clean(self, host: Host, count: int = 1) -> None:
        """Take away what a killed one left on the host."""


class Pycarp(Subject):
    def __init__(self, implementation: str, scratch: Path) -> None:
        import pycarp

        super().__init__(f"pycarp {implementation}", version=pycarp.__version__, scratch=scratch)
        self.implementation = implementation

    def start(
        self,
        host: Host,
        master: bool,
        count: int = 1,
        *,
        hold_gil: int = 0,
        realtime: bool = True,
        pace: int = 0,
        passphrase: str = PASSPHRASE,
        **_options: Any,
    ) -> Running:
        told = {
            "passphrase": passphrase,
            "pace": pace,
            "prefix": PREFIX,
            "master": master,
            "advskew": 0 if master else BACKUP_SKEW,
            "count": count,
            "hold_gil": hold_gil,
            "realtime": realtime,
        }
        environment = {**os.environ, "PYCARP_IMPL": self.implementation}
        process = host.popen(
            [sys.executable, str(HERE / "subject.py"), json.dumps(told)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self.name} did not start; what it said is above")
        return Running(host, [process])


class Ucarp(Subject):
    def __init__(self, scratch: Path) -> None:
        version = _version(["ucarp", "--help"], r"ucarp (\S+)")
        super().__init__("ucarp", own_mac=False, version=version, scratch=scratch, bows_out_when_killed=False)
        for name, verb in (("up", "add"), ("down", "del")):
            script = scratch / f"ucarp-{name}"
            script.write_text(f'#!/bin/sh\nexec ip address {verb} "$2/16" dev "$1" 2>/dev/null\n')
            script.chmod(0o755)
        self._passfile = scratch / "ucarp-pass"
        self._passfile.write_text(PASSPHRASE[:19])

    def start(self, host: Host, master: bool, count: int = 1, **_options: Any) -> Running:
        skew = 0 if master else BACKUP_SKEW
        processes = [
            host.popen(
                [
                    "ucarp",
                    "--interface=eth0",
                    f"--srcip={host.address}",
                    f"--vhid={vhid}",
                    f"--passfile={self._passfile}",
                    f"--addr={address(vhid)}",
                    "--advbase=1",
                    f"--advskew={skew}",
                    "--preempt",
                    "--shutdown",
                    f"--upscript={self.scratch / 'ucarp-up'}",
                    f"--downscript={self.scratch / 'ucarp-down'}",
                ],
                **_QUIET,
            )
            for vhid in range(1, count + 1)
        ]
        return Running(host, processes)

    def clean(self, host: Host, count: int = 1) -> None:
        for vhid in range(1, count + 1):
            host.run(["ip", "address", "del", f"{address(vhid)}/16", "dev", "eth0"], check=False)


class Keepalived(Subject):
    def __init__(self, scratch: Path) -> None:
        version = _version(["keepalived", "--version"], r"Keepalived v(\S+)")
        super().__init__("keepalived", protocol="vrrp", own_mac=False, version=version, scratch=scratch)

    @property
    def due(self) -> int:
        return 3 * NS_PER_SECOND + (256 - PRIORITIES[False]) * NS_PER_SKEW

    def start(self, host: Host, master: bool, count: int = 1, *, interval: float = 1, **_options: Any) -> Running:
        base = self.scratch / f"keepalived-{host.name}"
        lines = [
            "global_defs {",
            "    vrrp_garp_master_refresh 0",
            f"    vrrp_version {2 if interval >= 1 else 3}",
            "}",
        ]
        for vhid in range(1, count + 1):
            lines += [
                f"vrrp_instance carp{vhid} {{",
                f"    state {'MASTER' if master else 'BACKUP'}",
                "    interface eth0",
                f"    virtual_router_id {vhid}",
                f"    priority {PRIORITIES[master]}",
                f"    advert_int {interval:g}",
                f"    virtual_ipaddress {{ {address(vhid)}/16 dev eth0 }}",
                "}",
            ]
        base.with_suffix(".conf").write_text("\n".join(lines) + "\n")
        process = host.popen(
            [
                "keepalived",
                "--dont-fork",
                "--vrrp",
                f"--use-file={base.with_suffix('.conf')}",
                f"--pid={base.with_suffix('.pid')}",
                f"--vrrp_pid={base.with_suffix('.vrrp')}",
            ],
            **_QUIET,
        )
        return Running(host, [process])

    def clean(self, host: Host, count: int = 1) -> None:
        Ucarp.clean(self, host, count)  # type: ignore[arg-type]


def subjects(names: list[str], scratch: Path) -> list[Subject]:
    """Those asked for, in this order; raises LookupError for one that is not on this machine."""
    found: list[Subject] = []
    for name in names:
        if name in ("python", "native"):
            if name not in runtimes():
                raise LookupError(f"the {name} runtime is not built")
            found.append(Pycarp(name, scratch))
        elif shutil.which(name) is None:
            raise LookupError(f"{name} is not installed: apt-get install {name}")
        else:
            found.append(Ucarp(scratch) if name == "ucarp" else Keepalived(scratch))
    return found


def runtimes() -> list[str]:
    """pycarp's runtimes that are there."""
    return [
        name
        for name, package in (("native", "_native"), ("python", "_python"))
        if importlib.util.find_spec(f"pycarp.{package}.runtime") is not None
    ]


def available() -> list[str]:
    return [*runtimes(), *(name for name in ("ucarp", "keepalived") if shutil.which(name) is not None)]


def _version(command: list[str], pattern: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found is not None else ""
