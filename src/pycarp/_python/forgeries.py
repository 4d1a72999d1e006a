"""Forged adverts that come again and again: what one of them cost to take apart, the next ones need not cost.

Whoever forges without the key sends frames that differ in counter and digest. One that is otherwise the same, byte for
byte, as one that failed by its digest alone passes and fails the same checks: only its own checksum and digest are left
to be looked at. What is then not wrong as before goes all the way. Python alone has this: the compiled twin judges a
frame in the time of this look-up.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha1
from typing import TYPE_CHECKING

from ..protocol import CARP_HEADER_LENGTH

if TYPE_CHECKING:
    from ..protocol.abc import Datagram, Input
    from ..stats import Stats

_DIFFERS = 30
"""Bytes at the end of an advert that differ: checksum, counter, digest."""
_KINDS = 64
"""Frames that are remembered, each without its end."""


class Mac:
    """HMAC-SHA1 (RFC 2104) over messages that begin with the same bytes: both pads and those are hashed once."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, head: bytes) -> None:
        padded = key.ljust(64, b"\0")
        self._inner = sha1(bytes(byte ^ 0x36 for byte in padded) + head)
        self._outer = sha1(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, rest: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(rest)
        outer.update(inner.digest())
        return outer.digest()


class Forgeries:
    """What is known of them on one carpdev. It has to be forgotten when anything changes that a check asks for."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bool, Stats, tuple[Mac, ...]]] = {}

    def note(self, frame: bytes, datagram: Datagram, stats: Stats, macs: Iterable[Mac]) -> None:
        """This one came to the group, and was counted as badauth in `stats`."""
        if len(datagram.payload) != CARP_HEADER_LENGTH or not frame.endswith(datagram.payload):
            return
        if len(self._known) >= _KINDS:
            self._known.clear()
        self._known[bytes(frame[:-_DIFFERS])] = datagram.family == 4, stats, tuple(macs)

    def forget(self) -> None:
        self._known.clear()

    def again(self, frame: bytes) -> bool:
        """Whether this is another one, which is then counted."""
        known = self._known.get(frame[:-_DIFFERS])
        # The ones' complement sum over 16-bit words is a number modulo 65535 (RFC 1071, section 2).
        if known is None or int.from_bytes(frame[-CARP_HEADER_LENGTH:], "big") % 0xFFFF:
            return False
        ipv4, stats, macs = known
        counter, digest = frame[-28:-20], frame[-20:]
        # Each that may be right, whatever was found before: time tells nothing.
        right = [hmac.compare_digest(mac.digest(counter), digest) for mac in macs]
        if True in right:
            return False
        if ipv4:
            stats.ipackets += 1
        else:
            stats.ipackets6 += 1
        stats.badauth += 1
        return True


def forged_again(path: Input, frame: bytes) -> bool:
    """Whether a frame is one more forgery like one before, which `receive` would count as badauth; it is counted."""
    forgeries: Forgeries | None = getattr(path, "_forgeries", None)
    return forgeries is not None and path.allow and forgeries.again(frame)
