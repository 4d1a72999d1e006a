"""A client of the control socket, small and synchronous. The command line is built on it.

Thread: any caller, one at a time
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Self, cast

from .._unpatched import socket, time
from ..errors import CarpError
from . import wire

_LONGEST_ANSWER = 1 << 24
_PARTS: dict[str, tuple[str, type]] = {
    "status": ("instances", list),
    "hand-over": ("handed_over", dict),
    "demote": ("demotion", int),
    "undemote": ("demotion", int),
    "maintenance": ("warning", str),
}
"""What an answer has to have, whoever gives it."""


class ControlError(CarpError):
    """The call was refused, or nobody answers. The message is one sentence."""


class Client:
    """A connection to the socket at `path`; `timeout` is how many seconds an answer may take.

    Raises `ControlError`, and so do all calls.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 10.0) -> None:
        self.path = os.fspath(path)
        self._timeout = timeout
        self._number = 0
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        try:
            self._connect(time.monotonic() + timeout)
        except OSError as error:
            self._socket.close()
            raise ControlError(_not_connected(self.path, error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _connect(self, until: float) -> None:
        while True:
            try:
                self._socket.connect(self.path)
            except BlockingIOError:  # many others wait to be let in
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        """May be called again."""
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        """What the call gives; docs/reference-control.md has the calls. An argument that is None is left out."""
        self._ask(call, arguments)
        # Its own wait comes on top.
        self._socket.settimeout(self._timeout + (arguments.get("timeout") or 0))
        result = self._read_answer()
        part, kind = _PARTS.get(call, ("", object))
        if part and not isinstance(result.get(part), kind):
            raise ControlError(_foreign(self.path))
        return result

    def events(self, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Every event from now on, as `Event.as_dict` has it; ends when the engine stops, or when none comes for
        `timeout` seconds. The connection is for nothing else then."""
        self._ask("events", {})
        self._read_answer()
        return self._stream(timeout)

    def _stream(self, timeout: float | None) -> Iterator[dict[str, Any]]:
        self._socket.settimeout(timeout)
        while True:
            try:
                message = self._read()
            except TimeoutError:
                return
            except ControlError:
                return
            event = message.get("event")
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event

    def _ask(self, call: str, arguments: dict[str, Any]) -> None:
        self._number += 1
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            self._socket.sendall(wire.request(call, given, self._number))
        except OSError as error:
            # It may have been told why before it was sent away.
            if error.errno is None or not self._pending():
                raise ControlError(f"{self.path} takes no calls: {error.strerror or error}") from None

    def _pending(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def _read_answer(self) -> dict[str, Any]:
        try:
            message = self._read()
        except TimeoutError:
            raise ControlError(f"{self.path} does not answer: look at the process that listens there") from None
        if message.get("ok") is not True:
            raise ControlError(str(message.get("error", "the call was refused")))
        if message.get("v") != wire.VERSION or not isinstance(message.get("result"), dict):
            raise ControlError(_foreign(self.path))
        return cast("dict[str, Any]", message["result"])

    def _read(self) -> dict[str, Any]:
        """One message."""
        while b"\n" not in self._buffer:
            try:
                read = self._socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError as error:
                raise ControlError(f"{self.path} has gone: {error.strerror}") from None
            if not read or len(self._buffer) > _LONGEST_ANSWER:
                raise ControlError(f"{self.path} has gone: its process has ended, or sent this client away")
            self._buffer += read
        line, _newline, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ControlError(_foreign(self.path))
        return message


def _foreign(path: str) -> str:
    return f"{path} speaks another language: is it pycarp's, and of this version?"


def _not_connected(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"this user may not use {path}: ask as root, or as one of the socket's group"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"nobody listens at {path}: start pycarp, or give another path"
    return f"{path} takes no calls: {error.strerror or error}"
