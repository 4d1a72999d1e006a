"""Replies to the engine. The guardian never waits for an engine that is slow or stopped. The twin of
`ext/guardian/replies.c`.

Thread: the one that has the turn.
"""

from __future__ import annotations

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


def _reply(guardian: Guardian, kind: int, *, flags: int = 0, index: int = 0, error: int = 0, number: int = 0,
           started: int = 0, finished: int = 0, extra: int = 0) -> None:  # fmt: skip
    reply = REPLY.pack(kind, flags, 0, index, error, number, started, finished, extra)
    replies_flush(guardian)
    if guardian.replies or not _put(guardian, reply):
        guardian.replies += [reply] if len(guardian.replies) < REPLIES else []


def reply_order(guardian: Guardian, order: Order, error: int = 0, started: int = 0, finished: int = 0) -> None:
    _reply(guardian, order.kind, index=order.index, error=error, number=order.number, started=started,
           finished=finished)  # fmt: skip


def reply_superseded(guardian: Guardian, order: Order) -> None:
    _reply(guardian, order.kind, flags=REPLY_SUPERSEDED, index=order.index, number=order.number)


def reply_hello(guardian: Guardian, error: int) -> None:
    _reply(guardian, REPLY_HELLO, error=error, extra=os.getpid())


def reply_released(guardian: Guardian, instance: Instance, error: int, started: int, silence: int) -> None:
    _reply(guardian, REPLY_RELEASED, index=instance.index, error=error, started=started, finished=monotonic(),
           extra=max(0, silence))  # fmt: skip
