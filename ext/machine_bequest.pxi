# What a machine leaves to one of another process, as plain values: the twin of `pycarp._python.bequest`.
#
# Thread: any caller, under the GIL, while nobody else works on the machine.

cdef object _due(int64_t due):
    return None if due == MACHINE_NEVER else due


cdef int64_t _due_of(object due) except? -1:
    return MACHINE_NEVER if due is None else due


cdef dict machine_values(const machine_t *machine):
    cdef const arbitration_t *arbitration = &machine.arbitration
    cdef const sibling_t *sibling
    cdef list siblings = []
    cdef int at
    for at in range(SIBLINGS):
        sibling = &arbitration.siblings[at]
        if sibling.gone_at:
            siblings.append([
                sibling.vhid, sibling.interval, sibling.gone_at, sibling.answers, sibling.first_answer,
                sibling.copies_end, int(sibling.stalemate),
            ])
    return {
        "advert_due": _due(machine.advert_due),
        "master_down_due": _due(machine.master_down_due),
        "takeover_due": _due(machine.takeover_due),
        "forget_errors_due": _due(machine.forget_errors_due),
        "withheld_until": _due(machine.withheld_until),
        "leaving_until": _due(machine.leaving_until),
        "preempt_from": _due(machine.preempt_from),
        "pace_due": _due(machine.pace_due),
        "held_until": machine.held_until,
        "demotion": machine.demotion,
        "send_errors": machine.send_errors,
        "send_successes": machine.send_successes,
        "tie_wait": machine.tie_wait,
        "tie_copies_end": machine.tie_copies_end,
        "master_since": machine.master_since,
        "started": bool(machine.started),
        "link": bool(machine.link),
        "link_suppressed": bool(machine.link_suppressed),
        "stands_back": bool(machine.stands_back),
        "master_reason": str(_REASONS[machine.master_reason]),
        "takeover_reason": str(_REASONS[machine.takeover_reason]),
        "state": machine.state,
        "families": {
            str(4 + 2 * at): machine.family_due[at] for at in range(2) if machine.family_due[at] != MACHINE_NEVER
        },
        "silent": [4 + 2 * at for at in range(2) if machine.silent_families[at]],
        "peer": address_text(machine.peer.address, machine.peer.family) if machine.peer.family in (4, 6) else None,
        "siblings": siblings,
        "standings": {
            str(at): STANDINGS[arbitration.standings[at] - 1] for at in range(256) if arbitration.standings[at]
        },
    }


cdef int machine_set_values(machine_t *machine, dict values) except -1:
    """Go on from there. After an error the machine is half made: work on a copy."""
    cdef sibling_t *sibling
    cdef bytes address
    cdef int at
    machine.advert_due = _due_of(values["advert_due"])
    machine.master_down_due = _due_of(values["master_down_due"])
    machine.takeover_due = _due_of(values["takeover_due"])
    machine.forget_errors_due = _due_of(values["forget_errors_due"])
    machine.withheld_until = _due_of(values["withheld_until"])
    machine.leaving_until = _due_of(values["leaving_until"])
    machine.preempt_from = _due_of(values["preempt_from"])
    machine.pace_due = _due_of(values.get("pace_due"))
    machine.held_until = values["held_until"]
    machine.demotion = values["demotion"]
    machine.send_errors, machine.send_successes = values["send_errors"], values["send_successes"]
    machine.tie_wait, machine.tie_copies_end = values["tie_wait"], values["tie_copies_end"]
    machine.master_since = values["master_since"]
    machine.started, machine.link = values["started"], values["link"]
    machine.link_suppressed, machine.stands_back = values["link_suppressed"], values["stands_back"]
    machine.master_reason = _REASONS.index(Reason(values["master_reason"]))
    machine.takeover_reason = _REASONS.index(Reason(values["takeover_reason"]))
    machine.state = State(values["state"])
    for at in range(2):
        machine.family_due[at] = _due_of(values["families"].get(str(4 + 2 * at)))
        machine.silent_families[at] = 4 + 2 * at in values["silent"]
    memset(&machine.peer, 0, sizeof(peer_t))
    if values["peer"] is not None:
        address = ip_address(values["peer"]).packed
        machine.peer.family = 4 if len(address) == 4 else 6
        memcpy(machine.peer.address, PyBytes_AS_STRING(address), len(address))
    arbitration_forget(&machine.arbitration, -1)
    for at, numbers in enumerate(values["siblings"][:SIBLINGS]):
        sibling = &machine.arbitration.siblings[at]
        sibling.vhid, sibling.interval, sibling.gone_at, sibling.answers = numbers[:4]
        sibling.first_answer, sibling.copies_end, sibling.stalemate = numbers[4:]
    arbitration_report_anew(&machine.arbitration)
    for vhid, standing in values["standings"].items():
        machine.arbitration.standings[<uint8_t> int(vhid)] = 1 + STANDINGS.index(standing)
    return 0
