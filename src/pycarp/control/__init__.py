"""A running engine's control socket: what it is now, and what it is to do. docs/reference-control.md has the dialogue.

with Engine(host) as engine, Server(engine, "/run/mine/control.sock"):
    ...

with Client("/run/mine/control.sock") as client:
    print(client.call("status"))
"""

from __future__ import annotations

from .client import Client, ControlError
from .server import Server

__all__ = ["Client", "ControlError", "Server"]
