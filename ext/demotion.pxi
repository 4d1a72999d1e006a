# The part of the machine that demotes: adverts that cannot be sent, a link that is down, and reasons of the caller's.
# The twin of `pycarp._python.demotion`.

cdef inline void _arm_forget_errors(machine_t *machine, int64_t now) noexcept nogil:
    if machine.send_errors >= SEND_ERRORS:
        machine.forget_errors_due = now + SEND_ERRORS_FORGOTTEN


# This virtual host's trouble demotes the others of this host too.

cdef void _suppress_for_link(machine_t *machine, actions_t *actions) noexcept nogil:
    if not machine.link_suppressed:
        machine.link_suppressed = True
        machine.demotion += 1
        _add(actions, ACTION_SUPPRESS).by = 1


cdef void _end_suppression(machine_t *machine, actions_t *actions) noexcept nogil:
    if machine.demotion > 0:
        machine.demotion -= 1
    _add(actions, ACTION_SUPPRESS).by = -1


cdef void _unsuppress_for_link(machine_t *machine, actions_t *actions) noexcept nogil:
    if machine.link_suppressed:
        machine.link_suppressed = False
        _end_suppression(machine, actions)


cdef void _forget_send_errors(machine_t *machine, actions_t *actions) noexcept nogil:
    cdef bint troubled = machine.send_errors >= SEND_ERRORS
    machine.send_errors = 0
    machine.send_successes = 0
    machine.forget_errors_due = MACHINE_NEVER
    if troubled:
        _end_suppression(machine, actions)


cdef void _demote(machine_t *machine, int32_t by, int64_t now, actions_t *actions) noexcept nogil:
    cdef int64_t before = machine.demotion
    machine.demotion = max(before + by, 0)
    if by <= 0 or before >= MOST_DEMOTION or machine.state != STATE_MASTER or machine_leaving(machine):
        return
    # Where hundreds demote each other, each rises hundreds of times.
    if before == 0 or machine.advert_due - now <= machine_interval(machine) // 2:
        _advert_now(machine, now, actions)


cdef int machine_demote(machine_t *machine, int32_t by, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    _demote(machine, by, now, actions)
    return 0


cdef int machine_sent(machine_t *machine, bint ok, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if not ok:
        machine.send_successes = 0
        machine.send_errors += 1
        if machine.send_errors == SEND_ERRORS:
            if machine.state != STATE_MASTER:
                _arm_forget_errors(machine, now)
            _add(actions, ACTION_SUPPRESS).by = 1
            _demote(machine, 1, now, actions)
    elif machine.send_errors < SEND_ERRORS:
        machine.send_errors = 0
    else:
        machine.send_successes += 1
        if machine.send_successes >= SEND_ERRORS:
            _forget_send_errors(machine, actions)
    return 0
