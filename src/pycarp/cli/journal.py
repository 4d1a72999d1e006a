"""Lines for systemd's journal: priorities before them, or whole events with their fields (its native protocol)."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
from typing import Any

from .. import events as ev

SOCKET = "/run/systemd/journal/socket"
PRIORITIES: dict[ev.Severity, int] = {"news": 6, "warning": 4, "alarm": 3}
"""syslog(3)'s priority of an event."""


def is_journal(fd: int | None) -> bool:
    """Whether the journal reads this descriptor, by JOURNAL_STREAM: then lines may begin with ``<N>``."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(-1 if fd is None else fd)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class Journal:
    """Sends events to the journal, each with its fields: PYCARP_EVENT, PYCARP_NAME, PYCARP_VHID, PYCARP_PEER ...

    It never waits. Raises `OSError` where there is no journal.
    """

    def __init__(self, path: str = SOCKET) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def send(self, event: ev.Event) -> None:
        """Raises `OSError`, `BlockingIOError` if the journal is too slow."""
        values: dict[str, Any] = event.as_dict()
        who = f"{event.name} " if event.name else ""
        fields = {
            "MESSAGE": f"{who}{event.text}",
            "PRIORITY": PRIORITIES[event.severity],
            "SYSLOG_IDENTIFIER": "pycarp",
        }
        fields |= {f"PYCARP_{name.upper()}": _text(value) for name, value in values.items() if value is not None}
        data = b"".join(_field(name, str(value)) for name, value in fields.items())
        try:
            self._socket.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):  # more than a datagram holds
                raise
            self._send_large(data)

    def _send_large(self, data: bytes) -> None:
        fd = os.memfd_create("pycarp-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        finally:
            os.close(fd)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
