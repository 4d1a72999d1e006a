"""How the guardian is started, and the lifeline by which it sees that the engine lives.

No wait() of the program sees a child that clone() made without an exit signal; but exec sets the signal back. So a
process in the middle, which has no exit signal, starts the guardian with posix_spawn and exits: then the guardian is an
orphan.

Thread: any caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import gc
import mmap
import operator
import os
import signal
import struct
from typing import Any

from .._unpatched import time

__all__ = ["Lifeline", "spawn"]

_WCLONE = -0x80000000  # __WCLONE as an int of C: those children whose exit makes no SIGCHLD
_STARTED_WITHIN = 5.0
"""Seconds for the process in the middle. It needs one or two milliseconds."""

_POSIX_SPAWN_SETSIGDEF, _POSIX_SPAWN_SETSIGMASK, _POSIX_SPAWN_SETSID = 0x04, 0x08, 0x80
_SIGSET_SIZE = 128
_STRUCTURE = 1024
"""Room for any of the C library's structures here; the largest is posix_spawnattr_t with 336 bytes."""
_SPARE = 64
"""Descriptors to be passed are copied from this number on, out of the way of those that the program gets."""

# PyDLL keeps the interpreter's lock: without it the child could not go on, and with it no other thread is at work.
_libc: Any = ctypes.PyDLL(None, use_errno=True)
_unlocked: Any = ctypes.CDLL(None, use_errno=True)


def spawn(path: str, argv: list[bytes], fds: list[int]) -> int:
    """Start a program, with `fds[i]` as its descriptor i (-1: /dev/null) and no other; returns its process number.

    It gets an empty environment, a session of its own, and default signals. No wait() of this process sees it, unless
    this process adopts orphans (PID 1, or a subreaper): then its end has to be collected as any child's. Raises
    `OSError`.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    opened = [null]
    try:
        for fd in fds:
            opened.append(fcntl.fcntl(fd if fd >= 0 else null, fcntl.F_DUPFD_CLOEXEC, _SPARE + len(fds)))
        with mmap.mmap(-1, mmap.PAGESIZE) as shared:
            return _start(shared, path, argv, opened[1:])
    finally:
        for fd in opened:
            os.close(fd)


def _start(shared: mmap.mmap, path: str, argv: list[bytes], fds: list[int]) -> int:
    """The process in the middle leaves the program's number in `shared`."""
    # By its address: an object would keep the memory from being closed, as long as a traceback refers to it.
    number = ctypes.addressof(ctypes.c_int.from_buffer(shared))
    actions, attributes = ctypes.create_string_buffer(_STRUCTURE), ctypes.create_string_buffer(_STRUCTURE)
    nothing, everything = ctypes.create_string_buffer(_SIGSET_SIZE), ctypes.create_string_buffer(_SIGSET_SIZE)
    arguments = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    environment = (ctypes.c_char_p * 1)(None)
    _check(_libc.posix_spawn_file_actions_init(actions))
    _check(_libc.posix_spawnattr_init(attributes))
    try:
        for wanted, fd in enumerate(fds):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, fd, wanted))
        if hasattr(_libc, "posix_spawn_file_actions_addclosefrom_np"):
            # Without it (glibc before 2.34, musl) the program closes what a library of this process left inheritable.
            _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, len(fds)))
        _libc.sigemptyset(nothing)
        _libc.sigfillset(everything)
        for one in (signal.SIGKILL, signal.SIGSTOP):
            _libc.sigdelset(everything, int(one))
        flags = _POSIX_SPAWN_SETSIGDEF | _POSIX_SPAWN_SETSIGMASK | _POSIX_SPAWN_SETSID
        _check(_libc.posix_spawnattr_setflags(attributes, ctypes.c_short(flags)))
        _check(_libc.posix_spawnattr_setsigmask(attributes, nothing))
        _check(_libc.posix_spawnattr_setsigdefault(attributes, everything))
        name = ctypes.c_char_p(os.fsencode(path))
        start = functools.partial(
            _libc.posix_spawn, ctypes.c_void_p(number), name, actions, attributes, arguments, environment
        )
        code = _collect(_clone(start))
        (pid,) = struct.unpack_from("i", shared)
        if code or not pid:
            raise OSError(code or errno.EAGAIN, f"{path} cannot be started: {os.strerror(code or errno.EAGAIN)}")
        return int(pid)
    finally:
        _libc.posix_spawnattr_destroy(attributes)
        _libc.posix_spawn_file_actions_destroy(actions)


def _clone(work: Any) -> int:
    """A copy of this process that calls `work`, exits with what that returned, and makes no SIGCHLD; its number.

    In the copy only this thread exists. The interpreter might hand its lock to another thread and wait for ever. So the
    copy never comes back to the interpreter: all its steps are one chain inside C iterators.
    """
    zero = ctypes.c_long(0)
    clone = functools.partial(_libc.syscall, ctypes.c_long(_clone_number()), zero, zero, zero, zero, zero)
    leave = functools.partial(next, map(_libc._exit, map(operator.call, (work,))))
    # In the copy clone returns 0, which is passed over, and the next step is taken; in the parent the number ends the
    # chain.
    steps = filter(None, map(operator.call, (clone, leave)))
    collecting = gc.isenabled()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    gc.disable()
    try:
        pid = next(steps)
        number = ctypes.get_errno()
    finally:
        if collecting:
            gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    if pid < 0:
        raise OSError(number, f"no process can be made: {os.strerror(number)}")
    return int(pid)


def _collect(pid: int) -> int:
    """The exit code of the process in the middle. One that hangs is killed."""
    give_up = time.monotonic() + _STARTED_WITHIN
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | _WCLONE)
        if found:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else errno.EAGAIN
        if time.monotonic() > give_up:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, _WCLONE)
            return errno.ETIMEDOUT
        time.sleep(0.0005)


def _clone_number() -> int:
    """The number of the system call clone, which the C library offers only in a form that wants a stack."""
    numbers = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220}
    return numbers.get(os.uname().machine, 120) if struct.calcsize("P") == 8 else 120


def _check(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


class Lifeline:
    """A page of shared memory with a robust mutex: while a thread of this process holds it, the engine lives.

    The guardian maps what `fileno()` names. The kernel hands the mutex over when the thread that holds it ends, in
    whatever way. Close it only after that thread has ended. Raises `OSError`.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("pycarp-lifeline", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, mmap.PAGESIZE)
            self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
            self._memory: Any = (ctypes.c_char * mmap.PAGESIZE).from_buffer(self._map)
            attributes = ctypes.create_string_buffer(_STRUCTURE)
            _check(_libc.pthread_mutexattr_init(attributes))
            _check(_libc.pthread_mutexattr_setpshared(attributes, 1))
            _check(_libc.pthread_mutexattr_setrobust(attributes, 1))
            _check(_libc.pthread_mutex_init(self._memory, attributes))
            _libc.pthread_mutexattr_destroy(attributes)
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        return self._fd

    def lock(self) -> None:
        """The calling thread holds it from now on, until it ends."""
        code = _unlocked.pthread_mutex_lock(self._memory)
        if code == errno.EOWNERDEAD:  # a thread that held it before has ended
            code = _libc.pthread_mutex_consistent(self._memory)
        _check(code)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._memory = None
            self._map.close()
