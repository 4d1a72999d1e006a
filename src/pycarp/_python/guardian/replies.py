"""Replies to the engine, for which the guardian never waits: the twin of `ext/guardian/replies.c`.

Thread: the one that has the turn.
"""

import _socket as socket
import errno
import os

from .clocks import monotonic
from .guardian import Guardian
from .instance import Instance, Order
from .protocol import REPLY, REPLY_HELLO, REPLY_RELEASED, REPLY_SUPERSEDED

REPLIES = 512


def _put(guardian: Guardian, reply: bytes) -> bool:
    try:
        guardian.engine.send(reply, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        # An engine that has ended reads nothing.
        return error.errno not in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
    return True


def replies_flush(guardian: Guardian) -> None:
    while guardian.replies and _put(guardian, guardian.replies[0]):
        del guardian.replies[0]


def _reply(
    guardian: Guardian, kind: int, flags: int, index: int, error: int, number: int, started: int, extra: int = 0
) -> None:
    reply = REPLY.pack(kind, flags, 0, index, error, number, started, monotonic() if started else 0, extra)
    replies_flush(guardian)
    if (guardian.replies or not _put(guardian, reply)) and len(guardian.replies) < REPLIES:
        guardian.replies.append(reply)


def reply_order(guardian: Guardian, order: Order, error: int = 0, started: int = 0) -> None:
    """`started`: CLOCK_MONOTONIC, ns, or 0; it has finished now."""
    _reply(guardian, order.kind, 0, order.index, error, order.number, started)


def reply_superseded(guardian: Guardian, order: Order) -> None:
    _reply(guardian, order.kind, REPLY_SUPERSEDED, order.index, 0, order.number, 0)


def reply_hello(guardian: Guardian, error: int) -> None:
    _reply(guardian, REPLY_HELLO, 0, 0, error, 0, monotonic(), os.getpid())


def reply_released(guardian: Guardian, instance: Instance, error: int, started: int, silence: int) -> None:
    _reply(guardian, REPLY_RELEASED, 0, instance.index, error, 0, started, max(0, silence))
