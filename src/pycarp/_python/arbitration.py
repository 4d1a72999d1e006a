"""Who owns the addresses when hosts of other vhids have them too: the rows S of docs/protocol.md.

A sibling is another vhid with our addresses. The arbitration remembers who was heard, and says what this host is to do;
the machine does it. No clock, no I/O.
"""

from __future__ import annotations

from .._records import dataclass
from ..protocol import NS_PER_SKEW, Advert
from ..protocol.choices import Standing
from ..protocol.timing import master_down

SIBLINGS = 2
"""Two other vhids with our addresses are enough to know that nobody can arbitrate."""
SIBLING_ANSWERS = 3
"""A lower sibling that goes on after this many of our adverts, over three of its intervals, does not arbitrate."""


@dataclass(slots=True)
class Sibling:
    """Another vhid with our addresses, as it was last heard."""

    vhid: int
    interval: int = 0
    gone_at: int = 0  # not heard until then, it is gone
    answers: int = 0  # how many adverts told it to let go
    first_answer: int = 0
    copies_end: int = 0  # until then, what is heard are copies of the advert that was answered last
    stalemate: bool = False  # it did not let go


class Arbitration:
    """`Arbitration(vhid, enabled)`: the siblings of one virtual host; not `enabled`, they are only reported."""

    __slots__ = ("_siblings", "_standings", "enabled", "vhid")

    def __init__(self, vhid: int, enabled: bool) -> None:
        self.vhid = vhid
        self.enabled = enabled
        self._siblings: list[Sibling] = []
        self._standings: dict[int, Standing] = {}

    def gone_at(self, now: int) -> int | None:
        """When the one sibling that is heard will be gone; None: there is none, or there are several."""
        sibling = self._only(now)
        return sibling.gone_at if sibling else None

    def owned_until(self, now: int) -> int | None:
        """Until when, at least, a sibling owns the addresses, whatever our own group says; None: it does not."""
        sibling = self._only(now)
        return sibling.gone_at if sibling and (sibling.vhid > self.vhid or sibling.stalemate) else None

    def hear(self, vhid: int, advert: Advert, master: bool, own_master_down: int, now: int) -> Standing:
        """Take note of a sibling's advert; returns what it means for this host, which is MASTER of its group or not."""
        if not self.enabled:
            return "warn"
        sibling = self._note(vhid, advert, own_master_down, now)
        if sibling is None or self._only(now) is not sibling:
            for each in self._siblings:
                each.answers, each.stalemate = 0, False
            return "several"
        if vhid > self.vhid:
            return "yield"
        # A quarter off: what comes every interval comes a little early now and then.
        lasted = now - sibling.first_answer >= 11 * sibling.interval // 4
        if master and sibling.answers >= SIBLING_ANSWERS and lasted:
            sibling.stalemate = True
            sibling.gone_at = max(sibling.gone_at, now + own_master_down)
        return "stalemate" if sibling.stalemate else "prefer"

    def answer(self, now: int, first: bool = False) -> bool:
        """Whether a MASTER answers now what it heard of a lower sibling: with an advert, so that it lets go.

        `first`: this host has become MASTER, and its first advert is an answer in any case.
        """
        sibling = self._only(now)
        if sibling is None or (now < sibling.copies_end and not first):
            return False
        if first or sibling.answers == 0:
            sibling.answers, sibling.first_answer = 0, now
        sibling.answers += 1
        sibling.copies_end = now + sibling.interval // 2
        return True

    def others(self, vhid: int, now: int) -> bool:
        """Whether siblings but this one are heard."""
        return any(each.vhid != vhid for each in self._heard(now))

    def forget(self, vhid: int | None = None) -> None:
        """One sibling has bowed out; None: this host goes to INIT, and all of them are forgotten."""
        self._siblings = [each for each in self._siblings if vhid is not None and each.vhid != vhid]

    def report(self, vhid: int, standing: Standing) -> bool:
        """Whether this is news to the engine: a standing is reported once, and when it changes."""
        if self._standings.get(vhid) == standing:
            return False
        self._standings[vhid] = standing
        return True

    def report_anew(self) -> None:
        """After a new start everything is news."""
        self._standings = {}

    def _heard(self, now: int) -> list[Sibling]:
        return [each for each in self._siblings if each.gone_at > now]

    def _only(self, now: int) -> Sibling | None:
        """With several siblings, nobody knows which of them the others hear."""
        heard = self._heard(now)
        return heard[0] if len(heard) == 1 and self.enabled else None

    def _note(self, vhid: int, advert: Advert, own_master_down: int, now: int) -> Sibling | None:
        """Remember that it is there; None when there are too many already."""
        heard = self._heard(now)
        sibling = next((each for each in heard if each.vhid == vhid), None)
        if sibling is None:
            # What a sibling did not let go of before it was gone is forgotten.
            sibling = Sibling(vhid)
            if len(heard) == SIBLINGS:
                return None
            self._siblings = [*heard, sibling]
        # 0/0 stands for a very short time, not for none.
        sibling.interval = max(advert.interval, NS_PER_SKEW)
        gone_after = max(master_down(advert.advbase, advert.advskew), 3 * NS_PER_SKEW)
        if vhid > self.vhid or sibling.stalemate:
            # It is waited for as for a master of ours; but who advertises seldom is not silent between two adverts.
            gone_after = max(gone_after, own_master_down)
        sibling.gone_at = now + gone_after
        return sibling
