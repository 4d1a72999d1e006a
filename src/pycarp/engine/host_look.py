"""Looks at the host once, when an engine starts, and tells what keeps virtual hosts from working as events.

Thread: findings
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from .._unpatched import threading, time
from ..config import VirtualHost
from ..events import Event, HostFinding

_STARTED_AFTER = 0.1
"""Seconds until the program that starts an engine has gone on: the look would take its interpreter."""


class HostLook:
    """One look, in a thread of its own: nothing waits for it but the engine's end.

    It happens in the network namespace of the calling thread, once the engine runs. What cannot be looked at is passed
    over: ``pycarp doctor`` tells that.
    """

    def __init__(self, hosts: Sequence[VirtualHost], emit: Callable[[Event], None]) -> None:
        self._hosts = tuple(hosts)
        self._emit = emit
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pycarp-findings", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Returns when the look has ended, or will not begin; tells nothing more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        if self._ended.wait(_STARTED_AFTER):
            return
        vhids = {host.name: host.vhid for host in self._hosts}
        # A program that has given up root, or its file system, may not be able to import anything.
        with contextlib.suppress(OSError, ImportError):
            # Imported here: it takes some ms, and nothing that starts an engine waits for it.
            from ..linux.host_findings import look_at_start

            for one in look_at_start(self._hosts):
                if self._ended.is_set():
                    return
                name = one.where if one.where in vhids else ""
                at = time.monotonic_ns()
                self._emit(HostFinding(vhid=vhids.get(name, 0), name=name, at=at, finding=one.kind, what=one.text))
