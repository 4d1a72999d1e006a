"""Serials against replays: whether an advert of a pycarp host is what its sender's clock promises now.

A serial is the sender's clock in seconds. Who is heard has a *lead*: its serial before our clock. Nobody without the
key can make an advert whose serial is ahead, and an old one falls behind. What a restart or a clock that was set back
explains is believed once it has gone on with time, and nothing of the sender's former stream came meanwhile.

docs/protocol.md has the rules. No clock, no I/O. The compiled twin is `ext/serials.pxi`.
"""

from __future__ import annotations

from collections import deque

from .._records import dataclass
from ..protocol import NS_PER_SECOND, NS_PER_SKEW, Advert, abc
from ..protocol.timing import (
    SERIAL_APART,
    SERIAL_CANDIDATE_APART,
    SERIAL_CLOCKS_APART,
    SERIAL_DRIFT,
    SERIAL_ROUND,
    SERIAL_SHORTEST,
)

SENDERS_KNOWN = 16
"""For each instance, by source and vhid. In a full table a new one takes the place of one that was not believed, or was
silent longest."""
COUNTERS_KEPT = 16
"""Counters heard last, and bow-outs of guardians that were obeyed."""


@dataclass(slots=True, eq=False)
class _Sender:
    source: bytes
    vhid: int
    heard: int
    believed: bool = False
    lead: int = 0
    live_until: int = 0  # its stream is not over before
    left: int | None = None  # the serial of the bow-out with which it left
    tried_lead: int | None = None  # of a stream that is not believed yet
    tried_serial: int = 0
    tried_since: int = 0


class Serials:
    """The senders of one instance's group and siblings."""

    __slots__ = ("_heard", "_senders", "_spent")

    def __init__(self) -> None:
        self._senders: list[_Sender] = []
        self._heard: deque[tuple[bytes, bytes]] = deque(maxlen=COUNTERS_KEPT)  # with the source
        self._spent: deque[bytes] = deque(maxlen=COUNTERS_KEPT)

    def judge(
        self,
        source: bytes,
        advert: Advert,
        now: int,
        wall: int,
        *,
        master: bool,
        to_group: bool,
        authenticator: abc.Authenticator,
        dialect: str,
    ) -> bool:
        """Whether to believe an advert at `now` (ns) whose digest is right and whose counter agrees with its header.

        `wall` is what our wall clock is before `now`; `master` whether we are MASTER. Only a pycarp host's has a
        serial: the authenticator is asked for that where it matters.
        """
        lead = advert.counter[4] * 256 * NS_PER_SECOND + advert.counter[5] * NS_PER_SECOND - now
        sender = next((one for one in self._senders if one.source == source and one.vhid == advert.vhid), None)
        if sender is not None and sender.believed and abs(_apart(lead, sender.lead)) <= SERIAL_APART:
            if sender.left is None or _after(advert, sender.left):
                self._believe(sender, source, advert, now, lead, to_group)
                return True
        if not authenticator.tagged(advert.counter, dialect):
            return True
        if sender is None:
            sender = self._new(source, advert.vhid, now)
        if self._good_once(sender, advert, now):
            return True
        if not self._explained(sender, advert, now, lead, wall, master):
            return False
        sender.believed, sender.lead, sender.heard = True, lead, now
        self._believe(sender, source, advert, now, lead, to_group)
        return True

    def _good_once(self, sender: _Sender, advert: Advert, now: int) -> bool:
        """Whether this is the bow-out of a guardian, signed long ago and not heard before, of a host that is heard."""
        if not advert.bowout or advert.counter[2] & 8 or not _lives(sender, now) or advert.counter in self._spent:
            return False
        self._spent.append(advert.counter)
        sender.live_until = now
        return True

    def _explained(self, sender: _Sender, advert: Advert, now: int, lead: int, wall: int, master: bool) -> bool:
        """Whether there is a good reason for what is not as promised."""
        if _lives(sender, now):
            # What is ahead is no past: it may be that our own clock stood still, in a virtual machine that was stopped.
            if _apart(lead, sender.lead) > 0:
                self._goes_on(sender, advert, now, lead)
            else:
                sender.tried_lead = None
            return False
        timely = abs(_apart(lead, wall)) <= SERIAL_CLOCKS_APART and not self._heard_elsewhere(sender.source, advert)
        timely = timely and (sender.left is None or _after(advert, sender.left))
        first = not master and not advert.bowout and not any(one.believed for one in self._senders)
        if timely or first or self._goes_on(sender, advert, now, lead):
            return True
        if not sender.believed:
            sender.heard = now
        return False

    def _goes_on(self, sender: _Sender, advert: Advert, now: int, lead: int) -> bool:
        """Whether a stream that is not believed yet has advanced with time for long enough."""
        if advert.bowout:
            return False
        if sender.tried_lead is None or abs(_apart(lead, sender.tried_lead)) > SERIAL_CANDIDATE_APART:
            sender.tried_lead, sender.tried_since, sender.tried_serial = lead, now, _serial(advert)
            return False
        base = advert.advbase * NS_PER_SECOND or advert.advskew * NS_PER_SKEW
        long_enough = now - sender.tried_since >= max(7 * base // 5, SERIAL_SHORTEST)
        return long_enough and _after(advert, sender.tried_serial, bowouts=False)

    def _believe(self, sender: _Sender, source: bytes, advert: Advert, now: int, lead: int, to_group: bool) -> None:
        """It is what its sender says now. The lead does not go back but as slowly as clocks drift: many adverts, each
        a little late, do not take it along."""
        slower = sender.lead - max(0, now - sender.heard) // SERIAL_DRIFT
        sender.lead = lead if _apart(lead, slower) > 0 else slower
        sender.heard = now
        sender.tried_lead = None
        if not advert.bowout:
            sender.live_until, sender.left = now + 5 * advert.interval // 2, None
        elif to_group:
            sender.live_until = now
            # A guardian's was signed long ago, and says nothing about what may follow.
            if advert.counter[2] & 8:
                sender.left = _serial(advert)
        if advert.bowout and not advert.counter[2] & 8 and advert.counter not in self._spent:
            self._spent.append(advert.counter)
        self._heard.append((source, advert.counter))

    def _heard_elsewhere(self, source: bytes, advert: Advert) -> bool:
        """Whether another address of this family has said just this: then it was copied from there."""
        same = (one for one, said in self._heard if said == advert.counter)
        return any(source != one and len(source) == len(one) for one in same)

    def _new(self, source: bytes, vhid: int, now: int) -> _Sender:
        made = _Sender(source, vhid, now)
        if len(self._senders) < SENDERS_KNOWN:
            self._senders.append(made)
        else:
            oldest = min(self._senders, key=lambda one: (one.believed, one.heard))
            self._senders[self._senders.index(oldest)] = made
        return made


def _apart(lead: int, other: int) -> int:
    """How much the one is before the other: serials go round."""
    return (lead - other + SERIAL_ROUND // 2) % SERIAL_ROUND - SERIAL_ROUND // 2


def _lives(sender: _Sender, now: int) -> bool:
    """Whether its stream goes on, as far as we know."""
    return sender.believed and now <= sender.live_until


def _serial(advert: Advert) -> int:
    return advert.counter[4] << 8 | advert.counter[5]


def _after(advert: Advert, serial: int, *, bowouts: bool = True) -> bool:
    """Whether an advert is later than this serial (RFC 1982). A bow-out comes in several copies."""
    difference = (_serial(advert) - serial) & 0xFFFF
    return 0 < difference < 0x8000 or (bowouts and advert.bowout and difference == 0)
