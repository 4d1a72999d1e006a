"""The engine's side of its guardian: the process that alone takes addresses, and drops them when the engine dies.

Orders go down a socket pair, replies come up; neither side waits for the other. The program stands beside the module
that starts it: the compiled one in `pycarp._native`, the interpreted one in `pycarp._python`.

Thread: any caller.
"""

from __future__ import annotations

import array
import contextlib
import enum
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from .._python.guardian import protocol
from .._records import dataclass
from .._unpatched import select, socket, threading, time
from ..errors import CapabilityError, CarpError, EngineError
from . import gate, netlink
from .capabilities import FILTER, effective, filtered
from .lock import lives

if TYPE_CHECKING:
    from .device import Device

__all__ = ["Guardian", "GuardianGone", "Kind", "Reply", "program"]


class Kind(enum.IntEnum):
    """What an order asks for, and what a reply answers; the last two are the guardian's own."""

    TAKE = protocol.ORDER_TAKE
    RENEW = protocol.ORDER_RENEW
    DROP = protocol.ORDER_DROP
    BEAT = protocol.ORDER_BEAT
    ADD = protocol.ORDER_ADD
    FORGET = protocol.ORDER_FORGET
    QUIET = protocol.ORDER_QUIET
    REMOVE = protocol.ORDER_REMOVE
    RESTORE = protocol.ORDER_RESTORE
    HELLO = protocol.REPLY_HELLO
    RELEASED = protocol.REPLY_RELEASED


_READY_WITHIN = 5.0
"""Seconds until a guardian says that it is ready, takes a description, or has ended."""
_ROOM = 4 << 20
"""Of the socket's buffers, where the system allows that: some thousand orders and replies."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


class GuardianGone(CarpError):
    """The guardian has ended: nobody carries out orders any longer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the guardian says. `error` is an errno or 0; times are CLOCK_MONOTONIC ns.

    `extra` is the guardian's process number in HELLO, and the ns since the last beat in RELEASED.
    """

    kind: Kind
    flags: int
    index: int
    error: int
    number: int
    started: int
    finished: int
    extra: int


class Spawner(Protocol):
    """A module that starts programs: `pycarp._native.spawn` or `pycarp._python.spawn`."""

    __file__: str | None

    def spawn(self, path: str, argv: list[bytes], fds: list[int]) -> int:
        """Start a program that is no child of ours, `fds[i]` as its descriptor i; its process number."""


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def program(spawner: Spawner) -> list[str]:
    """The guardian that belongs to a spawner, as a command without its argument.

    Raises `EngineError` where there is none.
    """
    here = os.path.dirname(os.path.realpath(spawner.__file__ or ""))
    if os.path.basename(here) == "_native":
        native = os.path.join(here, "guardian")
        if not os.access(native, os.X_OK):
            raise EngineError(f"{_not_executable(native)}, or set PYCARP_IMPL=python")
        return [native]
    options = "-ISB" if sys.dont_write_bytecode else "-IS"
    return [interpreter("the guardian"), options, os.path.join(here, "guardian", "__main__.py")]


def _not_executable(native: str) -> str:
    if not os.path.exists(native):
        return f"the guardian {native} is not there: reinstall pycarp"
    if os.statvfs(native).f_flag & os.ST_NOEXEC:
        return f"the guardian {native} is on a file system that is mounted noexec: install pycarp on another"
    return f"the guardian {native} is not executable: reinstall pycarp"


def interpreter(what: str) -> str:
    """A Python to run a program of ours with; `what` names that.

    Inside a frozen or embedding program `sys.executable` is that program.
    """
    if os.path.basename(sys.executable or "").startswith(("python", "pypy")):
        return sys.executable
    usual = os.path.join(sys.base_exec_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    if os.access(usual, os.X_OK):
        return usual
    raise EngineError(
        f"{what} needs a Python interpreter of its own, and {usual} is none: "
        "install one, or, for the guardian, use the native implementation, which does without"
    )


class Guardian:
    """A running guardian, in the network namespace of the thread that constructs this.

    `lifeline` is the engine's `Lifeline`, locked by its runtime's thread: when that thread ends, in whatever way, the
    guardian drops the addresses. `realtime` asks for SCHED_FIFO; where that is refused the guardian does without.
    `spawner` is the implementation's module `spawn`.

    Raises `EngineError` (it does not start), `CapabilityError` (it may not change addresses) or `OSError`; then
    nothing is left behind. `order`, `add` and `replies` may be called from different threads.
    """

    def __init__(self, lifeline: _HasDescriptor, realtime: bool, spawner: Spawner) -> None:
        self.pid = 0
        self.pidfd = -1
        command = program(spawner)
        # The interpreter finds its library by its own name; the compiled program may show ours.
        name = command[0] if len(command) > 1 else "pycarp-guardian"
        argv = [os.fsencode(one) for one in (name, *command[1:], str(int(realtime)))]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket = ours
        engine = -1
        try:
            with theirs:
                for end in (ours, theirs):
                    _widen(end)
                # The first message has its sender too.
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                engine = pidfd(os.getpid())
                fds = [-1, -1, -1, theirs.fileno(), lifeline.fileno()]
                before = _monotonic()
                self.pid = spawner.spawn(command[0], argv, fds if engine < 0 else [*fds, engine])
                self.pidfd = pidfd(self.pid)
            self._await_hello(before)
        except BaseException:
            # It has taken nothing yet.
            self.kill()
            self.close()
            raise
        finally:
            if engine >= 0:
                os.close(engine)

    def fileno(self) -> int:
        """Our end of the socket pair, readable when a reply is there."""
        return self._socket.fileno()

    def add(
        self,
        index: int,
        device: Device,
        bowouts: Iterable[bytes],
        send: _HasDescriptor,
        lock: _HasDescriptor | int,
        number: int = 0,
    ) -> None:
        """From the next order on, this index is for this device. The answer comes among the replies.

        `bowouts` are whole frames, sent by `send` (a packet socket bound to the carpdev) when the guardian releases the
        addresses without an order; `lock` is kept open as long as it lives. Copies of all are passed. The reply is
        EPERM after the program gave up root. May wait for room, 5 s at most; raises `GuardianGone`, or `OSError`
        without descriptors or memory.
        """
        blob = os.memfd_create("pycarp-device", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(blob, "wb", closefd=False) as file:
                file.write(_encode(index, device, bowouts))
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(blob, fcntl.F_ADD_SEALS, seals)
            fds = array.array("i", (blob, send.fileno(), lock if isinstance(lock, int) else lock.fileno()))
            message = protocol.ORDER.pack(Kind.ADD, 0, 0, index, 0, protocol.LEASE_FOREVER, 0, 0, number, 0)
            give_up = time.monotonic() + _READY_WITHIN
            while not self._send(message, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]):
                left = give_up - time.monotonic()
                if left <= 0:
                    raise GuardianGone("the guardian no longer reads orders")
                _wait(self._socket.fileno(), select.POLLOUT, left)
        finally:
            os.close(blob)

    def order(
        self,
        kind: Kind,
        index: int,
        *,
        at: int = 0,
        boot: int = 0,
        lease: int = protocol.LEASE_FOREVER,
        next_beat_ms: int = 0,
        takeover_after_ms: int = 0,
        number: int = 0,
    ) -> bool:
        """Send an order, without waiting; False where there is no room for it. Raises `GuardianGone`.

        The fields are those of `protocol.ORDER`.
        """
        return self._send(
            protocol.ORDER.pack(kind, 0, 0, index, at, lease, next_beat_ms, takeover_after_ms, number, boot), []
        )

    def replies(self) -> list[Reply]:
        """All that the guardian has said, never waiting. Raises `GuardianGone` once it has ended and all is read."""
        found: list[Reply] = []
        while True:
            try:
                raw = self._socket.recv(protocol.REPLY.size, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return found
            except ConnectionResetError:
                continue  # it ended with orders unread: told once, and then what it had said before
            except OSError as error:
                raise GuardianGone(f"the guardian's replies cannot be read: {error.strerror}") from error
            if not raw:
                if found:
                    return found
                raise GuardianGone("the guardian has ended")
            if len(raw) == protocol.REPLY.size:
                kind, flags, _zero, *rest = protocol.REPLY.unpack(raw)
                with contextlib.suppress(ValueError):
                    found.append(Reply(Kind(kind), flags, *rest))

    def kill(self) -> None:
        """End a guardian that does not answer, where this process may."""
        with contextlib.suppress(OSError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            elif self.pid and self._socket.fileno() >= 0:
                os.kill(self.pid, signal.SIGKILL)

    def close(self, seconds: float = _READY_WITHIN) -> None:
        """Close the socket, which ends the guardian, and wait until it has ended, `seconds` at most."""
        # A child that was forked past Python may have a copy, and the guardian is to see the end all the same.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self.pidfd >= 0:
            _wait(self.pidfd, select.POLLIN, seconds)
            _collect(self.pidfd)
            self.pidfd = -1
        elif self.pid:
            give_up = time.monotonic() + seconds
            while lives(self.pid) and time.monotonic() < give_up:
                time.sleep(0.001)
            with contextlib.suppress(OSError):
                os.waitpid(self.pid, os.WNOHANG)

    def abandon(self) -> None:
        """In a forked child: close the copies of the descriptors. The guardian is the parent's."""
        self._socket.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _send(self, message: bytes, ancillary: list[tuple[int, int, array.array[int]]]) -> bool:
        try:
            self._socket.sendmsg([message], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM):
                return False
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
                raise GuardianGone("the guardian has ended") from None
            raise
        return True

    def _await_hello(self, before: int) -> None:
        give_up = time.monotonic() + _READY_WITHIN
        said: list[Reply] = []
        while not said:
            left = give_up - time.monotonic()
            if left <= 0:
                slow = f"the guardian (process {self.pid}) was not ready within {_READY_WITHIN:.0f} s"
                raise EngineError(f"{slow}: {FILTER}, and may refuse what it needs" if filtered() else slow)
            _wait(self._socket.fileno(), select.POLLIN, left)
            try:
                said = [one for one in self.replies() if one.kind is Kind.HELLO]
            except GuardianGone:
                raise EngineError(
                    f"the guardian (process {self.pid}) ended before it was ready: is its program complete, is the "
                    "system short of nothing, and does no filter of system calls hinder it?"
                ) from None
        error = said[0].error
        if error and error not in (errno.EPERM, errno.EACCES):
            raise OSError(error, f"the guardian cannot work: {os.strerror(error)}")
        capable = _may_configure(self.pid)
        if error and capable and filtered():
            raise CapabilityError(
                f"the system refuses what the guardian needs ({os.strerror(error)}): {FILTER}, and has to allow it"
            )
        if error or not capable:
            # Capabilities pass to another program with root, or as ambient ones.
            raise CapabilityError(
                "the guardian may not change addresses: start the engine as root, or from a systemd unit with "
                "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
            )
        if not before <= said[0].started <= _monotonic():
            raise EngineError(
                "the clock of this process is not its guardian's, and each would take the other for dead: something "
                "alters CLOCK_MONOTONIC here, as libfaketime does; run the engine in a process without it, or spare "
                "that clock (faketime --exclude-monotonic)"
            )


def _monotonic() -> int:
    """What the runtime has: a test that freezes the functions of `time` does not freeze that."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


_collecting = threading.Lock()
_uncollected: list[int] = []


def _collect(pidfd: int) -> None:
    """Close the pidfd of a guardian. Where it is a child (of process 1, or of one that adopts orphans), collect it
    before: now, or after the next one, for it may still be ending."""
    with _collecting:
        _uncollected.append(pidfd)
        for one in _uncollected[:]:
            with contextlib.suppress(OSError):
                if os.waitid(os.P_PIDFD, one, os.WEXITED | os.WNOHANG) is None:
                    continue
            _uncollected.remove(one)
            os.close(one)


def _encode(index: int, device: Device, bowouts: Iterable[bytes]) -> bytes:
    frames = [protocol.FRAME_LENGTH.pack(len(one)) + one for one in bowouts]
    mute = netlink.batch(*device.mute)
    up, take = netlink.split(device.take, device.leading if device.gate else 0)
    batches = (take, device.renew, device.drop, mute, device.remove, device.restore, device.late, up)
    parts = (*batches, b"".join(frames))
    gated = gate.describe(device.gate, device.index)
    link, ipv6 = device.index if device.host.mac == "virtual" else 0, 6 in device.host.families
    head = (protocol.DESCRIPTION_VERSION, index, device.essential, link, ipv6, len(frames), len(gated))
    return protocol.DESCRIPTION.pack(*head, *(len(one) for one in parts)) + b"".join(parts) + gated


def _widen(end: socket.socket) -> None:
    """Room for the orders of many instances, beyond the system's limit where we may."""
    for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            end.setsockopt(socket.SOL_SOCKET, forced, _ROOM)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, plain, _ROOM)


def pidfd(pid: int) -> int:
    """A descriptor of a process; -1 where the kernel has none (before 5.3, forbidden, or the process has gone)."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _wait(descriptor: int, events: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(descriptor, events)
    poll.poll(max(0.0, seconds) * 1000)


def _may_configure(pid: int) -> bool:
    """Whether a process has CAP_NET_ADMIN; yes where that cannot be read."""
    try:
        return "CAP_NET_ADMIN" in effective(pid)
    except OSError:
        return True
