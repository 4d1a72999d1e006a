# Take, renew and drop: the orders to the guardian, and how long addresses live.
#
# Thread: runtime, no GIL.

cdef void order(runtime_t *runtime, instance_t *instance, int kind, int64_t now, bint again) noexcept nogil:
    """Order a take, a renewal, a drop or a beat.

    A take or drop that finds no room is sent later: an order that got lost could leave an address behind.
    """
    cdef ownership_t *ownership = &instance.ownership
    cdef int64_t next_beat = beats(&instance.machine) + runtime.guardian.late_allowance
    cdef order_t message
    cdef bint sent
    if instance.tenure and instance.tenure != TENURE_FOREVER:
        next_beat = max(0, instance.tenure - boottime() - GATE_SHUTS_BEFORE)
        choose_lease(instance)
    memset(&message, 0, sizeof(order_t))
    message.kind = <uint8_t> kind
    message.index = <uint32_t> instance.index
    message.at = now
    message.boot = boottime()
    message.lease = ownership.lease
    message.next_beat_ms = <uint32_t> ((next_beat + 999999) // 1000000)
    message.takeover_after_ms = <uint32_t> (takeover_after(instance) // 1000000)
    message.number = again
    sent = send_order(runtime, &message)
    if kind == ORDER_TAKE or kind == ORDER_DROP:
        ownership.unsent = 0
        if sent:
            ownership.unanswered += 1
        else:
            ownership.unsent = <uint8_t> (1 + kind)
            runtime.guardian.unsent = True


cdef void send_unsent_orders(runtime_t *runtime) noexcept nogil:
    """Once more, those that found no room."""
    cdef instance_t *instance
    cdef int at
    runtime.guardian.unsent = False
    if runtime.guardian.fd < 0:
        ask_for_guardian(runtime)  # the next one is told everything anew
        return
    for at in range(runtime.instance_count):
        instance = runtime.instances[at]
        if instance.ownership.unsent:
            order(runtime, instance, instance.ownership.unsent - 1, monotonic(), False)


cdef void take(runtime_t *runtime, instance_t *instance, int64_t now, bint quiet) noexcept nogil:
    """The addresses are to be here. `quiet`: they are, and no event follows, unless one is still to come."""
    cdef ownership_t *ownership = &instance.ownership
    if quiet and ownership.owned and ownership.unanswered == 0 and ownership.unsent == 0:
        order(runtime, instance, ORDER_TAKE, now, True)
        return
    if not ownership.owned:
        ownership.announcements = instance.plan.announce_repeats
    ownership.owned = True
    ownership.decided = now
    choose_lease(instance)
    order(runtime, instance, ORDER_TAKE, now, False)


cdef void drop(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """The addresses are to go."""
    instance.timers.take_due = MACHINE_NEVER
    instance.ownership.inherits = False
    instance.ownership.owned = False
    instance.ownership.decided = now
    order(runtime, instance, ORDER_DROP, now, False)


cdef inline int64_t beats(const machine_t *machine) noexcept nogil:
    """The guardian hears from a MASTER every so many ns: see `pycarp.protocol.timing`."""
    cdef int64_t pacing = machine_pacing(machine)
    return max(PACE_BEAT, pacing) + pacing if pacing else machine_interval(machine)


cdef void beat(runtime_t *runtime, instance_t *instance, int64_t now, bint between) noexcept nogil:
    """An advert was due: the guardian hears that we live; if the advert was sent, the lease goes on. Of those between
    those of the interval, it hears now and then."""
    cdef ownership_t *ownership = &instance.ownership
    # A lifetime lasts until the next advert of the interval; to renew it keeps RTNL.
    cdef bint only_beat = instance.transmit.failing or (between and not instance.plan.gated)
    ownership.advertised = boottime()
    if not ownership.owned or (between and now - ownership.beaten < PACE_BEAT):
        return
    ownership.beaten = now
    ask_whether_it_hangs(runtime, now)
    choose_lease(instance)
    report_unleased(runtime, instance, now)
    order(runtime, instance, ORDER_BEAT if only_beat else ORDER_RENEW, now, False)


cdef inline uint8_t least_advbase(const instance_t *instance) noexcept nogil:
    """The smallest advbase of the group, as far as it was heard."""
    return min(instance.ownership.least_advbase, instance.machine.config.advbase)


cdef inline int64_t _missed(const instance_t *instance) noexcept nogil:
    """So many of our adverts others miss before they take over, at least."""
    return min(<int64_t> instance.machine.config.missed, MASTER_DOWN_INTERVALS)


cdef inline int64_t takeover_after(const instance_t *instance) noexcept nogil:
    """After this many ns of our silence another host of the group may have taken over."""
    cdef int64_t advbase = least_advbase(instance)
    cdef int64_t advskew = max(<int64_t> instance.machine.config.advskew, 1)
    return _missed(instance) * (advbase * NS_PER_SECOND if advbase else advskew * NS_PER_SKEW)


cdef void choose_lease(instance_t *instance) noexcept nogil:
    """How long the addresses live, or the gate is open, without a renewal: see `pycarp.protocol.timing`."""
    cdef ownership_t *ownership = &instance.ownership
    cdef int64_t interval = machine_interval(&instance.machine)
    cdef int64_t longest = interval + RENEWAL_LATE_ALLOWANCE
    cdef int64_t seconds = (longest + NS_PER_SECOND - 1) // NS_PER_SECOND
    cdef int64_t limit = takeover_after(instance) - GATE_SHUTS_BEFORE
    cdef int64_t left = instance.tenure - boottime(), pacing = machine_pacing(&instance.machine)
    if instance.tenure and instance.tenure != TENURE_FOREVER:
        ownership.outlived = False
        if instance.plan.gated:
            ownership.lease = <uint32_t> (max(0, left - GATE_SHUTS_BEFORE) // 1000000)
        else:
            ownership.lease = <uint32_t> max(1, (left + NS_PER_SECOND - 1) // NS_PER_SECOND)
        return
    if instance.plan.gated:
        ownership.outlived = limit < max(interval + GATE_RENEWED_LATE, GATE_SHUTS_BEFORE)
        ownership.lease = <uint32_t> ((longest * 3 // 2 if ownership.outlived else limit) // 1000000)
        if pacing:
            longest = beats(&instance.machine) + RENEWAL_LATE_ALLOWANCE
            ownership.outlived = True
            ownership.lease = min(ownership.lease, <uint32_t> (longest * 3 // 2 // 1000000))
        return
    limit = _missed(instance) * NS_PER_SECOND * least_advbase(instance)
    ownership.outlived = seconds * NS_PER_SECOND + LEASE_ENDS_LATE >= limit
    ownership.lease = LEASE_FOREVER if ownership.outlived else <uint32_t> seconds
    ownership.outlived = ownership.outlived or pacing


cdef int64_t lease_ends_after(const instance_t *instance) noexcept nogil:
    """After this many ns of our silence the lease is over."""
    return instance.ownership.lease * (1000000 if instance.plan.gated else NS_PER_SECOND)


cdef void report_unleased(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """A lease that does not end in time is reported, once."""
    cdef record_t record
    if not instance.ownership.outlived or instance.reported.unleased:
        return
    instance.reported.unleased = True
    record = new_record(instance, outlived_event if instance.plan.gated else unleased_event, now)
    record.value, record.detail = machine_interval(&instance.machine), least_advbase(instance)
    if machine_pacing(&instance.machine):
        record.make = paced_event
        record.value = machine_pacing(&instance.machine) << 31 | min(lease_ends_after(instance) // 1000000, 0x7FFFFFFF)
        record.detail = <uint8_t> _missed(instance)
    report(runtime, &record)


cdef void retry_later(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """The instance, which is in INIT, stands by again after a while."""
    cdef int64_t *delay = &instance.ownership.retry_delay
    delay[0] = min(max(2 * delay[0], RETRY_FIRST), RETRY_LAST)
    instance.timers.retry_due = now + delay[0]
    schedule(runtime, instance)


cdef void retry_now(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """Something has changed: a take that failed may succeed."""
    if instance.timers.retry_due != MACHINE_NEVER:
        instance.timers.retry_due = now
        schedule(runtime, instance)


# The socket

cdef bint send_order(runtime_t *runtime, const order_t *message) noexcept nogil:
    """Send an order, without waiting; False if there was no room, or no guardian."""
    cdef int outcome
    if runtime.guardian.fd < 0:
        return False
    outcome = guardian_order(runtime.guardian.fd, message)
    if outcome == GUARDIAN_GONE:
        lose_guardian(runtime)
    return outcome == MESSAGE_DONE


cdef void ask_whether_it_hangs(runtime_t *runtime, int64_t now) noexcept nogil:
    """Ask what is answered at once: a guardian that hangs renews nothing, and says nothing."""
    cdef guardian_t *guardian = &runtime.guardian
    cdef order_t message
    if guardian.fd < 0:
        return
    if guardian.asked:
        if now - guardian.asked > GUARDIAN_ANSWERS_WITHIN:
            guardian.hanging = True  # Python ends it
            lose_guardian(runtime)
        return
    memset(&message, 0, sizeof(order_t))
    message.kind = ORDER_FORGET
    message.index = message.number = ORDER_NOBODY
    if send_order(runtime, &message):
        guardian.asked = now


cdef void lose_guardian(runtime_t *runtime) noexcept nogil:
    """It has ended: another one is to be started. Python does that, which may be busy, or stuck."""
    runtime.guardian.fd = -1
    runtime.guardian.readable = False
    runtime.guardian.asked = 0
    runtime.guardian.hand_over_due = monotonic() + GUARDIAN_REPLACED_WITHIN
    ask_for_guardian(runtime)


cdef void ask_for_guardian(runtime_t *runtime) noexcept nogil:
    cdef record_t record
    if not runtime.guardian.lost:
        record = new_record(NULL, guardian_lost_event, monotonic())
        runtime.guardian.lost = report(runtime, &record)
        if not runtime.guardian.lost:
            runtime.guardian.unsent = True  # Python is far behind: once more, soon


cdef object unleased_event(const record_t *record, dict who, object host):
    return events.LeaseUnavailable(**who, why=no_lease(record.value, record.detail))


cdef object outlived_event(const record_t *record, dict who, object host):
    after = takeover_time(record.detail, host.advskew if host else 0)
    return events.LeaseUnavailable(**who, why=no_gate(record.value, after))


cdef object paced_event(const record_t *record, dict who, object host):
    why = paced_lease(record.value >> 31, record.detail, (record.value & 0x7FFFFFFF) * 1000000)
    return events.LeaseUnavailable(**who, why=why)


cdef object guardian_lost_event(const record_t *record, dict who, object host):
    return events.GuardianLost(**who, what=events.GUARDIAN_DIED)
