"""What a thread of ours asks of the kernel for itself."""

from __future__ import annotations

import contextlib
import os

from .._unpatched import threading

_DEADLINE, _RESET_ON_FORK = 6, 0x40000000


def precise() -> None:
    """The calling thread's timers end when they are due. A service manager may have this program wait longer, to save
    power (systemd: TimerSlackNSec=)."""
    with contextlib.suppress(OSError), open(f"/proc/{threading.get_native_id()}/timerslack_ns", "wb", 0) as file:
        file.write(b"1")


def may_start_threads() -> bool:
    """Whether the kernel lets the calling thread start others: one under SCHED_DEADLINE (`chrt -d`) may not."""
    try:
        return os.sched_getscheduler(0) != _DEADLINE
    except (OSError, AttributeError):
        return True


def ordinary() -> None:
    """The calling thread has no real-time priority, whatever it was started with."""
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) & ~_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
