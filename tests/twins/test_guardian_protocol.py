"""The guardian in C and in Python: the same messages, the same functions. Other constants: test_constants."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from pycarp._python.guardian import protocol
from pycarp.linux.guardian_client import Guardian, Kind, Reply

C = Path(__file__).parents[2] / "ext" / "guardian"
PYTHON = Path(protocol.__file__).parent


def without_comments(path: Path) -> str:
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


CODE = without_comments(C / "protocol.h")
FORMATS = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I", "int32_t": "i", "int64_t": "q", "uint64_t": "Q"}


def enumerators() -> dict[str, int]:
    found: dict[str, int] = {}
    for body in re.findall(r"enum \w*\s*\{(.*?)\}", CODE, re.DOTALL):
        value = 0
        for name, given in re.findall(r"(\w+)(?: = (\d+))?,?", body):
            found[name] = value = int(given) if given else value
            value += 1
    return found


def macros() -> dict[str, int]:
    defined = dict(re.findall(r"#define (\w+) (\w+)", CODE))
    return {name: 0xFFFFFFFF if value == "UINT32_MAX" else int(value, 0) for name, value in defined.items()}


def fields(struct: str) -> dict[str, str]:
    """The members in their order, each with the format character of its type, so many times as it has elements."""
    body = re.search(rf"struct {struct} \{{(.*?)\}};", CODE, re.DOTALL)
    assert body is not None
    found = {}
    for kind, names in re.findall(r"(\w+_t) ([^;]+);", body[1]):
        for name in names.split(", "):
            member, _, count = name.partition("[")
            found[member] = FORMATS[kind] * (protocol.BATCHES + 1 if count == "BATCHES + 1]" else 1)
            if count == "KEY_LENGTH]":
                found[member] = "s" * protocol.KEY_LENGTH
    return found


def layout(format_: str) -> str:
    """A format without its byte order, 3I as III."""
    return re.sub(r"(\d+)(\w)", lambda m: m[2] * int(m[1]), format_.removeprefix("="))


def test_constants() -> None:
    in_c = enumerators() | macros()
    in_python = {name: value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, int)}
    assert in_python == in_c
    assert {f"{'REPLY' if one >= Kind.HELLO else 'ORDER'}_{one.name}": one.value for one in Kind} == {
        name: value for name, value in enumerators().items() if name.startswith(("ORDER", "REPLY"))
    }


def test_structs() -> None:
    for struct, packed in (
        ("order", protocol.ORDER),
        ("reply", protocol.REPLY),
        ("description", protocol.DESCRIPTION),
        ("gate_description", protocol.GATE_DESCRIPTION),
    ):
        assert "".join(fields(struct).values()) == layout(packed.format)
        # The C compiler would not pad it either.
        assert packed.size == int(re.search(rf"sizeof\(struct {struct}\) == (\d+)", CODE)[1])  # type: ignore[index]


def test_fields_have_the_same_names() -> None:
    in_reply = [one for one in fields("reply") if one != "zero"]
    assert in_reply == [one.name for one in dataclasses.fields(Reply)]
    in_order = {one for one in fields("order") if one not in ("zero", "flags")}
    assert in_order == set(inspect.signature(Guardian.order).parameters) - {"self"}


def test_functions_have_the_same_names() -> None:
    declared = {
        name for one in C.glob("*.h") for name in re.findall(r"^\w[\w *]*?\b(\w+)\(", without_comments(one), re.M)
    }
    defined = {name for one in PYTHON.glob("*.py") for name in re.findall(r"^def _?(\w+)\(", one.read_text(), re.M)}
    # launch.c is the twin of spawn.py; the others need no function in Python.
    without = "guardian_launch confine_calls instance_find monotonic clock_ns timespec_of"
    assert declared - defined == set(without.split())
    for one in C.glob("*.c"):
        twin = PYTHON / f"{one.stem}.py"
        assert twin.exists() or one.stem == "launch"
