"""socket, select, selectors, threading and time as Python has them, whatever the program has made of its own.

gevent and eventlet replace what blocks by what switches to another greenlet: the engine's threads would be none, and
`start` would wait for ever. Test tools stop the clock. The modules of the engine take these names from here and nowhere
else; `tests/test_unpatched.py` holds them to it.

`time` and `select` are copies of our own, which nobody patches. The others are the program's as long as nobody has
patched those, so that the engine's threads are seen by everybody, and copies of our own from then on.

Thread: any
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import types

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    import http.server
    import select as select
    import selectors as selectors
    import socket as socket
    import threading as threading
    import time as time
    from typing import Any, Protocol

    http_server = http.server

    class Clock(Protocol):
        """What rooms need of `time`, that a simulated LAN may have another one."""

        def monotonic(self) -> float: ...
        def monotonic_ns(self) -> int: ...
        def sleep(self, seconds: float, /) -> object: ...


_COPIED = ("_thread", "select", "selectors", "socket", "socketserver", "threading", "time")
"""What the copies are made on top of."""
_copies: dict[str, types.ModuleType] = {}


def _loaded(name: str, **given: Any) -> types.ModuleType:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    code = getattr(spec.loader, "get_code", lambda _name: None)(name)
    if code is None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    # A name of its own: enumerations are put into the module that `sys.modules` has under the name of their maker.
    module = sys.modules[f"{__name__}.{name}"] = types.ModuleType(f"{__name__}.{name}")
    vars(module).update(given)
    exec(code, vars(module))
    return module


_thread = _copies["_thread"] = _loaded("_thread")
_lock = _thread.RLock()


def patched() -> bool:
    """Whether threads or sockets of this program are not what Python has."""
    started = sys.modules["_thread"].start_new_thread
    module = sys.modules.get("socket")
    return not isinstance(started, types.BuiltinFunctionType) or (
        module is not None and module.socket.__module__ != "socket"
    )


def wait_as_program(fd: int, timeout: float | None) -> None:
    """Until `fd` is readable, in the way of the program: with its own select, patched or not."""
    importlib.import_module("select").select([fd], [], [], timeout)


def copy(name: str) -> types.ModuleType:
    """Our own copy of a module of the standard library: its code, on top of our own copies of what it needs."""
    with _lock:
        if name not in _copies:
            # What it imports, now and later, comes from here as well.
            given = {"__builtins__": {**vars(builtins), "__import__": _import}}
            _copies[name] = _threading(given) if name == "threading" else _loaded(name, **given)
        return _copies[name]


def _threading(given: dict[str, Any]) -> types.ModuleType:
    """Until Python 3.12, importing threading gives the thread that does so a new lock to end with. It has one."""
    original = getattr(_thread, "_set_sentinel", None)
    if original is None:
        return _loaded("threading", **given)
    _thread._set_sentinel = _thread.allocate_lock  # type: ignore[attr-defined]
    try:
        module = _loaded("threading", **given)
    finally:
        _thread._set_sentinel = original  # type: ignore[attr-defined]
    module._set_sentinel = original  # type: ignore[attr-defined]
    return module


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    return copy(name) if name in _COPIED else builtins.__import__(name, globals, locals, fromlist, level)


class _AsNeeded:
    """A module by name: the program's, or our copy where the program's is patched."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        module = copy(self._name) if patched() else sys.modules.get(self._name)
        return getattr(module or importlib.import_module(self._name), name)


def _sleep(seconds: float) -> None:
    """With its monotonic clock spared, libfaketime 0.9.10 has Python's own end with EINVAL (clock_nanosleep)."""
    select.select((), (), (), seconds)


if not TYPE_CHECKING:
    select, time = copy("select"), copy("time")
    time.sleep = _sleep
    selectors, socket, threading = _AsNeeded("selectors"), _AsNeeded("socket"), _AsNeeded("threading")
    http_server = _AsNeeded("http.server")
