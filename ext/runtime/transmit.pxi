# Adverts and announcements on their way out.
#
# Thread: runtime, no GIL.

cdef void prepare(
    instance_t *instance, uint8_t advbase, uint8_t advskew, uint8_t pace, uint16_t serial
) noexcept nogil:
    """Have the next advert ready: signed ahead, so that at the deadline there is nothing to do but to send.

    One that is ready may have the serial before: its second ended between the deadline and now.
    """
    cdef transmit_t *transmit = &instance.transmit
    cdef const plan_t *plan = &instance.plan
    cdef uint8_t dialects[AUTH_KEYS]
    cdef uint8_t counter[COUNTER_LENGTH]
    cdef uint8_t digest[DIGEST_LENGTH]
    cdef uint8_t demotion = machine_sent_demotion(&instance.machine)
    cdef int said = demotion if instance.machine.config.says_demotion else -1
    cdef uint8_t nonce = 0
    cdef uint32_t mask = 0
    cdef int at, family, count = auth_dialects(plan.auth, dialects)
    cdef frame_t *frame
    for at in range(count):
        mask |= 1 << dialects[at]
    if (
        transmit.ready_count and transmit.ready_advbase == advbase and transmit.ready_advskew == advskew
        and transmit.ready_dialects == mask and transmit.ready_demotion == demotion and transmit.ready_pace == pace
        and <uint16_t> (serial - transmit.ready_serial) <= 1
    ):
        return
    transmit.ready_count = 0
    getrandom(&nonce, 1, 0)
    for at in range(count):
        auth_counter(plan.auth, dialects[at], advbase, advskew, said, nonce, serial, pace, counter)
        auth_sign(plan.auth, dialects[at], counter, digest)
        for family in range(plan.template_count):
            frame = &transmit.ready[transmit.ready_count]
            frame.length = <uint8_t> template_frame(
                &plan.templates[family], advbase, advskew, demotion, counter, digest, frame.octets
            )
            frame.family = plan.templates[family].family
            transmit.ready_count += 1
    transmit.ready_advbase, transmit.ready_advskew, transmit.ready_dialects = advbase, advskew, mask
    transmit.ready_demotion, transmit.ready_pace, transmit.ready_serial = demotion, pace, serial


cdef bint send_advert(
    runtime_t *runtime, instance_t *instance, uint8_t advbase, uint8_t advskew, uint8_t pace, int64_t now
) noexcept nogil:
    """Send an advert in every family and dialect; False if any frame could not be sent."""
    cdef transmit_t *transmit = &instance.transmit
    cdef record_t record
    cdef int at, to, error, failure = 0
    read_clock(runtime)
    if advbase == BOWOUT and advskew == BOWOUT:
        prepare(instance, advbase, advskew, pace, serial_at(runtime, monotonic()))
        transmit.left = <uint32_t> transmit.ready_serial + 1
    else:
        prepare(instance, advbase, advskew, pace, next_serial(runtime, transmit, monotonic()))
    for at in range(transmit.ready_count):
        if not instance.plan.aimed >> transmit.ready[at].family & 1:
            error = _send_ready(instance, &transmit.ready[at])
            failure = failure or error
            continue
        for to in range(instance.plan.destination_count):
            if _aim(&instance.plan.destinations[to], &transmit.ready[at]):
                error = _send_ready(instance, &transmit.ready[at])
                failure = failure or error
    transmit.ready_count = 0
    if failure and not transmit.failing:
        record = new_record(instance, not_sent_event, now)
        record.value = failure
        report(runtime, &record)
    transmit.failing = failure != 0
    transmit.speaks = instance.machine.state == STATE_MASTER
    return failure == 0


cdef int _send_ready(instance_t *instance, frame_t *frame) noexcept nogil:
    cdef int error
    if instance.ownership.inherits and instance.carpdev != NULL and instance.carpdev.input.has_mac:
        # Switches are to learn where the virtual MAC is when the addresses are here.
        memcpy(frame.octets + MAC_LENGTH, instance.carpdev.input.mac, MAC_LENGTH)
    error = send_frame(instance, frame)
    if error == 0:
        input_sent(&instance.carpdev.input, instance.vhid, frame.family)
    return error


cdef inline bint _aim(const destination_t *destination, frame_t *frame) noexcept nogil:
    """Send the frame to this address next, if it is of that family."""
    if destination.family != frame.family:
        return False
    memcpy(frame.octets, destination.header, destination.length)
    return True


cdef bint _aim_at(const instance_t *instance, const source_t *source, frame_t *frame) noexcept nogil:
    """Send the frame to the group next, or, where adverts go to peers, to this one; False if it is none of them."""
    cdef const destination_t *destination
    cdef const uint8_t *address
    cdef int to
    if not instance.plan.aimed >> frame.family & 1:
        return True
    for to in range(instance.plan.destination_count):
        destination = &instance.plan.destinations[to]
        address = destination.header + (30 if destination.family == 4 else 38)
        # A group's address has its first bits set; no peer has such a one.
        if destination.family == frame.family and (
            address[0] >= (0xE0 if destination.family == 4 else 0xFF)
            or (source != NULL and source.family == frame.family
                and memcmp(address, source.address, 4 if frame.family == 4 else 16) == 0)
        ):
            return _aim(destination, frame)
    return False


cdef void make_way(runtime_t *runtime, instance_t *instance, const uint8_t *rival) noexcept nogil:
    """Tell the MASTER at this MAC, and nobody else, that we have yielded to it: it announces once more.

    A bow-out to the group would make other backups take over. It comes from the carpdev's own MAC: switches are not to
    learn the virtual MAC here again. A peer hears what is sent to its address.
    """
    cdef transmit_t *transmit = &instance.transmit
    cdef frame_t *frame
    cdef int at
    if not _somebodys(rival) or rival[0] & 1 or instance.carpdev == NULL or not instance.carpdev.input.has_mac:
        return
    read_clock(runtime)
    prepare(instance, BOWOUT, BOWOUT, <uint8_t> NO_PACE, serial_at(runtime, monotonic()))
    for at in range(transmit.ready_count):
        frame = &transmit.ready[at]
        if not _aim_at(instance, heard_last(&instance.sources, rival), frame):
            continue
        memcpy(frame.octets, rival, MAC_LENGTH)
        memcpy(frame.octets + MAC_LENGTH, instance.carpdev.input.mac, MAC_LENGTH)
        if send_frame(instance, frame) == 0:
            input_sent(&instance.carpdev.input, instance.vhid, frame.family)
    transmit.ready_count = 0


cdef void leave_to(runtime_t *runtime, instance_t *instance, const uint8_t *heir) noexcept nogil:
    """Make way for the one that we have handed over to, once nothing of ours answers any more."""
    cdef const uint8_t *own = instance.ownership.heir
    cdef timespec pause = duration(BOWOUT_AFTER_DROP)
    nanosleep(&pause, NULL)
    make_way(runtime, instance, own if _somebodys(own) else heir)


cdef inline bint _somebodys(const uint8_t *mac) noexcept nogil:
    return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) != 0


cdef void announce(instance_t *instance) noexcept nogil:
    """Gratuitous ARP and unsolicited neighbour advertisements: where the addresses are."""
    cdef int at
    instance.ownership.announced = monotonic()
    for at in range(instance.plan.announce_count):
        send_frame(instance, &instance.plan.announce_frames[at])


cdef inline int send_frame(const instance_t *instance, const frame_t *frame) noexcept nogil:
    """Send one frame on the instance's carpdev. 0, or an errno."""
    if instance.carpdev == NULL:
        return ENODEV
    return errno if send(instance.carpdev.send_fd, frame.octets, frame.length, MSG_DONTWAIT) < 0 else 0


cdef object not_sent_event(const record_t *record, dict who, object host):
    return events.Failed(**who, what=events.not_sent(record.value))
