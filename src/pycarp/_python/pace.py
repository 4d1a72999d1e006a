"""The part of `Machine` for a pace: what a MASTER says of its own, and how long a BACKUP waits for one that says it.

docs/protocol.md has the transitions: T37 to T41. No clock, no I/O. All times are ns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import Reason, SendAdvert, State
from ..protocol.timing import (
    NO_PACE,
    NS_PER_MS,
    PACE_GAPS_FORGOTTEN,
    PACE_HEARD_FIRST,
    PACE_NEVER,
    PACE_RETURNS_WITHIN,
    PACE_STEP,
    PACES,
    TAKEOVER_JITTER,
    TIE_JITTER,
)
from .demotion import Demotion
from .leaving import check_moment


class Gaps:
    """How far apart adverts came that are due every few milliseconds: `worst`, of which half is forgotten when nothing
    near it has been seen for a while."""

    __slots__ = ("halve_at", "last", "worst")

    def __init__(self) -> None:
        self.last: int | None = None
        self.worst = self.halve_at = 0

    def note(self, at: int) -> None:
        """One came at this time."""
        gap = 0 if self.last is None else max(0, at - self.last)
        if 2 * gap > self.worst:
            self.worst, self.halve_at = max(gap, self.worst), at + PACE_GAPS_FORGOTTEN
        elif at >= self.halve_at:
            self.worst, self.halve_at = self.worst // 2, at + PACE_GAPS_FORGOTTEN
        self.last = at


class Pace:
    """What one machine knows of paces."""

    __slots__ = ("count", "heard", "least", "own", "said", "source", "took", "wait")

    def __init__(self) -> None:
        self.own, self.heard = Gaps(), Gaps()
        self.least = 0  # between our adverts, as the caller limits them
        self.said = 0  # by the master heard last, ns
        self.count = 0  # of its adverts since it says a pace
        self.source: str | None = None
        self.took = 0  # after so much silence we took over from it
        self.wait = 0  # our random part: equals do not act together

    def draw(self, wait: int) -> None:
        """Equals differ by this part of TIE_JITTER."""
        self.wait = wait * TAKEOVER_JITTER // (2 * TIE_JITTER)

    def forget(self) -> None:
        """No master is known. What was measured is kept."""
        self.said = self.count = 0
        self.heard.last = None
        self.source = None

    def hear(self, source: str | None, code: int, at: int) -> None:
        """An advert of a master came at this time."""
        if source != self.source or not code:
            self.forget()
            self.source = source
        self.said = PACES[code]
        if code:
            self.count += 1
            self.heard.note(at)

    def limit(self, missed: int, advskew: int, worst: int | None = None) -> int | None:
        """The silence after which that master is gone, if it says a pace and has been heard for long enough."""
        if not self.said or self.count < PACE_HEARD_FIRST:
            return None
        worst = self.heard.worst if worst is None else worst
        return max(missed * self.said, 2 * worst) + advskew * PACE_STEP + self.wait

    def returned(self, source: str | None, at: int) -> None:
        """A MASTER hears another one. Is it the one that it took over from, which has been there all the time?"""
        if not self.took or source != self.source or self.heard.last is None:
            return
        if at - self.heard.last <= PACE_RETURNS_WITHIN * self.took:
            self.heard.note(at)
        else:
            self.forget()
        self.took = 0

    def code(self, pacing: int, interval: int) -> int:
        """What a MASTER says that sends every `pacing` ns: the code of what it can keep, or NO_PACE."""
        if not pacing:
            return NO_PACE
        kept = max(pacing, self.own.worst // 2)
        code = next((code for code, pace in enumerate(PACES) if pace >= kept), NO_PACE)
        return code if PACES[code] < interval else NO_PACE


class Paced(Demotion):
    """What `Machine` does about paces; the attributes are the machine's."""

    __slots__ = ("_pace", "_tie_wait")

    _pace: Pace
    _tie_wait: int

    if TYPE_CHECKING:

        @property
        def advskew(self) -> int: ...
        @property
        def _period(self) -> int: ...

    @property
    def pacing(self) -> int:
        """Nanoseconds between a MASTER's adverts with those in between; 0: there are none in between."""
        pace = max(self._config.pace * NS_PER_MS, self._pace.least) if self._config.pace else 0
        return pace if pace < self._period else 0

    @property
    def said_pace(self) -> int:
        """The code of the pace that the next advert says: a slower one if this machine does not keep its own."""
        return self._pace.code(self.pacing, self._period)

    @property
    def silence(self) -> int:
        """Nanoseconds of silence after which the master heard last is gone: fewer than master-down if it says a pace.

        A BACKUP to which adverts come irregularly waits longer.
        """
        paced, usual = self._pace.limit(self._config.missed, self.advskew), self.master_down + self._tie_wait
        return usual if paced is None else min(paced, usual)

    @property
    def heard_pace(self) -> int:
        """The pace in ns that the master heard last says, once it is obeyed; 0: none is."""
        return self._pace.said if self._pace.count >= PACE_HEARD_FIRST else 0

    @property
    def usual_silence(self) -> int:
        """What `silence` would be if adverts came regularly."""
        paced, usual = self._pace.limit(self._config.missed, self.advskew, 0), self.master_down + self._tie_wait
        return usual if paced is None else min(paced, usual)

    def pause_pace(self, now: int) -> None:
        """Until `limit_pace` no pace is said; none that was heard is obeyed."""
        self.limit_pace(PACE_NEVER, now)
        self._pace.forget()
        later = now + self.master_down
        self._family_due = {family: max(due, later) for family, due in self._family_due.items()}

    def limit_pace(self, least: int, now: int) -> None:
        """Adverts are at least this many ns apart, whatever the configured pace is."""
        check_moment(now)
        former, self._pace.least = self.pacing, least
        self._measure_anew(former)
        if self._pace_due is not None or self._advert_due is not None:
            self._arm_pace(now)

    def _measure_anew(self, former: int) -> None:
        """Its pacing was `former`. That made gaps of its own: they do not tell that it cannot keep another pace."""
        own, pacing = self._pace.own, self.pacing
        if pacing != former:
            own.last = None
            if own.worst <= 2 * (former or self._period):
                own.worst = 0

    def _begin_pace(self, reason: Reason) -> None:
        """It becomes MASTER."""
        paced = self._pace.limit(self._config.missed, self.advskew)
        self._pace.took = paced if reason is Reason.MASTER_DOWN and paced is not None else 0
        self._pace.own.last = None

    def _arm_pace(self, now: int) -> None:
        """Machines of one pace send together: their moments are multiples of it."""
        pacing = self.pacing
        self._pace_due = (now // pacing + 1) * pacing if pacing and self._state is State.MASTER else None

    def _advert(self, now: int, between: bool = False) -> SendAdvert:
        if self._config.pace:
            self._pace.own.note(now)
        return SendAdvert(self._config.advbase, self.advskew, self.said_pace, between)

    def _advert_now(self, now: int) -> SendAdvert:
        """An advert out of turn: the next one is due an interval later."""
        self._advert_due = now + self._period
        self._arm_pace(now)
        return self._advert(now)
