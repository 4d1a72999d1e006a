"""The guardian's state: the twin of `ext/guardian/guardian.h`.

Thread: the one that has the turn.
"""

import _socket as socket
import _thread
import os

from .instance import Instance
from .listeners import Listeners


class Guardian:
    """See the header for what each is."""

    route: socket.socket
    timer: int
    listeners: Listeners
    filter: socket.socket | None

    def __init__(self, engine: socket.socket, pidfd: int) -> None:
        self.turn = _thread.allocate_lock()
        self.engine, self.pidfd = engine, pidfd
        self.uid = os.getuid()
        self.quiet = self.last_dropped = False
        self.instances: dict[int, Instance] = {}
        self.replies: list[bytes] = []
