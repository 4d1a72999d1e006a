"""A floating IP address for a group of hosts, wire-compatible with NetBSD's carp(4).

`Engine` runs virtual hosts inside a program (`pycarp.aio.Engine` under asyncio); `VirtualHost` describes one. Below
them, for those who build their own: `Machine`, `Authenticator`, `Input`, and the simulated LAN of
`pycarp.lab.simulation`. `__impl__` tells which implementation of the core runs: "native" or "python".
"""

from ._version import __version__

TYPE_CHECKING = False  # importing typing would take longer than all that is here
if TYPE_CHECKING:
    from typing import Any

    from . import aio as aio
    from . import anyio as anyio
    from . import asgi as asgi
    from . import config as config
    from . import errors as errors
    from . import events
    from . import protocol as protocol
    from . import release as release
    from . import stats as stats
    from .config import VirtualHost
    from .engine.engine import Engine
    from .engine.owner import Owner
    from .errors import (
        CapabilityError,
        CarpError,
        ConfigError,
        EngineError,
        ImplementationError,
        InterfaceError,
        InterfaceMissing,
    )
    from .events import Event
    from .health.check import Check
    from .hooks.hook import Hook
    from .protocol import Advert, Reason, State
    from .protocol.abc import Authenticator, Input, Machine

    __impl__: str

__all__ = [
    "Advert",
    "Authenticator",
    "CapabilityError",
    "CarpError",
    "Check",
    "ConfigError",
    "Engine",
    "EngineError",
    "Event",
    "Hook",
    "ImplementationError",
    "Input",
    "InterfaceError",
    "InterfaceMissing",
    "Machine",
    "Owner",
    "Reason",
    "State",
    "VirtualHost",
    "__impl__",
    "__version__",
    "events",
]


_ERRORS = tuple(name for name in __all__ if name.endswith(("Error", "Missing")))
_PLACES = {
    **dict.fromkeys(("Advert", "Reason", "State"), "protocol"),
    **dict.fromkeys(_ERRORS, "errors"),
    "VirtualHost": "config",
    "Check": "health.check",
    "Hook": "hooks.hook",
    "Engine": "engine",
    "Owner": "engine.owner",
    "Event": "events",
}
"""In which module a name is."""
_MODULES = ("aio", "anyio", "asgi", "config", "errors", "events", "protocol", "release", "stats")
_CHOSEN = {"Authenticator": "auth", "Input": "input", "Machine": "machine"}
"""In which module of the implementation that runs."""


def __getattr__(name: str) -> "Any":
    """Everything is imported when it is asked for: a command that only prints its help needs nothing of it, and Ctrl-C
    in the middle of an import is a traceback."""
    import importlib

    if name in _PLACES:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    elif name == "__impl__":
        return _implementation().name
    elif name in _CHOSEN:
        return getattr(getattr(_implementation(), _CHOSEN[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All that can be had: `inspect.getmembers` asks for each."""
    from importlib.util import find_spec

    return sorted({*__all__, *_MODULES} - (set() if find_spec("anyio") else {"anyio"}))


def _implementation() -> "Any":
    from . import _impl

    return _impl.current
