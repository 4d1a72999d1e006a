# Adverts of siblings: virtual hosts of other groups that have the same addresses.

cdef void _leave_to_sibling(machine_t *machine, const peer_t *peer, int64_t now, actions_t *actions) noexcept nogil:
    """It has the addresses, or will have them as soon as we let go."""
    cdef int64_t until = arbitration_owned_until(&machine.arbitration, now)
    if machine.state == STATE_MASTER:
        _retire(machine, REASON_SIBLING, peer, True, now, actions)
        return
    if machine.takeover_due != MACHINE_NEVER and machine.takeover_reason == REASON_BOWOUT:
        _wait_for_sibling(machine, until)
    machine.takeover_due = MACHINE_NEVER
    if machine.master_down_due != MACHINE_NEVER:
        machine.master_down_due = max(machine.master_down_due, until)


cdef int _sibling_left(
    machine_t *machine, uint8_t vhid, const peer_t *peer, int64_t now, actions_t *actions
) noexcept nogil:
    """It bowed out."""
    cdef bint others = arbitration_others(&machine.arbitration, vhid, now)
    cdef bint waits = machine.state == STATE_BACKUP and machine.master_down_due != MACHINE_NEVER
    if waits and now >= machine.held_until and not others:
        if _plan_takeover(machine, REASON_BOWOUT, peer, now) < 0:
            return -1
    arbitration_forget(&machine.arbitration, vhid)
    if not others:
        _take_withheld(machine, actions)
    return 0


cdef void _take_withheld(machine_t *machine, actions_t *actions) noexcept nogil:
    """The addresses that were withheld are taken."""
    if machine.withheld_until != MACHINE_NEVER:
        machine.withheld_until = MACHINE_NEVER
        _add_take(actions)


cdef void _wait_for_sibling(machine_t *machine, int64_t until) noexcept nogil:
    """Our own group has no master, and none of us becomes it before `until`: a sibling owns the addresses."""
    machine.takeover_due = MACHINE_NEVER
    _clear_families(machine)
    if machine.master_down_due == MACHINE_NEVER or machine.master_down_due < until:
        machine.master_down_due = max(until, machine.held_until)


cdef int machine_sibling(
    machine_t *machine, uint8_t vhid, uint8_t advbase, uint8_t advskew, const peer_t *peer, int64_t now,
    actions_t *actions,
) noexcept nogil:
    cdef bint master = machine.state == STATE_MASTER
    cdef uint8_t standing
    cdef action_t *found
    actions.count = 0
    if machine.state == STATE_INIT:
        return 0
    if advbase == BOWOUT and advskew == BOWOUT and machine.arbitration.enabled:
        return _sibling_left(machine, vhid, peer, now, actions)
    standing = arbitration_hear(&machine.arbitration, vhid, advbase, advskew, master, machine_master_down(machine), now)
    if arbitration_report(&machine.arbitration, vhid, standing):
        found = _add(actions, ACTION_SIBLING_FOUND)
        found.vhid = vhid
        found.standing = standing
        found.peer = peer[0]
    if standing == STANDING_YIELD or standing == STANDING_STALEMATE:
        _leave_to_sibling(machine, peer, now, actions)
    elif standing == STANDING_SEVERAL:
        _take_withheld(machine, actions)
    elif standing == STANDING_PREFER and master:
        if machine.withheld_until != MACHINE_NEVER:
            machine.withheld_until = arbitration_gone_at(&machine.arbitration, now)
        if arbitration_answer(&machine.arbitration, now, False) and not machine_leaving(machine):
            _advert_now(machine, now, actions)
    return 0
