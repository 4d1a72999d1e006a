"""What a hook is told: its environment, and the JSON on its stdin.

Thread: hooks
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from .._records import dataclass
from .._unpatched import time
from ..config import VirtualHost
from ..events import Event, StateChanged
from ..protocol import State

_LONGEST = 65536
"""Bytes of the JSON at most: what is longer comes without the event's own values."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a program gets of this process's environment. The rest may hold secrets of the program that the engine is in."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a hook runs. `event` is None for a drain; `host` is None for what concerns the engine as a whole."""

    when: str
    event: Event | None
    host: VirtualHost | None
    carpdev: str
    state: State

    @property
    def name(self) -> str:
        """That of the virtual host, or ""."""
        return self.host.name if self.host is not None else ""

    def environment(self) -> dict[str, str]:
        """The variables PYCARP_..., and PATH."""
        changed = self.event if isinstance(self.event, StateChanged) else None
        peer = changed.peer if changed is not None and changed.after is State.BACKUP else None
        own = {
            "HOOK": self.when,
            "NAME": self.name,
            "VHID": str(self.host.vhid) if self.host is not None else "",
            "STATE": self.state.name,
            "FORMER_STATE": changed.before.name if changed is not None else self.state.name,
            "REASON": changed.reason.value if changed is not None else self.event.text if self.event else "drain",
            "ADDRESSES": " ".join(str(one.ip) for one in self.host.addresses) if self.host is not None else "",
            "CARPDEV": self.carpdev,
            "MASTER": peer or "",
            "EVENT": type(self.event).__name__ if self.event is not None else "Drain",
        }
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {"PATH": os.environ.get("PATH") or _PATH, **kept, **{f"PYCARP_{name}": own[name] for name in own}}

    def json(self) -> bytes:
        """One line: the event's values, with the time of day and what else the environment tells."""
        at = self.event.at if self.event is not None else time.monotonic_ns()
        moment = datetime.fromtimestamp((time.time_ns() - time.monotonic_ns() + at) / 1e9, UTC)
        values: dict[str, Any] = {"time": moment.isoformat(), "hook": self.when, "state": self.state.name}
        told = self.event.as_dict() if self.event is not None else {"event": "Drain", "name": self.name, "at": at}
        if self.host is not None:
            values |= {"vhid": self.host.vhid, "addresses": [str(one.ip) for one in self.host.addresses]}
            values["carpdev"] = self.carpdev
        line = json.dumps(values | told).encode() + b"\n"
        return line if len(line) <= _LONGEST else json.dumps(values | {"event": told["event"]}).encode() + b"\n"
