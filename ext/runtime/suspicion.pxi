# Reasons not to act: pauses, lost frames, rivals, a program that is not heard from.
#
# Thread: runtime, no GIL.

cdef enum:
    MOST_DELAYS = 2  # intervals that a takeover waits because frames were lost

cdef tuple _RULES = ("worse", "tie", "better")


cdef void look_for_pause(runtime_t *runtime) noexcept nogil:
    """Were we stopped, or was the machine asleep? Then others may have taken over meanwhile."""
    cdef int64_t now = monotonic()
    cdef int64_t suspended = boottime() - now
    cdef int at
    if now - PAUSE_NOTICED <= next_due(runtime) and suspended - runtime.suspended <= PAUSE_NOTICED:
        return
    runtime.suspended = suspended
    collect(runtime)
    if runtime.guardian.asked:
        runtime.guardian.asked = now  # it may have been stopped with us
    for at in range(runtime.instance_count):
        look_at_silence(runtime, runtime.instances[at])


cdef void look_at_silence(runtime_t *runtime, instance_t *instance) noexcept nogil:
    """Has a MASTER been silent for so long that others may have taken over?"""
    cdef int64_t limit = min(takeover_after(instance), lease_ends_after(instance))
    if instance.plan.led:
        if instance.machine.state == STATE_MASTER:
            follow(runtime, instance, monotonic())
        return
    if instance.machine.state == STATE_MASTER and boottime() - instance.ownership.advertised > limit:
        stalled(runtime, instance, False)


cdef void stalled(runtime_t *runtime, instance_t *instance, bint released) noexcept nogil:
    """A MASTER did not run for so long that it stands by. `released`: the guardian has let go of its addresses."""
    cdef int64_t now = monotonic()
    cdef actions_t actions
    cdef record_t record
    if instance.frozen or instance.machine.state != STATE_MASTER or (released and not instance.ownership.owned):
        return
    if instance.plan.led:
        lapse(runtime, instance, now)
        return
    record = new_record(instance, stalled_event, now)
    record.value, record.detail = boottime() - instance.ownership.advertised, released
    report(runtime, &record)
    machine_retire(&instance.machine, REASON_STALLED, False, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef bint must_wait(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """Whether silence is no reason to take over: by order, or because frames were lost since the last valid advert."""
    cdef suspicion_t *suspicion = &instance.suspicion
    cdef uint64_t losses
    if not machine_overdue(&instance.machine, now):
        return False
    if now < suspicion.refused_until or runtime.watchdog.expired:
        return True
    if instance.carpdev == NULL or suspicion.delays >= MOST_DELAYS:
        return False
    ring_count_losses(&instance.carpdev.ring)
    losses = instance.carpdev.ring.losses - suspicion.losses
    if losses == 0:
        return False
    suspicion.delays += 1
    report_value(runtime, instance, b"TakeoverDelayed losses", <int64_t> losses, now)
    return True


cdef inline bint makes_way_in_vain(
    const runtime_t *runtime, const instance_t *instance, const verdict_t *verdict
) noexcept nogil:
    """Whether a host makes way for us while our program is not heard from: no address is taken for it."""
    return (
        runtime.watchdog.expired and instance.machine.state == STATE_BACKUP
        and NS_PER_SECOND * verdict.advert.advbase + NS_PER_SKEW * verdict.advert.advskew
        > machine_interval(&instance.machine)
    )


cdef void note_rival(
    runtime_t *runtime, instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    """Another MASTER was heard by a MASTER."""
    cdef int64_t own = machine_interval(&instance.machine)
    cdef int64_t other = NS_PER_SECOND * verdict.advert.advbase + NS_PER_SKEW * verdict.advert.advskew
    cdef uint8_t rule = 2 if other < own else 1 if other == own else 0
    cdef record_t record
    if verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT:
        return
    if not known(&instance.reported.rivals, peer, instance.vhid, rule):
        record = new_record(instance, rival_event, now)
        record.peer = peer[0]
        record.detail = rule
        report(runtime, &record)
    if rule == 0:
        _look_at_deaf(runtime, instance, max(own, other), peer, now)


cdef void _look_at_deaf(
    runtime_t *runtime, instance_t *instance, int64_t slower, const peer_t *peer, int64_t now
) noexcept nogil:
    """Should that rival have yielded by now? `slower` is the longer interval of the two."""
    cdef suspicion_t *suspicion = &instance.suspicion
    cdef record_t record
    if now - suspicion.rival_heard > 2 * slower:
        suspicion.rival_since, instance.reported.deaf = now, False
    suspicion.rival_heard = now
    if instance.reported.deaf or now - suspicion.rival_since < max(11 * slower // 4, DEAF_AT_LEAST):
        return
    instance.reported.deaf = True
    record = new_record(instance, deaf_event, now)
    record.peer = peer[0]
    report(runtime, &record)


cdef void look_at_watchdog(runtime_t *runtime) noexcept nogil:
    """Is the program that embeds us still there? If not, another host shall serve in its place."""
    cdef watchdog_t *watchdog = &runtime.watchdog
    cdef actions_t actions
    cdef int64_t now, silence
    cdef int at
    if not watchdog.limit and not watchdog.expired:
        return
    now = monotonic()
    silence = now - <int64_t> atomic_load64(&watchdog.fed)
    if (watchdog.limit > 0 and silence >= watchdog.limit) == (watchdog.expired != 0):
        return
    atomic_store32(&watchdog.expired, 1 - watchdog.expired)
    if not watchdog.expired:
        report_value(runtime, NULL, b"WatchdogFed", 0, now)
    else:
        report_value(runtime, NULL, b"WatchdogExpired silence", silence, now)
        for at in range(runtime.instance_count):
            if not runtime.instances[at].frozen:
                machine_retire(&runtime.instances[at].machine, REASON_WATCHDOG, True, now, &actions)
                carry_out(runtime, runtime.instances[at], &actions, now)
    demote_others(runtime, 1 if watchdog.expired else -1, NULL)
    drain(runtime, now)


cdef object stalled_event(const record_t *record, dict who, object host):
    return events.Stalled(**who, pause=record.value, released=bool(record.detail))


cdef object rival_event(const record_t *record, dict who, object host):
    return events.RivalHeard(**who, peer=peer_of(record), rule=_RULES[record.detail])


cdef object deaf_event(const record_t *record, dict who, object host):
    peer = peer_of(record)
    mac = virtual_mac(host.vhid).hex(":") if host.mac == "virtual" else ""
    return events.RivalDeaf(**who, peer=peer, advice=events.deaf_advice(mac, peer))
