# The guardian's replies, and what to do without a guardian.
#
# Thread: runtime, no GIL. Another guardian is started in the event thread: see handle.

cdef dict _ORDERS = {ORDER_TAKE: "taken", ORDER_RENEW: "renewed", ORDER_DROP: "dropped"}


cdef void meet_guardian(runtime_t *runtime, int fd, int64_t now) noexcept nogil:
    """From now on this one gets the orders. It knows what is to be taken, renewed and dropped, but not what is here."""
    cdef ownership_t *ownership
    cdef bint dropping
    cdef int at
    runtime.guardian.fd = fd
    runtime.guardian.lost = False
    runtime.guardian.hand_over_due = runtime.guardian.asked = 0
    if fd < 0:
        hand_over(runtime, now)
        return
    for at in range(runtime.instance_count):
        ownership = &runtime.instances[at].ownership
        dropping = ownership.unanswered or ownership.unsent == 1 + ORDER_DROP
        ownership.unanswered = ownership.unsent = 0
        if ownership.owned:
            order(runtime, runtime.instances[at], ORDER_TAKE, now, ownership.decided == 0)
        elif dropping:
            order(runtime, runtime.instances[at], ORDER_DROP, now, False)
        retry_now(runtime, runtime.instances[at], now)


cdef void collect(runtime_t *runtime) noexcept nogil:
    """Take up what the guardian has done, or could not do."""
    cdef reply_t reply
    cdef int outcome = MESSAGE_DONE
    runtime.guardian.readable = False
    while runtime.guardian.fd >= 0:
        outcome = guardian_reply(runtime.guardian.fd, &reply)
        if outcome != MESSAGE_DONE:
            break
        _take_up(runtime, &reply)
    if outcome == GUARDIAN_GONE:
        lose_guardian(runtime)


cdef void _take_up(runtime_t *runtime, const reply_t *reply) noexcept nogil:
    cdef instance_t *instance
    cdef int at
    if reply.number == ORDER_NOBODY:
        runtime.guardian.asked = 0
        return
    instance = find_instance(runtime, <int> reply.index)
    if reply.kind == ORDER_TAKE or reply.kind == ORDER_DROP:
        if instance != NULL:
            if instance.ownership.unanswered:
                instance.ownership.unanswered -= 1
            if not reply.flags & REPLY_SUPERSEDED:
                _carried_out(runtime, instance, reply)
    elif reply.kind == REPLY_RELEASED:
        if instance != NULL:
            instance.released = instance.frozen
            stalled(runtime, instance, True)
    elif reply.number:
        at = reply.number % ANSWERS
        runtime.guardian.answers[at] = reply.number
        runtime.guardian.answer_errors[at] = reply.error
    elif reply.error and instance != NULL:
        _report_failed_order(runtime, instance, reply)


cdef void _carried_out(runtime_t *runtime, instance_t *instance, const reply_t *reply) noexcept nogil:
    cdef ownership_t *ownership = &instance.ownership
    # A reply to an order before the latest one says nothing about what was decided since.
    cdef bint latest = ownership.unanswered == 0 and ownership.unsent == 0
    cdef int64_t now, decided = ownership.decided if latest and ownership.decided else reply.started
    cdef bint took = reply.kind == ORDER_TAKE
    cdef actions_t actions
    cdef record_t record
    if took and ownership.inherits and not reply.error:
        _inherited(runtime, instance)
    if reply.error:
        _report_failed_order(runtime, instance, reply)
        if took and instance.machine.state == STATE_MASTER:
            # Bow out, so that another host may take them.
            now = monotonic()
            machine_stop(&instance.machine, now, &actions)
            carry_out(runtime, instance, &actions, now)
            retry_later(runtime, instance, now)
        return
    if took:
        ownership.retry_delay = 0
        if latest and ownership.decided:
            measure(runtime.measures.takeover, reply.finished - decided)
    if latest:
        ownership.decided = 0
    if reply.number:
        return  # another guardian has taken once more what was here already
    if took:
        report_unleased(runtime, instance, reply.finished)
    record = new_record(instance, taken_event if took else dropped_event, reply.finished)
    record.value = reply.finished - decided
    report(runtime, &record)


cdef void _inherited(runtime_t *runtime, instance_t *instance) noexcept nogil:
    """What came from one that bowed out is here: only now switches and clients learn of it, and the other one drops."""
    cdef int64_t now = monotonic()
    instance.ownership.inherits = False
    announce(instance)
    send_advert(
        runtime, instance, instance.plan.config.advbase, machine_advskew(&instance.machine),
        machine_said_pace(&instance.machine), now,
    )
    instance.timers.announce_due = now + HEIR_ANNOUNCES_AGAIN
    schedule(runtime, instance)


cdef void _report_failed_order(runtime_t *runtime, const instance_t *instance, const reply_t *reply) noexcept nogil:
    cdef int64_t at = reply.finished if reply.finished else monotonic()
    cdef record_t record = new_record(instance, failed_order_event, at)
    record.value, record.detail = reply.error, reply.kind
    report(runtime, &record)


cdef void hand_over(runtime_t *runtime, int64_t now) noexcept nogil:
    """No guardian can be had: no address may stay that nobody could drop.

    Without a bow-out: the addresses stay until their lease ends, and other hosts wait longer than that.
    """
    cdef actions_t actions
    cdef instance_t *instance
    cdef int at
    runtime.guardian.hand_over_due = 0
    for at in range(runtime.instance_count):
        instance = runtime.instances[at]
        if instance.frozen:
            continue
        machine_retire(&instance.machine, REASON_HANDED_OVER, False, now, &actions)
        carry_out(runtime, instance, &actions, now)
        machine_stop(&instance.machine, now, &actions)
        carry_out(runtime, instance, &actions, now)
        # The next guardian drops first.
        instance.ownership.unanswered, instance.ownership.unsent = 0, 1 + ORDER_DROP
        if instance.wanted:
            retry_later(runtime, instance, now)
    runtime.guardian.unsent = False


cdef void retry(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """An instance that could not take its addresses stands by again, if there is a guardian."""
    instance.timers.retry_due = MACHINE_NEVER
    if runtime.guardian.fd < 0:
        retry_later(runtime, instance, now)
        ask_for_guardian(runtime)
        return
    begin(runtime, instance, now)


cdef object taken_event(const record_t *record, dict who, object host):
    return events.AddressesTaken(**who, addresses=host.address_texts, took=record.value)


cdef object dropped_event(const record_t *record, dict who, object host):
    return events.AddressesDropped(**who, addresses=host.address_texts, took=record.value)


cdef object failed_order_event(const record_t *record, dict who, object host):
    done = _ORDERS.get(record.detail, "entrusted to the guardian")
    return events.Failed(**who, what=events.order_failed(host.addresses, done, record.value))
