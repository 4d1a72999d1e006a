# The part of the machine that hands over: a MASTER that leaves, or retires. Or it defends. The twin of
# `pycarp._python.leaving`.

cdef int machine_defend(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.state == STATE_MASTER and not machine_leaving(machine) and machine.withheld_until == MACHINE_NEVER:
        _advert_now(machine, now, actions)
        _add(actions, ACTION_ANNOUNCE)
    return 0


cdef int machine_echo(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if (
        machine.state == STATE_MASTER and not machine_leaving(machine) and machine.echo_answered != machine.master_since
        and _is_new(machine, now)
    ):
        machine.echo_answered = machine.master_since
        _advert_now(machine, now, actions)
    return 0


cdef void _left_to(
    machine_t *machine, int family, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """The one that was heard has the addresses now."""
    _become_backup(machine, REASON_HANDED_OVER, peer, False, now, actions)
    machine.stands_back = True
    machine.family_due[family] = now + machine_master_down(machine)


cdef void _end_leaving(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    """Nobody has the addresses yet: either somebody is at it, or nobody wants them."""
    cdef peer_t peer = machine.heir
    if machine.has_heir:
        _left_to(machine, machine.heir_family, &peer, now, actions)
        return
    machine.leaving_until = MACHINE_NEVER
    _advert_now(machine, now, actions)
    _add(actions, ACTION_ANNOUNCE)


cdef int machine_leave(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil:
    actions.count = 0
    if machine.state != STATE_MASTER or machine_leaving(machine):
        return 0
    if machine.withheld_until != MACHINE_NEVER:
        return machine_retire(machine, REASON_HANDED_OVER, True, now, actions)
    machine.leaving_until = now + min(machine_interval(machine), HEIR_HEARD_WITHIN)
    machine.advert_due = machine.pace_due = MACHINE_NEVER
    _add_bowout(actions)
    return 0


cdef void machine_heir(machine_t *machine, uint8_t family, const peer_t *peer, int64_t now) noexcept nogil:
    if not machine_leaving(machine) or machine.has_heir:
        return
    machine.has_heir = True
    machine.heir_family = MACHINE_IPV4 if family == 4 else MACHINE_IPV6
    machine.heir = peer[0]
    machine.leaving_until = now + HEIR_READY_WITHIN


cdef void _retire(
    machine_t *machine, uint8_t reason, const peer_t *peer, bint bowout, int64_t now, actions_t *actions
) noexcept nogil:
    """MASTER -> BACKUP, when no other master is known."""
    _become_backup(machine, reason, peer, bowout, now, actions)
    _arm_master_down(machine, now)


cdef int machine_retire(
    machine_t *machine, uint8_t reason, bint bowout, int64_t now, actions_t *actions
) noexcept nogil:
    actions.count = 0
    if machine.state == STATE_MASTER:
        machine.stands_back = reason == REASON_HANDED_OVER
        _retire(machine, reason, NULL, bowout, now, actions)
    return 0
