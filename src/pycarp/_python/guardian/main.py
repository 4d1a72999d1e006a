"""The guardian: a process that alone takes addresses, as one engine orders. When that engine dies or falls silent, the
guardian drops them and bows out. It knows no key. The twin of `ext/guardian/main.c`.

Descriptors: 3, a SOCK_SEQPACKET socket to the engine; 4, the memory with its lifeline; 5, its pidfd if there is one.

Threads: main, lifeline and bow-outs. The first two work by turns, under `turn`.
"""

import _socket as socket
import ctypes
import errno
import os
import resource
import select
import sys
import time
from struct import Struct

from .bowout import bowout_start
from .clocks import NS_PER_SECOND
from .confine import confine_capabilities, confine_process, libc
from .gate import gate_socket
from .guardian import Guardian
from .lifeline import lifeline_start
from .listeners import Listeners, listeners_open
from .orders import orders_carry_out, orders_carry_out_late, orders_read, orders_withdraw
from .release import release, release_link, release_next, release_overdue
from .replies import replies_flush, reply_hello
from .route import route_open

ENGINE, LIFELINE, PIDFD = 3, 4, 5
ITIMERSPEC = Struct("@4l")


def _end(guardian: Guardian) -> None:
    """Release everything, and end. The turn is not given back: the other thread does nothing any longer."""
    try:
        orders_read(guardian)
        orders_withdraw(guardian)
        release(guardian, not guardian.quiet)
        while orders_carry_out(guardian, False):
            pass
        replies_flush(guardian)
        # Where only a thread of the engine has ended, the engine sees this at once, however long our exit takes.
        guardian.engine.shutdown(socket.SHUT_RDWR)
    finally:
        try:
            while release_link(guardian, True):
                pass
        finally:
            os._exit(0)


def _engine_died(guardian: Guardian) -> None:
    """Thread: lifeline, which so needs to wake nobody."""
    guardian.turn.acquire()
    if not guardian.quiet:
        _end(guardian)
    guardian.turn.release()


def _set_timer(guardian: Guardian) -> None:
    """The timer goes on during a suspend: what is due when the machine wakes up is done at once."""
    left = release_next(guardian)
    time_left = (0, 0) if left is None else divmod(max(0, left) + 1, NS_PER_SECOND)
    libc.timerfd_settime(guardian.timer, 0, ITIMERSPEC.pack(0, 0, *time_left), None)


def _run(guardian: Guardian) -> None:
    """Until the engine has ended."""
    watched = select.poll()
    for fd in (guardian.timer, guardian.pidfd):
        if fd >= 0:
            watched.register(fd, select.POLLIN)
    guardian.turn.acquire()
    while orders_read(guardian):
        release_overdue(guardian)
        if orders_carry_out(guardian, True) or release_link(guardian, False) or orders_carry_out_late(guardian):
            continue
        replies_flush(guardian)
        watched.register(ENGINE, select.POLLIN | select.POLLOUT if guardian.replies else select.POLLIN)
        _set_timer(guardian)
        guardian.turn.release()
        ready = watched.poll()
        guardian.turn.acquire()
        if any(fd == guardian.pidfd for fd, _events in ready):
            return


def _start(guardian: Guardian) -> None:
    guardian.route = route_open()
    guardian.filter = gate_socket()
    guardian.listeners = Listeners(listeners_open())
    guardian.timer = libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if guardian.timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    confine_capabilities()
    bowout_start(guardian.route)
    lifeline_start(guardian, LIFELINE, _engine_died)


def main(realtime: bool) -> None:
    try:
        os.fstat(PIDFD)
        pidfd = PIDFD
    except OSError:
        pidfd = -1
    # What starts this program closes nothing where the C library cannot.
    os.closerange(PIDFD + (pidfd >= 0), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    engine = socket.socket(fileno=ENGINE)
    engine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    guardian = Guardian(engine, pidfd)
    confine_process(realtime)
    try:
        _start(guardian)
    except OSError as error:
        reply_hello(guardian, error.errno or errno.EIO)
        raise
    reply_hello(guardian, 0)
    try:
        _run(guardian)
    finally:
        # Also after a fault of our own: without a guardian there is to be no address.
        _end(guardian)


def run_program() -> None:
    try:
        main(sys.argv[1:] == ["1"])
    finally:
        # The thread of the lifeline may wait for ever.
        os._exit(1)
