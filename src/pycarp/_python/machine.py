"""The state machine of one virtual host: events and the time come in, actions and one next deadline come out.

docs/protocol.md has the transitions: the rows T are decided here, the rows S by `arbitration`. No clock, no I/O.
Sources: NetBSD `carp_proto_input_c`, `carp_setrun`, `carp_master_down`, `carp_carpdev_state`, `carp_send_ad`; OpenBSD
for advbase 0.
"""

from __future__ import annotations

import os
from typing import Any

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
    State,
    Take,
    Transition,
)
from ..protocol.abc import Random
from ..protocol.timing import (
    MASTER_DOWN_INTERVALS,
    NO_PACE,
    TAKEOVER_JITTER,
    TAKEOVER_STEP,
    TIE_COPIES_END,
    TIE_JITTER,
    master_down,
)
from .arbitration import Arbitration
from .bequest import of_machine, to_machine
from .leaving import check_moment
from .pace import Pace, Paced


def _draw_below(bound: int) -> int:
    """A random number from 0 on, below `bound`, which is far below 2**64: none is likelier to a degree that counts.
    `random` would load seven modules."""
    return int.from_bytes(os.urandom(8), "big") % bound


class Machine(Paced):
    """`Machine(config)`: one virtual host between INIT, BACKUP and MASTER.

    Every call takes `now`, nanoseconds of a monotonic clock (0 to 2**62-1, `OverflowError` otherwise), and returns the
    actions to carry out, in order. The caller then looks at `deadline` (ns of the same clock, or None) and calls
    `timeout(now)` when it has come. `random` is the source of the waits that break ties. What it raises comes through,
    and nothing has happened then.
    """

    __slots__ = (
        "_arbitration", "_held_until", "_link", "_master_down_due", "_master_reason", "_peer",
        "_preempt_from", "_random", "_silent_families", "_started", "_takeover_due", "_takeover_reason",
        "_tie_copies_end", "_withheld_until",
    )  # fmt: skip

    _master_down_due: int | None
    _peer: str | None
    _preempt_from: int | None
    _silent_families: set[int]
    _takeover_due: int | None
    _withheld_until: int | None

    def __init__(self, config: VirtualHost, random: Random | None = None) -> None:
        self._config = config
        self._random: Random = _draw_below if random is None else random
        self._arbitration = Arbitration(config.vhid, config.siblings == "arbitrate")
        self._state = State.INIT
        self._started = False
        self._stands_back = self._aside = False
        self._pace = Pace()
        self._link = True
        self._demotion = 0
        self._link_suppressed = False
        self._send_errors = 0
        self._send_successes = 0
        self._forget_errors_due = None
        self._master_since, self._echo_answered = 0, -1
        self._master_reason = Reason.MASTER_DOWN
        self._held_until = 0
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
        due = (
            self._advert_due, self._master_down_due, self._takeover_due, self._forget_errors_due, self._withheld_until,
            self._leaving_until, self._pace_due, *self._family_due.values(),
        )  # fmt: skip
        return min((at for at in due if at is not None), default=None)

    @property
    def advskew(self) -> int:
        """The advskew that is sent and compared now."""
        if not self._demotion:
            return self._config.advskew
        if self._config.demotion == "add":
            return max(self._config.advskew, min(self._config.advskew + self._demotion, SUPPRESSED_ADVSKEW))
        return max(self._config.advskew, SUPPRESSED_ADVSKEW)

    @property
    def interval(self) -> int:
        """Nanoseconds between our adverts now, as they say it."""
        return self._config.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    @property
    def _period(self) -> int:
        """0/0 is OpenBSD's fastest."""
        return self.interval or NS_PER_SKEW

    @property
    def master_down(self) -> int:
        """Nanoseconds of silence after which the master is gone: from one's own configured values (`carp_setrun`)."""
        return self._silence(self._config.advskew)

    def _silence(self, advskew: int, bowout: bool = False) -> int:
        """A bow-out promises 256 s: it is one also for who would wait longer than that for `missed` adverts."""
        missed = min(self._config.missed, MASTER_DOWN_INTERVALS) if bowout else self._config.missed
        return master_down(self._config.advbase, advskew, missed, self._config.timing)

    @property
    def withheld(self) -> bool:
        """A MASTER that has not taken the addresses yet: another vhid has to let go of them first."""
        return self._withheld_until is not None

    # What may happen to it

    def start(self, now: int) -> list[Action]:
        """Administratively up. Starting what is started changes nothing."""
        check_moment(now)
        if self._started:
            return []
        actions = self._run(Reason.STARTED, now) if self._link else self._suppress_for_link()
        self._started = True
        self._arbitration.report_anew()
        return actions

    def stop(self, now: int) -> list[Action]:
        """Administratively down: a MASTER drops its addresses and bows out.

        What demoted this host's other virtual hosts ends.
        """
        check_moment(now)
        if not self._started:
            return []
        self._started = self._stands_back = False
        halted = self._halt(Reason.STOPPED, now, bowout=True)
        return [*halted, *self._unsuppress_for_link(), *self._forget_send_errors()]

    def link(self, up: bool, now: int) -> list[Action]:
        """The carpdev's link or the carpdev itself went (False) or came back (True)."""
        check_moment(now)
        actions: list[Action] = []
        if self._started and up and not self._link:
            actions = self._run(Reason.LINK_UP, now)
        elif self._started and self._link and not up:
            actions = [*self._halt(Reason.LINK_DOWN, now, bowout=False), *self._suppress_for_link()]
        self._link = up
        return actions

    def receive(
        self,
        advert: Advert,
        source: str | None,
        now: int,
        demotion: int | None = None,
        pace: int = NO_PACE,
        arrived: int | None = None,
    ) -> list[Action]:
        """A valid advert was heard; `source` is the address that it claims to come from.

        `demotion` is its demotion byte where that is to be obeyed as OpenBSD does, or None. `pace` is the code of what
        its counter vouches for (`timing.PACES`), `arrived` when the kernel had it, if not now.
        """
        check_moment(now)
        arrived = now if arrived is None else arrived
        if self._state is State.MASTER:
            if not advert.bowout:
                self._pace.returned(source, arrived)
            return self._receive_as_master(advert, source, now, demotion)
        if self._state is State.BACKUP:
            return self._receive_as_backup(advert, source, now, demotion, pace, arrived)
        return []

    def sibling(self, vhid: int, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert of another vhid with our addresses was heard."""
        check_moment(now)
        if not 0 <= vhid <= 255 or vhid == self._config.vhid:
            raise ValueError(f"vhid {vhid} is not another than {self._config.vhid}, or not 0-255")
        if self._state is State.INIT:
            return []
        if advert.bowout and self._arbitration.enabled:
            return self._sibling_left(vhid, source, now)
        master = self._state is State.MASTER
        standing = self._arbitration.hear(vhid, advert, master, self.master_down, now)
        actions: list[Action] = []
        if self._arbitration.report(vhid, standing):
            actions.append(SiblingFound(vhid, standing, source))
        if standing in ("yield", "stalemate"):
            actions += self._leave_to_sibling(source, now)
        elif standing == "several":
            actions += self._take_withheld()
        elif standing == "prefer" and master:
            if self.withheld:
                self._withheld_until = self._arbitration.gone_at(now)
            if self._arbitration.answer(now) and not self.leaving:
                actions.append(self._advert_now(now))
        return actions

    def timeout(self, now: int) -> list[Action]:
        """The deadline has come. Too early a call returns nothing and changes nothing."""
        check_moment(now)
        actions: list[Action] = []
        if self._forget_errors_due is not None and self._forget_errors_due <= now:
            actions += self._forget_send_errors()
        if self._advert_due is not None and self._advert_due <= now:
            actions.append(self._advert(now))
            # The schedule is absolute: a late wake-up shifts nothing, and missed adverts are not made up for.
            self._advert_due += self._period
            if self._advert_due <= now:
                self._advert_due = now + self._period
            self._arm_pace(now)
        elif self._pace_due is not None and self._pace_due <= now:
            actions.append(self._advert(now, between=True))
            self._arm_pace(now)
        if self._withheld_until is not None and self._withheld_until <= now:
            actions += self._take_withheld()
        if self._leaving_until is not None and self._leaving_until <= now:
            actions += self._end_leaving(now)
        if self._state is State.BACKUP:
            actions += self._backup_timeout(now)
        return actions

    def force(self, state: State, now: int) -> list[Action]:
        """Put it into BACKUP or MASTER by hand, without a bow-out, as `ifconfig carp0 state` does (`carp_ioctl`).

        INIT, the present state, and any state while in INIT change nothing.
        """
        check_moment(now)
        state = State(state)
        if self._state is State.INIT or state in (State.INIT, self._state):
            return []
        if state is State.MASTER:
            return self._become_master(Reason.FORCED, None, now)
        return self._retire(Reason.FORCED, None, now, bowout=False)

    def reconfigure(self, config: VirtualHost, now: int) -> list[Action]:
        """Go on with other values and keep the state where that is possible. The vhid must be the same.

        A MASTER advertises, announces and takes (again) at once; a BACKUP starts its master-down anew.
        """
        check_moment(now)
        if config.vhid != self._config.vhid:
            raise ValueError(
                f"vhid {config.vhid} is another group than {self._config.vhid}: stop one machine, start another"
            )
        former, pacing, self._config = self._config, self.pacing, config
        running = self._state is not State.INIT
        ran: list[Action] = []
        if not running and self._started and self._link:
            try:
                ran = self._run(Reason.STARTED, now)
            except BaseException:
                self._config = former
                raise
        self._arbitration.enabled = config.siblings == "arbitrate"
        self._measure_anew(pacing)
        if not running:
            return ran
        if not self._runnable:
            return self._halt(Reason.STOPPED, now, bowout=True)
        if self._state is State.BACKUP:
            self._clear_timers()
            self._arm_master_down(now)
            return []
        self._leaving_until = self._heir = None
        advert = self._advert_now(now)
        if self.withheld and self._arbitration.gone_at(now) is not None:
            return [advert]
        self._withheld_until = None
        return [advert, Announce(), Take()]

    def retire(self, reason: Reason, bowout: bool, now: int) -> list[Action]:
        """A MASTER lets go and stands by, with a bow-out or without one; in another state nothing happens.

        One that has handed over stands back until it is MASTER again or stopped: silence and a bow-out make it MASTER,
        another's advert does not. After other reasons, a host that must not come back at once is demoted by the caller.
        """
        check_moment(now)
        reason = Reason(reason)
        if self._state is not State.MASTER:
            return []
        self._stands_back = reason is Reason.HANDED_OVER
        return self._retire(reason, None, now, bowout=bowout)

    def overdue(self, now: int) -> bool:
        """Whether `timeout(now)` would take over because nobody was heard, not because somebody made way."""
        check_moment(now)
        if self._withheld_until is not None:
            return self._withheld_until <= now
        if self._state is not State.BACKUP or (self._takeover_due is not None and self._takeover_due <= now):
            return False
        return self._silent(now) and self._arbitration.owned_until(now) is None

    def bequest(self) -> dict[str, Any]:
        """What another machine of the same configuration needs to go on as this one, as plain values."""
        return of_machine(self)

    def inherit(self, values: dict[str, Any]) -> None:
        """Go on from what another machine's `bequest` says."""
        to_machine(self, values)

    def delay_takeover(self, now: int) -> None:
        """Frames were lost here, so silence proves nothing: a takeover that is overdue waits one more interval."""
        if not self.overdue(now):
            return
        later = now + min(self._period, self.silence)
        if self._withheld_until is not None:
            self._withheld_until = later
        if self._master_down_due is not None:
            self._master_down_due = later
        self._family_due = dict.fromkeys(self._family_due, later)

    # Adverts of our own group

    def _is_new(self, now: int) -> bool:
        """It has been MASTER for so short that an equal may have taken over at the same time."""
        age = now - self._master_since
        return age <= TIE_JITTER and 2 * age <= self.interval

    def _receive_as_master(self, advert: Advert, source: str | None, now: int, demotion: int | None) -> list[Action]:
        own, peer = self.interval, advert.interval
        if self.leaving:
            return [] if advert.bowout else self._left_to(advert.family, source, now)
        if demotion is not None and demotion > self.sent_demotion:
            return []
        relieved = demotion is not None and demotion < self.sent_demotion and not advert.bowout
        if own < peer and not relieved:
            return []
        # Ties yield, as in the kernel. If the other yields too, the random part decides who comes back first.
        # One that is less demoted does not.
        tie = own == peer and not relieved
        wait = self._draw(TIE_JITTER) if tie else 0
        new = self._is_new(now)
        actions = self._become_backup(Reason.TIE if tie else Reason.BETTER, source, now)
        if tie and new:
            # Equals took over at the same time, and each yields to the others: the one with the shortest wait has it.
            # An equal that stays MASTER is heard again when we are older than that.
            self._takeover_due, self._takeover_reason = now + TIE_COPIES_END + wait, self._master_reason
            self._tie_copies_end = now + TIE_COPIES_END
        self._tie_wait = wait
        self._family_due[advert.family] = now + self.master_down + wait
        return actions

    def _receive_as_backup(
        self, advert: Advert, source: str | None, now: int, demotion: int | None, pace: int, arrived: int
    ) -> list[Action]:
        peer = advert.interval
        relieve = demotion is not None and demotion > self.sent_demotion
        relieved = demotion is not None and demotion < self.sent_demotion
        owned_until = self._arbitration.owned_until(now)
        if owned_until is not None:
            # A master of our own group does not get the addresses either; but whether there is one matters later.
            if advert.bowout:
                self._wait_for_sibling(owned_until)
                return []
        elif now < self._held_until:
            if advert.bowout:
                return []
        elif self.stands_back and not advert.bowout:
            pass
        elif relieve and not advert.bowout:
            self._plan_takeover(Reason.DEMOTED, source, now)
            return []
        elif self._config.preempt and self.interval < peer and not relieved and self._may_preempt(advert.bowout, now):
            self._plan_takeover(Reason.BOWOUT if advert.bowout else Reason.PREEMPT, source, now)
            return []
        elif self._silence(self.advskew, advert.bowout) < peer:
            self._plan_takeover(Reason.BOWOUT if advert.bowout else Reason.TOO_SLOW, source, now)
            return []
        elif self._takeover_due is not None and self.interval < peer and not relieved and not advert.bowout:
            # A worse backup acted sooner on the same bow-out. A kernel would be MASTER by now, and stay.
            return []
        # An advert comes in several copies (families, keys), and more than two hosts may be equal: no copy takes back
        # the random part that another one added.
        if peer <= self.interval:
            self._preempt_from = None
        if peer != self.interval:
            self._tie_wait = 0
        elif now < self._tie_copies_end:
            return []
        self._pace.hear(source, NO_PACE if advert.bowout else pace, arrived)
        return self._heard_master(advert.family, now)

    def _may_preempt(self, bowout: bool, now: int) -> bool:
        """Whether a slower master has been heard for long enough."""
        if self._preempt_from is None:
            self._preempt_from = now + self._config.preempt_delay * NS_PER_SECOND
        return bowout or now >= self._preempt_from

    def _heard_master(self, family: int, now: int) -> list[Action]:
        self._takeover_due = None
        self._master_down_due = None
        self._family_due[family] = max(now + self.silence, self._held_until)
        self._silent_families.discard(family)
        # The other family's silence means something only now that the master is known to live.
        silent: list[Action] = [FamilySilent(other) for other in sorted(self._silent_families)]
        self._silent_families.clear()
        return silent

    def _backup_timeout(self, now: int) -> list[Action]:
        if self._takeover_due is not None and self._takeover_due <= now:
            return self._become_master(self._takeover_reason, self._peer, now)
        expired = [family for family, at in self._family_due.items() if at <= now]
        for family in expired:
            del self._family_due[family]
            self._silent_families.add(family)
        generic = self._master_down_due is not None and self._master_down_due <= now
        if generic or (expired and not self._family_due):
            owned_until = self._arbitration.owned_until(now)
            if owned_until is None:
                return self._become_master(Reason.MASTER_DOWN, None, now)
            self._wait_for_sibling(owned_until)
        return []

    # Adverts of siblings

    def _leave_to_sibling(self, source: str | None, now: int) -> list[Action]:
        """It has the addresses, or will have them as soon as we let go."""
        if self._state is State.MASTER:
            return self._retire(Reason.SIBLING, source, now, bowout=True)
        until = self._arbitration.owned_until(now) or 0
        if self._takeover_due is not None and self._takeover_reason is Reason.BOWOUT:
            self._wait_for_sibling(until)
        self._takeover_due = None
        if self._master_down_due is not None:
            self._master_down_due = max(self._master_down_due, until)
        return []

    def _sibling_left(self, vhid: int, source: str | None, now: int) -> list[Action]:
        """It bowed out."""
        others = self._arbitration.others(vhid, now)
        waits = self._state is State.BACKUP and self._master_down_due is not None
        if waits and now >= self._held_until and not others:
            self._plan_takeover(Reason.BOWOUT, source, now)
        self._arbitration.forget(vhid)
        return [] if others else self._take_withheld()

    def _take_withheld(self) -> list[Action]:
        """The addresses that were withheld are taken."""
        if not self.withheld:
            return []
        self._withheld_until = None
        return [Announce(), Take()]

    def _wait_for_sibling(self, until: int) -> None:
        """Our own group has no master, and none of us becomes it before `until`: a sibling owns the addresses."""
        self._takeover_due = None
        self._family_due = {}
        self._silent_families = set()
        self._master_down_due = max(until, self._master_down_due or 0, self._held_until)

    # Changes of state

    @property
    def _runnable(self) -> bool:
        return self._config.up and bool(self._config.addresses)

    def _run(self, reason: Reason, now: int) -> list[Action]:
        """There is a link: INIT -> BACKUP, if it is up and has addresses.

        Draws first: that may fail, and then nothing has changed.
        """
        wait = self._draw(TIE_JITTER) if self._runnable else 0
        actions = self._unsuppress_for_link()
        if not self._runnable:
            return actions
        self._state = State.BACKUP
        self._clear_timers()
        if reason is Reason.STARTED:
            self._held_until = now + self._config.start_delay * NS_PER_SECOND
        self._pace.draw(wait)
        self._master_down_due = max(now + self.master_down, self._held_until) + wait
        self._arm_forget_errors(now)
        return [*actions, Transition(State.INIT, State.BACKUP, reason, None, now)]

    def _halt(self, reason: Reason, now: int, *, bowout: bool) -> list[Action]:
        """Any state -> INIT."""
        before, self._state = self._state, State.INIT
        self._clear_timers()
        self._pace.forget()
        self._arbitration.forget()
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
        self._stands_back = False
        self._begin_pace(reason)
        self._clear_timers()
        self._forget_errors_due = None
        self._master_since, self._master_reason = now, reason
        advert = self._advert_now(now)
        transition = Transition(State.BACKUP, State.MASTER, reason, peer, now)
        self._withheld_until = self._arbitration.gone_at(now)
        if self._withheld_until is None:
            return [advert, Announce(), Take(), transition]
        self._arbitration.answer(now, first=True)
        return [advert, transition]

    def _become_backup(self, reason: Reason, peer: str | None, now: int, *, bowout: bool = False) -> list[Action]:
        """MASTER -> BACKUP; the caller arms the master-down that fits."""
        self._state = State.BACKUP
        self._clear_timers()
        self._arm_forget_errors(now)
        transition = Transition(State.MASTER, State.BACKUP, reason, peer, now)
        return [Drop(), SendAdvert(BOWOUT, BOWOUT), transition] if bowout else [Drop(), transition]

    def _retire(self, reason: Reason, peer: str | None, now: int, *, bowout: bool) -> list[Action]:
        """MASTER -> BACKUP, when no other master is known."""
        actions = self._become_backup(reason, peer, now, bowout=bowout)
        self._arm_master_down(now)
        return actions

    # Timers

    def _silent(self, now: int) -> bool:
        """No master-down runs any longer than now."""
        due = [*self._family_due.values()] if self._master_down_due is None else [self._master_down_due]
        return bool(due) and max(due) <= now

    def _clear_timers(self) -> None:
        self._advert_due = None
        self._pace_due = self._leaving_until = self._heir = None
        self._master_down_due = None
        # A family's own master-down runs only once the master has been heard in it: not every BSD speaks both.
        self._family_due = {}
        self._silent_families = set()
        # The random part of master-down, kept after a tie for as long as nobody but equals is heard.
        self._tie_wait = 0
        self._tie_copies_end = 0
        self._takeover_due = None
        self._takeover_reason = Reason.BOWOUT
        self._peer = None
        self._preempt_from = None
        self._withheld_until = None

    def _arm_master_down(self, now: int) -> None:
        """As BACKUP with no known master. It does not end while a sibling owns the addresses."""
        owned_until = self._arbitration.owned_until(now) or 0
        self._master_down_due = max(now + self.master_down, owned_until, self._held_until)

    def _plan_takeover(self, reason: Reason, source: str | None, now: int) -> None:
        if self._takeover_due is None:
            self._takeover_due = now + self.advskew * TAKEOVER_STEP + self._draw(TAKEOVER_JITTER)
            self._takeover_reason, self._peer = reason, source

    def _draw(self, most: int) -> int:
        drawn = self._random(most + 1)
        if not 0 <= drawn <= most:
            raise ValueError(f"random({most + 1}) gave {drawn}: it must be 0 to {most}")
        return drawn
