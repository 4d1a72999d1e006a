"""Hosts that have our secret and our addresses under another vhid: two groups, which would hold one address twice.

Every carp(4) counts such an advert as badvhid and looks no further. So do we, but first look whose it is. Only a digest
tells, and digests cost time: a vhid that is not known as a sibling is tried seldom. Other groups on the link advertise
each second, and each at the same moment of it: without turns, the same ones could always find no trial left.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..protocol import Advert
from ..protocol.timing import SIBLING_TRIAL, SIBLING_TRIALS_KEPT, SIBLING_TURN
from .auth import Authenticator

SIBLINGS_KNOWN = 8
"""On one carpdev; of more siblings, the one that was heard longest ago has to be found anew."""

Found = tuple[int, Authenticator, str]
"""The instance's vhid, what verified the advert, and the dialect."""


class Search:
    """The search for siblings on one carpdev."""

    __slots__ = ("_again", "_known", "_since", "_spent", "_turn")

    def __init__(self) -> None:
        # By the instance's vhid and the sibling's: what verifies. The one heard last stands at the end.
        self._known: dict[tuple[int, int], Authenticator] = {}
        self._spent = 0
        self._since = 0
        self._again: dict[int, int] = {}
        self._turn: dict[int, int] = {}

    def find(self, instances: Mapping[int, Authenticator], advert: Advert, now: int) -> Found | None:
        """Of which of these instances (by vhid, in order) an advert with another vhid is a sibling."""
        unknown = []
        for vhid in instances:
            pair = (vhid, advert.vhid)
            if pair not in self._known:
                unknown.append(vhid)
            elif (dialect := self._known[pair].verify(advert.counter, advert.digest)) is not None:
                derived = self._known[pair] = self._known.pop(pair)
                return vhid, derived, dialect
        return self._try(instances, unknown, advert, now)

    def forget(self, vhid: int) -> None:
        """An instance is gone, or has another authenticator."""
        self._known = {pair: known for pair, known in self._known.items() if pair[0] != vhid}

    def _try(
        self, instances: Mapping[int, Authenticator], unknown: list[int], advert: Advert, now: int
    ) -> Found | None:
        if now > self._since:
            self._spent = max(0, self._spent - (now - self._since))
            self._since = now
        if self._spent > SIBLING_TRIALS_KEPT // 2 and now < self._again.get(advert.vhid, 0):
            return None
        # Where there are more instances than trials, each has its turn.
        first = self._turn.get(advert.vhid, 0)
        for vhid in sorted(unknown, key=lambda vhid: (vhid < first, vhid)):
            if self._spent > SIBLING_TRIALS_KEPT - SIBLING_TRIAL:
                return None
            self._spent += SIBLING_TRIAL
            self._again[advert.vhid] = now + SIBLING_TURN
            self._turn[advert.vhid] = vhid + 1 & 255
            derived = instances[vhid].sibling(advert.vhid)
            dialect = derived.verify(advert.counter, advert.digest)
            if dialect is not None:
                del self._again[advert.vhid]  # it has proved what it is
                self._known[vhid, advert.vhid] = derived
                if len(self._known) > SIBLINGS_KNOWN:
                    del self._known[next(iter(self._known))]
                return vhid, derived, dialect
        return None
