"""With which of two secrets or address sets an authenticator signs while a group changes from one to the other.

Until it is told, it follows what it hears. A BACKUP is silent and cannot be asked: a host shows that it accepts the new
by signing with it, and one that signs with the old may not.
"""

from __future__ import annotations

from ..protocol import NS_PER_SECOND, SPOKEN
from ..protocol.keys import spoken
from ..protocol.timing import CHANGE_HEARD_INTERVALS

OLD, BOTH, NEW = range(3)


class Change:
    """State of one authenticator. Where there is no change (`changing` is False) it speaks the old, called "".

    Who starts during a change, and has heard nobody, signs with both: nobody who has one of them takes over. Who has
    heard the new as well as the old lately signs with both, who has heard only the new with that. Nobody goes back to
    the old alone: a silent host may know only the new.
    """

    __slots__ = ("_changing", "_heard", "_told", "_value")

    def __init__(self, changing: bool) -> None:
        self._changing = changing
        self._value = BOTH if changing else OLD
        self._told = False
        self._heard = [0, 0]  # when the old and the new were heard last (ns), 0: never

    @property
    def speaks(self) -> str:
        return SPOKEN[self._value] if self._changing else ""

    @property
    def spoken(self) -> tuple[bool, ...]:
        """Whether the old is spoken (False), the new (True), or both."""
        return ((False,), (False, True), (True,))[self._value]

    def speak(self, which: str) -> None:
        value = spoken(which, self._changing)
        self._told = value >= 0
        if self._told:
            self._value = value

    def follow(self, new: bool, now: int, interval: int) -> str:
        if not self._changing:
            return ""
        self._heard[new] = now
        if self._told:
            return ""
        before, other = self._value, self._heard[not new]
        lately = other > 0 and now - other <= max(CHANGE_HEARD_INTERVALS * interval, NS_PER_SECOND)
        if new:
            self._value = BOTH if lately else NEW
        elif before == NEW or (before == BOTH and self._heard[True]):
            self._value = BOTH
        else:
            self._value = OLD
        return SPOKEN[self._value] if self._value != before else ""

    def bequest(self) -> list[int] | None:
        """For `inherit`, as plain values."""
        return [self._value, int(self._told), *self._heard] if self._changing else None

    def inherit(self, values: list[int] | None) -> None:
        if self._changing and values is not None:
            self._value, self._told, self._heard = values[0], bool(values[1]), list(values[2:])
