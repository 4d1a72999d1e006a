"""Both implementations have what `protocol.abc` promises: the same names, parameters, kinds and defaults."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from support import IMPLEMENTATIONS

from pycarp import _impl
from pycarp.protocol import abc

ROOT = Path(__file__).parents[2]
EXT = ROOT / "ext"

# How to come by what satisfies each Protocol.
FOUND: dict[str, Callable[[_impl.Implementation], Any]] = {
    "Authenticator": lambda impl: impl.auth.Authenticator,
    "Machine": lambda impl: impl.machine.Machine,
    "Input": lambda impl: impl.input.Input,
    "AdvertTemplate": lambda impl: impl.packet.AdvertTemplate,
    "PacketModule": lambda impl: impl.packet,
    "InputModule": lambda impl: impl.input,
    "AuthModule": lambda impl: impl.auth,
    "MachineModule": lambda impl: impl.machine,
    "Runtime": lambda impl: impl.runtime,
    "Implementation": lambda impl: impl,
}
# Public names of one implementation alone, by module, with the reason.
ALONE = {
    "auth": {
        # SHA-1 has variants for processors; Python takes hashlib's.
        "sha1",
        "sha1_select",
        "sha1_variant",
        "sha1_variants",
        # Counts what the native check costs; a benchmark calls it.
        "verify_many",
    }
}


PROTOCOLS = [value for value in vars(abc).values() if getattr(value, "_is_protocol", False) and value is not Protocol]


def public(holder: Any) -> set[str]:
    names = {name for one in getattr(holder, "__mro__", (holder,)) if one is not object for name in vars(one)}
    return {name for name in names if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter but self."""
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in found if one.name != "self"]


def constructor(found: Any) -> Any:
    """A function with the parameters of a class, which a compiled class does not tell: they stand in its source."""
    if inspect.isfunction(found.__init__):
        return found.__init__
    for path in sorted(EXT.rglob("*.p[yx][xi]")):
        _, at, body = path.read_text("utf-8").partition(f"cdef class {found.__name__}:")
        if at:
            body = body.split("\ncdef class ")[0]
            made = re.findall(r"def (?:__cinit__|__init__)(\(self, .*?\))(?: -> None)?:", body, re.DOTALL)
            function = ast.parse(f"def made{made[0] if made else '(self)'}: pass")
            names: dict[str, Any] = {}
            exec(compile(function, str(path), "exec"), names)
            return names["made"]
    raise AssertionError(f"no source has the class {found.__name__}")


def test_every_protocol_is_held() -> None:
    assert {protocol.__name__ for protocol in PROTOCOLS} == set(FOUND)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_signatures(protocol: Any, impl: _impl.Implementation) -> None:
    found = FOUND[protocol.__name__](impl)
    for name in public(protocol):
        promised = vars(protocol)[name]
        assert hasattr(found, name), f"{impl.name} has no {protocol.__name__}.{name}"
        there = getattr(found, name)
        if isinstance(promised, property):
            assert not inspect.isclass(found) or inspect.isdatadescriptor(there), name
        else:
            assert parameters(there) == parameters(promised), f"{impl.name}: {protocol.__name__}.{name}"
    for name in protocol.__annotations__:
        assert hasattr(found, name) or hasattr(found(), name), name
    if inspect.isclass(found):
        # A Protocol without one of its own has a stand-in.
        promised = (
            protocol.__init__ if protocol.__init__.__qualname__.startswith(protocol.__name__) else lambda self: None
        )
        assert parameters(constructor(found)) == parameters(promised), f"{impl.name}: {protocol.__name__}()"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_nothing_that_no_protocol_promises(protocol: Any, impl: _impl.Implementation) -> None:
    found = FOUND[protocol.__name__](impl)
    if inspect.isclass(found):
        assert public(found) <= public(protocol) | set(protocol.__annotations__)


@pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason="the compiled implementation is not tested here")
@pytest.mark.parametrize("name", ["packet", "auth", "input", "machine", "spawn"])
def test_the_modules_have_the_same_names(name: str) -> None:
    """Their own functions and classes, with the same methods and parameters."""
    own = []
    for package in ("_python", "_native"):
        module = importlib.import_module(f"pycarp.{package}.{name}")
        own.append({key: value for key, value in vars(module).items() if _is_own(key, value, module.__name__)})
    python, native = own
    assert set(native) - ALONE.get(name, set()) == set(python)
    for key, value in python.items():
        pairs = [(value, native[key])]
        if inspect.isclass(value):
            assert public(native[key]) == public(value), key
            pairs = [(inspect.getattr_static(value, method), getattr(native[key], method)) for method in public(value)]
        for function, twin in pairs:
            if inspect.isfunction(function) and not function.__name__.startswith("_"):
                assert parameters(twin) == parameters(function), f"{key}: {function.__name__}"


def _is_own(key: str, value: Any, module: str) -> bool:
    return not key.startswith("_") and callable(value) and getattr(value, "__module__", None) == module
