# What Python sees of the state machine: the class `Machine`. `pycarp._python.machine` says more of each method.

import os

from ..protocol import (
    Announce, Drop, FamilySilent, Reason, SendAdvert, SiblingFound, STANDINGS, State, Suppress, Take, Transition,
)

cdef tuple _STATES = tuple(State)
cdef tuple _REASONS = tuple(Reason)


cdef int64_t _moment(object now) except -1:
    """The range in which no sum of ours leaves 64 bits."""
    if not 0 <= now < MACHINE_NOW_LIMIT:
        raise OverflowError(f"now is {now}: give nanoseconds of a monotonic clock, 0 to 2**62-1")
    return now


cdef int64_t _ask(void *context, int64_t bound) noexcept with gil:
    """The injected source of randomness; what it raises is kept for the step's caller."""
    machine = <Machine> context
    try:
        drawn = machine._random(bound)
        if not 0 <= drawn < bound:
            raise ValueError(f"random({bound}) gave {drawn}: it must be 0 to {bound - 1}")
        return drawn
    except BaseException as error:
        machine._error = error
        return -1


cdef machine_config_t machine_read_config(object config) except *:
    cdef machine_config_t read
    memset(&read, 0, sizeof(machine_config_t))
    read.advbase = config.advbase
    read.advskew = config.advskew
    read.vhid = config.vhid
    read.preempt = config.preempt
    read.arbitrate = config.siblings == "arbitrate"
    read.runnable = config.up and bool(config.addresses)
    read.openbsd = config.timing == "openbsd"
    read.missed = config.missed
    read.says_demotion = config.demotion in ("auto", "obey")
    read.adds_demotion = config.demotion == "add"
    read.preempt_delay = config.preempt_delay * NS_PER_SECOND
    read.start_delay = config.start_delay * NS_PER_SECOND
    read.pace = config.pace * NS_PER_MS
    return read


cdef void _opaque(peer_t *peer, object source):
    """A source that the machine compares, and hands on: two texts that differ are two."""
    cdef int64_t number
    memset(peer, 0, sizeof(peer_t))
    if source is not None:
        peer.family = PEER_OPAQUE
        number = hash(source)
        memcpy(peer.address, &number, sizeof(number))


cdef object _action(const action_t *action, object source):
    """`source` is who a transition's peer is."""
    cdef object peer = None if action.peer.family == PEER_NOBODY else source
    if action.kind == ACTION_SEND_ADVERT:
        return SendAdvert(action.advbase, action.advskew, action.pace, bool(action.between))
    if action.kind == ACTION_ANNOUNCE:
        return Announce()
    if action.kind == ACTION_TAKE:
        return Take()
    if action.kind == ACTION_DROP:
        return Drop()
    if action.kind == ACTION_SUPPRESS:
        return Suppress(action.by)
    if action.kind == ACTION_FAMILY_SILENT:
        return FamilySilent(action.family)
    if action.kind == ACTION_SIBLING_FOUND:
        return SiblingFound(action.vhid, STANDINGS[action.standing], peer)
    return Transition(_STATES[action.before], _STATES[action.after], _REASONS[action.reason], peer, action.at)


cdef class Machine:
    """Machine(config, random=None)
--

    One virtual host between INIT, BACKUP and MASTER.

    Every call takes `now`, nanoseconds of a monotonic clock (0 to 2**62-1, `OverflowError` otherwise), and returns the
    actions to carry out, in order. The caller then looks at `deadline` (ns of the same clock, or None) and calls
    `timeout(now)` when it has come. `random` is the source of the waits that break ties. What it raises comes through,
    and nothing has happened then.
    """

    def __cinit__(self, config, random=None):
        cdef machine_config_t read = machine_read_config(config)
        cdef machine_draw_t draw = NULL
        self._config = config
        self._random = random
        if random is not None:
            draw = _ask
        machine_init(&self.machine, &read, draw, <void *> self, int.from_bytes(os.urandom(8), "little"))

    cdef list _done(self, int outcome, const actions_t *actions, object source=None):
        """What a step wrote down, as objects."""
        cdef int index
        if self.machine.takeover_due == MACHINE_NEVER:
            self._peer = None
        if outcome < 0:
            error, self._error = self._error, None
            raise error
        return [_action(&actions.items[index], source) for index in range(actions.count)]

    @property
    def config(self) -> VirtualHost:
        return self._config

    @property
    def state(self) -> State:
        return _STATES[self.machine.state]

    @property
    def deadline(self) -> int | None:
        """When `timeout` is to be called next, in ns; None: not before something else happens."""
        cdef int64_t due = machine_deadline(&self.machine)
        return None if due == MACHINE_NEVER else due

    @property
    def demotion(self) -> int:
        """How many reasons there are to be less eager; above 0 the effective advskew is at least 240."""
        return self.machine.demotion

    @property
    def sent_demotion(self) -> int:
        """The demotion byte of our adverts, as OpenBSD has it."""
        return machine_sent_demotion(&self.machine)

    @property
    def advskew(self) -> int:
        """The advskew that is sent and compared now."""
        return machine_advskew(&self.machine)

    @property
    def interval(self) -> int:
        """Nanoseconds between our adverts now."""
        return machine_interval(&self.machine)

    @property
    def master_down(self) -> int:
        """Nanoseconds of silence after which the master is gone: from one's own configured values (`carp_setrun`)."""
        return machine_master_down(&self.machine)

    @property
    def pacing(self) -> int:
        """Nanoseconds between a MASTER's adverts with those in between; 0: there are none in between."""
        return machine_pacing(&self.machine)

    @property
    def said_pace(self) -> int:
        """The code of the pace that the next advert says: a slower one if this machine does not keep its own."""
        return machine_said_pace(&self.machine)

    @property
    def silence(self) -> int:
        """Nanoseconds of silence after which the master heard last is gone: fewer than master-down if it says a pace.
        """
        return machine_silence(&self.machine)

    @property
    def heard_pace(self) -> int:
        """The pace in ns that the master heard last says, once it is obeyed; 0: none is."""
        return machine_heard_pace(&self.machine)

    @property
    def usual_silence(self) -> int:
        """What `silence` would be if adverts came regularly."""
        return machine_usual_silence(&self.machine)

    def pause_pace(self, now: int) -> None:
        """Until `limit_pace` no pace is said; none that was heard is obeyed."""
        machine_pause_pace(&self.machine, _moment(now))

    def limit_pace(self, least: int, now: int) -> None:
        """Adverts are at least this many ns apart, whatever the configured pace is."""
        machine_limit_pace(&self.machine, least, _moment(now))

    @property
    def withheld(self) -> bool:
        """A MASTER that has not taken the addresses yet: another vhid has to let go of them first."""
        return self.machine.withheld_until != MACHINE_NEVER

    @property
    def stands_back(self) -> bool:
        """It has handed over, or stands aside: another's advert does not make it MASTER."""
        return bool(self.machine.stands_back or self.machine.aside)

    @property
    def leaving(self) -> bool:
        """A MASTER that has offered its addresses to the others, and keeps them until another has them."""
        return bool(machine_leaving(&self.machine))

    @property
    def link_demotes(self) -> bool:
        """Its link is down, and demotes this host's other virtual hosts."""
        return bool(self.machine.link_suppressed)

    @property
    def sending_demotes(self) -> bool:
        """Its adverts could not be sent, and that demotes this host."""
        return self.machine.send_errors >= SEND_ERRORS

    def start(self, now: int) -> list[Action]:
        """Administratively up. Starting what is started changes nothing."""
        cdef actions_t actions
        return self._done(machine_start(&self.machine, _moment(now), &actions), &actions)

    def stop(self, now: int) -> list[Action]:
        """Administratively down: a MASTER drops its addresses and bows out. What demoted other hosts here ends."""
        cdef actions_t actions
        return self._done(machine_stop(&self.machine, _moment(now), &actions), &actions)

    def link(self, up: bool, now: int) -> list[Action]:
        """The carpdev's link or the carpdev itself went (False) or came back (True)."""
        cdef actions_t actions
        return self._done(machine_link(&self.machine, up, _moment(now), &actions), &actions)

    def receive(
        self, advert: Advert, source: str | None, now: int, demotion: int | None = None, pace: int = 0,
        arrived: int | None = None,
    ) -> list[Action]:
        """A valid advert was heard; `source` is the address that it claims to come from.

        `demotion` is its demotion byte where that is to be obeyed as OpenBSD does, or None. `pace` is the code of what
        its counter vouches for (`timing.PACES`), `arrived` when the kernel had it, if not now.
        """
        cdef actions_t actions
        cdef int64_t moment = _moment(now), came = moment if arrived is None else arrived
        cdef uint8_t family = advert.family
        cdef bint planned = self.machine.takeover_due != MACHINE_NEVER or self.machine.has_heir
        cdef peer_t peer
        cdef int outcome, said = -1 if demotion is None else demotion
        if family != 4 and family != 6:
            raise ValueError(f"an advert's family is 4 or 6, not {family}")
        _opaque(&peer, source)
        outcome = machine_receive(
            &self.machine, family, advert.advbase, advert.advskew, said, pace, came, &peer, moment, &actions
        )
        if not planned:
            self._peer = source
        return self._done(outcome, &actions, source)

    def sibling(self, vhid: int, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert of another vhid with our addresses was heard."""
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        cdef bint planned = self.machine.takeover_due != MACHINE_NEVER or self.machine.has_heir
        cdef peer_t peer
        cdef int outcome
        if not 0 <= vhid <= 255 or vhid == self._config.vhid:
            raise ValueError(f"vhid {vhid} is not another than {self._config.vhid}, or not 0-255")
        peer.family = PEER_NOBODY if source is None else PEER_OPAQUE
        outcome = machine_sibling(&self.machine, vhid, advert.advbase, advert.advskew, &peer, moment, &actions)
        if not planned:
            self._peer = source
        return self._done(outcome, &actions, source)

    def timeout(self, now: int) -> list[Action]:
        """The deadline has come. Too early a call returns nothing and changes nothing."""
        cdef actions_t actions
        cdef object peer = self._peer
        return self._done(machine_timeout(&self.machine, _moment(now), &actions), &actions, peer)

    def demote(self, by: int, now: int) -> list[Action]:
        """Change the demotion counter by `by` (32 bits); it does not fall below 0. The first one is advertised."""
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        if not -(1 << 31) <= by < 1 << 31:
            raise OverflowError(f"demotion by {by} does not fit 32 bits")
        return self._done(machine_demote(&self.machine, by, moment, &actions), &actions)

    def sent(self, ok: bool, now: int) -> list[Action]:
        """How sending an advert went. Three failures in a row demote this host, three successes after that end it."""
        cdef actions_t actions
        return self._done(machine_sent(&self.machine, ok, _moment(now), &actions), &actions)

    def force(self, state: State, now: int) -> list[Action]:
        """Put it into BACKUP or MASTER by hand, without a bow-out, as `ifconfig carp0 state` does (`carp_ioctl`)."""
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        return self._done(machine_force(&self.machine, State(state), moment, &actions), &actions)

    def reconfigure(self, config: VirtualHost, now: int) -> list[Action]:
        """Go on with other values and keep the state where that is possible. The vhid must be the same."""
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        cdef machine_config_t read
        cdef list done
        if config.vhid != self._config.vhid:
            raise ValueError(
                f"vhid {config.vhid} is another group than {self._config.vhid}: stop one machine, start another"
            )
        read = machine_read_config(config)
        done = self._done(machine_reconfigure(&self.machine, &read, moment, &actions), &actions)
        self._config = config
        return done

    def retire(self, reason: Reason, bowout: bool, now: int) -> list[Action]:
        """A MASTER lets go and stands by, with a bow-out or without one; in another state nothing happens."""
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        cdef uint8_t number = _REASONS.index(Reason(reason))
        return self._done(machine_retire(&self.machine, number, bool(bowout), moment, &actions), &actions)

    def leave(self, now: int) -> list[Action]:
        """A MASTER bows out, and keeps its addresses until another MASTER is heard; if nobody comes it goes on."""
        cdef actions_t actions
        return self._done(machine_leave(&self.machine, _moment(now), &actions), &actions)

    def defend(self, now: int) -> list[Action]:
        """A host that is no MASTER says that it has the addresses: a MASTER advertises and announces at once."""
        cdef actions_t actions
        return self._done(machine_defend(&self.machine, _moment(now), &actions), &actions)

    def echo(self, now: int) -> list[Action]:
        """An advert was heard with a counter of our own: of us, or of an equal that took over at the same time."""
        cdef actions_t actions
        return self._done(machine_echo(&self.machine, _moment(now), &actions), &actions)

    def heir(self, family: int, source: str | None, now: int) -> None:
        """An advert was heard of one that takes over from a MASTER that leaves, but has not got the addresses yet."""
        cdef int64_t moment = _moment(now)
        cdef peer_t peer
        peer.family = PEER_NOBODY if source is None else PEER_OPAQUE
        if machine_leaving(&self.machine) and not self.machine.has_heir:
            self._peer = source
        machine_heir(&self.machine, family, &peer, moment)

    def stand_aside(self, aside: bool) -> None:
        """From now on another's advert does not make it MASTER, as after a hand-over; or it may again."""
        self.machine.aside = bool(aside)
        self.machine.stands_back = self.machine.stands_back and self.machine.aside

    def overdue(self, now: int) -> bool:
        """Whether `timeout(now)` would take over because nobody was heard, not because somebody made way."""
        return bool(machine_overdue(&self.machine, _moment(now)))

    def delay_takeover(self, now: int) -> None:
        """Frames were lost here, so silence proves nothing: a takeover that is overdue waits one more interval."""
        machine_delay_takeover(&self.machine, _moment(now))

    def bequest(self) -> dict[str, Any]:
        """What another machine of the same configuration needs to go on as this one, as plain values."""
        return machine_values(&self.machine) | {"peer": self._peer}

    def inherit(self, values: dict[str, Any]) -> None:
        """Go on from what another machine's `bequest` says."""
        cdef machine_t fresh = self.machine
        machine_set_values(&fresh, values)
        self.machine = fresh
        self._peer = values["peer"]
