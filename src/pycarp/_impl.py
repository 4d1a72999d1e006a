"""The only place that chooses between the two implementations of packet, input, auth, machine and runtime.

``PYCARP_IMPL`` asks for one: ``native`` or ``python``. Without it, native where it can be loaded, python otherwise, and
then a warning and an engine say why. What was asked for and is missing is an error, never a fallback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ._records import dataclass, replace
from .errors import ImplementationError, ImplementationWarning

if TYPE_CHECKING:
    from .linux.guardian_client import Spawner
    from .protocol import abc

    current: Implementation

_PACKAGES = {"native": "_native", "python": "_python"}
_MODULES = ("packet", "input", "auth", "machine")
_ANOTHER_INTERPRETER = ("one interpreter per process", "does not support loading in subinterpreters")
"""What importing compiled modules says in a sub-interpreter, by Cython or by Python."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation by its modules, which satisfy the protocols of `abc`."""

    name: str
    packet: abc.PacketModule
    input: abc.InputModule
    auth: abc.AuthModule
    machine: abc.MachineModule
    instead: str = ""
    """Why the native one is not used though nobody asked for another: one sentence."""

    @property
    def runtime(self) -> type[abc.Runtime]:
        """The runtime, which exists on Linux only and is imported only by those who run an engine."""
        runtime: type[abc.Runtime] = _import(self.name, "runtime").Runtime
        return runtime

    @property
    def spawn(self) -> Spawner:
        """The module that starts programs, on Linux only."""
        spawner: Spawner = _import(self.name, "spawn")
        return spawner


def load(name: str) -> Implementation:
    """The implementation called `name`, "native" or "python"; raises `ImplementationError` if it cannot be had."""
    if name not in _PACKAGES:
        raise ImplementationError(f"implementation {name!r} is unknown: PYCARP_IMPL takes native or python")
    try:
        return Implementation(name, *(_import(name, module) for module in _MODULES))
    except ImportError as error:
        remedy = "reinstall pycarp with a C compiler and PYCARP_REQUIRE_EXTENSIONS=1"
        if not isinstance(error, ModuleNotFoundError):
            remedy = _remedy(error)
        raise ImplementationError(
            f"implementation {name!r} is not there ({error}): {remedy}, or set PYCARP_IMPL=python"
        ) from error


def choose() -> Implementation:
    """The implementation that the environment asks for, or the best there is."""
    asked = os.environ.get("PYCARP_IMPL", "")
    if asked:
        return load(asked)
    try:
        return load("native")
    except ImplementationError as error:
        if isinstance(error.__cause__, ImplementationError):
            raise error.__cause__ from None  # it is there, but not the SHA-1 that PYCARP_SHA1 asks for
        if _elsewhere(error.__cause__):
            raise  # no reason to take the other one in silence
        chosen = replace(load("python"), instead=_why_not_native(error.__cause__))
    _warn(f"pycarp runs in plain Python, and times adverts less sharply: {chosen.instead}")
    return chosen


def _why_not_native(error: BaseException | None) -> str:
    """One sentence with the remedy, from what importing the compiled modules raised."""
    meant = "set PYCARP_IMPL=python if this is meant"
    if isinstance(error, ModuleNotFoundError):
        return f"this installation has no compiled modules: reinstall it where there is a C compiler, or {meant}"
    return f"the compiled modules cannot be loaded ({error}): {_remedy(error)}; {meant}"


def _elsewhere(error: BaseException | None) -> bool:
    """Whether another interpreter of this process has the compiled modules, or is the only one that may."""
    return any(part in str(error) for part in _ANOTHER_INTERPRETER)


def _remedy(error: BaseException | None) -> str:
    """What to do about compiled modules that are there and cannot be loaded."""
    if _elsewhere(error):
        return "use pycarp in the main interpreter of a process"
    place = os.path.join(os.path.dirname(__file__), _PACKAGES["native"])
    if hasattr(os, "ST_NOEXEC") and os.statvfs(place).f_flag & os.ST_NOEXEC:
        return f"install pycarp on another file system, {place} is on one that is mounted noexec"
    return "reinstall pycarp"


def _warn(text: str) -> None:
    """Once, at the line of the program that came to need the core."""
    import warnings

    level, frame = 1, sys._getframe()
    inside = (os.path.dirname(__file__) + os.sep, "<frozen importlib")
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ImplementationWarning, stacklevel=level)


def _import(name: str, module: str) -> Any:
    return importlib.import_module(f".{_PACKAGES[name]}.{module}", __package__)


def __getattr__(name: str) -> Implementation:
    # `current` is chosen when it is first asked for, so that a wrong PYCARP_IMPL is an error where somebody can say it.
    if name != "current":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    chosen = choose()
    globals()["current"] = chosen
    return chosen
