"""NetBSD's and FreeBSD's carp(4) as their recorded rows have it (tests/vectors/), for elections with ours.

OpenBSD's is in `support.openbsd`. `tests/core/test_bsd_models.py` holds all three to the rows.
"""

from __future__ import annotations

from typing import Any

from pycarp import VirtualHost
from pycarp.protocol import (
    BOWOUT,
    NS_PER_SECOND,
    NS_PER_SKEW,
    SUPPRESSED_ADVSKEW,
    Advert,
    Drop,
    Reason,
    SendAdvert,
    State,
    Take,
    Transition,
)


class NetBsd:
    """What `support.elections` needs of a machine."""

    TICK = 10_000_000
    BOWS_OUT = True
    says_demotion = False

    def __init__(self, config: VirtualHost, _random: object = None) -> None:
        self.config = config
        self.state = State.INIT
        self.sent_demotion = 0
        self.demotion = 0
        self.deadline: int | None = None

    @property
    def advskew(self) -> int:
        """As it is sent and compared."""
        return max(self.config.advskew, SUPPRESSED_ADVSKEW) if self.demotion else self.config.advskew

    @property
    def interval(self) -> int:
        return self.config.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    @property
    def master_down(self) -> int:
        """The demotion does not count."""
        return 3 * self.config.advbase * NS_PER_SECOND + self.config.advskew * NS_PER_SKEW

    def start(self, now: int) -> list[Any]:
        self.state = State.BACKUP
        self._arm(self.master_down, now)
        return []

    def demote(self, by: int, now: int) -> list[Any]:
        """The next advert says so."""
        self.demotion = max(0, self.demotion + by)
        return []

    def stop(self, now: int) -> list[Any]:
        master, self.state, self.deadline = self.state is State.MASTER, State.INIT, None
        if not master:
            return []
        return [Drop(), SendAdvert(BOWOUT, BOWOUT)] if self.BOWS_OUT else [Drop()]

    def timeout(self, now: int) -> list[Any]:
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.BACKUP:
            return self._become_master(Reason.MASTER_DOWN, now)
        self._arm(self.interval, now)
        return [self._advert()]

    def receive(self, advert: Advert, source: str | None, now: int, demotion: int | None = None) -> list[Any]:
        if self.state is State.MASTER:
            if advert.interval > self.interval:
                return []
            self.state = State.BACKUP
            self._arm(self.master_down, now)
            return [Drop(), Transition(State.MASTER, State.BACKUP, Reason.BETTER, source, now)]
        if self.state is not State.BACKUP:
            return []
        preempts = self.config.preempt and self.interval < advert.interval
        if preempts or self._slowest < advert.interval:
            return self._become_master(Reason.PREEMPT, now)
        self._arm(self.master_down, now)
        return []

    @property
    def _slowest(self) -> int:
        """The interval of a master that is as good as gone."""
        return 3 * self.config.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    def _become_master(self, reason: Reason, now: int) -> list[Any]:
        self.state = State.MASTER
        self._arm(self.interval, now)
        return [self._advert(), Take(), Transition(State.BACKUP, State.MASTER, reason, None, now)]

    def _advert(self) -> SendAdvert:
        return SendAdvert(self.config.advbase, self.advskew)

    def _arm(self, after: int, now: int) -> None:
        """In whole ticks, and one more."""
        self.deadline = (now // self.TICK + -(-after // self.TICK) + 1) * self.TICK


class FreeBsd(NetBsd):
    """It sends no bow-out, and adds its demotion to its advskew."""

    TICK = 1_000_000
    BOWS_OUT = False

    @property
    def advskew(self) -> int:
        return max(0, min(self.config.advskew + self.demotion, SUPPRESSED_ADVSKEW))

    def demote(self, by: int, now: int) -> list[Any]:
        """Each change sends an advert at once."""
        self.demotion += by
        return [self._advert()] if self.state is State.MASTER else []
