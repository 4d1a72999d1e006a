# The part of the machine for a pace: what a MASTER says of its own, and how long a BACKUP waits for one that says it.
# The twin of `pycarp._python.pace`.

from ..protocol.timing import PACES as _PACES

cdef enum:
    PACE_CODES = 16

cdef int64_t PACES[PACE_CODES]
for _code in range(PACE_CODES):
    PACES[_code] = _PACES[_code]


cdef void _note_gap(gaps_t *gaps, int64_t at) noexcept nogil:
    """An advert came, or went out, at this time."""
    cdef int64_t gap = 0 if gaps.last == MACHINE_NEVER else max(0, at - gaps.last)
    if 2 * gap > gaps.worst:
        gaps.worst, gaps.halve_at = max(gap, gaps.worst), at + PACE_GAPS_FORGOTTEN
    elif at >= gaps.halve_at:
        gaps.worst, gaps.halve_at = gaps.worst // 2, at + PACE_GAPS_FORGOTTEN
    gaps.last = at


cdef void _forget_pace(pace_t *pace) noexcept nogil:
    """No master is known. What was measured is kept."""
    pace.said = 0
    pace.count = 0
    pace.heard.last = MACHINE_NEVER
    pace.source.family = PEER_NOBODY


cdef inline bint _same_peer(const peer_t *one, const peer_t *other) noexcept nogil:
    cdef size_t length = 4 if one.family == 4 else 16
    return one.family == other.family and memcmp(one.address, other.address, length) == 0


cdef void _hear_pace(pace_t *pace, const peer_t *source, uint8_t code, int64_t at) noexcept nogil:
    """An advert of a master came at this time."""
    if not code or not _same_peer(source, &pace.source):
        _forget_pace(pace)
        pace.source = source[0]
    pace.said = PACES[code & (PACE_CODES - 1)]
    if code:
        pace.count += 1
        _note_gap(&pace.heard, at)


cdef int64_t machine_heard_pace(const machine_t *machine) noexcept nogil:
    """The pace in ns that the master heard last says, once it is obeyed; 0: none is."""
    return machine.pace.said if machine.pace.count >= PACE_HEARD_FIRST else 0


cdef int64_t _paced_limit(const machine_t *machine, int64_t worst) noexcept nogil:
    """The silence after which that master is gone, if it says a pace and has been heard for long enough, or 0."""
    cdef const pace_t *pace = &machine.pace
    if machine_heard_pace(machine) == 0:
        return 0
    return (
        max(machine.config.missed * pace.said, 2 * worst) + machine_advskew(machine) * PACE_STEP
        + pace.wait
    )


cdef void _master_returned(pace_t *pace, const peer_t *source, int64_t at) noexcept nogil:
    """A MASTER hears another one. Is it the one that it took over from, which has been there all the time?"""
    if not pace.took or not _same_peer(source, &pace.source) or pace.heard.last == MACHINE_NEVER:
        return
    if at - pace.heard.last <= PACE_RETURNS_WITHIN * pace.took:
        _note_gap(&pace.heard, at)
    else:
        _forget_pace(pace)
    pace.took = 0


cdef int64_t machine_pacing(const machine_t *machine) noexcept nogil:
    """Nanoseconds between a MASTER's adverts with those in between; 0: there are none in between."""
    cdef int64_t pacing
    if not machine.config.pace:
        return 0
    pacing = max(machine.config.pace, machine.pace.least)
    return pacing if pacing < _period(machine) else 0


cdef uint8_t machine_said_pace(const machine_t *machine) noexcept nogil:
    """The code of the pace that the next advert says: a slower one if this machine does not keep its own."""
    cdef int64_t kept = machine_pacing(machine)
    cdef int code
    if not kept:
        return <uint8_t> NO_PACE
    kept = max(kept, machine.pace.own.worst // 2)
    for code in range(PACE_CODES):
        if PACES[code] >= kept:
            return <uint8_t> code if PACES[code] < _period(machine) else <uint8_t> NO_PACE
    return <uint8_t> NO_PACE


cdef int64_t machine_silence(const machine_t *machine) noexcept nogil:
    """Nanoseconds of silence after which the master heard last is gone: fewer than master-down if it says a pace."""
    cdef int64_t paced = _paced_limit(machine, machine.pace.heard.worst)
    cdef int64_t usual = machine_master_down(machine) + machine.tie_wait
    return min(paced, usual) if paced else usual


cdef int64_t machine_usual_silence(const machine_t *machine) noexcept nogil:
    """What machine_silence would be if adverts came regularly."""
    cdef int64_t paced = _paced_limit(machine, 0), usual = machine_master_down(machine) + machine.tie_wait
    return min(paced, usual) if paced else usual


cdef void _arm_pace(machine_t *machine, int64_t now) noexcept nogil:
    """Machines of one pace send together: their moments are multiples of it."""
    cdef int64_t pacing = machine_pacing(machine)
    machine.pace_due = (now // pacing + 1) * pacing if pacing and machine.state == STATE_MASTER else MACHINE_NEVER


cdef void _measure_anew(machine_t *machine, int64_t former) noexcept nogil:
    """Its pacing was `former`. That made gaps of its own: they do not tell that it cannot keep another pace."""
    cdef gaps_t *own = &machine.pace.own
    if machine_pacing(machine) != former:
        own.last = MACHINE_NEVER
        if own.worst <= 2 * (former or _period(machine)):
            own.worst = 0


cdef void machine_limit_pace(machine_t *machine, int64_t least, int64_t now) noexcept nogil:
    cdef int64_t former = machine_pacing(machine)
    machine.pace.least = least
    _measure_anew(machine, former)
    if machine.pace_due != MACHINE_NEVER or machine.advert_due != MACHINE_NEVER:
        _arm_pace(machine, now)


cdef void machine_pause_pace(machine_t *machine, int64_t now) noexcept nogil:
    """Until machine_limit_pace no pace is said; none that was heard is obeyed."""
    cdef int64_t later = now + machine_master_down(machine)
    cdef int family
    machine_limit_pace(machine, PACE_NEVER, now)
    _forget_pace(&machine.pace)
    for family in range(2):
        if machine.family_due[family] != MACHINE_NEVER:
            machine.family_due[family] = max(machine.family_due[family], later)


cdef void _begin_pace(machine_t *machine, uint8_t reason) noexcept nogil:
    """It becomes MASTER."""
    machine.pace.took = _paced_limit(machine, machine.pace.heard.worst) if reason == REASON_MASTER_DOWN else 0
    machine.pace.own.last = MACHINE_NEVER


cdef void _advert(machine_t *machine, bint between, int64_t now, actions_t *actions) noexcept nogil:
    cdef action_t *added = _add(actions, ACTION_SEND_ADVERT)
    if machine.config.pace:
        _note_gap(&machine.pace.own, now)
    added.advbase = machine.config.advbase
    added.advskew = machine_advskew(machine)
    added.pace = machine_said_pace(machine)
    added.between = between


cdef void _advert_now(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    """An advert out of turn: the next one is due an interval later."""
    machine.advert_due = now + _period(machine)
    _arm_pace(machine, now)
    _advert(machine, False, now, actions)
