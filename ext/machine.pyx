# cython: language_level=3, binding=True, embedsignature=True, annotation_typing=False
"""The state machine of one virtual host: events and the time come in, actions and one next deadline come out.

The compiled twin of `pycarp._python.machine`, which has the table of transitions and says where each rule comes from.
"""

import os

cimport cython
from libc.string cimport memset

from ..protocol import (
    Announce,
    Drop,
    FamilySilent,
    Reason,
    SendAdvert,
    SiblingFound,
    STANDINGS,
    State,
    Suppress,
    Take,
    Transition,
)

cdef extern from *:
    """
    #define NS_PER_SECOND INT64_C(1000000000)
    #define NS_PER_SKEW INT64_C(3906250)
    #define SEND_RECOVERY_NS (30 * NS_PER_SECOND)
    """
    const int64_t NS_PER_SECOND
    const int64_t NS_PER_SKEW
    const int64_t SEND_RECOVERY_NS

cdef enum:
    BOWOUT = 255
    SUPPRESSED_ADVSKEW = 240
    TIE_JITTER_NS = 20000000
    CONTEST_HOLD_NS = 2000000
    TAKEOVER_STEP_NS = 20000
    TAKEOVER_JITTER_NS = 500000
    SEND_ERRORS_MOST = 3
    SIBLING_ANSWERS_MOST = 3

TIE_JITTER = TIE_JITTER_NS
"""Up to this many ns are added to master-down where two equal hosts could otherwise move in lockstep."""
CONTEST_HOLD = CONTEST_HOLD_NS
"""Within this many ns of a tie, equal adverts are further copies of those of the same rivals."""
TAKEOVER_STEP = TAKEOVER_STEP_NS
"""Several backups hear one bow-out: each waits this many ns for each unit of advskew, so that the best acts first
..."""
TAKEOVER_JITTER = TAKEOVER_JITTER_NS
"""... and up to this many more, so that equals do not act together."""
SEND_ERRORS = SEND_ERRORS_MOST
"""This many failures in a row demote, and this many successes in a row end it (NetBSD `CARP_SENDAD_MAX_ERRORS`)."""
SIBLING_ANSWERS = SIBLING_ANSWERS_MOST
"""A lower sibling that goes on after this many of our adverts, over three of its intervals, does not arbitrate."""
SIBLINGS = MACHINE_SIBLINGS
"""Two other vhids with our addresses are enough to know that nobody can arbitrate."""
SEND_RECOVERY = SEND_RECOVERY_NS
"""A BACKUP sends nothing that could succeed: its demotion for send errors ends after this time."""

cdef tuple _STATES = (State.INIT, State.BACKUP, State.MASTER)
cdef tuple _REASONS = tuple(Reason)


# What it is now

cdef inline int64_t _master_down(uint8_t advbase, uint8_t advskew) noexcept nogil:
    if advbase == 0:
        return 3 * advskew * NS_PER_SKEW
    return 3 * advbase * NS_PER_SECOND + advskew * NS_PER_SKEW


cdef uint8_t machine_advskew(const machine_t *machine) noexcept nogil:
    """The advskew that is sent and compared now."""
    if machine.demotion and machine.config.advskew < SUPPRESSED_ADVSKEW:
        return SUPPRESSED_ADVSKEW
    return machine.config.advskew


cdef int64_t machine_interval(const machine_t *machine) noexcept nogil:
    """Nanoseconds between our adverts now."""
    return machine.config.advbase * NS_PER_SECOND + machine_advskew(machine) * NS_PER_SKEW


cdef int64_t machine_master_down(const machine_t *machine) noexcept nogil:
    """Nanoseconds of silence after which the master is gone, from one's own configured values."""
    return _master_down(machine.config.advbase, machine.config.advskew)


cdef bint machine_withheld(const machine_t *machine) noexcept nogil:
    """A MASTER that has not taken the addresses yet, since another vhid has to let go of them first."""
    return machine.withheld_due != MACHINE_NEVER


cdef int64_t machine_deadline(const machine_t *machine) noexcept nogil:
    """When machine_timeout is to be called next, MACHINE_NEVER: not before something else happens."""
    cdef int64_t due = machine.advert_due
    if machine.down_due < due:
        due = machine.down_due
    if machine.takeover_due < due:
        due = machine.takeover_due
    if machine.recovery_due < due:
        due = machine.recovery_due
    if machine.withheld_due < due:
        due = machine.withheld_due
    if machine.family_due[MACHINE_IPV4] < due:
        due = machine.family_due[MACHINE_IPV4]
    if machine.family_due[MACHINE_IPV6] < due:
        due = machine.family_due[MACHINE_IPV6]
    return due


# Actions

cdef inline action_t *_add(actions_t *actions, uint8_t kind) noexcept nogil:
    cdef action_t *added = &actions.items[actions.count]
    memset(added, 0, sizeof(action_t))
    added.kind = kind
    actions.count += 1
    return added


cdef inline void _add_advert(actions_t *actions, uint8_t advbase, uint8_t advskew) noexcept nogil:
    cdef action_t *added = _add(actions, ACTION_SEND_ADVERT)
    added.advbase = advbase
    added.advskew = advskew


cdef inline void _add_suppress(actions_t *actions, int8_t by) noexcept nogil:
    _add(actions, ACTION_SUPPRESS).by = by


cdef inline void _add_transition(
    actions_t *actions, uint8_t before, uint8_t after, uint8_t reason, const peer_t *peer, int64_t now
) noexcept nogil:
    cdef action_t *added = _add(actions, ACTION_TRANSITION)
    added.before = before
    added.after = after
    added.reason = reason
    added.at = now
    if peer != NULL:
        added.peer = peer[0]


cdef inline void _advert(const machine_t *machine, actions_t *actions) noexcept nogil:
    _add_advert(actions, machine.config.advbase, machine_advskew(machine))


# Siblings: other vhids with our addresses

cdef const sibling_t *_rival(const machine_t *machine, int64_t now) noexcept nogil:
    """Who the addresses are shared out with, or NULL. Of several nobody can know which of them the others hear."""
    cdef const sibling_t *found = NULL
    cdef int index
    if not machine.config.arbitrate:
        return NULL
    for index in range(MACHINE_SIBLINGS):
        if machine.siblings[index].due > now:
            if found != NULL:
                return NULL
            found = &machine.siblings[index]
    return found


cdef int64_t _blocked(const machine_t *machine, int64_t now) noexcept nogil:
    """Until when, at least, the addresses are a sibling's, whatever our own group says; 0: they are not."""
    cdef const sibling_t *rival = _rival(machine, now)
    if rival != NULL and (rival.vhid > machine.config.vhid or rival.stubborn):
        return rival.due
    return 0


cdef void _found(
    machine_t *machine, uint8_t vhid, uint8_t standing, const peer_t *peer, actions_t *actions
) noexcept nogil:
    cdef action_t *added
    if machine.standings[vhid] == standing + 1:
        return
    machine.standings[vhid] = standing + 1
    added = _add(actions, ACTION_SIBLING_FOUND)
    added.vhid = vhid
    added.standing = standing
    if peer != NULL:
        added.peer = peer[0]


cdef void _release(machine_t *machine, actions_t *actions) noexcept nogil:
    """What was withheld is taken."""
    if machine.withheld_due != MACHINE_NEVER:
        machine.withheld_due = MACHINE_NEVER
        _add(actions, ACTION_ANNOUNCE)
        _add(actions, ACTION_TAKE)


# Timers

@cython.cdivision(True)
cdef int64_t _draw(machine_t *machine, int64_t most) noexcept nogil:
    """A random wait of 0 to `most` ns, -1 for a failure."""
    cdef uint64_t z
    if machine.draw != NULL:
        return machine.draw(machine.context, most + 1)
    # SplitMix64 (Steele, Lea, Flood 2014): the waits have to differ between hosts, not to be secret.
    machine.seed += 0x9E3779B97F4A7C15ULL
    z = machine.seed
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL
    z ^= z >> 31
    return <int64_t> (z % <uint64_t> (most + 1))


cdef bint _silent(const machine_t *machine, int64_t now) noexcept nogil:
    """No timer of a master's runs any longer than now."""
    cdef bint any_due = False
    cdef int family
    if machine.down_due != MACHINE_NEVER:
        return machine.down_due <= now
    for family in range(2):
        if machine.family_due[family] != MACHINE_NEVER:
            any_due = True
            if machine.family_due[family] > now:
                return False
    return any_due


cdef void _clear_timers(machine_t *machine) noexcept nogil:
    cdef int family
    machine.advert_due = MACHINE_NEVER
    machine.down_due = MACHINE_NEVER
    machine.lag = 0
    machine.hold = 0
    machine.takeover_due = MACHINE_NEVER
    machine.takeover_reason = REASON_BOWOUT
    machine.peer.family = PEER_NOBODY
    machine.withheld_due = MACHINE_NEVER
    # A family's own master-down runs only once the master has been heard in it: not every BSD speaks both.
    for family in range(2):
        machine.family_due[family] = MACHINE_NEVER
        machine.overdue[family] = False


cdef void _stand_by(machine_t *machine, int64_t now) noexcept nogil:
    """As BACKUP with no known master: arm master-down, but not to end while a sibling has the addresses."""
    cdef int64_t due = now + machine_master_down(machine), blocked = _blocked(machine, now)
    machine.down_due = blocked if blocked > due else due


cdef void _alone(machine_t *machine, int64_t until) noexcept nogil:
    """Our own group has no master, and none of us becomes it before `until`, for a sibling has the addresses."""
    cdef int family
    machine.takeover_due = MACHINE_NEVER
    for family in range(2):
        machine.family_due[family] = MACHINE_NEVER
        machine.overdue[family] = False
    if machine.down_due == MACHINE_NEVER or machine.down_due < until:
        machine.down_due = until


cdef inline void _await_recovery(machine_t *machine, int64_t now) noexcept nogil:
    if machine.send_errors >= SEND_ERRORS_MOST:
        machine.recovery_due = now + SEND_RECOVERY_NS


# Suppression

cdef void _suppress_for_link(machine_t *machine, actions_t *actions) noexcept nogil:
    if not machine.link_suppressed:
        machine.link_suppressed = True
        machine.demotion += 1
        _add_suppress(actions, 1)


cdef void _lower(machine_t *machine) noexcept nogil:
    if machine.demotion > 0:
        machine.demotion -= 1


cdef void _unsuppress_for_link(machine_t *machine, actions_t *actions) noexcept nogil:
    if machine.link_suppressed:
        machine.link_suppressed = False
        _lower(machine)
        _add_suppress(actions, -1)


cdef void _forgive_send_errors(machine_t *machine, actions_t *actions) noexcept nogil:
    cdef bint troubled = machine.send_errors >= SEND_ERRORS_MOST
    machine.send_errors = 0
    machine.send_successes = 0
    machine.recovery_due = MACHINE_NEVER
    if troubled:
        _lower(machine)
        _add_suppress(actions, -1)


# Changes of state

cdef int _run(machine_t *machine, uint8_t reason, int64_t now, actions_t *actions) noexcept nogil:
    """INIT -> BACKUP, when everything is there for it. -1, and nothing changed: no randomness."""
    cdef int64_t extra
    if not machine.config.runnable:
        return 0
    extra = _draw(machine, TIE_JITTER_NS)
    if extra < 0:
        return -1
    machine.state = STATE_BACKUP
    _clear_timers(machine)
    machine.down_due = now + machine_master_down(machine) + extra
    _await_recovery(machine, now)
    _add_transition(actions, STATE_INIT, STATE_BACKUP, reason, NULL, now)
    return 0


cdef void _halt(machine_t *machine, uint8_t reason, int64_t now, bint bowout, actions_t *actions) noexcept nogil:
    """Any state -> INIT."""
    cdef uint8_t before = machine.state
    machine.state = STATE_INIT
    _clear_timers(machine)
    memset(&machine.siblings, 0, sizeof(machine.siblings))
    if before == STATE_INIT:
        return
    if before == STATE_MASTER:
        _add(actions, ACTION_DROP)
        if bowout:
            _add_advert(actions, BOWOUT, BOWOUT)
    _add_transition(actions, before, STATE_INIT, reason, NULL, now)


cdef void _become_master(
    machine_t *machine, uint8_t reason, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    # The transition is written down last, but `peer` may be the machine's own, which goes with the timers.
    cdef peer_t cause
    cdef sibling_t *rival = <sibling_t *> _rival(machine, now)
    cause.family = PEER_NOBODY
    if peer != NULL:
        cause = peer[0]
    machine.state = STATE_MASTER
    _clear_timers(machine)
    machine.recovery_due = MACHINE_NEVER
    machine.since = now
    machine.cause = reason
    machine.advert_due = now + machine_interval(machine)
    _advert(machine, actions)
    if rival == NULL:
        _add(actions, ACTION_ANNOUNCE)
        _add(actions, ACTION_TAKE)
    else:
        machine.withheld_due = rival.due
        rival.since = now
        rival.answers = 1
        rival.answer_due = now + (rival.interval >> 1)
    _add_transition(actions, STATE_BACKUP, STATE_MASTER, reason, &cause, now)


cdef void _become_backup(
    machine_t *machine, uint8_t reason, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """MASTER -> BACKUP; which master-down to arm is the caller's to know."""
    machine.state = STATE_BACKUP
    _clear_timers(machine)
    _await_recovery(machine, now)
    _add(actions, ACTION_DROP)
    _add_transition(actions, STATE_MASTER, STATE_BACKUP, reason, peer, now)


cdef void _retire(
    machine_t *machine, uint8_t reason, const peer_t *peer, bint bowout, int64_t now, actions_t *actions
) noexcept nogil:
    machine.state = STATE_BACKUP
    _clear_timers(machine)
    _await_recovery(machine, now)
    _stand_by(machine, now)
    _add(actions, ACTION_DROP)
    if bowout:
        _add_advert(actions, BOWOUT, BOWOUT)
    _add_transition(actions, STATE_MASTER, STATE_BACKUP, reason, peer, now)


# What may happen to it

cdef void machine_init(
    machine_t *machine, const machine_config_t *config, machine_draw_t draw, void *context, uint64_t seed
) noexcept nogil:
    memset(machine, 0, sizeof(machine_t))
    machine.config = config[0]
    machine.draw = draw
    machine.context = context
    machine.seed = seed
    machine.state = STATE_INIT
    machine.link = True
    machine.recovery_due = MACHINE_NEVER
    machine.cause = REASON_MASTER_DOWN
    _clear_timers(machine)


cdef int machine_start(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.started:
        return 0
    if machine.link:
        if _run(machine, REASON_STARTED, now, actions) < 0:
            return -1
    else:
        _suppress_for_link(machine, actions)
    machine.started = True
    memset(&machine.standings, 0, sizeof(machine.standings))
    return 0


cdef int machine_stop(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if not machine.started:
        return 0
    machine.started = False
    _halt(machine, REASON_STOPPED, now, True, actions)
    _unsuppress_for_link(machine, actions)
    _forgive_send_errors(machine, actions)
    return 0


cdef int machine_link(machine_t *machine, bint up, int64_t now, actions_t *actions) noexcept nogil:
    cdef actions_t ran
    cdef int index
    actions.count = 0
    if up == machine.link:
        return 0
    if not machine.started:
        machine.link = up
        return 0
    if not up:
        machine.link = False
        _halt(machine, REASON_LINK_DOWN, now, False, actions)
        _suppress_for_link(machine, actions)
        return 0
    # Run first, for that may fail; but what it does comes after the suppression's end.
    ran.count = 0
    if _run(machine, REASON_LINK_UP, now, &ran) < 0:
        return -1
    machine.link = True
    _unsuppress_for_link(machine, actions)
    for index in range(ran.count):
        actions.items[actions.count] = ran.items[index]
        actions.count += 1
    return 0


cdef int _receive_as_master(
    machine_t *machine, int family, int64_t interval, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    cdef int64_t own = machine_interval(machine), extra = 0
    if own < interval:
        return 0
    if own == interval:
        # Ties yield, as in the kernel. If the other yields too, the random part decides who comes back first.
        extra = _draw(machine, TIE_JITTER_NS)
        if extra < 0:
            return -1
    _become_backup(machine, REASON_TIE if own == interval else REASON_BETTER, peer, now, actions)
    if own == interval and now - machine.since <= TIE_JITTER_NS and 2 * (now - machine.since) <= own:
        # Equals took over at the same time, and each yields to the others: who waits least has it. An equal that stays
        # MASTER is heard again when we are older than that.
        machine.takeover_due = now + CONTEST_HOLD_NS + extra
        machine.takeover_reason = machine.cause
        machine.hold = now + CONTEST_HOLD_NS
    machine.lag = extra
    machine.family_due[family] = now + machine_master_down(machine) + extra
    return 0


cdef int _plan_takeover(machine_t *machine, uint8_t reason, const peer_t *peer, int64_t now) noexcept nogil:
    cdef int64_t extra
    if machine.takeover_due != MACHINE_NEVER:
        return 0
    extra = _draw(machine, TAKEOVER_JITTER_NS)
    if extra < 0:
        return -1
    machine.takeover_due = now + <int64_t> machine_advskew(machine) * TAKEOVER_STEP_NS + extra
    machine.takeover_reason = reason
    machine.peer.family = PEER_NOBODY
    if peer != NULL:
        machine.peer = peer[0]
    return 0


cdef void _heard_master(machine_t *machine, int family, int64_t now, actions_t *actions) noexcept nogil:
    cdef int other = MACHINE_IPV6 if family == MACHINE_IPV4 else MACHINE_IPV4
    machine.takeover_due = MACHINE_NEVER
    machine.down_due = MACHINE_NEVER
    machine.family_due[family] = now + machine_master_down(machine) + machine.lag
    # The other family's silence means something only now that the master is known to live.
    if machine.overdue[other]:
        _add(actions, ACTION_FAMILY_SILENT).family = 6 if other == MACHINE_IPV6 else 4
    machine.overdue[MACHINE_IPV4] = machine.overdue[MACHINE_IPV6] = False


cdef int machine_receive(
    machine_t *machine, uint8_t family, uint8_t advbase, uint8_t advskew, const peer_t *peer, int64_t now,
    actions_t *actions,
) noexcept nogil:
    """`family` is 4 or 6; `peer` may be NULL."""
    cdef int64_t interval = advbase * NS_PER_SECOND + advskew * NS_PER_SKEW
    cdef bint bowout = advbase == BOWOUT and advskew == BOWOUT
    cdef int index = MACHINE_IPV4 if family == 4 else MACHINE_IPV6
    cdef int64_t blocked
    actions.count = 0
    if machine.state == STATE_MASTER:
        return _receive_as_master(machine, index, interval, peer, now, actions)
    if machine.state != STATE_BACKUP:
        return 0
    blocked = _blocked(machine, now)
    if blocked:
        # Whoever our own group has does not get the addresses either; but that it has a master is worth knowing.
        if bowout:
            _alone(machine, blocked)
            return 0
    elif machine.config.preempt and machine_interval(machine) < interval:
        return _plan_takeover(machine, REASON_BOWOUT if bowout else REASON_PREEMPT, peer, now)
    elif _master_down(machine.config.advbase, machine_advskew(machine)) < interval:
        return _plan_takeover(machine, REASON_BOWOUT if bowout else REASON_TOO_SLOW, peer, now)
    # An advert comes in several copies (families, keys), and more than two may be equal: what one of them made random,
    # the next must not make even again.
    if interval != machine_interval(machine):
        machine.lag = 0
    elif now < machine.hold:
        return 0
    _heard_master(machine, index, now, actions)
    return 0


cdef void _backup_timeout(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    cdef bint expired = False
    cdef int family
    cdef int64_t blocked
    if machine.takeover_due <= now:
        _become_master(machine, machine.takeover_reason, &machine.peer, now, actions)
        return
    for family in range(2):
        if machine.family_due[family] <= now:
            machine.family_due[family] = MACHINE_NEVER
            machine.overdue[family] = expired = True
    if (
        machine.down_due <= now
        or expired
        and machine.family_due[MACHINE_IPV4] == MACHINE_NEVER
        and machine.family_due[MACHINE_IPV6] == MACHINE_NEVER
    ):
        blocked = _blocked(machine, now)
        if blocked:
            _alone(machine, blocked)
        else:
            _become_master(machine, REASON_MASTER_DOWN, NULL, now, actions)


cdef sibling_t *_meet(
    machine_t *machine, uint8_t vhid, uint8_t advbase, uint8_t advskew, int64_t now
) noexcept nogil:
    """Note down that it is there; NULL when there are too many already."""
    cdef sibling_t *sibling = NULL
    cdef int64_t patience = _master_down(advbase, advskew)
    cdef int index
    for index in range(MACHINE_SIBLINGS):
        if machine.siblings[index].due > now and machine.siblings[index].vhid == vhid:
            sibling = &machine.siblings[index]
    if sibling == NULL:
        for index in range(MACHINE_SIBLINGS):
            if machine.siblings[index].due <= now:
                sibling = &machine.siblings[index]
        if sibling == NULL:
            return NULL
        # Who was gone is somebody new: what it did not let go of then is forgotten.
        memset(sibling, 0, sizeof(sibling_t))
        sibling.vhid = vhid
    # 0/0 stands for a very short time, not for none.
    sibling.interval = advbase * NS_PER_SECOND + advskew * NS_PER_SKEW
    if sibling.interval < NS_PER_SKEW:
        sibling.interval = NS_PER_SKEW
    if patience < 3 * NS_PER_SKEW:
        patience = 3 * NS_PER_SKEW
    # It is waited for as for a master of ours; but who advertises seldom is not silent between two adverts.
    if (vhid > machine.config.vhid or sibling.stubborn) and patience < machine_master_down(machine):
        patience = machine_master_down(machine)
    sibling.due = now + patience
    return sibling


cdef void _yield_to(
    machine_t *machine, const sibling_t *sibling, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """It has the addresses, or will have them as soon as we let go."""
    _found(machine, sibling.vhid, STANDING_STALEMATE if sibling.stubborn else STANDING_YIELD, peer, actions)
    if machine.state == STATE_MASTER:
        _retire(machine, REASON_SIBLING, peer, True, now, actions)
        return
    if machine.takeover_due != MACHINE_NEVER and machine.takeover_reason == REASON_BOWOUT:
        _alone(machine, sibling.due)
    machine.takeover_due = MACHINE_NEVER
    if machine.down_due != MACHINE_NEVER and machine.down_due < sibling.due:
        machine.down_due = sibling.due


cdef void _insist(
    machine_t *machine, sibling_t *sibling, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """As MASTER of the higher vhid: the lower one is told at once, and again, that it should let go."""
    cdef int64_t due = now + machine_master_down(machine)
    if sibling.answers == 0:
        sibling.since = now
    # A quarter off: what comes every interval comes a little early now and then.
    elif sibling.answers >= SIBLING_ANSWERS_MOST and now - sibling.since >= 11 * sibling.interval >> 2:
        sibling.stubborn = True
        if sibling.due < due:
            sibling.due = due
        _yield_to(machine, sibling, peer, now, actions)
        return
    _found(machine, sibling.vhid, STANDING_PREFER, peer, actions)
    if machine.withheld_due != MACHINE_NEVER:
        machine.withheld_due = sibling.due
    if now < sibling.answer_due:
        return
    sibling.answers += 1
    sibling.answer_due = now + (sibling.interval >> 1)
    machine.advert_due = now + machine_interval(machine)
    _advert(machine, actions)


cdef int _sibling_left(
    machine_t *machine, uint8_t vhid, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """It bowed out."""
    cdef sibling_t *left = NULL
    cdef bint others = False
    cdef int index
    for index in range(MACHINE_SIBLINGS):
        if machine.siblings[index].due > now:
            if machine.siblings[index].vhid == vhid:
                left = &machine.siblings[index]
            else:
                others = True
    if machine.state == STATE_BACKUP and machine.down_due != MACHINE_NEVER and not others:
        if _plan_takeover(machine, REASON_BOWOUT, peer, now) < 0:
            return -1
    if left != NULL:
        left.due = 0
    if not others:
        _release(machine, actions)
    return 0


cdef int machine_sibling(
    machine_t *machine, uint8_t vhid, uint8_t advbase, uint8_t advskew, const peer_t *peer, int64_t now,
    actions_t *actions,
) noexcept nogil:
    """A valid advert of another vhid with our addresses was heard; `peer` may be NULL."""
    cdef sibling_t *sibling
    cdef int index
    actions.count = 0
    if machine.state == STATE_INIT:
        return 0
    if not machine.config.arbitrate:
        _found(machine, vhid, STANDING_WARN, peer, actions)
        return 0
    if advbase == BOWOUT and advskew == BOWOUT:
        return _sibling_left(machine, vhid, peer, now, actions)
    sibling = _meet(machine, vhid, advbase, advskew, now)
    if sibling == NULL or _rival(machine, now) != sibling:
        for index in range(MACHINE_SIBLINGS):
            machine.siblings[index].answers = 0
            machine.siblings[index].stubborn = False
        _found(machine, vhid, STANDING_SEVERAL, peer, actions)
        _release(machine, actions)
    elif vhid > machine.config.vhid or sibling.stubborn:
        _yield_to(machine, sibling, peer, now, actions)
    elif machine.state == STATE_MASTER:
        _insist(machine, sibling, peer, now, actions)
    else:
        _found(machine, vhid, STANDING_PREFER, peer, actions)
    return 0


cdef int machine_timeout(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    cdef int64_t interval
    actions.count = 0
    if machine.recovery_due <= now:
        _forgive_send_errors(machine, actions)
    if machine.advert_due <= now:
        _advert(machine, actions)
        # The schedule is absolute: a late wake-up shifts nothing, and what was missed altogether is not made up for.
        interval = machine_interval(machine)
        machine.advert_due += interval
        if machine.advert_due <= now:
            machine.advert_due = now + interval
    if machine.withheld_due <= now:
        _release(machine, actions)
    if machine.state == STATE_BACKUP:
        _backup_timeout(machine, now, actions)
    return 0


cdef void _demote(machine_t *machine, int32_t by, int64_t now, actions_t *actions) noexcept nogil:
    cdef int64_t before = machine.demotion
    machine.demotion = before + by if before + by > 0 else 0
    if before == 0 and machine.demotion and machine.state == STATE_MASTER:
        machine.advert_due = now + machine_interval(machine)
        _advert(machine, actions)


cdef int machine_demote(machine_t *machine, int32_t by, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    _demote(machine, by, now, actions)
    return 0


cdef int machine_sent(machine_t *machine, bint ok, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if not ok:
        machine.send_successes = 0
        machine.send_errors += 1
        if machine.send_errors == SEND_ERRORS_MOST:
            if machine.state != STATE_MASTER:
                machine.recovery_due = now + SEND_RECOVERY_NS
            _add_suppress(actions, 1)
            _demote(machine, 1, now, actions)
    elif machine.send_errors < SEND_ERRORS_MOST:
        machine.send_errors = 0
    else:
        machine.send_successes += 1
        if machine.send_successes >= SEND_ERRORS_MOST:
            _forgive_send_errors(machine, actions)
    return 0


cdef int machine_force(machine_t *machine, uint8_t state, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.state == STATE_INIT or state == STATE_INIT or state == machine.state:
        return 0
    if state == STATE_MASTER:
        _become_master(machine, REASON_FORCED, NULL, now, actions)
        return 0
    _become_backup(machine, REASON_FORCED, NULL, now, actions)
    _stand_by(machine, now)
    return 0


cdef int machine_reconfigure(
    machine_t *machine, const machine_config_t *config, int64_t now, actions_t *actions
) noexcept nogil:
    cdef machine_config_t former = machine.config
    actions.count = 0
    machine.config = config[0]
    if not machine.started:
        return 0
    if not config.runnable:
        _halt(machine, REASON_STOPPED, now, True, actions)
    elif machine.state == STATE_MASTER:
        machine.advert_due = now + machine_interval(machine)
        _advert(machine, actions)
        if machine.withheld_due == MACHINE_NEVER or _rival(machine, now) == NULL:
            machine.withheld_due = MACHINE_NEVER
            _add(actions, ACTION_ANNOUNCE)
            _add(actions, ACTION_TAKE)
    elif machine.state == STATE_BACKUP:
        _clear_timers(machine)
        _stand_by(machine, now)
    elif machine.link and _run(machine, REASON_STARTED, now, actions) < 0:
        machine.config = former
        return -1
    return 0


cdef int machine_retire(
    machine_t *machine, uint8_t reason, bint bowout, int64_t now, actions_t *actions
) noexcept nogil:
    actions.count = 0
    if machine.state == STATE_MASTER:
        _retire(machine, reason, NULL, bowout, now, actions)
    return 0


cdef bint machine_overdue(const machine_t *machine, int64_t now) noexcept nogil:
    if machine.withheld_due != MACHINE_NEVER:
        return machine.withheld_due <= now
    return (
        machine.state == STATE_BACKUP
        and machine.takeover_due > now
        and _silent(machine, now)
        and not _blocked(machine, now)
    )


cdef void machine_delay_takeover(machine_t *machine, int64_t now) noexcept nogil:
    cdef int64_t later = now + machine_interval(machine)
    cdef int family
    if not machine_overdue(machine, now):
        return
    if machine.withheld_due != MACHINE_NEVER:
        machine.withheld_due = later
    if machine.down_due != MACHINE_NEVER:
        machine.down_due = later
    for family in range(2):
        if machine.family_due[family] != MACHINE_NEVER:
            machine.family_due[family] = later


# The border

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


cdef int _read_config(object config, machine_config_t *read) except -1:
    read.advbase = config.advbase
    read.advskew = config.advskew
    read.vhid = config.vhid
    read.preempt = config.preempt
    read.arbitrate = config.siblings == "arbitrate"
    read.runnable = config.up and bool(config.addresses)
    return 0


cdef object _action(const action_t *action, object source):
    if action.kind == ACTION_SEND_ADVERT:
        return SendAdvert(action.advbase, action.advskew)
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
        return SiblingFound(
            action.vhid, STANDINGS[action.standing], None if action.peer.family == PEER_NOBODY else source
        )
    return Transition(
        _STATES[action.before], _STATES[action.after], _REASONS[action.reason],
        None if action.peer.family == PEER_NOBODY else source, action.at,
    )


cdef class Machine:
    """Machine(config, random=None)
--

    `Machine(config)`: one virtual host between INIT, BACKUP and MASTER.

    Every call takes `now`, nanoseconds of a monotonic clock (0 to 2**62-1, `OverflowError` otherwise), and returns the
    actions to carry out, in order. The caller then looks at `deadline` (ns of the same clock, or None) and calls
    `timeout(now)` when it has come. `random` is the source of the waits that break ties; what it raises comes through,
    and nothing has happened then.
    """

    def __cinit__(self, config, random=None):
        cdef machine_config_t read
        cdef machine_draw_t draw = NULL
        _read_config(config, &read)
        self._config = config
        self._random = random
        if random is not None:
            draw = _ask
        machine_init(&self.machine, &read, draw, <void *> self, int.from_bytes(os.urandom(8), "little"))

    cdef list _carry(self, int outcome, const actions_t *actions, object source):
        """What a step wrote down, as objects. `source` is who a transition's peer is."""
        cdef int index
        if self.machine.takeover_due == MACHINE_NEVER:
            self._peer = None
        if outcome < 0:
            error, self._error = self._error, None
            raise error
        return [_action(&actions.items[index], source) for index in range(actions.count)]

    # What it is now

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
    def withheld(self) -> bool:
        """A MASTER that has not taken the addresses yet, since another vhid has to let go of them first."""
        return bool(machine_withheld(&self.machine))

    # What may happen to it

    def start(self, now: int) -> list[Action]:
        """Administratively up. Starting what is started changes nothing."""
        cdef actions_t actions
        return self._carry(machine_start(&self.machine, _moment(now), &actions), &actions, None)

    def stop(self, now: int) -> list[Action]:
        """Administratively down: a MASTER drops its addresses and bows out.

        What demoted other hosts for our sake ends.
        """
        cdef actions_t actions
        return self._carry(machine_stop(&self.machine, _moment(now), &actions), &actions, None)

    def link(self, up: bool, now: int) -> list[Action]:
        """The carpdev's link or the carpdev itself went (False) or came back (True)."""
        cdef actions_t actions
        return self._carry(machine_link(&self.machine, up, _moment(now), &actions), &actions, None)

    def receive(self, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert was heard; `source` is the address that it claims to come from."""
        cdef actions_t actions
        cdef peer_t peer
        cdef int64_t moment = _moment(now)
        cdef uint8_t family = advert.family
        cdef bint planned = self.machine.takeover_due != MACHINE_NEVER
        cdef int outcome
        if family != 4 and family != 6:
            raise ValueError(f"an advert's family is 4 or 6, not {family}")
        peer.family = PEER_NOBODY if source is None else PEER_OPAQUE
        outcome = machine_receive(&self.machine, family, advert.advbase, advert.advskew, &peer, moment, &actions)
        if not planned:
            self._peer = source
        return self._carry(outcome, &actions, source)

    def sibling(self, vhid: int, advert: Advert, source: str | None, now: int) -> list[Action]:
        """A valid advert of another vhid with our addresses was heard."""
        cdef actions_t actions
        cdef peer_t peer
        cdef int64_t moment = _moment(now)
        cdef bint planned = self.machine.takeover_due != MACHINE_NEVER
        cdef int outcome
        if not 0 <= vhid <= 255 or vhid == self._config.vhid:
            raise ValueError(f"vhid {vhid} is not another than {self._config.vhid}, or not 0-255")
        peer.family = PEER_NOBODY if source is None else PEER_OPAQUE
        outcome = machine_sibling(&self.machine, vhid, advert.advbase, advert.advskew, &peer, moment, &actions)
        if not planned:
            self._peer = source
        return self._carry(outcome, &actions, source)

    def timeout(self, now: int) -> list[Action]:
        """The deadline has come. Too early a call returns nothing and changes nothing."""
        cdef actions_t actions
        cdef object peer = self._peer
        return self._carry(machine_timeout(&self.machine, _moment(now), &actions), &actions, peer)

    def demote(self, by: int, now: int) -> list[Action]:
        """Change the demotion counter by `by` (32 bits); it does not fall below 0.

        The first demotion is advertised at once.
        """
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        if not -(1 << 31) <= by < 1 << 31:
            raise OverflowError(f"demotion by {by} does not fit 32 bits")
        return self._carry(machine_demote(&self.machine, by, moment, &actions), &actions, None)

    def sent(self, ok: bool, now: int) -> list[Action]:
        """How sending an advert went. Three failures in a row demote this host, three successes after that end it."""
        cdef actions_t actions
        return self._carry(machine_sent(&self.machine, ok, _moment(now), &actions), &actions, None)

    def force(self, state: State, now: int) -> list[Action]:
        """Put it into BACKUP or MASTER by hand, without a bow-out, as `ifconfig carp0 state` does (`carp_ioctl`).

        INIT, the present state, and any state while in INIT change nothing.
        """
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        return self._carry(machine_force(&self.machine, State(state), moment, &actions), &actions, None)

    def reconfigure(self, config: VirtualHost, now: int) -> list[Action]:
        """Go on with other values and keep the state where that is possible. The vhid must be the same.

        A MASTER advertises, announces and takes (again) at once; a BACKUP starts its master-down anew.
        """
        cdef actions_t actions
        cdef machine_config_t read
        cdef int64_t moment = _moment(now)
        cdef list done
        if config.vhid != self._config.vhid:
            raise ValueError(
                f"vhid {config.vhid} is another group than {self._config.vhid}: stop one machine, start another"
            )
        _read_config(config, &read)
        done = self._carry(machine_reconfigure(&self.machine, &read, moment, &actions), &actions, None)
        self._config = config
        return done

    def retire(self, reason: Reason, bowout: bool, now: int) -> list[Action]:
        """A MASTER lets go and stands by, with a bow-out or without one; whoever is none has nothing to let go of.

        Who must not come back at once is demoted by the caller.
        """
        cdef actions_t actions
        cdef int64_t moment = _moment(now)
        cdef uint8_t number = _REASONS.index(Reason(reason))
        return self._carry(machine_retire(&self.machine, number, bool(bowout), moment, &actions), &actions, None)

    def overdue(self, now: int) -> bool:
        """Whether `timeout(now)` would take over because nobody was heard, not because somebody made way."""
        return bool(machine_overdue(&self.machine, _moment(now)))

    def delay_takeover(self, now: int) -> None:
        """Frames were lost here, so silence proves nothing: a takeover that is overdue waits one more interval."""
        machine_delay_takeover(&self.machine, _moment(now))
