"""Messages of the control socket: lines of JSON, their bounds and versions.

Nothing here does I/O. docs/reference-control.md is for those who write clients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from .._records import dataclass

VERSION = 1
"""Of the dialogue. Fields that are added do not change it."""
LONGEST = 1 << 16
"""Bytes of a request, with its newline."""


_MOST = 1 << 31


class BadRequest(ValueError):
    """A request that is refused. The message is one sentence for whoever sent it, and repeats nothing of it."""

    def __init__(self, message: str, number: Any = None) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True)
class Call:
    """What may be asked for: its sentence, and the arguments by name, each with the types that it may have."""

    sentence: str
    arguments: Mapping[str, tuple[type, ...]]
    needed: tuple[str, ...] = ()


_WHICH = {"which": (str, int)}
_DEMOTION = {"by": (int,), "reason": (str,), **_WHICH}
CALLS = {
    "status": Call("what the engine is now", _WHICH),
    "hand-over": Call("let another host take over where this one is MASTER", {"timeout": (float, int), **_WHICH}),
    "demote": Call("make this host less eager to be MASTER", _DEMOTION),
    "undemote": Call("take a demotion back", _DEMOTION),
    "maintenance": Call("hand over, and stay away from MASTER while another host is heard", {"on": (bool,)}, ("on",)),
    "force": Call("put a virtual host into BACKUP or MASTER", {"state": (str,), **_WHICH}, ("which", "state")),
    "announce": Call("send gratuitous ARP and neighbour advertisements once more", _WHICH),
    "speak": Call("sign with the old, both or the new secret or addresses", {"spoken": (str,), **_WHICH}, ("spoken",)),
    "reload": Call("read the configuration again", {}),
    "events": Call("every event from now on, as it comes", {}),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One line, understood. `number` is whatever the client calls it by."""

    call: str
    arguments: dict[str, Any]
    number: Any


def parse(line: bytes) -> Request:
    """A line without its newline. Raises `BadRequest`."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRequest("this is not JSON: send one object in one line") from None
    if not isinstance(message, dict):
        raise BadRequest("this is no object: send one object in one line")
    number = message.pop("id", None)
    if not isinstance(number, str | int | float | None) or (isinstance(number, float) and not math.isfinite(number)):
        raise BadRequest("the id is neither text nor a number: give one, or none")
    version = message.pop("v", None)
    if isinstance(version, bool) or version != VERSION:
        raise BadRequest(f'the version is not understood: give "v": {VERSION}', number)
    name = message.pop("call", None)
    call = CALLS.get(name) if isinstance(name, str) else None
    if call is None:
        raise BadRequest(f"the call is unknown: give one of {', '.join(CALLS)}", number)
    _check(name, call, message, number)
    return Request(name, message, number)


def _check(name: str, call: Call, arguments: dict[str, Any], number: Any) -> None:
    """Whether the arguments are those of the call."""
    for key, value in arguments.items():
        types = call.arguments.get(key)
        if types is None:
            known = f"it takes {', '.join(call.arguments)}" if call.arguments else "it takes none"
            raise BadRequest(f"{name} has an argument that is unknown: {known}", number)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise BadRequest(f"{key} of {name} is of the wrong kind: give {_kinds(types)}", number)
        if isinstance(value, str) and not value.isprintable():
            raise BadRequest(f"{key} of {name} is not one line of printable text", number)
        if isinstance(value, int | float) and not -_MOST < value < _MOST:
            raise BadRequest(f"{key} of {name} is out of range", number)
    missing = [key for key in call.needed if key not in arguments]
    if missing:
        raise BadRequest(f"{name} needs {' and '.join(missing)}", number)


def _kinds(types: tuple[type, ...]) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return " or ".join(names[one] for one in types if not (one is int and float in types))


def answer(number: Any, result: dict[str, Any]) -> bytes:
    """What a call gave."""
    return _line({"v": VERSION, "id": number, "ok": True, "result": result})


def refusal(number: Any, error: str) -> bytes:
    """Why a call was not carried out, in one sentence."""
    return _line({"v": VERSION, "id": number, "ok": False, "error": error})


def event(number: Any, values: dict[str, Any]) -> bytes:
    """One event of the stream that `number` asked for."""
    return _line({"v": VERSION, "id": number, "event": values})


def request(call: str, arguments: dict[str, Any], number: Any) -> bytes:
    """What a client sends."""
    return _line({"v": VERSION, "id": number, "call": call, **arguments})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
