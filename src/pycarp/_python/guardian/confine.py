"""What the guardian's process is and may do: the twin of `ext/guardian/confine.c`, without its filter of system calls.

Thread: main, before it does anything else.
"""

import _signal as signal  # type: ignore[import-not-found]
import _thread
import ctypes
import errno
import os
import resource
from _collections_abc import Callable
from struct import Struct

IGNORED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2")
PR_SET_NAME, PR_SET_TIMERSLACK, PR_SET_NO_NEW_PRIVS = 15, 29, 38
MCL_CURRENT, MCL_FUTURE = 1, 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_NET_ADMIN, CAP_NET_RAW = 1 << 12, 1 << 13
STACK = 256 << 10

libc = ctypes.CDLL(None, use_errno=True)


def _lock_memory() -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    # With a limit, later memory could be refused for want of room to lock it.
    later = MCL_FUTURE if _succeeds(resource.setrlimit, resource.RLIMIT_MEMLOCK, unlimited) else 0
    _thread.stack_size(STACK)
    libc.mlockall(MCL_CURRENT | later)


def _choose_priority(realtime: bool) -> None:
    """Not lower than the program's own, which might stop it. By pthread's functions: musl's others only refuse."""
    policy, priority = ctypes.c_int(), ctypes.c_int()
    libc.pthread_self.restype = ctypes.c_void_p
    this = ctypes.c_void_p(libc.pthread_self())
    libc.pthread_getschedparam(this, ctypes.byref(policy), ctypes.byref(priority))
    if (policy.value & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR)) != realtime:
        wanted = os.SCHED_FIFO if realtime else os.SCHED_OTHER
        libc.pthread_setschedparam(this, wanted, ctypes.byref(ctypes.c_int(int(realtime))))


def confine_process(realtime: bool) -> None:
    """Its name, session, signals, priority and memory: it goes on where other processes end. What is refused is done
    without."""
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(b"pycarp-guardian"), 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    _succeeds(os.setsid)
    os.chdir("/")
    _choose_priority(realtime)
    _succeeds(_write, "/proc/self/oom_score_adj", b"-1000")
    _lock_memory()


def confine_capabilities() -> None:
    """Keep CAP_NET_ADMIN and no other capability, for ever. Raises `OSError` (EPERM: it was not there, or too many)."""
    header = Struct("=Ii").pack(CAPABILITY_VERSION_3, 0)
    sets = Struct("=6I")
    data = ctypes.create_string_buffer(sets.size)
    if libc.capget(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    values = sets.unpack(data.raw)
    # Where capset(2) is refused, as by a unit's SystemCallFilter=, no more than the engine needs may be there.
    few = not values[1] & ~(CAP_NET_ADMIN | CAP_NET_RAW) and not values[4]
    permitted = values[1] & CAP_NET_ADMIN
    if not permitted:
        raise OSError(errno.EPERM, "CAP_NET_ADMIN")
    if libc.capset(header, sets.pack(permitted, permitted, 0, 0, 0, 0)) < 0:
        error = ctypes.get_errno()
        if error != errno.EPERM or not few:
            raise OSError(error, "capset")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def _succeeds(function: Callable[..., object], *arguments: object) -> bool:
    try:
        function(*arguments)
    except (OSError, ValueError):
        return False
    return True


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", 0) as file:
        file.write(data)
