"""OpenBSD's carp(4) as its recorded rows have it (tests/vectors/openbsd-behaviour.json), for elections with ours."""

from __future__ import annotations

from typing import Any

from pycarp import VirtualHost
from pycarp.protocol import (
    BOWOUT,
    NS_PER_SECOND,
    NS_PER_SKEW,
    Advert,
    Drop,
    Reason,
    SendAdvert,
    State,
    Take,
    Transition,
)

TICK = 10_000_000


class OpenBsd:
    """What `support.elections` needs of a machine."""

    def __init__(self, config: VirtualHost, _random: object = None) -> None:
        self.config = config
        self.state = State.INIT
        self.sent_demotion = 0
        self.deadline: int | None = None

    @property
    def interval(self) -> int:
        return self.config.advbase * NS_PER_SECOND + self.config.advskew * NS_PER_SKEW

    def start(self, now: int) -> list[Any]:
        self.state = State.BACKUP
        self._arm(3 * self.interval, now)
        return []

    def demote(self, by: int, now: int) -> list[Any]:
        """Raising it sends an advert at once."""
        self.sent_demotion = max(0, self.sent_demotion + by)
        return [self._advert()] if by > 0 and self.state is State.MASTER else []

    def stop(self, now: int) -> list[Any]:
        master, self.state, self.deadline = self.state is State.MASTER, State.INIT, None
        return [Drop(), SendAdvert(BOWOUT, BOWOUT)] if master else []

    def timeout(self, now: int) -> list[Any]:
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.BACKUP:
            return self._become_master(Reason.MASTER_DOWN, now)
        self._arm(self.interval, now)
        return [self._advert()]

    def receive(self, advert: Advert, source: str | None, now: int, demotion: int | None = None) -> list[Any]:
        said = advert.demotion
        if self.state is State.MASTER:
            worse = self.interval < advert.interval
            if said < self.sent_demotion if worse else said <= self.sent_demotion:
                self.state = State.BACKUP
                self._arm(3 * self.interval, now)
                return [Drop(), Transition(State.MASTER, State.BACKUP, Reason.BETTER, source, now)]
            return []
        if self.state is not State.BACKUP:
            return []
        preempts = self.config.preempt and self.interval < advert.interval and said >= self.sent_demotion
        too_slow = (
            self.config.advbase
            and 3 * self.config.advbase * NS_PER_SECOND + (self.config.advskew * NS_PER_SKEW) < advert.interval
        )
        if preempts or said > self.sent_demotion or too_slow:
            return self._become_master(Reason.PREEMPT, now)
        self._arm(3 * self.interval, now)
        return []

    def _become_master(self, reason: Reason, now: int) -> list[Any]:
        self.state = State.MASTER
        self._arm(self.interval, now)
        return [self._advert(), Take(), Transition(State.BACKUP, State.MASTER, reason, None, now)]

    def _advert(self) -> SendAdvert:
        return SendAdvert(self.config.advbase, self.config.advskew)

    def _arm(self, after: int, now: int) -> None:
        """In whole ticks, and one more."""
        self.deadline = (now // TICK + -(-after // TICK) + 1) * TICK
