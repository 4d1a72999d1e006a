"""A floating IP address for a group of hosts, wire-compatible with NetBSD's carp(4).

`Engine` runs virtual hosts inside a program (`pycarp.aio.Engine` under asyncio); `VirtualHost` describes one. Below
them, for those who build their own: `Machine`, `Authenticator`, `Judge`, and the simulated LAN of
`pycarp.simulation`. `__impl__` tells which implementation of the core runs: "native" or "python".
"""

from . import events
from ._impl import current as _current
from ._version import __version__
from .config import VirtualHost
from .engine import Engine
from .errors import (
    CapabilityError,
    CarpError,
    ConfigError,
    EngineError,
    ImplementationError,
    InterfaceError,
)
from .events import Event
from .protocol import Advert, Reason, State

__impl__: str = _current.name
Authenticator = _current.auth.Authenticator
Machine = _current.machine.Machine
Judge = _current.judge.Judge

__all__ = [
    "Advert",
    "Authenticator",
    "CapabilityError",
    "CarpError",
    "ConfigError",
    "Engine",
    "EngineError",
    "Event",
    "ImplementationError",
    "InterfaceError",
    "Judge",
    "Machine",
    "Reason",
    "State",
    "VirtualHost",
    "__impl__",
    "__version__",
    "events",
]
