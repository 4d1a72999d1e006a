# The agenda: what machines want done, and in what order.
#
# A machine asks for actions, and an action can cause more: an advert that cannot be sent demotes all instances, and
# each that is demoted advertises. What an action causes is done next, before the rest of its list. Demotions wait for
# each other: each reaches every instance before the next one begins. Nothing here calls itself, however many instances
# there are.
#
# Thread: runtime, no GIL.

cdef tuple _REASONS = tuple(Reason)


cdef void carry_out(runtime_t *runtime, instance_t *instance, const actions_t *actions, int64_t now) noexcept nogil:
    """Do what a machine wants done, and what comes of it."""
    put(runtime, instance, actions, now)
    drain(runtime, now)


cdef void put(runtime_t *runtime, instance_t *instance, const actions_t *actions, int64_t now) noexcept nogil:
    """Put a list of actions on the agenda: its first one is the next to be done."""
    cdef agenda_t *agenda = &runtime.agenda
    cdef const action_t *action
    cdef item_t *item
    cdef bint dropped = False, deposing = False, taking = False, inheriting = False
    cdef int at
    if actions.count == 0:
        schedule(runtime, instance)
        return
    for at in range(actions.count):
        action = &actions.items[at]
        item = &agenda.items[agenda.count + actions.count - 1 - at]
        item.instance = instance
        item.action = action[0]
        item.after_drop = dropped
        item.last = at == actions.count - 1
        dropped = dropped or action.kind == ACTION_DROP
        taking = taking or action.kind == ACTION_TAKE
        deposing = deposing or _deposes(action)
        inheriting = inheriting or _inherits(action)
    agenda.count += actions.count
    if deposing and taking:
        instance.timers.take_due = now + TAKE_AFTER_DEPOSING
    if taking:
        instance.ownership.inherits = instance.plan.virtual and inheriting


cdef void drain(runtime_t *runtime, int64_t now) noexcept nogil:
    """Do what is on the agenda, until it is empty."""
    cdef agenda_t *agenda = &runtime.agenda
    cdef item_t item
    while True:
        if agenda.count > agenda.floor:
            agenda.count -= 1
            item = agenda.items[agenda.count]
            _do(runtime, &item, now)
            if item.last:
                schedule(runtime, item.instance)
        elif agenda.demotion_count:
            _demote_next(runtime, now)
        else:
            return


cdef void demote_others(runtime_t *runtime, int64_t by, instance_t *cause) noexcept nogil:
    """Put on the agenda: demote all instances but the one that has counted it for itself."""
    cdef agenda_t *agenda = &runtime.agenda
    cdef demotion_t *demotion
    cdef int at
    if by == 0:
        return
    if agenda.demotion_count == 0:
        agenda.floor = agenda.count
    for at in range(1, agenda.demotion_count):
        demotion = &agenda.demotions[(agenda.demotion_first + at) % agenda.demotion_room]
        if demotion.cause == cause:
            demotion.by += by
            return
    # There is room: at most one is under way, and one waits for each instance.
    demotion = &agenda.demotions[(agenda.demotion_first + agenda.demotion_count) % agenda.demotion_room]
    demotion.by, demotion.cause, demotion.next = by, cause, 0
    agenda.demotion_count += 1


cdef void _demote_next(runtime_t *runtime, int64_t now) noexcept nogil:
    """Demote one instance more, or end this demotion."""
    cdef agenda_t *agenda = &runtime.agenda
    cdef demotion_t *demotion = &agenda.demotions[agenda.demotion_first]
    cdef instance_t *instance
    cdef actions_t actions
    if demotion.next == 0:
        runtime.demotion = max(0, runtime.demotion + demotion.by)
    while demotion.next < runtime.instance_count:
        instance = runtime.instances[demotion.next]
        demotion.next += 1
        if instance != demotion.cause and not instance.frozen:
            machine_demote(&instance.machine, <int32_t> demotion.by, now, &actions)
            put(runtime, instance, &actions, now)
            return
    agenda.demotion_first = (agenda.demotion_first + 1) % agenda.demotion_room
    agenda.demotion_count -= 1
    if agenda.demotion_count == 0:
        agenda.floor = 0
        if runtime.demotions_due == 0:
            runtime.demotions_due = now + DEMOTION_REPORTED_AFTER


cdef void _do(runtime_t *runtime, const item_t *item, int64_t now) noexcept nogil:
    cdef const action_t *action = &item.action
    cdef instance_t *instance = item.instance
    cdef record_t record
    cdef timespec pause
    if action.kind == ACTION_SEND_ADVERT:
        if item.after_drop:
            pause = duration(BOWOUT_AFTER_DROP)
            nanosleep(&pause, NULL)
        _advertise(runtime, instance, action, now)
    elif (action.kind == ACTION_ANNOUNCE or action.kind == ACTION_TAKE) and instance.timers.take_due != MACHINE_NEVER:
        pass
    elif action.kind == ACTION_ANNOUNCE and instance.ownership.inherits:
        pass
    elif action.kind == ACTION_ANNOUNCE:
        announce(instance)
    elif action.kind == ACTION_TAKE:
        take(runtime, instance, now, False)
    elif action.kind == ACTION_DROP:
        drop(runtime, instance, now)
    elif action.kind == ACTION_TRANSITION:
        _transition(runtime, instance, action)
    elif action.kind == ACTION_SUPPRESS:
        if not instance.plan.led:
            demote_others(runtime, action.by, instance)
    elif action.kind == ACTION_FAMILY_SILENT:
        report_value(runtime, instance, b"FamilySilent family", action.family, now)
    elif action.kind == ACTION_SIBLING_FOUND:
        record = new_record(instance, sibling_event, now)
        record.peer = action.peer
        record.value, record.detail = action.vhid, action.standing
        report(runtime, &record)


cdef void _advertise(
    runtime_t *runtime, instance_t *instance, const action_t *advert, int64_t now
) noexcept nogil:
    cdef actions_t actions
    cdef bint sent = send_advert(runtime, instance, advert.advbase, advert.advskew, advert.pace, now)
    # One that bows out as MASTER goes on until another has the addresses.
    if instance.machine.state == STATE_MASTER:
        beat(runtime, instance, now, advert.between)
    if advert.between:
        return
    follow_pace(runtime, instance, now)
    if instance.machine.state != STATE_INIT:
        machine_sent(&instance.machine, sent, now, &actions)
        put(runtime, instance, &actions, now)


cdef void _transition(runtime_t *runtime, instance_t *instance, const action_t *action) noexcept nogil:
    cdef record_t record = new_record(instance, state_event, action.at)
    cdef uint8_t before = action.before
    instance.input.state = action.after
    instance.reported.rivals.count = 0
    instance.suspicion.rival_heard = 0
    if action.after == STATE_MASTER:
        instance.ownership.advertised = boottime()
    if instance.machine.config.pace and instance.carpdev != NULL:
        share_pace(runtime, instance.carpdev, action.at)
    if instance.plan.led:
        # It is MASTER or INIT, and BACKUP only on its way.
        if action.after == STATE_BACKUP:
            return
        before = STATE_INIT if action.after == STATE_MASTER else STATE_MASTER
    record.value, record.detail = before | action.after << 8, action.reason
    record.peer = action.peer
    report(runtime, &record)
    instance.reported.since, instance.reported.why = action.at, 1 + action.reason
    instance.reported.cause = action.peer


cdef inline bint _inherits(const action_t *action) noexcept nogil:
    """Whether it makes us MASTER in the place of one that made way."""
    return action.kind == ACTION_TRANSITION and action.after == STATE_MASTER and action.reason == REASON_BOWOUT


cdef inline bint _deposes(const action_t *action) noexcept nogil:
    """Whether it makes us MASTER in the place of one that lives."""
    return (
        action.kind == ACTION_TRANSITION
        and action.after == STATE_MASTER
        and action.reason in (REASON_PREEMPT, REASON_TOO_SLOW, REASON_DEMOTED)
    )


cdef object state_event(const record_t *record, dict who, object host):
    return events.StateChanged(
        **who,
        before=_STATES[record.value & 255],
        after=_STATES[record.value >> 8],
        reason=_REASONS[record.detail],
        peer=peer_of(record),
    )


cdef object sibling_event(const record_t *record, dict who, object host):
    cdef object peer = peer_of(record), standing = STANDINGS[record.detail]
    advice = events.sibling_advice(standing, record.value, peer)
    return events.SiblingHeard(**who, sibling=record.value, peer=peer, standing=standing, advice=advice)
