"""The state machine of one virtual host: events and the time come in, actions and one next deadline come out.

No clock, no I/O. Sources: NetBSD `carp_proto_input_c`, `carp_setrun`, `carp_master_down`, `carp_carpdev_state`,
`carp_send_ad`; OpenBSD for advbase 0; docs/protocol.md for what is ours (ties, several backups, families).

    state    event                                             action                                    next
    INIT     start, link up                                    arm master-down, 0-20 ms late             BACKUP
    BACKUP   advert, slower than we, preempt                   take over after a short wait              BACKUP
    BACKUP   advert, slower than our master-down (a bow-out)   take over after a short wait              BACKUP
    BACKUP   any other advert                                  arm master-down, cancel the wait          BACKUP
    BACKUP   master-down or the wait is over                   advert, announce, take                    MASTER
    MASTER   advert, faster than we, or equal                  drop, arm master-down (equal: 0-20 ms)    BACKUP
    MASTER   for less than 20 ms: an equal advert              drop, take over again in 2-22 ms          BACKUP
    MASTER   advert, slower than we                            none                                      MASTER
    MASTER   interval over                                     advert                                    MASTER
    MASTER   stop                                              drop, bow-out                             INIT
    MASTER   retire                                            drop, bow-out or none, arm master-down    BACKUP
    any      link down                                         drop, suppress +1                         INIT
    INIT     link up                                           suppress -1, arm master-down              BACKUP

A sibling is another vhid with our addresses. One that arbitrates as we do leaves them to the higher vhid:

    state    heard                                             action                                    next
    MASTER   a higher sibling                                  drop, bow-out                             BACKUP
    BACKUP   a higher sibling                                  no takeover while it is heard             BACKUP
    BACKUP   a lower sibling, then it is time to take over     advert, but neither announce nor take     MASTER
    MASTER   a lower sibling                                   advert at once, so that it lets go        MASTER
    MASTER   a lower sibling that does not let go              drop, bow-out, as if it were higher       BACKUP
    MASTER   withheld: the lower one's bow-out or silence      announce, take                            MASTER
    BACKUP   a sibling's bow-out, no master in our group       take over after a short wait              BACKUP
"""

from __future__ import annotations

import random as _random
from dataclasses import dataclass

from ..config import VirtualHost
from ..protocol import (
    BOWOUT,
    NS_PER_SECOND,
    NS_PER_SKEW,
    SUPPRESSED_ADVSKEW,
    Action,
    Advert,
    Announce,
    Drop,
    FamilySilent,
    Reason,
    SendAdvert,
    SiblingFound,
    Standing,
    State,
    Suppress,
    Take,
    Transition,
)
from ..protocol.abc import Random

TIE_JITTER = 20_000_000
"""Up to this many ns are added to master-down where two equal hosts could otherwise move in lockstep."""
CONTEST_HOLD = 2_000_000
"""Within this many ns of a tie, equal adverts are further copies of those of the same rivals."""
TAKEOVER_STEP = 20_000
"""Several backups hear one bow-out: each waits this many ns for each unit of advskew, so that the best acts first
..."""
TAKEOVER_JITTER = 500_000
"""... and up to this many more, so that equals do not act together."""
SEND_ERRORS = 3
"""This many failures in a row demote, and this many successes in a row end it (NetBSD `CARP_SENDAD_MAX_ERRORS`)."""
SEND_RECOVERY = 30 * NS_PER_SECOND
"""A BACKUP sends nothing that could succeed: its demotion for send errors ends after this time."""

SIBLINGS = 2
"""Two other vhids with our addresses are enough to know that nobody can arbitrate."""
SIBLING_ANSWERS = 3
"""A lower sibling that goes on after this many of our adverts, over three of its intervals, does not arbitrate."""


@dataclass(slots=True)
class _Sibling:
    """Another vhid with our addresses, as it was last heard."""

    vhid: int
    interval: int = 0
    due: int = 0
    """Not heard until then, it is gone."""
    since: int = 0
    """When it was first told that it should let go."""
    answers: int = 0
    """How often it was told."""
    answer_due: int = 0
    """Until then what is heard are copies of the advert that was answered."""
    stubborn: bool = False


class Machine:
    """`Machine(config)`: one virtual host between INIT, BACKUP and MASTER.

    Every call takes `now`, nanoseconds of a monotonic clock (0 to 2**62-1, `OverflowError` otherwise), and returns the
    actions to carry out, in order. The caller then looks at `deadline` (ns of the same clock, or None) and calls
    `timeout(now)` when it has come. `random` is the source of the waits that break ties; what it raises comes through,
    and nothing has happened then.
    """

    __slots__ = (
        "_advert_due", "_cause", "_config", "_demotion", "_down_due", "_family_due", "_hold", "_lag", "_link",
        "_link_suppressed", "_overdue", "_peer", "_random", "_recovery_due", "_send_errors", "_send_successes",
        "_siblings", "_since", "_standings", "_started", "_state", "_takeover_due", "_takeover_reason", "_withheld_due",
    )  # fmt: skip

    _advert_due: int | None
    _down_due: int | None
    _family_due: dict[int, int]
    _overdue: set[int]
    _takeover_due: int | None
    _takeover_reason: Reason
    _recovery_due: int | None
    _peer: str | None
    _withheld_due: int | None

    def __init__(self, config: VirtualHost, random: Random | None = None) -> None:
        self._config = config
        self._random: Random = _random.SystemRandom().randrange if random is None else random
        self._state = State.INIT
        self._started = False
        self._link = True
        self._demotion = 0
        self._link_suppressed = False
        self._send_errors = 0
        self._send_successes = 0
        self._recovery_due = None
        self._since = 0
        self._cause = Reason.MASTER_DOWN
        self._siblings: list[_Sibling] = []
        self._standings: dict[int, Standing] = {}
        self._clear_timers()

    # What it is now

    @property
    def config(self) -> VirtualHost:
        return self._config

    @property
    def state(self) -> State:
        return self._state

    @property
    def deadline(self) -> int | None:
        """When `timeout` is to be called next, in ns; None: not before something else happens."""
        due = [self._advert_due, self._down_due, self._takeover_due, self._recovery_due, self._withheld_due]
        return min((at for at in (*due, *self._family_due.values()) if at is not None), default=None)

    @property
    def demotion(self) -> int:
        """How many reasons there are to be less eager; above 0 the effective advskew is at least 240."""
        return self._demotion

    @property
    def advskew(self) -> int:
        """The advskew that is sent and compared now."""
        return max(self._config.advskew, SUPPRESSED_ADVSKEW) if self._demotion else self._config.advskew

    @property
    def interval(self) -> int:
        """Nanoseconds between our adverts now."""
        return self._config.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    @property
    def master_down(self) -> int:
        """Nanoseconds of silence after which the master is gone: from one's own configured values (`carp_setrun`)."""
        return _master_down(self._config.advbase, self._config.advskew)

    @property
    def withheld(self) -> bool:
        """A MASTER that has not taken the addresses yet, since another vhid has to let go of them first."""
        return self._withheld_due is not None

    # What may happen to it

    def start(self, now: int) -> list[Action]:
        """Administratively up. Starting what is started changes nothing."""
        _check_moment(now)
        if self._started:
            return []
        actions = self._run(Reason.STARTED, now) if self._link else self._suppress_for_link()
        self._started = True
        self._standings = {}
        return actions

    def stop(self, now: int) -> list[Action]:
        """Administratively down: a MASTER drops its addresses and bows out.

        What demoted other hosts for our sake ends.
        """
        _check_moment(now)
        if not self._started:
            return []
        self._started = False
        return [*self._halt(Reason.STOPPED, now, bowout=True), *self._lift()]

    def link(self, up: bool, now: int) -> list[Action]:
        """The carpdev's link or the carpdev itself went (False) or came back (True)."""
        _check_moment(now)
        if up == self._link:
            return []
        if not self._started:
            self._link = up
            return []
        if not up:
            self._link = False
            return [*self._halt(Reason.LINK_DOWN, now, bowout=False), *self._suppress_for_link()]
        # Run first, for that may fail; but what it does comes after the suppression's end.
        ran = self._run(Reason.LINK_UP, now)
        self._link = True
        return [*self._unsuppress_for_link(), *ran]

    def receive(self, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert was heard; `source` is the address that it claims to come from."""
        _check_moment(now)
        if self._state is State.MASTER:
            return self._receive_as_master(advert, source, now)
        if self._state is State.BACKUP:
            return self._receive_as_backup(advert, source, now)
        return []

    def sibling(self, vhid: int, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert of another vhid with our addresses was heard."""
        _check_moment(now)
        if not 0 <= vhid <= 255 or vhid == self._config.vhid:
            raise ValueError(f"vhid {vhid} is not another than {self._config.vhid}, or not 0-255")
        if self._state is State.INIT:
            return []
        if self._config.siblings == "warn":
            return self._found(vhid, "warn", source)
        if advert.bowout:
            return self._sibling_left(vhid, source, now)
        sibling = self._meet(vhid, advert, now)
        if sibling is None or self._rival(now) is not sibling:
            for each in self._siblings:
                each.answers, each.stubborn = 0, False
            return [*self._found(vhid, "several", source), *self._release()]
        if sibling.vhid > self._config.vhid or sibling.stubborn:
            return self._yield_to(sibling, source, now)
        if self._state is State.MASTER:
            return self._insist(sibling, source, now)
        return self._found(vhid, "prefer", source)

    def timeout(self, now: int) -> list[Action]:
        """The deadline has come. Too early a call returns nothing and changes nothing."""
        _check_moment(now)
        actions: list[Action] = []
        if self._recovery_due is not None and self._recovery_due <= now:
            actions += self._forgive_send_errors()
        if self._advert_due is not None and self._advert_due <= now:
            actions.append(self._advert())
            # The schedule is absolute: a late wake-up shifts nothing, and what was missed altogether is not made up
            # for.
            self._advert_due += self.interval
            if self._advert_due <= now:
                self._advert_due = now + self.interval
        if self._withheld_due is not None and self._withheld_due <= now:
            actions += self._release()
        if self._state is State.BACKUP:
            actions += self._backup_timeout(now)
        return actions

    def demote(self, by: int, now: int) -> list[Action]:
        """Change the demotion counter by `by` (32 bits); it does not fall below 0.

        The first demotion is advertised at once.
        """
        _check_moment(now)
        if not -(1 << 31) <= by < 1 << 31:
            raise OverflowError(f"demotion by {by} does not fit 32 bits")
        before, self._demotion = self._demotion, max(0, self._demotion + by)
        if before == 0 and self._demotion and self._state is State.MASTER:
            self._advert_due = now + self.interval
            return [self._advert()]
        return []

    def sent(self, ok: bool, now: int) -> list[Action]:
        """How sending an advert went. Three failures in a row demote this host, three successes after that end it."""
        _check_moment(now)
        if not ok:
            self._send_successes = 0
            self._send_errors += 1
            if self._send_errors != SEND_ERRORS:
                return []
            if self._state is not State.MASTER:
                self._recovery_due = now + SEND_RECOVERY
            return [Suppress(1), *self.demote(1, now)]
        if self._send_errors < SEND_ERRORS:
            self._send_errors = 0
            return []
        self._send_successes += 1
        return self._forgive_send_errors() if self._send_successes >= SEND_ERRORS else []

    def force(self, state: State, now: int) -> list[Action]:
        """Put it into BACKUP or MASTER by hand, without a bow-out, as `ifconfig carp0 state` does (`carp_ioctl`).

        INIT, the present state, and any state while in INIT change nothing.
        """
        _check_moment(now)
        state = State(state)
        if self._state is State.INIT or state in (State.INIT, self._state):
            return []
        if state is State.MASTER:
            return self._become_master(Reason.FORCED, None, now)
        actions = self._become_backup(Reason.FORCED, None, now)
        self._stand_by(now)
        return actions

    def reconfigure(self, config: VirtualHost, now: int) -> list[Action]:
        """Go on with other values and keep the state where that is possible. The vhid must be the same.

        A MASTER advertises, announces and takes (again) at once; a BACKUP starts its master-down anew.
        """
        _check_moment(now)
        if config.vhid != self._config.vhid:
            raise ValueError(
                f"vhid {config.vhid} is another group than {self._config.vhid}: stop one machine, start another"
            )
        former, self._config = self._config, config
        if not self._started:
            return []
        if not self._runnable:
            return self._halt(Reason.STOPPED, now, bowout=True)
        if self._state is State.MASTER:
            self._advert_due = now + self.interval
            if self.withheld and self._rival(now) is not None:
                return [self._advert()]
            self._withheld_due = None
            return [self._advert(), Announce(), Take()]
        if self._state is State.BACKUP:
            self._clear_timers()
            self._stand_by(now)
            return []
        try:
            return self._run(Reason.STARTED, now) if self._link else []
        except BaseException:
            self._config = former
            raise

    def retire(self, reason: Reason, bowout: bool, now: int) -> list[Action]:
        """A MASTER lets go and stands by, with a bow-out or without one; whoever is none has nothing to let go of.

        Who must not come back at once is demoted by the caller.
        """
        _check_moment(now)
        reason = Reason(reason)
        return self._retire(reason, None, now, bowout=bowout) if self._state is State.MASTER else []

    def overdue(self, now: int) -> bool:
        """Whether `timeout(now)` would take over because nobody was heard, not because somebody made way."""
        _check_moment(now)
        if self._withheld_due is not None:
            return self._withheld_due <= now
        if self._state is not State.BACKUP or (self._takeover_due is not None and self._takeover_due <= now):
            return False
        return self._silent(now) and self._blocked(now) is None

    def delay_takeover(self, now: int) -> None:
        """Frames were lost here, so silence proves nothing: a takeover that is overdue waits one more interval."""
        if not self.overdue(now):
            return
        later = now + self.interval
        if self._withheld_due is not None:
            self._withheld_due = later
        if self._down_due is not None:
            self._down_due = later
        self._family_due = dict.fromkeys(self._family_due, later)

    # Adverts heard

    def _receive_as_master(self, advert: Advert, source: str | None, now: int) -> list[Action]:
        own, peer = self.interval, advert.interval
        if own < peer:
            return []
        # Ties yield, as in the kernel. If the other yields too, the random part decides who comes back first.
        extra = self._draw(TIE_JITTER) if own == peer else 0
        since, cause = self._since, self._cause
        actions = self._become_backup(Reason.TIE if own == peer else Reason.BETTER, source, now)
        if own == peer and now - since <= TIE_JITTER and 2 * (now - since) <= own:
            # Equals took over at the same time, and each yields to the others: who waits least has it. An equal that
            # stays MASTER is heard again when we are older than that.
            self._takeover_due, self._takeover_reason = now + CONTEST_HOLD + extra, cause
            self._hold = now + CONTEST_HOLD
        self._lag = extra
        self._family_due[advert.family] = now + self.master_down + extra
        return actions

    def _receive_as_backup(self, advert: Advert, source: str | None, now: int) -> list[Action]:
        peer = advert.interval
        blocked = self._blocked(now)
        if blocked is not None:
            # Whoever our own group has does not get the addresses either; but that it has a master is worth knowing.
            if advert.bowout:
                self._alone(blocked)
                return []
        elif self._config.preempt and self.interval < peer:
            self._plan_takeover(Reason.BOWOUT if advert.bowout else Reason.PREEMPT, source, now)
            return []
        elif _master_down(self._config.advbase, self.advskew) < peer:
            self._plan_takeover(Reason.BOWOUT if advert.bowout else Reason.TOO_SLOW, source, now)
            return []
        # An advert comes in several copies (families, keys), and more than two may be equal: what one of them made
        # random, the next must not make even again.
        if peer != self.interval:
            self._lag = 0
        elif now < self._hold:
            return []
        return self._heard_master(advert.family, now)

    def _heard_master(self, family: int, now: int) -> list[Action]:
        self._takeover_due = None
        self._down_due = None
        self._family_due[family] = now + self.master_down + self._lag
        self._overdue.discard(family)
        # The other family's silence means something only now that the master is known to live.
        silent: list[Action] = [FamilySilent(other) for other in sorted(self._overdue)]
        self._overdue.clear()
        return silent

    # Time passed

    def _backup_timeout(self, now: int) -> list[Action]:
        if self._takeover_due is not None and self._takeover_due <= now:
            return self._become_master(self._takeover_reason, self._peer, now)
        expired = [family for family, at in self._family_due.items() if at <= now]
        for family in expired:
            del self._family_due[family]
            self._overdue.add(family)
        generic = self._down_due is not None and self._down_due <= now
        if generic or (expired and not self._family_due):
            blocked = self._blocked(now)
            if blocked is None:
                return self._become_master(Reason.MASTER_DOWN, None, now)
            self._alone(blocked)
        return []

    # Changes of state

    @property
    def _runnable(self) -> bool:
        return self._config.up and bool(self._config.addresses)

    def _run(self, reason: Reason, now: int) -> list[Action]:
        """INIT -> BACKUP, when everything is there for it. Draws first: that may fail, and then nothing has changed."""
        if not self._runnable:
            return []
        extra = self._draw(TIE_JITTER)
        self._state = State.BACKUP
        self._clear_timers()
        self._down_due = now + self.master_down + extra
        self._await_recovery(now)
        return [Transition(State.INIT, State.BACKUP, reason, None, now)]

    def _halt(self, reason: Reason, now: int, *, bowout: bool) -> list[Action]:
        """Any state -> INIT."""
        before, self._state = self._state, State.INIT
        self._clear_timers()
        self._siblings = []
        if before is State.INIT:
            return []
        actions: list[Action] = []
        if before is State.MASTER:
            actions.append(Drop())
            if bowout:
                actions.append(SendAdvert(BOWOUT, BOWOUT))
        return [*actions, Transition(before, State.INIT, reason, None, now)]

    def _become_master(self, reason: Reason, peer: str | None, now: int) -> list[Action]:
        self._state = State.MASTER
        self._clear_timers()
        self._recovery_due = None
        self._since, self._cause = now, reason
        self._advert_due = now + self.interval
        rival = self._rival(now)
        if rival is not None:
            self._withheld_due = rival.due
            rival.since, rival.answers, rival.answer_due = now, 1, now + rival.interval // 2
        take: list[Action] = [] if self.withheld else [Announce(), Take()]
        return [self._advert(), *take, Transition(State.BACKUP, State.MASTER, reason, peer, now)]

    def _become_backup(self, reason: Reason, peer: str | None, now: int) -> list[Action]:
        """MASTER -> BACKUP; which master-down to arm is the caller's to know."""
        self._state = State.BACKUP
        self._clear_timers()
        self._await_recovery(now)
        return [Drop(), Transition(State.MASTER, State.BACKUP, reason, peer, now)]

    def _retire(self, reason: Reason, peer: str | None, now: int, *, bowout: bool) -> list[Action]:
        drop, transition = self._become_backup(reason, peer, now)
        self._stand_by(now)
        return [drop, SendAdvert(BOWOUT, BOWOUT), transition] if bowout else [drop, transition]

    # Timers

    def _silent(self, now: int) -> bool:
        """No timer of a master's runs any longer than now."""
        due = [*self._family_due.values()] if self._down_due is None else [self._down_due]
        return bool(due) and max(due) <= now

    def _clear_timers(self) -> None:
        self._advert_due = None
        self._down_due = None
        # A family's own master-down runs only once the master has been heard in it: not every BSD speaks both.
        self._family_due = {}
        self._overdue = set()
        # The random part of master-down, kept after a tie for as long as nobody but equals is heard.
        self._lag = 0
        self._hold = 0
        self._takeover_due = None
        self._takeover_reason = Reason.BOWOUT
        self._peer = None
        self._withheld_due = None

    def _stand_by(self, now: int) -> None:
        """As BACKUP with no known master: arm master-down, but not to end while a sibling has the addresses."""
        self._down_due = max(now + self.master_down, self._blocked(now) or 0)

    def _alone(self, until: int) -> None:
        """Our own group has no master, and none of us becomes it before `until`, for a sibling has the addresses."""
        self._takeover_due = None
        self._family_due = {}
        self._overdue = set()
        self._down_due = until if self._down_due is None else max(until, self._down_due)

    def _plan_takeover(self, reason: Reason, source: str | None, now: int) -> None:
        if self._takeover_due is None:
            self._takeover_due = now + self.advskew * TAKEOVER_STEP + self._draw(TAKEOVER_JITTER)
            self._takeover_reason, self._peer = reason, source

    def _await_recovery(self, now: int) -> None:
        if self._send_errors >= SEND_ERRORS:
            self._recovery_due = now + SEND_RECOVERY

    def _draw(self, most: int) -> int:
        drawn = self._random(most + 1)
        if not 0 <= drawn <= most:
            raise ValueError(f"random({most + 1}) gave {drawn}: it must be 0 to {most}")
        return drawn

    def _advert(self) -> SendAdvert:
        return SendAdvert(self._config.advbase, self.advskew)

    # Siblings: other vhids with our addresses

    def _alive(self, now: int) -> list[_Sibling]:
        return [each for each in self._siblings if each.due > now]

    def _rival(self, now: int) -> _Sibling | None:
        """Who the addresses are shared out with. Of several nobody can know which of them the others hear."""
        alive = self._alive(now)
        return alive[0] if len(alive) == 1 and self._config.siblings == "arbitrate" else None

    def _blocked(self, now: int) -> int | None:
        """Until when, at least, the addresses are a sibling's, whatever our own group says."""
        rival = self._rival(now)
        return rival.due if rival is not None and (rival.vhid > self._config.vhid or rival.stubborn) else None

    def _meet(self, vhid: int, advert: Advert, now: int) -> _Sibling | None:
        """Note down that it is there; None when there are too many already."""
        alive = self._alive(now)
        sibling = next((each for each in alive if each.vhid == vhid), None)
        if sibling is None:
            # Who was gone is somebody new: what it did not let go of then is forgotten.
            sibling = _Sibling(vhid)
            if len(alive) == SIBLINGS:
                return None
            self._siblings = [*alive, sibling]
        # 0/0 stands for a very short time, not for none.
        sibling.interval = max(advert.interval, NS_PER_SKEW)
        patience = max(_master_down(advert.advbase, advert.advskew), 3 * NS_PER_SKEW)
        if vhid > self._config.vhid or sibling.stubborn:
            # It is waited for as for a master of ours; but who advertises seldom is not silent between two adverts.
            patience = max(patience, self.master_down)
        sibling.due = now + patience
        return sibling

    def _found(self, vhid: int, standing: Standing, source: str | None) -> list[Action]:
        if self._standings.get(vhid) == standing:
            return []
        self._standings[vhid] = standing
        return [SiblingFound(vhid, standing, source)]

    def _yield_to(self, sibling: _Sibling, source: str | None, now: int) -> list[Action]:
        """It has the addresses, or will have them as soon as we let go."""
        found = self._found(sibling.vhid, "stalemate" if sibling.stubborn else "yield", source)
        if self._state is State.MASTER:
            return [*found, *self._retire(Reason.SIBLING, source, now, bowout=True)]
        if self._takeover_due is not None and self._takeover_reason is Reason.BOWOUT:
            self._alone(sibling.due)
        self._takeover_due = None
        if self._down_due is not None:
            self._down_due = max(self._down_due, sibling.due)
        return found

    def _insist(self, sibling: _Sibling, source: str | None, now: int) -> list[Action]:
        """As MASTER of the higher vhid: the lower one is told at once, and again, that it should let go."""
        if sibling.answers == 0:
            sibling.since = now
        # A quarter off: what comes every interval comes a little early now and then.
        elif sibling.answers >= SIBLING_ANSWERS and now - sibling.since >= 11 * sibling.interval // 4:
            sibling.stubborn = True
            sibling.due = max(sibling.due, now + self.master_down)
            return self._yield_to(sibling, source, now)
        found = self._found(sibling.vhid, "prefer", source)
        if self.withheld:
            self._withheld_due = sibling.due
        if now < sibling.answer_due:
            return found
        sibling.answers += 1
        sibling.answer_due = now + sibling.interval // 2
        self._advert_due = now + self.interval
        return [*found, self._advert()]

    def _sibling_left(self, vhid: int, source: str | None, now: int) -> list[Action]:
        """It bowed out."""
        others = [each for each in self._alive(now) if each.vhid != vhid]
        if self._state is State.BACKUP and self._down_due is not None and not others:
            self._plan_takeover(Reason.BOWOUT, source, now)
        self._siblings = others
        return self._release() if not others else []

    def _release(self) -> list[Action]:
        """What was withheld is taken."""
        if not self.withheld:
            return []
        self._withheld_due = None
        return [Announce(), Take()]

    # Suppression: one's own trouble, which demotes the other virtual hosts of this host too

    def _suppress_for_link(self) -> list[Action]:
        if self._link_suppressed:
            return []
        self._link_suppressed = True
        self._demotion += 1
        return [Suppress(1)]

    def _unsuppress_for_link(self) -> list[Action]:
        if not self._link_suppressed:
            return []
        self._link_suppressed = False
        self._demotion = max(0, self._demotion - 1)
        return [Suppress(-1)]

    def _forgive_send_errors(self) -> list[Action]:
        troubled = self._send_errors >= SEND_ERRORS
        self._send_errors = 0
        self._send_successes = 0
        self._recovery_due = None
        if not troubled:
            return []
        self._demotion = max(0, self._demotion - 1)
        return [Suppress(-1)]

    def _lift(self) -> list[Action]:
        return [*self._unsuppress_for_link(), *self._forgive_send_errors()]


def _check_moment(now: int) -> None:
    """The range in which no sum of ours leaves 64 bits."""
    if not 0 <= now < 1 << 62:
        raise OverflowError(f"now is {now}: give nanoseconds of a monotonic clock, 0 to 2**62-1")


def _master_down(advbase: int, advskew: int) -> int:
    """3*advbase + advskew/256 s; with advbase 0 OpenBSD's 3*advskew/256 s."""
    if advbase == 0:
        return 3 * advskew * NS_PER_SKEW
    return 3 * advbase * NS_PER_SECOND + advskew * NS_PER_SKEW
