"""A floating IP address for a group of hosts, wire-compatible with NetBSD's carp(4).

`Engine` runs virtual hosts inside a program (`pycarp.aio.Engine` under asyncio); `VirtualHost` describes one. Below
them, for those who build their own: `Machine`, `Authenticator`, `Judge`, and the simulated LAN of `pycarp.simulation`.
`__impl__` tells which implementation of the core runs: "native" or "python".
"""

from typing import TYPE_CHECKING, Any

from . import _impl, events
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

if TYPE_CHECKING:
    from .abc import Authenticator, Judge, Machine

    __impl__: str

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


def __getattr__(name: str) -> Any:
    """What depends on the implementation is chosen when it is first asked for."""
    match name:
        case "__impl__":
            return _impl.current.name
        case "Authenticator":
            return _impl.current.auth.Authenticator
        case "Judge":
            return _impl.current.judge.Judge
        case "Machine":
            return _impl.current.machine.Machine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
