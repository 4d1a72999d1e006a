# All that is known of an instance, as Python sees it.
#
# Thread: any caller; from a copy that the loop has made.

cdef object _reading(const instance_t *copy, object counters):
    cdef const machine_t *machine = &copy.machine
    cdef const reported_t *reported = &copy.reported
    cdef int64_t due = machine_deadline(machine), lease = copy.ownership.lease
    return Reading(
        state=_STATES[machine.state],
        since=reported.since,
        why=_REASONS[reported.why - 1] if reported.why else None,
        cause=None if reported.cause.family == PEER_NOBODY else address_text(
            reported.cause.address, reported.cause.family
        ),
        owns=bool(copy.ownership.owned),
        lease=None if lease == LEASE_FOREVER else lease * (1000000 if copy.plan.gated else NS_PER_SECOND),
        failing=bool(copy.transmit.failing),
        demotion=machine.demotion,
        link_demotes=bool(machine.link_suppressed),
        sending_demotes=machine.send_errors >= SEND_ERRORS,
        advskew=machine_advskew(machine),
        due=None if due == MACHINE_NEVER else due,
        late=copy.transmit.late,
        handed_over=bool(machine.stands_back or machine.aside),
        leaving=bool(machine_leaving(machine)),
        refused_until=copy.suspicion.refused_until,
        peers=peer_objects(&copy.sources),
        counters=counters,
    )
