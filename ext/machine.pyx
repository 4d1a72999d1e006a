# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, annotation_typing=False
"""The state machine of one virtual host: events and the time come in, actions and one next deadline come out.

The compiled twin of `pycarp._python.machine`, which says where each rule comes from.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcmp, memcpy, memset

from .arbitration cimport (
    SIBLINGS, STANDING_PREFER, STANDING_SEVERAL, STANDING_STALEMATE, STANDING_YIELD, arbitration_answer,
    arbitration_forget, arbitration_gone_at, arbitration_hear, arbitration_others, arbitration_owned_until,
    arbitration_report, arbitration_report_anew, arbitration_t, sibling_t,
)
from .packet cimport address_text
from .timing cimport (
    HEIR_HEARD_WITHIN, HEIR_READY_WITHIN, MASTER_DOWN_INTERVALS, NO_PACE, NS_PER_MS, NS_PER_SECOND, NS_PER_SKEW,
    PACE_GAPS_FORGOTTEN, PACE_HEARD_FIRST, PACE_NEVER, PACE_RETURNS_WITHIN, PACE_STEP, SEND_ERRORS_FORGOTTEN,
    TAKEOVER_JITTER, TAKEOVER_STEP, TIE_COPIES_END, TIE_JITTER, master_down,
)

from ipaddress import ip_address

include "machine_handle.pxi"
include "machine_bequest.pxi"
include "demotion.pxi"
include "leaving.pxi"
include "machine_siblings.pxi"
include "pace.pxi"


# What it is now

cdef uint8_t machine_advskew(const machine_t *machine) noexcept nogil:
    """The advskew that is sent and compared now."""
    cdef uint8_t added
    if machine.demotion == 0:
        return machine.config.advskew
    if machine.config.adds_demotion:
        added = <uint8_t> min(machine.config.advskew + machine.demotion, <int64_t> SUPPRESSED_ADVSKEW)
        return max(machine.config.advskew, added)
    return max(machine.config.advskew, SUPPRESSED_ADVSKEW)


cdef uint8_t machine_sent_demotion(const machine_t *machine) noexcept nogil:
    return <uint8_t> min(machine.demotion, <int64_t> MOST_DEMOTION) if machine.config.says_demotion else 0


cdef int64_t machine_interval(const machine_t *machine) noexcept nogil:
    """Nanoseconds between our adverts now, as they say it."""
    return machine.config.advbase * NS_PER_SECOND + machine_advskew(machine) * NS_PER_SKEW


cdef inline int64_t _period(const machine_t *machine) noexcept nogil:
    """0/0 is OpenBSD's fastest."""
    return max(machine_interval(machine), NS_PER_SKEW)


cdef inline int64_t _silence(const machine_t *machine, uint8_t advskew, bint bowout) noexcept nogil:
    """A bow-out promises 256 s: it is one also for who would wait longer than that for `missed` adverts."""
    cdef int64_t missed = machine.config.missed
    if bowout:
        missed = min(missed, MASTER_DOWN_INTERVALS)
    return master_down(machine.config.advbase, advskew, missed, machine.config.openbsd)


cdef int64_t machine_master_down(const machine_t *machine) noexcept nogil:
    """Nanoseconds of silence after which the master is gone, from one's own configured values."""
    return _silence(machine, machine.config.advskew, False)


cdef int64_t machine_deadline(const machine_t *machine) noexcept nogil:
    """When machine_timeout is to be called next, MACHINE_NEVER: not before something else happens."""
    return min(
        machine.advert_due, machine.master_down_due, machine.takeover_due, machine.forget_errors_due,
        machine.withheld_until, machine.leaving_until, machine.pace_due,
        machine.family_due[MACHINE_IPV4], machine.family_due[MACHINE_IPV6],
    )


# Actions

cdef inline action_t *_add(actions_t *actions, uint8_t kind) noexcept nogil:
    cdef action_t *added = &actions.items[actions.count]
    memset(added, 0, sizeof(action_t))
    added.kind = kind
    actions.count += 1
    return added


cdef inline void _add_bowout(actions_t *actions) noexcept nogil:
    cdef action_t *added = _add(actions, ACTION_SEND_ADVERT)
    added.advbase = added.advskew = BOWOUT


cdef inline void _add_take(actions_t *actions) noexcept nogil:
    _add(actions, ACTION_ANNOUNCE)
    _add(actions, ACTION_TAKE)


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
    """No master-down runs any longer than now."""
    cdef int64_t last = 0
    cdef int family
    if machine.master_down_due != MACHINE_NEVER:
        return machine.master_down_due <= now
    for family in range(2):
        if machine.family_due[family] != MACHINE_NEVER:
            last = max(last, machine.family_due[family])
    return 0 < last <= now


cdef void _clear_families(machine_t *machine) noexcept nogil:
    cdef int family
    for family in range(2):
        machine.family_due[family] = MACHINE_NEVER
        machine.silent_families[family] = False


cdef void _clear_timers(machine_t *machine) noexcept nogil:
    machine.advert_due = MACHINE_NEVER
    machine.master_down_due = MACHINE_NEVER
    # A family's own master-down runs only once the master has been heard in it: not every BSD speaks both.
    _clear_families(machine)
    machine.tie_wait = 0
    machine.tie_copies_end = 0
    machine.takeover_due = MACHINE_NEVER
    machine.takeover_reason = REASON_BOWOUT
    machine.peer.family = PEER_NOBODY
    machine.preempt_from = MACHINE_NEVER
    machine.withheld_until = machine.leaving_until = machine.pace_due = MACHINE_NEVER
    machine.has_heir = False


cdef void _arm_master_down(machine_t *machine, int64_t now) noexcept nogil:
    """As BACKUP with no known master. It does not end while a sibling owns the addresses."""
    cdef int64_t owned_until = arbitration_owned_until(&machine.arbitration, now)
    machine.master_down_due = max(now + machine_master_down(machine), owned_until, machine.held_until)


cdef int _plan_takeover(machine_t *machine, uint8_t reason, const peer_t *peer, int64_t now) noexcept nogil:
    cdef int64_t wait
    if machine.takeover_due != MACHINE_NEVER:
        return 0
    wait = _draw(machine, TAKEOVER_JITTER)
    if wait < 0:
        return -1
    machine.takeover_due = now + <int64_t> machine_advskew(machine) * TAKEOVER_STEP + wait
    machine.takeover_reason = reason
    machine.peer = peer[0]
    return 0


# Changes of state

@cython.cdivision(True)
cdef int _run(machine_t *machine, uint8_t reason, int64_t now, actions_t *actions) noexcept nogil:
    """There is a link: INIT -> BACKUP, if it is up and has addresses. Draws first: -1, and nothing has changed."""
    cdef int64_t wait = _draw(machine, TIE_JITTER) if machine.config.runnable else 0
    if wait < 0:
        return -1
    _unsuppress_for_link(machine, actions)
    if not machine.config.runnable:
        return 0
    machine.state = STATE_BACKUP
    _clear_timers(machine)
    if reason == REASON_STARTED:
        machine.held_until = now + machine.config.start_delay
    machine.pace.wait = wait * TAKEOVER_JITTER // (2 * TIE_JITTER)
    machine.master_down_due = max(now + machine_master_down(machine), machine.held_until) + wait
    _arm_forget_errors(machine, now)
    _add_transition(actions, STATE_INIT, STATE_BACKUP, reason, NULL, now)
    return 0


cdef void _halt(machine_t *machine, uint8_t reason, int64_t now, bint bowout, actions_t *actions) noexcept nogil:
    """Any state -> INIT."""
    cdef uint8_t before = machine.state
    machine.state = STATE_INIT
    _clear_timers(machine)
    _forget_pace(&machine.pace)
    arbitration_forget(&machine.arbitration, -1)
    if before == STATE_INIT:
        return
    if before == STATE_MASTER:
        _add(actions, ACTION_DROP)
        if bowout:
            _add_bowout(actions)
    _add_transition(actions, before, STATE_INIT, reason, NULL, now)


cdef void _become_master(
    machine_t *machine, uint8_t reason, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    cdef int64_t gone_at = arbitration_gone_at(&machine.arbitration, now)
    machine.state = STATE_MASTER
    machine.stands_back = False
    _begin_pace(machine, reason)
    _clear_timers(machine)
    machine.forget_errors_due = MACHINE_NEVER
    machine.master_since = now
    machine.master_reason = reason
    _advert_now(machine, now, actions)
    if gone_at == 0:
        _add_take(actions)
    else:
        machine.withheld_until = gone_at
        arbitration_answer(&machine.arbitration, now, True)
    _add_transition(actions, STATE_BACKUP, STATE_MASTER, reason, peer, now)


cdef void _become_backup(
    machine_t *machine, uint8_t reason, const peer_t *peer, bint bowout, int64_t now, actions_t *actions
) noexcept nogil:
    """MASTER -> BACKUP; the caller arms the master-down that fits."""
    machine.state = STATE_BACKUP
    _clear_timers(machine)
    _arm_forget_errors(machine, now)
    _add(actions, ACTION_DROP)
    if bowout:
        _add_bowout(actions)
    _add_transition(actions, STATE_MASTER, STATE_BACKUP, reason, peer, now)


# Adverts of our own group

cdef inline bint _is_new(const machine_t *machine, int64_t now) noexcept nogil:
    """It has been MASTER for so short that an equal may have taken over at the same time."""
    cdef int64_t age = now - machine.master_since
    return age <= TIE_JITTER and 2 * age <= machine_interval(machine)


cdef int _receive_as_master(
    machine_t *machine, int family, int64_t interval, int demotion, const peer_t *peer, int64_t now,
    actions_t *actions,
) noexcept nogil:
    cdef int64_t own = machine_interval(machine), wait = 0
    cdef bint new = _is_new(machine, now)
    cdef bint bowout = interval == BOWOUT * NS_PER_SECOND + BOWOUT * NS_PER_SKEW
    cdef bint relieved = 0 <= demotion < machine_sent_demotion(machine) and not bowout
    cdef bint tie = own == interval and not relieved
    if machine_leaving(machine):
        if not bowout:
            _left_to(machine, family, peer, now, actions)
        return 0
    if demotion > machine_sent_demotion(machine):
        return 0
    if own < interval and not relieved:
        return 0
    # Ties yield, as in the kernel. If the other yields too, the random part decides who comes back first. One that is
    # less demoted does not.
    if tie:
        wait = _draw(machine, TIE_JITTER)
    if wait < 0:
        return -1
    _become_backup(machine, REASON_TIE if tie else REASON_BETTER, peer, False, now, actions)
    if tie and new:
        # Equals took over at the same time, and each yields to the others: the one with the shortest wait has it. An
        # equal that stays MASTER is heard again when we are older than that.
        machine.takeover_due = now + TIE_COPIES_END + wait
        machine.takeover_reason = machine.master_reason
        machine.tie_copies_end = now + TIE_COPIES_END
    machine.tie_wait = wait
    machine.family_due[family] = now + machine_master_down(machine) + wait
    return 0


cdef bint _may_preempt(machine_t *machine, bint bowout, int64_t now) noexcept nogil:
    """Whether a slower master has been heard for long enough."""
    if machine.preempt_from == MACHINE_NEVER:
        machine.preempt_from = now + machine.config.preempt_delay
    return bowout or now >= machine.preempt_from


cdef void _heard_master(machine_t *machine, int family, int64_t now, actions_t *actions) noexcept nogil:
    cdef int other = MACHINE_IPV6 if family == MACHINE_IPV4 else MACHINE_IPV4
    machine.takeover_due = MACHINE_NEVER
    machine.master_down_due = MACHINE_NEVER
    machine.family_due[family] = max(now + machine_silence(machine), machine.held_until)
    # The other family's silence means something only now that the master is known to live.
    if machine.silent_families[other]:
        _add(actions, ACTION_FAMILY_SILENT).family = 6 if other == MACHINE_IPV6 else 4
    machine.silent_families[MACHINE_IPV4] = machine.silent_families[MACHINE_IPV6] = False


cdef void _backup_timeout(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    cdef bint expired = False
    cdef int family
    cdef int64_t owned_until
    cdef peer_t peer = machine.peer  # the machine's own goes with the timers
    if machine.takeover_due <= now:
        _become_master(machine, machine.takeover_reason, &peer, now, actions)
        return
    for family in range(2):
        if machine.family_due[family] <= now:
            machine.family_due[family] = MACHINE_NEVER
            machine.silent_families[family] = expired = True
    # One has expired: if the other is equal, it does not run either.
    if machine.master_down_due <= now or (expired and machine.family_due[0] == machine.family_due[1]):
        owned_until = arbitration_owned_until(&machine.arbitration, now)
        if owned_until:
            _wait_for_sibling(machine, owned_until)
        else:
            _become_master(machine, REASON_MASTER_DOWN, NULL, now, actions)


# What may happen to it

cdef void machine_init(
    machine_t *machine, const machine_config_t *config, machine_draw_t draw, void *context, uint64_t seed
) noexcept nogil:
    memset(machine, 0, sizeof(machine_t))
    machine.config = config[0]
    machine.draw = draw
    machine.pace.own.last = machine.pace.heard.last = MACHINE_NEVER
    machine.context = context
    machine.seed = seed
    machine.link = True
    machine.echo_answered = -1
    machine.forget_errors_due = MACHINE_NEVER
    machine.master_reason = REASON_MASTER_DOWN
    machine.arbitration.vhid = config.vhid
    machine.arbitration.enabled = config.arbitrate
    _clear_timers(machine)


cdef int machine_start(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.started:
        return 0
    if not machine.link:
        _suppress_for_link(machine, actions)
    elif _run(machine, REASON_STARTED, now, actions) < 0:
        return -1
    machine.started = True
    arbitration_report_anew(&machine.arbitration)
    return 0


cdef int machine_stop(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if not machine.started:
        return 0
    machine.started = machine.stands_back = False
    _halt(machine, REASON_STOPPED, now, True, actions)
    _unsuppress_for_link(machine, actions)
    _forget_send_errors(machine, actions)
    return 0


cdef int machine_link(machine_t *machine, bint up, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.started and up and not machine.link:
        if _run(machine, REASON_LINK_UP, now, actions) < 0:
            return -1
    elif machine.started and machine.link and not up:
        _halt(machine, REASON_LINK_DOWN, now, False, actions)
        _suppress_for_link(machine, actions)
    machine.link = up
    return 0


cdef int machine_receive(
    machine_t *machine, uint8_t family, uint8_t advbase, uint8_t advskew, int demotion, uint8_t pace,
    int64_t arrived, const peer_t *peer, int64_t now, actions_t *actions,
) noexcept nogil:
    cdef int64_t interval = advbase * NS_PER_SECOND + advskew * NS_PER_SKEW
    cdef bint bowout = advbase == BOWOUT and advskew == BOWOUT
    cdef bint relieve = demotion > machine_sent_demotion(machine)
    cdef bint relieved = 0 <= demotion < machine_sent_demotion(machine)
    cdef int index = MACHINE_IPV4 if family == 4 else MACHINE_IPV6
    cdef int64_t owned_until
    actions.count = 0
    if machine.state == STATE_MASTER:
        if not bowout:
            _master_returned(&machine.pace, peer, arrived)
        return _receive_as_master(machine, index, interval, demotion, peer, now, actions)
    if machine.state != STATE_BACKUP:
        return 0
    owned_until = arbitration_owned_until(&machine.arbitration, now)
    if owned_until:
        # A master of our own group does not get the addresses either; but whether there is one matters later.
        if bowout:
            _wait_for_sibling(machine, owned_until)
            return 0
    elif now < machine.held_until:
        if bowout:
            return 0
    elif (machine.stands_back or machine.aside) and not bowout:
        pass
    elif relieve and not bowout:
        return _plan_takeover(machine, REASON_DEMOTED, peer, now)
    elif (
        machine.config.preempt and machine_interval(machine) < interval and not relieved
        and _may_preempt(machine, bowout, now)
    ):
        return _plan_takeover(machine, REASON_BOWOUT if bowout else REASON_PREEMPT, peer, now)
    elif _silence(machine, machine_advskew(machine), bowout) < interval:
        return _plan_takeover(machine, REASON_BOWOUT if bowout else REASON_TOO_SLOW, peer, now)
    elif machine.takeover_due != MACHINE_NEVER and machine_interval(machine) < interval and not (relieved or bowout):
        # A worse backup acted sooner on the same bow-out. A kernel would be MASTER by now, and stay.
        return 0
    # An advert comes in several copies (families, keys), and more than two hosts may be equal: no copy takes back the
    # random part that another one added.
    if interval <= machine_interval(machine):
        machine.preempt_from = MACHINE_NEVER
    if interval != machine_interval(machine):
        machine.tie_wait = 0
    elif now < machine.tie_copies_end:
        return 0
    _hear_pace(&machine.pace, peer, 0 if bowout else pace, arrived)
    _heard_master(machine, index, now, actions)
    return 0


cdef int machine_timeout(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    cdef int64_t interval
    actions.count = 0
    if machine.forget_errors_due <= now:
        _forget_send_errors(machine, actions)
    if machine.advert_due <= now:
        _advert(machine, False, now, actions)
        # The schedule is absolute: a late wake-up shifts nothing, and missed adverts are not made up for.
        interval = _period(machine)
        machine.advert_due += interval
        if machine.advert_due <= now:
            machine.advert_due = now + interval
        _arm_pace(machine, now)
    elif machine.pace_due <= now:
        _advert(machine, True, now, actions)
        _arm_pace(machine, now)
    if machine.withheld_until <= now:
        _take_withheld(machine, actions)
    if machine.leaving_until <= now:
        _end_leaving(machine, now, actions)
    if machine.state == STATE_BACKUP:
        _backup_timeout(machine, now, actions)
    return 0


cdef int machine_force(machine_t *machine, uint8_t state, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.state == STATE_INIT or state == STATE_INIT or state == machine.state:
        return 0
    if state == STATE_MASTER:
        _become_master(machine, REASON_FORCED, NULL, now, actions)
    else:
        _retire(machine, REASON_FORCED, NULL, False, now, actions)
    return 0


cdef int machine_reconfigure(
    machine_t *machine, const machine_config_t *config, int64_t now, actions_t *actions
) noexcept nogil:
    cdef machine_config_t former = machine.config
    cdef int64_t pacing = machine_pacing(machine)
    cdef bint running = machine.state != STATE_INIT
    actions.count = 0
    machine.config = config[0]
    if not running and machine.started and machine.link and _run(machine, REASON_STARTED, now, actions) < 0:
        machine.config = former
        return -1
    machine.arbitration.enabled = config.arbitrate
    _measure_anew(machine, pacing)
    if not running:
        pass
    elif not config.runnable:
        _halt(machine, REASON_STOPPED, now, True, actions)
    elif machine.state == STATE_BACKUP:
        _clear_timers(machine)
        _arm_master_down(machine, now)
    else:
        machine.leaving_until = MACHINE_NEVER
        machine.has_heir = False
        _advert_now(machine, now, actions)
        if machine.withheld_until == MACHINE_NEVER or not arbitration_gone_at(&machine.arbitration, now):
            machine.withheld_until = MACHINE_NEVER
            _add_take(actions)
    return 0


cdef bint machine_overdue(const machine_t *machine, int64_t now) noexcept nogil:
    if machine.withheld_until != MACHINE_NEVER:
        return machine.withheld_until <= now
    return (
        machine.state == STATE_BACKUP and machine.takeover_due > now and _silent(machine, now)
        and not arbitration_owned_until(&machine.arbitration, now)
    )


cdef void machine_delay_takeover(machine_t *machine, int64_t now) noexcept nogil:
    cdef int64_t later = now + min(_period(machine), machine_silence(machine))
    cdef int family
    if not machine_overdue(machine, now):
        return
    if machine.withheld_until != MACHINE_NEVER:
        machine.withheld_until = later
    if machine.master_down_due != MACHINE_NEVER:
        machine.master_down_due = later
    for family in range(2):
        if machine.family_due[family] != MACHINE_NEVER:
            machine.family_due[family] = later
