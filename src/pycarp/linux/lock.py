"""One process for each virtual host and for each address: the kernel gives a name to one process, and takes it back
when that one ends."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import struct
from collections.abc import Collection, Iterable
from typing import Self

from .._unpatched import socket, time
from ..errors import InterfaceError
from .interfaces import Interface, is_per_link
from .messages import Address
from .sockets import SocketOwner, closed_on_error

_ASKERS = 128
_CREDENTIALS = struct.Struct("=iII")
_RELEASED_WITHIN = 5.0
"""The guardian of a dead engine lets go within this many seconds; it needs some milliseconds."""
_TRIED_EVERY = 0.005
_VHIDS = range(256)
_FDS_A_MESSAGE = 250
"""The kernel passes 253 descriptors at a time."""
_ANCILLARY = socket.CMSG_SPACE(_FDS_A_MESSAGE * 4)
_DESCRIPTOR = struct.Struct("=i")
_SO_PEEK_OFF = 42

# The names that this process holds, with their locks: (network namespace, name). If the kernel says that this process
# has another one, that is left from the program that ran in it before an exec.
_ours: dict[tuple[int, bytes], list[VirtualHostLock]] = {}


class VirtualHostLock(SocketOwner):
    """Held from construction to `close`, or to the end of the process, however that comes.

    Abstract unix sockets: they belong to the calling thread's network namespace, as the virtual host does, and leave no
    file. One has the name of the virtual host, and one that of each address: no other process runs a virtual host with
    that address, under whatever vhid; within a process, several may. A link-local IPv6 address is each link's own.

    The engine's guardian keeps a copy, and drops the addresses before it closes that: where the process that made a
    lock has ended, or is this one before an exec, the constructor waits, 5 s at most. `fileno` is the descriptor that
    holds all of it; a copy in another process holds it as long. Raises `InterfaceError` with the other process's number
    where the virtual host or an address is run already.
    """

    def __init__(self, name: str, carpdev: Interface, vhid: int, addresses: Iterable[Address] = ()) -> None:
        self._take(name, carpdev, vhid, addresses, None)

    def with_addresses(self, name: str, carpdev: Interface, vhid: int, addresses: Iterable[Address]) -> VirtualHostLock:
        """Another lock of the same virtual host, for these addresses. This one stays as it is until it is closed.

        Raises what the constructor raises.
        """
        fresh = VirtualHostLock.__new__(VirtualHostLock)
        fresh._take(name, carpdev, vhid, addresses, self)
        return fresh

    @classmethod
    def passed_on(cls, opened: socket.socket, carpdev: Interface, vhid: int, addresses: Iterable[Address]) -> Self:
        """One that the process that holds it has passed on, as its descriptor. The socket is the lock's from now on.

        Others are told that process until `claim`. Raises `InterfaceError` where it holds other names.
        """
        lock = cls.__new__(cls)
        lock._socket = opened
        namespace = _namespace()
        lock._keys = tuple((namespace, one) for one in _wanted(carpdev, vhid, addresses))
        names = {name for _namespace, name in lock._keys}
        with contextlib.ExitStack() as undo:
            if lock._copies(names, undo).keys() != names:
                opened.close()
                raise InterfaceError(f"the lock that was passed on for vhid {vhid} on {carpdev.name} is another's")
        for key in lock._keys:
            _ours.setdefault(key, []).append(lock)
        return lock

    def claim(self) -> None:
        """From now on this process is the one that others are told."""
        with contextlib.ExitStack() as undo:
            for one in self._copies({name for _namespace, name in self._keys}, undo).values():
                # The kernel notes who listens.
                one.listen(_ASKERS)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            for key in self._keys:
                locks = _ours.get(key, [])
                if self in locks:
                    locks.remove(self)
                if not locks:
                    _ours.pop(key, None)
        super().close()

    def _take(
        self, name: str, carpdev: Interface, vhid: int, addresses: Iterable[Address], former: VirtualHostLock | None
    ) -> None:
        namespace = _namespace()
        wanted = _wanted(carpdev, vhid, addresses)
        self._keys = tuple((namespace, one) for one in wanted)
        # Siblings of one engine may have one address on purpose.
        addresses_of = {one: ip for one, ip in wanted.items() if ip is not None}
        sharing = {one for name in addresses_of for one in _ours.get((namespace, name), [])}
        with contextlib.ExitStack() as undo:
            copies: dict[bytes, socket.socket] = {}
            for lock in sharing:
                copies |= lock._copies(addresses_of, undo)
            if former is not None:
                copies |= former._copies(wanted, undo)
            for key, ip in zip(self._keys, wanted.values(), strict=True):
                if key[1] not in copies:
                    what = _What(name, carpdev, vhid, ip)
                    copies[key[1]] = undo.enter_context(_obtain(key, what))
            self._socket = _held_together(list(copies.values()))
        for key in self._keys:
            _ours.setdefault(key, []).append(self)

    def _copies(self, names: Collection[bytes], undo: contextlib.ExitStack) -> dict[bytes, socket.socket]:
        """Second descriptors of the sockets that have these names; `undo` closes them."""
        found = {}
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        # The sending end is closed: after the last message, it reads the end.
        while (received := self._socket.recvmsg(1, _ANCILLARY, flags))[0]:
            for _level, _kind, data in received[1]:
                for (fd,) in _DESCRIPTOR.iter_unpack(data[: len(data) & ~3]):
                    copy = undo.enter_context(socket.socket(fileno=fd))
                    if (name := copy.getsockname()) in names:
                        found[name] = copy
        return found


def _wanted(carpdev: Interface, vhid: int, addresses: Iterable[Address]) -> dict[bytes, Address | None]:
    """The names that a lock is made of, each with its address."""
    wanted: dict[bytes, Address | None] = {_name(carpdev.index, vhid): None}
    return wanted | {_address_name(carpdev.index, ip): ip for ip in addresses}


ENGINES_WAIT = "while it is ending, an engine with wait=SECONDS waits for it"
"""What a program can do; a command says something else in its place."""


class _What:
    """What a lock is for, as an error names it: a virtual host or, with `ip`, one of its addresses."""

    def __init__(self, name: str, carpdev: Interface, vhid: int, ip: Address | None) -> None:
        self.name, self.carpdev, self.vhid, self.ip = name, carpdev, vhid, ip

    def refused(self, pid: int, ended: bool) -> InterfaceError:
        who = f"process {pid}" if pid else "another process"
        if ended:
            who += ", which has ended but left a process behind that keeps the lock"
        if self.ip is None:
            return InterfaceError(
                f"{self.name} (vhid {self.vhid} on {self.carpdev.name}) is already run by {who}: "
                f"stop that one or give another vhid; {ENGINES_WAIT}"
            )
        vhids = [str(vhid) for vhid in _VHIDS if pid and holder(self.carpdev.index, vhid) == pid]
        which = f"vhid {' or '.join(vhids)} on {self.carpdev.name}" if vhids else "another virtual host"
        return InterfaceError(
            f"{self.ip} is already an address of {which}, run by {who}: "
            f"give {self.name} another address, or stop that process"
        )


def _obtain(key: tuple[int, bytes], what: _What) -> socket.socket:
    name = key[1]
    give_up = time.monotonic() + _RELEASED_WITHIN
    while (bound := _bind(name)) is None:
        pid = _holder(name)
        abandoned = key not in _ours if pid == os.getpid() else pid != 0 and not lives(pid)
        if not abandoned and pid == 0 and not _held(name):
            continue  # it has let go in between
        if abandoned and time.monotonic() < give_up:
            time.sleep(_TRIED_EVERY)
            continue
        raise what.refused(pid, abandoned)
    return bound


def _held_together(sockets: list[socket.socket]) -> socket.socket:
    """One descriptor that keeps all of them open: they wait in its queue, which nobody reads.

    So an address costs no descriptor, neither here nor in the guardian.
    """
    kept, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closed_on_error(kept), sending:
        for start in range(0, len(sockets), _FDS_A_MESSAGE):
            fds = array.array("i", (one.fileno() for one in sockets[start : start + _FDS_A_MESSAGE]))
            sending.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], socket.MSG_DONTWAIT)
    return kept


def held(carpdev: int, vhid: int) -> bool:
    """Whether some process, this one included, runs the virtual host on the interface of index `carpdev`."""
    return _held(_name(carpdev, vhid))


def holder(carpdev: int, vhid: int) -> int:
    """The process that runs the virtual host; 0 where that cannot be told (none, one of a foreign PID namespace)."""
    return _holder(_name(carpdev, vhid))


def all_free(carpdev: Interface, vhid: int, addresses: Iterable[Address]) -> bool:
    """Whether no engine has the virtual host, and no other process one of its addresses: a lock of it can be had."""
    namespace = _namespace()
    wanted = _wanted(carpdev, vhid, addresses)
    return not any(_held(name) for name, ip in wanted.items() if ip is None or (namespace, name) not in _ours)


def _held(name: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.bind(name)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def others_held(carpdev: int, vhids: Collection[int]) -> bool:
    """Whether some process runs a virtual host on that interface whose vhid is none of these."""
    return any(held(carpdev, vhid) for vhid in range(1, 256) if vhid not in vhids)


def _holder(name: bytes) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(name)
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0
    return int(_CREDENTIALS.unpack(raw)[0])


def _bind(name: bytes) -> socket.socket | None:
    """The lock, or None where a process has it."""
    try:
        with closed_on_error(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as opened:
            opened.bind(name)
            # Others connect to learn who holds it; none is accepted, so there is room for many who ask.
            opened.listen(_ASKERS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return opened


def lives(pid: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        # A process that has ended and was not yet waited for is still there. The state follows the name in parentheses.
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in ("Z", "X")


def _namespace() -> int:
    """The calling thread's network namespace; 0 where that cannot be told."""
    try:
        return os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return 0


def _name(carpdev: int, vhid: int) -> bytes:
    return b"\0pycarp/%d/%d" % (carpdev, vhid)


def _address_name(carpdev: int, ip: Address) -> bytes:
    return f"\0pycarp/address/{ip}{f'%{carpdev}' if is_per_link(ip) else ''}".encode()
