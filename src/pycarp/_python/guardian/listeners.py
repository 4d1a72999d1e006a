"""Whether other programs read their notices of addresses: the twin of `ext/guardian/listeners.c`.

Each has room for so many notices: where many takes come together, each further one waits while such a program is
behind, or the kernel leaves notices out (ENOBUFS), after which some never look again. /proc/net/netlink tells how much
each socket holds; where it cannot be read, takes are spread evenly. The links of dropped instances wait longer.
Thread: main.
"""

import os
from _collections_abc import Iterator

from . import clocks
from .clocks import monotonic
from .protocol import WATCH_PORT, WATCH_PORT_MASK

LISTENERS = 16
"""That are behind; what further ones hold is not looked at."""
LINES = 4096
ROUTE = b"0"
"""NETLINK_ROUTE, which the list begins with."""
BEHIND_FROM, BEHIND_BELOW = 48 << 10, 216 << 10
"""A socket has room for 208 KiB, and a take of one address with its link weighs 5 KiB. One that holds more has been
given more room, or has lost notices already: no wait helps it."""


class Listeners:
    """See the header for what each is. `behind`: by port, octets at the last look and when it had read something."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.filled_until = self.look_at = self.looked = 0
        self.behind: dict[int, tuple[int, int]] = {}


def listeners_open() -> int:
    """The kernel's list of netlink sockets in this network namespace; -1: it cannot be read."""
    try:
        return os.open("/proc/self/net/netlink", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def listeners_note(listeners: Listeners, notices: int) -> None:
    """A take, or a drop, gives them so many notices."""
    now = monotonic()
    most = now + clocks.NOTICES_AT_ONCE * clocks.NOTICE_SPACING + clocks.TAKE_WAITS_AT_MOST
    listeners.filled_until = min(max(listeners.filled_until, now) + notices * clocks.NOTICE_SPACING, most)


def _lines(file: int) -> Iterator[list[bytes]]:
    """The words of each line, of protocol NETLINK_ROUTE."""
    kept, at = b"", 0
    while got := os.pread(file, LINES, at):
        at += len(got)
        *lines, kept = (kept + got).split(b"\n")
        for line in lines:
            words = line.split(None, 5)
            if len(words) > 4 and words[1].isdigit():
                if words[1] != ROUTE:
                    return
                yield words


def _read_list(listeners: Listeners, now: int) -> dict[int, tuple[int, int]]:
    fresh: dict[int, tuple[int, int]] = {}
    for _socket, _protocol, name, _groups, held, *_rest in _lines(listeners.file):
        port, queued = int(name), int(held)
        if not BEHIND_FROM <= queued < BEHIND_BELOW or port & WATCH_PORT_MASK == WATCH_PORT or len(fresh) == LISTENERS:
            continue
        before, read = listeners.behind.get(port, (queued + 1, now))
        fresh[port] = queued, now if queued < before else read
    return fresh


def _any_is_behind(listeners: Listeners, now: int) -> bool:
    """Whether one is behind that reads. One that does not cannot hold the others' addresses up."""
    if now - listeners.looked > clocks.LISTENER_STUCK_AFTER:
        listeners.behind = {}  # what it has done in between is not known
    try:
        listeners.behind = _read_list(listeners, now)
    except OSError:
        listeners.behind = {}
    listeners.looked = now
    return any(now - read < clocks.LISTENER_STUCK_AFTER for _queued, read in listeners.behind.values())


def listeners_read(listeners: Listeners) -> bool:
    """Whether none is behind, as far as is known. Where one is, `look_at` is when to ask again."""
    now = monotonic()
    if listeners.file < 0:
        return True
    if now < listeners.look_at:
        return False
    if not _any_is_behind(listeners, now):
        return True
    listeners.look_at = now + clocks.LISTENERS_LOOKED_AT_AGAIN
    return False


def listeners_keep_up(listeners: Listeners) -> bool:
    """Whether another take may be carried out now: there were not many of late, or none is behind. Where not, `look_at`
    is when to ask again."""
    waits = listeners.filled_until - clocks.NOTICES_AT_ONCE * clocks.NOTICE_SPACING - monotonic()
    if waits <= 0:
        return True
    if listeners.file >= 0:
        return listeners_read(listeners)
    listeners.look_at = monotonic() + waits
    return False
