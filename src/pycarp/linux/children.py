"""Programs that an engine runs for its owner, as hooks and checks. None of them is a child of this process.

A program of ours, the launcher (`launcher.py`), starts them and waits for them: so no wait() of the host program sees
one, and no SIGCHLD comes. It ends with its owner, however that ends, and kills what still runs then.

Thread: any caller, one at a time for each `Child`. Nothing here blocks for longer than `_STARTED_WITHIN`.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import _impl
from .._unpatched import select, socket, threading, time
from .guardian_client import interpreter, pidfd

_STARTED_WITHIN = 5.0
"""Seconds for the launcher to start a program. It needs one or two milliseconds."""
_PIECE = 65536


class Child:
    """A program that was started. Close it in the end: that kills what still runs of its process group.

    `fileno()` is readable when `poll` may have something new. `output` is what the program writes on stdout and stderr,
    a descriptor that does not block, or -1.
    """

    def __init__(self, control: socket.socket, output: int, pid: int) -> None:
        self._control = control
        self.output = output
        self.pid = pid
        self.status: int | None = None
        """The exit code, negative for a signal; None while it runs."""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._control.fileno()

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs. A launcher that has gone has killed it."""
        if self.status is None:
            try:
                message = self._control.recv(256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                message = b""
            self.status = json.loads(message)["status"] if message else -signal.SIGKILL
        return self.status

    def read(self) -> bytes | None:
        """What has come on its output: b"" at the end, None if nothing has come yet."""
        if self.output < 0:
            return b""
        try:
            return os.read(self.output, _PIECE)
        except BlockingIOError:
            return None

    def signal(self, number: int) -> None:
        """Send a signal to its whole process group, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._control.send(bytes((number,)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def finish(self, seconds: float, limit: int = 65536) -> tuple[int | None, bytes]:
        """Wait for its end; after `seconds` its process group is killed. The exit code, or None if that was needed.

        Beside it the first `limit` bytes of its output, which is read to the end of the program and no longer.
        """
        said = bytearray()
        waits = select.poll()
        waits.register(self._control, select.POLLIN)
        if self.output >= 0:
            waits.register(self.output, select.POLLIN)
        give_up = time.monotonic() + seconds
        late = False
        while self.poll() is None:
            left = give_up - time.monotonic()
            if left <= 0 and late:
                break  # The launcher hangs; closing is all that is left.
            if left <= 0:
                late, give_up = True, time.monotonic() + _STARTED_WITHIN
                self.signal(signal.SIGKILL)
                continue
            if any(number == self.output for number, _ in waits.poll(left * 1000)) and self._collect(said, limit):
                waits.unregister(self.output)
        self._collect(said, limit)
        return None if late else self.status, bytes(said)

    def _collect(self, said: bytearray, limit: int) -> bool:
        """Read what has come; True at the end of the output."""
        for _turn in range(16):
            piece = self.read()
            if not piece:
                return piece == b""
            said += piece[: limit - len(said)]
        return False

    def close(self) -> None:
        """Kill what still runs of it, and close the descriptors."""
        self._control.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


class Children:
    """Starts programs, in the network namespace and with the rights of the thread that makes this.

    Raises `OSError` or `EngineError` when there can be no launcher.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.pid = 0
        """The launcher's process number."""
        self._open()

    def _open(self) -> None:
        python = interpreter("a launcher of programs")
        command = [python, "-ISB" if sys.dont_write_bytecode else "-IS", str(Path(__file__).with_name("launcher.py"))]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        fds = [-1, -1, -1, theirs.fileno()]
        engine = pidfd(os.getpid())
        try:
            with theirs:
                argv = [os.fsencode(one) for one in command]
                self.pid = _impl.current.spawn.spawn(python, argv, fds if engine < 0 else [*fds, engine])
        except BaseException:
            ours.close()
            raise
        finally:
            if engine >= 0:
                os.close(engine)
        ours.setblocking(False)
        self._socket = ours

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        user: str | None = None,
        output: bool = True,
        leave: bool = False,
        directory: str = "/",
    ) -> Child:
        """Start a program, in a session of its own, with nothing but this environment and these bytes on stdin.

        A name without a slash is looked up in the PATH of `env`. `user` is a login name: the program gets that user's
        groups, and needs this process to be root. With `leave`, what the program leaves running in its process group
        goes on when it has ended; otherwise that is killed. Raises `OSError`: it is not there, or may not be run.
        """
        wanted = {"argv": list(argv), "env": dict(env), "cwd": directory, "leave": leave, **_identity(user)}
        request = json.dumps(wanted).encode()
        asked = self._socket
        try:
            return self._start(request, stdin, output, argv[0])
        except ConnectionError:
            # The launcher has gone, killed by somebody: there is another.
            self._replace(asked)
            return self._start(request, stdin, output, argv[0])
        except TimeoutError:
            # It hangs, and ends when it goes on: the next program has another.
            self._replace(asked)
            raise

    def _start(self, request: bytes, stdin: bytes, output: bool, program: str) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        reading, passed = -1, []
        try:
            with theirs:
                passed = [_memory("request", request), _memory("stdin", stdin)]
                fds = [*passed, theirs.fileno()]
                if output:
                    reading, writing = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(reading, False)
                    passed.append(writing)
                    fds.append(writing)
                self._ask(fds)
            return Child(ours, reading, _started(ours, program))
        except BaseException:
            ours.close()
            if reading >= 0:
                os.close(reading)
            raise
        finally:
            for fd in passed:
                os.close(fd)

    def _ask(self, fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        give_up = time.monotonic() + _STARTED_WITHIN
        with self._lock:
            while True:
                if self._socket is None:
                    raise OSError(errno.ESHUTDOWN, "the launcher of programs was closed")
                try:
                    self._socket.sendmsg([b"start"], rights, socket.MSG_NOSIGNAL)
                    return
                except BlockingIOError:
                    left = give_up - time.monotonic()
                    if left <= 0:
                        raise OSError(errno.ETIMEDOUT, "the launcher of programs does not answer") from None
                    _wait(self._socket.fileno(), select.POLLOUT, left)

    def _replace(self, gone: socket.socket | None) -> None:
        with self._lock:
            if self._socket is gone is not None:
                gone.close()
                self._open()

    def close(self) -> None:
        """End the launcher: what it has started and still runs is killed. May be called again."""
        with self._lock:
            end, self._socket = self._socket, None
        if end is not None:
            # Not only closed: a forked child of this process may have a copy.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def abandon(self) -> None:
        """In a forked child: close the copy of the descriptor, and leave the launcher alone."""
        end, self._socket = self._socket, None
        if end is not None:
            end.close()


def _identity(user: str | None) -> dict[str, Any]:
    if user is None:
        return {"uid": None, "gid": None, "groups": None}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise OSError(errno.ENOENT, "there is no such user on this machine") from None
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": os.getgrouplist(user, entry.pw_gid)}


def _memory(name: str, content: bytes) -> int:
    fd = os.memfd_create(f"pycarp-{name}", os.MFD_CLOEXEC)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def _started(control: socket.socket, program: str) -> int:
    """The number of the process that was asked for. Raises `OSError` with the reason why there is none."""
    _wait(control.fileno(), select.POLLIN, _STARTED_WITHIN)
    try:
        message = control.recv(256, socket.MSG_DONTWAIT)
    except BlockingIOError:
        raise OSError(errno.ETIMEDOUT, "the launcher of programs does not answer") from None
    answer = json.loads(message) if message else {"error": errno.ECONNRESET}
    if "pid" not in answer:
        raise OSError(answer["error"], os.strerror(answer["error"]), program)
    return int(answer["pid"])


def _wait(descriptor: int, events: int, seconds: float) -> None:
    waits = select.poll()
    waits.register(descriptor, events)
    waits.poll(seconds * 1000)
