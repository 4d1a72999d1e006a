# From process to process: an instance is frozen here, goes on in another process's runtime, and is handed on.
#
# Thread: runtime, no GIL; what needs the GIL: any caller, while the instance is frozen or not started yet.

cdef void freeze(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """`value`: the margin in ns; then whether the instance is frozen now. None is where it is due too soon, or where
    an order or a hand-over to another host is under way."""
    cdef const ownership_t *ownership = &instance.ownership
    cdef const timers_t *timers = &instance.timers
    cdef int64_t margin = min(command.value, machine_interval(&instance.machine) // 3)
    pause_pace(runtime, instance, now)
    command.value = (
        instance.wanted and instance.carpdev != NULL and ownership.unanswered == 0 and ownership.unsent == 0
        and not machine_leaving(&instance.machine) and not ownership.inherits
        and timers.take_due == MACHINE_NEVER and timers.retry_due == MACHINE_NEVER
        and (timers.heap_at < 0 or timers.due - now >= margin)
    )
    if not command.value:
        go_on_with_pace(runtime, instance, now)
        return
    instance.frozen = True
    instance.carpdev.instances[instance.vhid] = NULL
    input_remove_instance(&instance.carpdev.input, instance.vhid)
    unschedule(runtime, instance)


cdef void thaw(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """Go on here after all."""
    go_on_with_pace(runtime, instance, now)
    instance.frozen = False
    instance.transmit.ready_count = 0
    _join(instance)
    if instance.released:
        stalled(runtime, instance, True)
    look_at_silence(runtime, instance)
    instance.released = False
    schedule(runtime, instance)


cdef void inherit(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """Go on as `new_instance` says. `value`: until when; then whether it was in time, and otherwise nothing is done."""
    cdef const instance_t *left = command.new_instance
    cdef void *context = instance.machine.context
    cdef uint64_t seed = instance.machine.seed
    cdef int64_t until = command.value
    command.value = instance.carpdev != NULL and now < until
    if not command.value:
        return
    instance.machine = left.machine
    instance.machine.config, instance.machine.draw = instance.plan.config, NULL
    instance.machine.context, instance.machine.seed, instance.machine.aside = context, seed, runtime.aside
    runtime.demotion = instance.machine.demotion
    instance.wanted = True
    runtime.ahead = max(runtime.ahead, left.transmit.ahead)
    instance.ownership, instance.suspicion = left.ownership, left.suspicion
    instance.reported, instance.sources = left.reported, left.sources
    instance.reported.demotion = instance.machine.demotion
    instance.timers.announce_due = left.timers.announce_due
    instance.transmit.failing, instance.transmit.ready_count = left.transmit.failing, 0
    ring_count_losses(&instance.carpdev.ring)
    instance.suspicion.losses = instance.carpdev.ring.losses
    _join(instance)
    go_on_with_pace(runtime, instance, now)
    if instance.ownership.owned:
        # They are here already: no event follows.
        order(runtime, instance, ORDER_TAKE, now, True)
    schedule(runtime, instance)


cdef dict _left(const runtime_t *runtime, const instance_t *instance, object authenticator):
    """What a frozen instance leaves, as plain values."""
    cdef const ownership_t *ownership = &instance.ownership
    cdef const suspicion_t *suspicion = &instance.suspicion
    cdef const reported_t *reported = &instance.reported
    cdef const peer_t *cause = &reported.cause
    cdef int64_t announce_due = instance.timers.announce_due
    return {
        "machine": machine_values(&instance.machine),
        "auth": authenticator.bequest(),
        "clock": runtime.ahead,
        "owned": bool(ownership.owned),
        "lease": ownership.lease,
        "outlived": bool(ownership.outlived),
        "least_advbase": ownership.least_advbase,
        "advertised": ownership.advertised,
        "announcements": ownership.announcements,
        "announced": ownership.announced,
        "announce_due": None if announce_due == MACHINE_NEVER else announce_due,
        "failing": bool(instance.transmit.failing),
        "heard": suspicion.heard,
        "refused_until": suspicion.refused_until,
        "rival_since": suspicion.rival_since,
        "rival_heard": suspicion.rival_heard,
        "deaf": bool(reported.deaf),
        "unleased": bool(reported.unleased),
        "since": reported.since,
        "why": str(_REASONS[reported.why - 1]) if reported.why else None,
        "cause": None if cause.family == PEER_NOBODY else address_text(cause.address, cause.family),
        "sources": [_of_source(&instance.sources.items[at]) for at in range(instance.sources.count)],
    }


cdef list _of_source(const source_t *source):
    return [
        address_text(source.address, source.family), source.vhid, source.heard, source.count, source.advbase,
        source.advskew, [name for number, name in enumerate(_DIALECTS) if source.dialects >> number & 1],
        (<bytes> source.mac[:MAC_LENGTH]).hex(),
    ]


cdef int _fill_left(instance_t *place, dict values) except -1:
    """The parts of an instance that `inherit` takes."""
    cdef ownership_t *ownership = &place.ownership
    cdef suspicion_t *suspicion = &place.suspicion
    cdef reported_t *reported = &place.reported
    machine_set_values(&place.machine, values["machine"])
    ownership.owned, ownership.lease, ownership.outlived = values["owned"], values["lease"], values["outlived"]
    ownership.least_advbase, ownership.advertised = values["least_advbase"], values["advertised"]
    ownership.announcements, ownership.announced = values["announcements"], values["announced"]
    place.timers.announce_due = MACHINE_NEVER if values["announce_due"] is None else values["announce_due"]
    place.transmit.failing, place.transmit.ahead = values["failing"], values.get("clock", 0)
    suspicion.heard, suspicion.refused_until = values["heard"], values["refused_until"]
    suspicion.rival_since, suspicion.rival_heard = values["rival_since"], values["rival_heard"]
    reported.deaf, reported.unleased, reported.since = values["deaf"], values["unleased"], values["since"]
    reported.why = 0 if values["why"] is None else 1 + _REASONS.index(Reason(values["why"]))
    if values["cause"] is not None:
        reported.cause.family = _fill_address(reported.cause.address, values["cause"])
    for source in values["sources"][:KNOWN_PEERS]:
        _fill_source(&place.sources.items[place.sources.count], source)
        place.sources.count += 1
        reported.peers += len(source[6])
    return 0


cdef int _fill_source(source_t *place, list source) except -1:
    address, vhid, heard, count, advbase, advskew, dialects, mac = source
    cdef bytes octets = bytes.fromhex(mac)
    place.family = _fill_address(place.address, address)
    place.vhid, place.heard, place.count, place.advbase, place.advskew = vhid, heard, count, advbase, advskew
    for name in dialects:
        place.dialects |= <uint8_t> (1 << _DIALECTS.index(name))
    if len(octets) == MAC_LENGTH:
        memcpy(place.mac, PyBytes_AS_STRING(octets), MAC_LENGTH)
    return 0


cdef uint8_t _fill_address(uint8_t *place, object text) except 0:
    """Returns the family."""
    cdef bytes octets = ip_address(text).packed
    memcpy(place, PyBytes_AS_STRING(octets), len(octets))
    return 4 if len(octets) == 4 else 6
