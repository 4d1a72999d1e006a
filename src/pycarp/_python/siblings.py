"""Hosts that have our secret and our addresses under another vhid: two groups, which would hold one address twice.

Every carp(4) counts such an advert as badvhid and looks no further. So do we, but first look whose it is. Only a digest
tells, and digests cost time: what has not proved to be a sibling yet is tried seldom.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..protocol import Advert
from .auth import Authenticator

KNOWN = 8
"""So many siblings are recognised on one carpdev; of more, the one that was heard longest ago has to be found anew."""
COST = 100_000_000
"""Nanoseconds in which one more trial is earned."""
SAVED = 20 * COST
"""No more trials than these are saved up."""
REST = 10_000_000_000
"""While fewer than half of them are left, a vhid has one turn in so many nanoseconds.

Other groups on the link advertise each second, and each at the same moment of it: without turns, it could always be the
same ones that find no trial left.
"""


class Search:
    """The search for siblings on one carpdev."""

    __slots__ = ("_again", "_known", "_since", "_spent", "_turn")

    def __init__(self) -> None:
        # By vhid here and there; what it was derived from, and what verifies. The one heard last stands at the end.
        self._known: dict[tuple[int, int], tuple[Authenticator, Authenticator]] = {}
        self._spent = 0
        self._since = 0
        self._again: dict[int, int] = {}
        self._turn: dict[int, int] = {}

    def find(
        self, hosts: Mapping[int, Authenticator], advert: Advert, now: int
    ) -> tuple[int, Authenticator, str] | None:
        """Of which of these hosts (by vhid, in order) an advert with another vhid is a sibling.

        Returns the host's vhid, what verified the advert, and the dialect.
        """
        conflict = []
        for vhid, authenticator in hosts.items():
            pair = (vhid, advert.vhid)
            origin, derived = self._known.get(pair, (None, authenticator))
            if origin is not authenticator:
                conflict.append(vhid)
            elif (dialect := derived.verify(advert.counter, advert.digest)) is not None:
                self._known[pair] = self._known.pop(pair)
                return vhid, derived, dialect
        return self._try(hosts, conflict, advert, now)

    def forget(self, vhid: int) -> None:
        """A host is gone, or has another secret."""
        self._known = {pair: known for pair, known in self._known.items() if pair[0] != vhid}

    def _try(
        self, hosts: Mapping[int, Authenticator], conflict: list[int], advert: Advert, now: int
    ) -> tuple[int, Authenticator, str] | None:
        if now > self._since:
            self._spent = max(0, self._spent - (now - self._since))
            self._since = now
        if self._spent > SAVED // 2 and now < self._again.get(advert.vhid, 0):
            return None
        # Where there are more hosts than trials, each has its turn.
        first = self._turn.get(advert.vhid, 0)
        for vhid in sorted(conflict, key=lambda vhid: (vhid < first, vhid)):
            if self._spent > SAVED - COST:
                return None
            self._spent += COST
            self._again[advert.vhid] = now + REST
            self._turn[advert.vhid] = vhid + 1 & 255
            derived = hosts[vhid].sibling(advert.vhid)
            dialect = derived.verify(advert.counter, advert.digest)
            if dialect is not None:
                del self._again[advert.vhid]  # it has proved what it is
                self._keep((vhid, advert.vhid), (hosts[vhid], derived))
                return vhid, derived, dialect
        return None

    def _keep(self, pair: tuple[int, int], known: tuple[Authenticator, Authenticator]) -> None:
        self._known.pop(pair, None)
        self._known[pair] = known
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
