# Paces: how many adverts one interface sends, and what is told of paces.
#
# Thread: runtime, no GIL.

cdef enum:
    PACE_CODES = 16
    SLOW_SENT = 1
    SLOW_SAID = 2
    SLOW_OBEYED = 3

cdef int64_t PACES[PACE_CODES]
for _code in range(PACE_CODES):
    PACES[_code] = _PACES[_code]
assert (_PACE_SENT, _PACE_SAID, _PACE_OBEYED) == (SLOW_SENT, SLOW_SAID, SLOW_OBEYED)


cdef int _frames(const instance_t *instance) noexcept nogil:
    """Of one advert."""
    cdef uint8_t dialects[AUTH_KEYS]
    return instance.plan.template_count * auth_dialects(instance.plan.auth, dialects)


cdef inline bint _paced_master(const instance_t *instance) noexcept nogil:
    return instance != NULL and instance.machine.config.pace and instance.machine.state == STATE_MASTER


cdef void share_pace(runtime_t *runtime, carpdev_t *carpdev, int64_t now) noexcept nogil:
    """All MASTERs of a carpdev that have a pace send PACE_ADVERTS_A_SECOND frames together, at most."""
    cdef instance_t *instance
    cdef int64_t sent, least = PACE_NEVER
    cdef int vhid, code
    for code in range(PACE_CODES - 1, -1, -1):
        sent = 0
        for vhid in range(256):
            instance = carpdev.instances[vhid]
            if _paced_master(instance):
                sent += _frames(instance) * NS_PER_SECOND // max(instance.machine.config.pace, PACES[code])
        if sent > PACE_ADVERTS_A_SECOND:
            break
        least = PACES[code]
    for vhid in range(256):
        instance = carpdev.instances[vhid]
        if not _paced_master(instance):
            continue
        instance.transmit.paced_frames = _frames(instance)
        if instance.transmit.least_pace != least:
            instance.transmit.least_pace = least
            machine_limit_pace(&instance.machine, least, now)
            schedule(runtime, instance)


cdef int64_t _least_pace(int64_t pacing) noexcept nogil:
    """What a MASTER of this pace may say."""
    cdef int code
    for code in range(PACE_CODES):
        if PACES[code] >= pacing:
            return PACES[code]
    return 0


cdef void follow_pace(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """An advert was sent or heard. Tell of a pace that is slower than it was to be, and when it is no longer."""
    cdef machine_t *machine = &instance.machine
    cdef reported_t *reported = &instance.reported
    cdef int64_t wanted, is_now
    cdef uint8_t what = 0
    if machine.state == STATE_MASTER and machine.config.pace:
        if instance.carpdev != NULL and instance.transmit.paced_frames != _frames(instance):
            share_pace(runtime, instance.carpdev, now)
        wanted = machine.config.pace
        if wanted >= machine.config.advbase * NS_PER_SECOND + machine.config.advskew * NS_PER_SKEW:
            return
        is_now, what = machine_pacing(machine), SLOW_SENT
        if is_now == wanted:
            what = SLOW_SAID
            if PACES[machine_said_pace(machine)] != _least_pace(wanted):
                is_now = PACES[machine_said_pace(machine)]
    elif machine.state == STATE_BACKUP and machine_heard_pace(machine):
        wanted, is_now, what = machine_usual_silence(machine), machine_silence(machine), SLOW_OBEYED
        # A little is no news, nor is a little more.
        if 4 * is_now <= 5 * wanted:
            is_now = wanted
        elif what == reported.slow and is_now < 2 * reported.slow_pace:
            return
    else:
        return
    if is_now == wanted:
        # What it obeyed as BACKUP it obeys again when it is that again.
        if reported.slow and (reported.slow == SLOW_OBEYED) == (what == SLOW_OBEYED):
            reported.slow = 0
            _tell_pace(runtime, instance, True, what, is_now, wanted, now)
    elif what != reported.slow or is_now != reported.slow_pace:
        reported.slow, reported.slow_pace = what, is_now
        _tell_pace(runtime, instance, False, what, is_now, wanted, now)


cdef void _tell_pace(
    runtime_t *runtime, const instance_t *instance, bint kept, uint8_t what, int64_t is_now, int64_t wanted,
    int64_t now,
) noexcept nogil:
    cdef record_t record = new_record(instance, slowed_event, now)
    if kept:
        record.make = kept_event
    record.detail = what
    record.value = min(is_now // 1000, <int64_t> 0x7FFFFFFF) << 31 | min(wanted // 1000, <int64_t> 0x7FFFFFFF)
    report(runtime, &record)


cdef void pause_pace(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """Another process is to go on: no pace is said or obeyed meanwhile."""
    cdef machine_t *machine = &instance.machine
    if machine.state == STATE_MASTER and machine_pacing(machine):
        send_advert(
            runtime, instance, machine.config.advbase, machine_advskew(machine), <uint8_t> NO_PACE, now
        )
        machine_pause_pace(machine, now)
        beat(runtime, instance, now, False)  # the guardian is to expect the next one as late
    else:
        machine_pause_pace(machine, now)
    schedule(runtime, instance)


cdef void go_on_with_pace(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """It goes on here."""
    instance.transmit.least_pace = 0
    instance.transmit.paced_frames = 0
    machine_limit_pace(&instance.machine, 0, now)
    schedule(runtime, instance)


cdef object slowed_event(const record_t *record, dict who, object host):
    is_now, wanted = (record.value >> 31) * 1000, (record.value & 0x7FFFFFFF) * 1000
    return events.PaceChanged(**who, what=pace_slowed(record.detail, is_now, wanted))


cdef object kept_event(const record_t *record, dict who, object host):
    return events.PaceChanged(**who, what=pace_kept(record.detail, (record.value & 0x7FFFFFFF) * 1000))
