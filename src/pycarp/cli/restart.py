"""Restarts of the service: how the next process finds what this one has, and when there will be a next one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CarpError
from .output import complain

if TYPE_CHECKING:
    from ..engine.engine import Engine

_F = TypeVar("_F", bound=Callable[..., Any])

HELD = 5.0
"""Seconds for which a holder waits for the next process, after a stop that is half of a restart."""
_ANSWERED_WITHIN = 1.0
"""Seconds for systemd to say what it is doing. It needs ten milliseconds."""
_ENDED_WITHIN = 2.0
_UNIT = re.compile(r"[^/]+\.service")


def inherit_option(function: _F) -> _F:
    """``--take-over``, of a command that runs an engine."""
    text = "Go on with what another pycarp process runs here, without a fail-over; that one ends."
    return click.option("--take-over", "take_over", is_flag=True, help=text)(function)


def see_off(engine: Engine) -> None:
    """After a take-over: wait until the other process has ended, which has a control socket where this one wants it."""
    from ..linux.lock import lives

    give_up = time.monotonic() + _ENDED_WITHIN
    while engine.predecessor and lives(engine.predecessor) and time.monotonic() < give_up:
        time.sleep(0.01)


def leave_for_the_next(engine: Engine, command: str) -> None:
    """After SIGTERM: where systemd restarts the service, have the virtual hosts held until it has started again."""
    if not engine.hosts or not _restarts(_own_unit()):
        return
    try:
        engine.bequeath(HELD)
    except (CarpError, OSError) as error:
        complain(f"{command}: {error}: another host takes over for the restart")


def _own_unit() -> str:
    """The service of systemd's that this process is the main one of; empty where there is none."""
    if os.environ.get("SYSTEMD_EXEC_PID", str(os.getpid())) != str(os.getpid()) or "INVOCATION_ID" not in os.environ:
        return ""
    try:
        groups = Path("/proc/self/cgroup").read_text().split()
    except OSError:
        return ""
    units = [match[0] for group in groups for match in [_UNIT.search(group.rpartition("/")[2])] if match]
    return units[0] if units else ""


def _restarts(unit: str) -> bool:
    """Whether systemd is stopping a unit to start it again. A plain stop bows out at once, so this asks only once."""
    program = shutil.which("systemctl")
    if not unit or program is None:
        return False
    jobs = _said(program, "list-jobs", "--no-legend", "--no-pager", "--plain", "--full")
    if not any(line.split()[1:3] == [unit, "restart"] for line in jobs.splitlines()):
        return False
    # With another KillMode= systemd kills the holder as well, and nobody bows out.
    return _said(program, "show", "--value", "--property=KillMode", unit).strip() in ("process", "none")


def _said(*words: str) -> str:
    """What a command of systemd printed; nothing where it fails or takes too long."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ANSWERED_WITHIN, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
