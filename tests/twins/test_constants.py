"""What is written down twice, once for Python and once for C, says the same."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from support import IMPLEMENTATIONS

from pycarp import _python, protocol, stats
from pycarp.protocol import timing

ROOT = Path(__file__).parents[2]
PREFIX = f"{_python.__name__}."
TWINS = [info.name.removeprefix(PREFIX) for info in pkgutil.walk_packages(_python.__path__, PREFIX) if not info.ispkg]
NUMBER = r"(?:U?INT(?:64|32)_C\()?\(?(0x[0-9a-fA-F]+|UINT32_MAX|\d+(?: << \d+)?)\b(?! *[*+<])"
IN_C = re.compile(rf"(?:#define +([A-Z]\w+) +|\b([A-Z][A-Z0-9_]+) *= *){NUMBER}")
# Numbers of Python's alone, by module, with the reason.
ALONE: dict[str, set[str]] = {
    # The thread of an interpreter needs more than C's; the others are the kernel's, which C has from its headers.
    "guardian.confine": {"STACK", "CAPABILITY_VERSION_3", "CAP_NET_ADMIN"},
    "guardian.route": {"ALL"},  # UINT32_MAX
}


def in_c() -> dict[str, set[int]]:
    """Every number that has a name in C or Cython, by name: macros, enums and assignments."""
    found: dict[str, set[int]] = {}
    for path in sorted((ROOT / "ext").rglob("*")):
        if path.suffix in (".c", ".h", ".pyx", ".pxd", ".pxi"):
            for macro, name, number in IN_C.findall(path.read_text("utf-8")):
                base, _, shift = number.replace("UINT32_MAX", "0xFFFFFFFF").partition(" << ")
                found.setdefault(macro or name, set()).add(int(base, 0) << int(shift or 0))
    return found


def in_python(name: str) -> dict[str, Any]:
    """The constants that a module of the reference defines, by name."""
    module = importlib.import_module(PREFIX + name)
    assert module.__file__ is not None
    found: dict[str, Any] = {}
    for statement in ast.parse(Path(module.__file__).read_text("utf-8")).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]
            found |= {name: getattr(module, name) for name in names}
    return found


def test_every_time_limit_is_the_same_in_c() -> None:
    header = (ROOT / "ext" / "timing.h").read_text()
    there = {name: int(value) for name, value in re.findall(r"#define (\w+) INT64_C\((\d+)\)", header)}
    here = {name: value for name, value in vars(timing).items() if name.isupper() and not name.startswith("_")} | {
        "NS_PER_SECOND": protocol.NS_PER_SECOND,
        "NS_PER_SKEW": protocol.NS_PER_SKEW,
    }
    here.pop("PACES")  # the compiled twin reads these from here
    here.pop("LEASE_FOREVER")  # no time limit, but a value of netlink's
    assert there == here


def test_a_number_of_the_reference_is_the_same_in_c() -> None:
    """Wherever C or Cython gives a number the same name."""
    there = in_c()
    assert there["BOWOUT"] == {protocol.BOWOUT} and there["SIBLINGS_KNOWN"] == {8}, "the sources are not understood"
    for module in TWINS:
        for name, value in in_python(module).items():
            if isinstance(value, int) and name.lstrip("_") in there and name not in ALONE.get(module, ()):
                assert there[name.lstrip("_")] == {value}, f"{module}.{name}"


@pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason="the compiled implementation is not tested here")
@pytest.mark.parametrize("name", TWINS)
def test_the_constants_of_the_reference(name: str) -> None:
    """Each public one is one of the compiled twin, or a number that stands in its sources."""
    try:
        native: Any = importlib.import_module(f"pycarp._native.{name.partition('.')[0]}")
    except ModuleNotFoundError:
        native = None  # a part of another extension, or the guardian's program
    there = in_c()
    for constant, value in in_python(name).items():
        if constant.startswith("_") or constant in ALONE.get(name, ()):
            continue
        if hasattr(native, constant):
            assert getattr(native, constant) == value, constant
        elif isinstance(value, int) and value is not False:
            assert there.get(constant) == {value}, f"{constant} is not in C"


def test_the_numbers_beside_the_twins() -> None:
    """Those that C or Cython shares with a module that has no twin."""
    there = in_c()
    assert there["BUCKETS"] == {stats.BUCKETS}
    assert there["LEASE_FOREVER"] == {timing.LEASE_FOREVER}


def in_order(name: str, prefix: str) -> list[str]:
    """The words of an enum without values that a declaration file has."""
    enums = re.findall(r"^cdef enum:\n((?:    .*\n)+)", (ROOT / "ext" / name).read_text(), re.MULTILINE)
    (enum,) = [each for each in enums if each.split()[0].startswith(prefix)]
    return re.findall(rf"\b{prefix}(\w+)\b(?! =)", enum)


def test_the_machines_words_stand_in_the_same_order_in_c() -> None:
    assert in_order("machine.pxd", "STATE_") == [state.name for state in sorted(protocol.State)]
    assert in_order("machine.pxd", "REASON_") == [reason.name for reason in protocol.Reason]
    assert in_order("arbitration.pxd", "STANDING_") == [standing.upper() for standing in protocol.STANDINGS]
