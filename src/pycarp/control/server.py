"""The control socket's server: one thread, many clients, none of which can keep it or the engine from its work.

Thread: control, but for the constructor and `close`: any caller
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .._records import dataclass, field
from .._unpatched import selectors, socket, threading, time
from ..errors import CarpError, EngineError
from ..events import ControlClientDropped
from ..linux.threads import precise
from . import places, wire
from .calls import Calls, Later, Reload

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.queue import EventQueue

CLIENTS = 64
"""At once. One more takes the place of the one that has said nothing longest."""
IDLE = 10.0
"""Seconds without a word after which a client makes way for another."""
HALF = 10.0
"""Seconds in which a message that has begun must end."""
WAITING = 1 << 18
"""Bytes that may wait for a reader when one more message is for it."""
JOBS = 16
"""Calls of one client that may be under way."""
_A_TURN = 8
"""Requests of one client that are answered before the others are looked at."""
_LOOK = 0.005
"""Seconds between two looks at calls that are under way."""
_PAUSE = 0.05
"""Seconds without a look at anybody, where there is no descriptor for one who has come."""
_EVENTS = 1024
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("iII")


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    pid: int
    uid: int
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    spoken: float = 0.0  # when it said something last
    begun: float | None = None  # when the message that is not whole began
    stream: Any = None  # the number of the call that asked for events
    streams: bool = False
    jobs: list[tuple[Any, Later]] = field(default_factory=list)
    leaving: bool = False  # it goes once it has been told why


class Server:
    """Answers on a Unix socket for an engine that runs, until `close`. It stops no engine, and no engine stops it.

    `path` is where it listens; without one, at the usual place for `name`. `group` (a number) may connect as well, if
    `mode` lets it; root and this process's own user always may. `reload` has the configuration read again.
    That of `pycarp.aio.Engine` is its `blocking`.
    Raises `EngineError`, in one sentence, where it cannot listen; then nothing is left.
    """

    def __init__(
        self,
        engine: Engine,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str = "run",
        group: int | None = None,
        mode: int | None = None,
        reload: Reload | None = None,
    ) -> None:
        self._engine = engine
        self._calls = Calls(engine, reload)
        self._access = places.Access(group, (0o600 if group is None else 0o660) if mode is None else mode)
        self._clients: dict[int, _Client] = {}
        self._events: EventQueue | None = None
        self._closing = False
        with contextlib.ExitStack() as undo:
            if path is None:
                self.path, self._listener = places.listen_usual(name, self._access)
            else:
                self.path = Path(path)
                self._listener = places.listen(self.path, self._access)
            undo.callback(self._listener.close)
            self._identity = places.identity_of(self.path)
            undo.callback(places.remove, self.path, self._identity)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._selector.register(self._wake, selectors.EVENT_READ)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._run, name="pycarp-control", daemon=True)
            self._thread.start()
            self._undo = undo.pop_all()
        _servers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, close all connections, remove the socket. May be called again."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        _servers.discard(self)
        self._undo.close()

    # The loop

    def _run(self) -> None:
        precise()
        try:
            while not self._closing:
                self._turn()
        finally:
            for client in list(self._clients.values()):
                self._forget(client)
            if self._events is not None:
                self._stop_listening(self._events)

    def _turn(self) -> None:
        for key, mask in self._selector.select(self._timeout()):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Client):
                self._serve(key.data, mask)
        if self._events is not None:
            self._tell(self._events)
        now = time.monotonic()
        for client in list(self._clients.values()):
            self._look_at_jobs(client)
            if client.begun is not None and now - client.begun > HALF:
                self._refuse(client, None, f"the message was not finished within {HALF:.0f} s: end it by a newline")
            if b"\n" in client.incoming:
                self._answer_lines(client)
            self._flush(client)

    def _timeout(self) -> float | None:
        clients = self._clients.values()
        if any(b"\n" in client.incoming for client in clients):
            return 0
        if any(client.jobs for client in clients):
            return _LOOK
        halves = [client.begun for client in clients if client.begun is not None]
        return max(0.0, min(halves) + HALF - time.monotonic()) + 0.01 if halves else None

    # Clients

    def _accept(self) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError as error:
            # It has gone again, or there is no descriptor left: then it still waits there, and would keep us busy.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(_PAUSE)
            return
        connection.setblocking(False)
        pid, uid, gids = _who(connection)
        if not self._access.allows(uid, gids):
            _turn_away(connection, "this user may not control pycarp: ask as root, or as one of the socket's group")
            return
        if len(self._clients) >= CLIENTS and not self._make_room():
            _turn_away(connection, f"{CLIENTS} clients are connected: try again when one of them has gone")
            return
        client = _Client(connection, pid, uid, spoken=time.monotonic())
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """Have the client go that has said nothing longest, if that is long."""
        silent = [one for one in self._clients.values() if not one.streams and not one.jobs]
        oldest = min(silent, key=lambda one: one.spoken, default=None)
        if oldest is None or time.monotonic() - oldest.spoken < IDLE:
            return False
        self._forget(oldest)
        return True

    def _serve(self, client: _Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        if not mask & selectors.EVENT_READ or client.leaving or client.socket.fileno() < 0:
            return
        try:
            read = client.socket.recv(wire.LONGEST)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        if not read:
            self._forget(client)
            return
        client.spoken = time.monotonic()
        client.incoming += read
        self._answer_lines(client)

    def _answer_lines(self, client: _Client) -> None:
        """Answer what is whole, a turn's worth."""
        for _ in range(_A_TURN):
            line, newline, rest = client.incoming.partition(b"\n")
            if not newline or client.leaving:
                break
            client.incoming = rest
            client.begun = None
            if len(line) >= wire.LONGEST:
                break
            if line.strip():
                self._answer(client, bytes(line))
        line, newline, _rest = client.incoming.partition(b"\n")
        if len(line) >= wire.LONGEST:
            self._refuse(client, None, f"a message is longer than {wire.LONGEST} bytes: send shorter ones")
        elif line and not newline and client.begun is None:
            client.begun = time.monotonic()
        elif not line:
            client.begun = None

    def _answer(self, client: _Client, line: bytes) -> None:
        number = None
        try:
            request = wire.parse(line)
            number = request.number
            if request.call == "events":
                self._subscribe(client, number)
                return
            if len(client.jobs) >= JOBS:
                raise wire.BadRequest(f"{JOBS} calls of this client are under way: wait for their answers")
            result = self._calls.run(request)
        except wire.BadRequest as error:
            self._send(client, wire.refusal(number if error.number is None else error.number, str(error)))
        except Exception as error:  # whatever it is, the others are served
            self._send(client, wire.refusal(number, _sentence(error)))
        else:
            if callable(result):
                client.jobs.append((number, result))
            else:
                self._send(client, wire.answer(number, result))

    def _look_at_jobs(self, client: _Client) -> None:
        # An answer may be the one that has the client sent away.
        jobs, client.jobs = client.jobs, []
        for number, look in jobs:
            try:
                result = look()
            except Exception as error:
                self._send(client, wire.refusal(number, _sentence(error)))
            else:
                if result is None:
                    client.jobs.append((number, look))
                else:
                    self._send(client, wire.answer(number, result))

    # Events

    def _subscribe(self, client: _Client, number: Any) -> None:
        if self._events is None:
            self._events = self._engine.tap(_EVENTS)
            self._selector.register(self._events, selectors.EVENT_READ)
        client.stream, client.streams = number, True
        self._send(client, wire.answer(number, {}))

    def _tell(self, events: EventQueue) -> None:
        readers = [client for client in self._clients.values() if client.streams]
        if not readers:
            self._stop_listening(events)
            return
        while (event := events.get(0)) is not None:
            values = event.as_dict()
            for client in readers:
                self._send(client, wire.event(client.stream, values))
        if events.closed:  # the engine has stopped: so the stream ends
            for client in readers:
                client.streams, client.leaving = False, True

    def _stop_listening(self, events: EventQueue) -> None:
        self._selector.unregister(events)
        self._engine.untap(events)
        self._events = None

    # What goes out

    def _send(self, client: _Client, data: bytes) -> None:
        if client.leaving or client.socket.fileno() < 0:
            return
        if len(client.outgoing) > WAITING:
            self._flush(client)
        if len(client.outgoing) > WAITING:
            self._forget(client)
            self._report(client, "it does not read what it has asked for")
            return
        client.outgoing += data

    def _refuse(self, client: _Client, number: Any, why: str) -> None:
        """The last word to a client."""
        self._send(client, wire.refusal(number, why))
        client.leaving = True
        client.begun = None
        client.incoming.clear()
        client.jobs.clear()

    def _flush(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        try:
            while client.outgoing:
                del client.outgoing[: client.socket.send(client.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._forget(client)
            return
        if client.leaving and not client.outgoing:
            self._forget(client)
            return
        wanted = selectors.EVENT_WRITE if client.outgoing else 0
        self._selector.modify(client.socket, selectors.EVENT_READ | wanted, client)

    def _forget(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is None:
            return
        self._selector.unregister(client.socket)
        client.socket.close()
        client.jobs.clear()

    def _report(self, client: _Client, why: str) -> None:
        now = time.monotonic_ns()
        self._engine.report(ControlClientDropped(vhid=0, name="", at=now, pid=client.pid, uid=client.uid, why=why))

    def _abandon(self) -> None:
        """In a forked child: close the copies of the descriptors."""
        self._closing = True
        for one in (self._listener, *(client.socket for client in self._clients.values())):
            one.close()
        os.close(self._wake)
        self._selector.close()


def _who(connection: socket.socket) -> tuple[int, int, tuple[int, ...]]:
    """Process, user and groups of whoever has connected, as the kernel knows them."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 1024)
    except OSError:
        groups = b""
    return pid, uid, (gid, *struct.unpack(f"{len(groups) // 4}I", groups))


def _sentence(error: Exception) -> str:
    if isinstance(error, CarpError | OSError | ValueError):
        return str(error)
    return f"the call failed: {type(error).__name__}: {error}"


def _turn_away(connection: socket.socket, why: str) -> None:
    with connection, contextlib.suppress(OSError):
        connection.send(wire.refusal(None, why))


# A fork copies descriptors: with a copy in the child, a socket would seem alive after the parent's death.
_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server._abandon()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

__all__ = ["EngineError", "Server"]
