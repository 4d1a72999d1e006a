"""The part of `Machine` that demotes: adverts that cannot be sent, a link that is down, and reasons of the caller's.

docs/protocol.md has the transitions. Sources: NetBSD `carp_send_ad`, `carp_carpdev_state`. No clock, no I/O.
"""

from __future__ import annotations

from ..config import VirtualHost
from ..protocol import Action, State, Suppress
from ..protocol.timing import SEND_ERRORS_FORGOTTEN
from .leaving import Leaving, check_moment

MOST_DEMOTION = 255
"""What the demotion byte of an advert can say."""
SEND_ERRORS = 3
"""This many failures in a row demote, and this many successes in a row end it (NetBSD `CARP_SENDAD_MAX_ERRORS`)."""


class Demotion(Leaving):
    """What `Machine` does to be less eager; the attributes are the machine's."""

    __slots__ = ("_config", "_demotion", "_forget_errors_due", "_link_suppressed", "_send_errors", "_send_successes")

    _config: VirtualHost
    _demotion: int
    _forget_errors_due: int | None
    _link_suppressed: bool
    _send_errors: int
    _send_successes: int

    @property
    def demotion(self) -> int:
        """How many reasons there are to be less eager; above 0 the effective advskew is at least 240."""
        return self._demotion

    @property
    def sent_demotion(self) -> int:
        """The demotion byte of our adverts, as OpenBSD has it."""
        return min(self._demotion, MOST_DEMOTION) if self._config.demotion in ("auto", "obey") else 0

    @property
    def link_demotes(self) -> bool:
        """Its link is down, and demotes this host's other virtual hosts."""
        return self._link_suppressed

    @property
    def sending_demotes(self) -> bool:
        """Its adverts could not be sent, and that demotes this host."""
        return self._send_errors >= SEND_ERRORS

    def demote(self, by: int, now: int) -> list[Action]:
        """Change the demotion counter by `by` (32 bits); it does not fall below 0.

        A MASTER advertises at once when it rises from 0, and a further rise once half an interval has passed since.
        """
        check_moment(now)
        if not -(1 << 31) <= by < 1 << 31:
            raise OverflowError(f"demotion by {by} does not fit 32 bits")
        before, self._demotion = self._demotion, max(0, self._demotion + by)
        if before >= min(self._demotion, MOST_DEMOTION) or self._state is not State.MASTER or self.leaving:
            return []
        # Where hundreds demote each other, each rises hundreds of times.
        soon = self._advert_due is not None and self._advert_due - now <= self.interval // 2
        return [self._advert_now(now)] if before == 0 or soon else []

    def sent(self, ok: bool, now: int) -> list[Action]:
        """How sending an advert went. Three failures in a row demote this host, three successes after that end it."""
        check_moment(now)
        if not ok:
            self._send_successes = 0
            self._send_errors += 1
            if self._send_errors != SEND_ERRORS:
                return []
            if self._state is not State.MASTER:
                self._arm_forget_errors(now)
            return [Suppress(1), *self.demote(1, now)]
        if self._send_errors < SEND_ERRORS:
            self._send_errors = 0
            return []
        self._send_successes += 1
        return self._forget_send_errors() if self._send_successes >= SEND_ERRORS else []

    def _arm_forget_errors(self, now: int) -> None:
        if self._send_errors >= SEND_ERRORS:
            self._forget_errors_due = now + SEND_ERRORS_FORGOTTEN

    # Suppression: this virtual host's trouble demotes the others of this host too

    def _suppress_for_link(self) -> list[Action]:
        if self._link_suppressed:
            return []
        self._link_suppressed = True
        self._demotion += 1
        return [Suppress(1)]

    def _unsuppress_for_link(self) -> list[Action]:
        suppressed, self._link_suppressed = self._link_suppressed, False
        return self._end_suppression() if suppressed else []

    def _forget_send_errors(self) -> list[Action]:
        suppressed = self._send_errors >= SEND_ERRORS
        self._send_errors = self._send_successes = 0
        self._forget_errors_due = None
        return self._end_suppression() if suppressed else []

    def _end_suppression(self) -> list[Action]:
        self._demotion = max(0, self._demotion - 1)
        return [Suppress(-1)]
