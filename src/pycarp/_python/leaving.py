"""The part of `Machine` that hands over: a MASTER that leaves, and a BACKUP that stands back. Or it defends.

docs/protocol.md has the transitions: T26 to T29, T36. No clock, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import BOWOUT, Action, Announce, Reason, SendAdvert, State
from ..protocol.timing import HEIR_HEARD_WITHIN, HEIR_READY_WITHIN


class Leaving:
    """What `Machine` does to hand over; the attributes are the machine's."""

    __slots__ = (
        "_advert_due", "_aside", "_echo_answered", "_family_due", "_heir", "_leaving_until", "_master_since",
        "_pace_due", "_stands_back", "_state",
    )  # fmt: skip

    _advert_due: int | None
    _aside: bool
    _echo_answered: int
    _family_due: dict[int, int]
    _heir: tuple[int, str | None] | None
    _leaving_until: int | None
    _master_since: int
    _pace_due: int | None
    _stands_back: bool
    _state: State

    if TYPE_CHECKING:

        @property
        def interval(self) -> int: ...
        @property
        def master_down(self) -> int: ...
        @property
        def withheld(self) -> bool: ...
        def retire(self, reason: Reason, bowout: bool, now: int) -> list[Action]: ...
        def _is_new(self, now: int) -> bool: ...
        def _advert_now(self, now: int) -> SendAdvert: ...
        def _become_backup(self, reason: Reason, peer: str | None, now: int) -> list[Action]: ...

    @property
    def stands_back(self) -> bool:
        """It has handed over, or stands aside: another's advert does not make it MASTER."""
        return self._stands_back or self._aside

    @property
    def leaving(self) -> bool:
        """A MASTER that has offered its addresses to the others, and keeps them until another has them."""
        return self._leaving_until is not None

    def leave(self, now: int) -> list[Action]:
        """A MASTER bows out, and keeps its addresses until another MASTER is heard, or nobody comes; then it goes on.

        It sends no adverts meanwhile. Once it has handed over it stands back, as `retire` says.
        """
        check_moment(now)
        if self._state is not State.MASTER or self.leaving:
            return []
        if self.withheld:
            return self.retire(Reason.HANDED_OVER, True, now)
        self._leaving_until = now + min(self.interval, HEIR_HEARD_WITHIN)
        self._advert_due = self._pace_due = None
        return [SendAdvert(BOWOUT, BOWOUT)]

    def defend(self, now: int) -> list[Action]:
        """A host that is no MASTER says that it has the addresses: a MASTER advertises and announces at once."""
        check_moment(now)
        if self._state is not State.MASTER or self.leaving or self.withheld:
            return []
        return [self._advert_now(now), Announce()]

    def echo(self, now: int) -> list[Action]:
        """An advert was heard with a counter of our own. That is ours, come back; or that of an equal that took over at
        the same time, by chance: a MASTER that is new advertises once more, with another nonce."""
        check_moment(now)
        new = self._state is State.MASTER and not self.leaving and self._echo_answered != self._master_since
        if not new or not self._is_new(now):
            return []
        self._echo_answered = self._master_since
        return [self._advert_now(now)]

    def heir(self, family: int, source: str | None, now: int) -> None:
        """An advert was heard of one that takes over from a MASTER that leaves, but has not got the addresses yet."""
        check_moment(now)
        if self.leaving and self._heir is None:
            self._heir, self._leaving_until = (family, source), now + HEIR_READY_WITHIN

    def stand_aside(self, aside: bool) -> None:
        """From now on another's advert does not make it MASTER, as after a hand-over, but whatever happens; or it may
        again, also after a hand-over. A MASTER stays MASTER."""
        self._aside = bool(aside)
        self._stands_back = self._stands_back and self._aside

    def _left_to(self, family: int, source: str | None, now: int) -> list[Action]:
        """The one that was heard has the addresses now."""
        actions = self._become_backup(Reason.HANDED_OVER, source, now)
        self._stands_back = True
        self._family_due[family] = now + self.master_down
        return actions

    def _end_leaving(self, now: int) -> list[Action]:
        """Nobody has the addresses yet: either somebody is at it, or nobody wants them."""
        if self._heir is not None:
            return self._left_to(*self._heir, now)
        self._leaving_until = None
        return [self._advert_now(now), Announce()]


def check_moment(now: int) -> None:
    """The range in which no sum of ours leaves 64 bits."""
    if not 0 <= now < 1 << 62:
        raise OverflowError(f"now is {now}: give nanoseconds of a monotonic clock, 0 to 2**62-1")
