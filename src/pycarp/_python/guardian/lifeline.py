"""The engine's lifeline: a robust mutex in shared memory that its thread holds. The twin of `ext/guardian/lifeline.c`.

The kernel gives it to us when that thread ends, in whatever way (an exec of the program included), and before it takes
the process's memory apart.
Thread: lifeline.
"""

import _thread
import ctypes
import errno
import mmap
from _collections_abc import Callable

from .clocks import NS_PER_MS, monotonic, sleep_until
from .confine import libc
from .guardian import Guardian

PAGE, NAP_FIRST_MS, NAP_LAST_MS = 4096, 2, 100


def _watch(guardian: Guardian, mutex: ctypes.Array[ctypes.c_char], died: Callable[[Guardian], None]) -> None:
    nap = NAP_FIRST_MS * NS_PER_MS
    # It is free: the engine has not locked it yet, or ended in order. The engine must be able to lock it.
    while (error := libc.pthread_mutex_lock(mutex)) == 0:
        libc.pthread_mutex_unlock(mutex)
        sleep_until(monotonic() + nap)
        nap = nap * 2 if nap < NAP_LAST_MS * NS_PER_MS else nap
    if error in (errno.EOWNERDEAD, errno.ENOTRECOVERABLE):
        died(guardian)


def lifeline_start(guardian: Guardian, memory: int, died: Callable[[Guardian], None]) -> None:
    """Start a thread that calls `died` when the engine's thread has ended. Raises `OSError`."""
    mutex = (ctypes.c_char * PAGE).from_buffer(mmap.mmap(memory, PAGE))
    _thread.start_new_thread(_watch, (guardian, mutex, died))
