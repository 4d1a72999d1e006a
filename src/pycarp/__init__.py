"""A floating IP address for a group of hosts, wire-compatible with NetBSD's carp(4).

`Engine` runs virtual hosts inside a program (`pycarp.aio.Engine` under asyncio); `VirtualHost` describes one. Below
them, for those who build their own: `Machine`, `Authenticator`, `Input`, and the simulated LAN of
`pycarp.lab.simulation`. `__impl__` tells which implementation of the core runs: "native" or "python".
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .config import VirtualHost
from .errors import (
    CapabilityError,
    CarpError,
    ConfigError,
    EngineError,
    ImplementationError,
    InterfaceError,
    InterfaceMissing,
)
from .protocol import Advert, Reason, State

if TYPE_CHECKING:
    from . import events
    from .engine.engine import Engine
    from .events import Event
    from .protocol.abc import Authenticator, Input, Machine

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
    "Input",
    "InterfaceError",
    "InterfaceMissing",
    "Machine",
    "Reason",
    "State",
    "VirtualHost",
    "__impl__",
    "__version__",
    "events",
]


def __getattr__(name: str) -> Any:
    """What depends on the implementation, or costs a program that does not use it, is imported when it is asked for."""
    import importlib

    match name:
        case "Engine":
            value = importlib.import_module(".engine", __name__).Engine
        case "Event":
            value = importlib.import_module(".events", __name__).Event
        case "events":
            value = importlib.import_module(".events", __name__)
        case "__impl__":
            return _implementation().name
        case "Authenticator":
            return _implementation().auth.Authenticator
        case "Input":
            return _implementation().input.Input
        case "Machine":
            return _implementation().machine.Machine
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _implementation() -> Any:
    from . import _impl

    return _impl.current
