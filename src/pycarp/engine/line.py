"""The line between an engine and its successor in another process: messages, who may speak, what is proved.

A message is JSON in one packet of a SOCK_SEQPACKET socket. No secret goes over it.

    successor     {"hello": VERSION, "nonce", "clock", "held", "wants": [[carpdev, vhid, name, [addresses]]]}
    predecessor   {"no": why, "ends": whether it stops what is wanted}, and closes; or
                  {"offers": count, "process", "nonce"}, and as often
                  {"index", "carpdev", "host", "device"}, with the lock's descriptor
    successor     {"ready": {index: proof}, "stop": [index]}
    predecessor   for each that is ready {"left", "index", "until"}; "left" is what `Runtime.freeze` gives, or null
    successor     {"taken": whether}, to each that is not null
    predecessor   {"end": true}, when what is to stop has stopped

Thread: supervisor, and the one that starts the successor
"""

from __future__ import annotations

import array
import contextlib
import errno
import hashlib
import hmac
import itertools
import json
import os
import struct
from collections.abc import Iterable
from typing import Any

from .._unpatched import select, socket, time
from ..config import VirtualHost
from ..errors import EngineError
from ..linux.sockets import SocketOwner, closed_on_error
from ..protocol.keys import passphrase_bytes

VERSION = 1
"""Of the messages and of what stands in them. Another one is refused, and then the successor starts as ever."""
ANSWERED_WITHIN = 2.0
"""Seconds until a message is sent or answered, where nothing else is said."""
CLOCKS_DIFFER = 1_000_000_000
"""Moments mean nothing between processes whose clocks differ by this many ns: they are in other time namespaces."""
_LONGEST = 1 << 18
_ROOM = 4 * _LONGEST
_MOST_ENGINES = 8
_MOST_FDS = 4
_CREDENTIALS = struct.Struct("=iII")
_SO_SNDBUFFORCE = 32
_PLAIN = (
    "vhid", "name", "advbase", "advskew", "carpdev", "preempt", "dialect", "mac", "replay", "siblings",
    "announcements", "conflict", "timing", "missed", "demotion", "preempt_delay", "start_delay", "up",
    "announce",
)  # fmt: skip
_ADDRESSES = ("addresses", "joining", "leaving")


class LineBroken(EngineError):
    """The other process has ended, does not answer, or says what makes no sense."""


class Line(SocketOwner):
    """One end of a line. It owns the socket."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)

    def permitted(self) -> bool:
        """Whether the other process is root's, or of this user."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return _CREDENTIALS.unpack(raw)[1] in (0, os.geteuid())

    def send(self, message: dict[str, Any], fds: Iterable[int] = ()) -> None:
        """Raises `LineBroken`."""
        octets = json.dumps(message, separators=(",", ":")).encode()
        self._socket.settimeout(ANSWERED_WITHIN)
        try:
            socket.send_fds(self._socket, [octets], list(fds), socket.MSG_NOSIGNAL)
        except OSError as error:
            raise LineBroken(f"the other process cannot be told: {error.strerror or error}") from error

    def ready(self, seconds: float) -> bool:
        """Whether there is something to receive, the end included, within that time."""
        waits = select.poll()  # select(2) takes no descriptor above 1023
        waits.register(self._socket, select.POLLIN)
        return bool(waits.poll(seconds * 1000))

    def receive(self, seconds: float = ANSWERED_WITHIN) -> tuple[dict[str, Any], list[int]]:
        """The next message, and the descriptors that came with it, which are the caller's. Raises `LineBroken`."""
        self._socket.settimeout(max(0.001, seconds))
        fds: list[int] = []
        try:
            # Not recv_fds(): that one uses no flags, and a child might get the descriptors.
            room = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)
            octets, ancillary, flags, _address = self._socket.recvmsg(_LONGEST, room, socket.MSG_CMSG_CLOEXEC)
            fds = _descriptors(ancillary)
            if not octets or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise LineBroken("the other process has ended" if not octets else "a message is too long")
            message = json.loads(octets)
            if not isinstance(message, dict):
                raise ValueError(message)
        except (OSError, ValueError, RecursionError) as error:
            for fd in fds:
                os.close(fd)
            raise LineBroken(f"the other process does not answer: {error}") from error
        except LineBroken:
            for fd in fds:
                os.close(fd)
            raise
        return message, fds


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


class Listener(SocketOwner):
    """Where successors find the engines of a process: abstract names, in the network namespace of the caller."""

    def __init__(self) -> None:
        opened = _socket()
        with closed_on_error(opened):
            for name in _names(os.getpid()):
                try:
                    opened.bind(name)
                    break
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
            else:
                raise EngineError(
                    "no successor can find this process: others have the names of its socket; a restart is a fail-over"
                )
            opened.listen()
            opened.setblocking(False)
        self._socket = opened

    def accept(self) -> Line | None:
        """The line of whoever has called and may; None where there is nobody any more."""
        try:
            opened, _address = self._socket.accept()
        except OSError:
            return None
        line = Line(opened)
        if line.permitted():
            return line
        line.close()
        return None


def call(process: int) -> list[Line]:
    """Lines to the engines of a process that listen."""
    found = []
    for name in _names(process):
        opened = _socket()
        try:
            opened.settimeout(ANSWERED_WITHIN)
            opened.connect(name)
        except OSError:
            opened.close()
            continue
        line = Line(opened)
        if line.permitted():
            found.append(line)
        else:
            line.close()
    return found


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _names(process: int) -> list[bytes]:
    return [f"\0pycarp/engine/{process}/{number}".encode() for number in range(_MOST_ENGINES)]


def hello(hosts: Iterable[tuple[int, VirtualHost]], nonce: str, held: bool) -> dict[str, Any]:
    """A successor's first message; `hosts` are its virtual hosts, each with the index of its carpdev."""
    wants = [[carpdev, one.vhid, one.name, [str(each.ip) for each in one.addresses]] for carpdev, one in hosts]
    return {"hello": VERSION, "nonce": nonce, "clock": time.monotonic_ns(), "held": held, "wants": wants}


def why_not(message: dict[str, Any]) -> str:
    """Why the two cannot work together; empty where they can."""
    if message.get("hello") != VERSION:
        return f"it speaks version {message.get('hello')!r} of the hand-over, and this process {VERSION}"
    if abs(time.monotonic_ns() - int(message["clock"])) > CLOCKS_DIFFER:
        return "its clock is another"
    return ""


def plain(host: VirtualHost) -> dict[str, Any]:
    """What a successor has to know of a virtual host as it runs; no secret, nothing that runs programs."""
    values: dict[str, Any] = {name: getattr(host, name) for name in _PLAIN}
    return values | {name: [str(one) for one in getattr(host, name)] for name in _ADDRESSES}


def as_it_runs(own: VirtualHost, values: dict[str, Any]) -> VirtualHost:
    """A successor's own virtual host as its predecessor runs it: with its own secret, hooks and checks."""
    changed = {name: values.get(name, ()) for name in _ADDRESSES if "addresses" in values}
    return own.replace(**{name: values[name] for name in _PLAIN if name in values}, **changed)


def proof(host: VirtualHost, *nonces: str) -> str:
    """That this process knows the passphrase of the virtual host."""
    secret, following = passphrase_bytes(host.passphrase), passphrase_bytes(host.nextpass)
    text = "/".join(("pycarp", str(host.vhid), host.dialect, *nonces))
    # No passphrase has a zero in it.
    key = secret or b"\0" if host.nextpass is None else secret + b"\0" + following
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def conflicting(wants: Iterable[list[Any]], carpdev: int, host: VirtualHost) -> bool:
    """Whether this virtual host cannot run beside those that are wanted: the same group, name or address."""
    own = {str(each.ip) for each in host.addresses}
    return any(
        [carpdev, host.vhid] == want[:2] or host.name == want[2] or own & set(itertools.chain(want[3]))
        for want in wants
    )
