"""Findings about this process and its service: capabilities, limits, kernel, the systemd unit."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from ..capabilities import NUMBERS, effective
from .kinds import Finding, finding
from .machine import Machine

_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_IPC_LOCK = 14
"""include/uapi/linux/capability.h"""
_MARKED_SINCE = (5, 18)
"""The first Linux with IFA_PROTO."""
_GATES_SINCE = (5, 16)
"""The first Linux with egress chains."""
_ENOUGH_MEMORY = 64 << 20
_PRIORITY = 2


def look() -> Iterator[Finding]:
    missing = sorted(set(NUMBERS) - effective())
    if missing:
        yield finding("capability", missing=" and ".join(missing))
    if not _may_be_real_time():
        yield finding("real-time")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and limit < _ENOUGH_MEMORY and not _capable(_IPC_LOCK):
        yield finding("memory-lock", limit=limit >> 10)
    release = os.uname().release
    if found := re.match(r"(\d+)\.(\d+)", release):
        version = int(found[1]), int(found[2])
        if version < _MARKED_SINCE:
            yield finding("kernel-old", release=release)
        if version < _GATES_SINCE:
            yield finding("no-gate", why=f"Linux {release}")


def units(machine: Machine) -> Iterator[Finding]:
    """Units that start pycarp and let systemd kill the guardian together with it."""
    for path in machine.files(_UNITS, "*.service"):
        text = _unit_text(machine, path)
        if re.search(r"^ExecStart=.*\bpycarp\b", text, re.MULTILINE):
            modes = re.findall(r"^KillMode=(.*)$", text, re.MULTILINE)
            mode = modes[-1].strip() if modes else "control-group"
            if mode not in ("mixed", "process", "none"):
                yield finding("kill-mode", path.name, unit=path.name, mode=mode)


def _unit_text(machine: Machine, path: Path) -> str:
    """A unit's file and the drop-ins beside it, in the order in which they count."""
    pieces = [path, *machine.files([f"{directory}/{path.name}.d" for directory in _UNITS], "*.conf")]
    found = []
    for piece in pieces:
        try:
            found.append(piece.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def _may_be_real_time() -> bool:
    """Asks the kernel; the thread is as before afterwards."""
    before = os.sched_getscheduler(0)
    if before != os.SCHED_OTHER:
        return True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:
        return False
    return True


def _capable(number: int) -> bool:
    try:
        status = Path("/proc/thread-self/status").read_text()
    except OSError:
        return False
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(line.split()[1], 16) >> number & 1)
