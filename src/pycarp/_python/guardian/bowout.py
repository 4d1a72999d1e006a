"""Bow-outs: the twin of `ext/guardian/bowout.c`.

The thread that takes links down is kept for milliseconds, so another one sends bow-outs at their time.
Thread: bow-outs; `bowout_send` and `bowout_finish`: the one that has the turn.
"""

import _socket as socket
import _thread
import errno
from _queue import SimpleQueue

from .clocks import NS_PER_MS, monotonic, sleep_until
from .instance import Instance, beat_age
from .route import link_sends

ATTEMPTS, LOOK_US = 5, 100

_queue: SimpleQueue[Instance | None] = SimpleQueue()
_finished = _thread.allocate_lock()


def _send_frame(packet: socket.socket, frame: bytes) -> None:
    for _ in range(ATTEMPTS):
        try:
            packet.send(frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                return
            sleep_until(monotonic() + NS_PER_MS)
        else:
            return


def _send_frames(asking: socket.socket, instance: Instance) -> None:
    sleep_until(instance.bowout_at)
    # The thread that takes the link down may first have to wait for others who change interfaces.
    while not instance.silent and (instance.link == 0 or link_sends(asking, instance.link)):
        sleep_until(monotonic() + LOOK_US * 1000)
    # A bow-out after others have taken over would promote a third host.
    if beat_age(instance) < instance.takeover_after:
        for frame in instance.frames:
            _send_frame(instance.packet, frame)


def _run(asking: socket.socket) -> None:
    while True:
        instance = _queue.get()
        if instance is None:
            _finished.release()
        else:
            _send_frames(asking, instance)


def bowout_start(asking: socket.socket) -> None:
    """Start the thread; `asking` is any socket, to ask for the state of links."""
    _finished.acquire()
    _thread.start_new_thread(_run, (asking,))


def bowout_send(instance: Instance, when: int) -> None:
    """Have the instance's frames sent at that time (CLOCK_MONOTONIC, ns), and not before the instance is `silent` or
    its link is down. None is sent once others may have taken over."""
    instance.bowout_at = when
    _queue.put(instance)


def bowout_finish() -> None:
    """Wait until all are sent. No instance may be removed before."""
    _queue.put(None)
    _finished.acquire()
