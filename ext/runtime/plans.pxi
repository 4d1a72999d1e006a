# Copies of plans and addresses, for the thread to work on without the GIL, and an instance's memory.
#
# Thread: any caller, under the GIL.

cdef void _free_plan(plan_t *plan) noexcept:
    free(plan.announce_frames)
    free(plan.destinations)
    free(plan.addresses.items)
    input_free_hearing(&plan.hearing)
    memset(plan, 0, sizeof(plan_t))


cdef int _fill_plan(plan_t *place, object plan) except -1:
    """A plan's bytes in memory of their own. What `plan.authenticator` points to is not copied: it learns."""
    cdef bytes mac = plan.mac, octets
    cdef AdvertTemplate template
    cdef object host = plan.host
    cdef frame_t *frame
    memset(place, 0, sizeof(plan_t))
    try:
        for _family, template in plan.templates:
            place.templates[place.template_count] = template.template
            place.template_count += 1
        _fill_destinations(place, plan)
        place.announce_frames = <frame_t *> calloc(len(plan.announce_frames) + 1, sizeof(frame_t))
        if place.announce_frames == NULL:
            raise MemoryError
        for octets in plan.announce_frames:
            frame = &place.announce_frames[place.announce_count]
            frame.length = <uint8_t> min(len(octets), ADVERT_FRAME_MAX)  # all are shorter
            memcpy(frame.octets, PyBytes_AS_STRING(octets), frame.length)
            place.announce_count += 1
        place.announce_repeats = <uint8_t> (host.announcements - 1)
        place.announce_every = <int64_t> host.announce * NS_PER_SECOND
        input_store_addresses(&place.addresses, plan.packed)
        memcpy(place.mac, PyBytes_AS_STRING(mac), 6)
        place.virtual, place.led = plan.virtual, host.led
        place.obeys_all, place.obeys_known = host.demotion == "obey", host.demotion == "auto"
        place.auth = (<Authenticator?> plan.authenticator).keep()
        place.config = machine_read_config(host)
    except BaseException:
        _free_plan(place)
        raise
    return 0


cdef int _fill_destinations(plan_t *place, object plan) except -1:
    cdef destination_t *destination
    cdef bytes header
    cdef int family
    input_store_hearing(&place.hearing, plan.hearing)
    for family in plan.aimed:
        place.aimed |= 1 << family
    place.destinations = <destination_t *> calloc(len(plan.destinations) + 1, sizeof(destination_t))
    if place.destinations == NULL:
        raise MemoryError
    for one in plan.destinations:
        destination = &place.destinations[place.destination_count]
        header = one.header
        destination.length = <uint8_t> min(len(header), 14 + 40)
        destination.family = one.address.version
        memcpy(destination.header, PyBytes_AS_STRING(header), destination.length)
        place.destination_count += 1
    return 0


cdef int _fill_carpdev(command_t *command, object mac, object addresses) except -1:
    cdef bytes octets = bytes(mac)
    input_store_carpdev(&command.addresses, &command.broadcasts, addresses)
    command.has_mac = len(octets) == 6
    if command.has_mac:
        memcpy(command.mac, PyBytes_AS_STRING(octets), 6)
    return 0


cdef void _free_carpdev(carpdev_t *carpdev) noexcept:
    input_forget_all(&carpdev.input)
    ring_close(&carpdev.ring)
    free(carpdev.input.addresses.items)
    free(carpdev.input.broadcasts.items)
    kept_free(carpdev)


cdef class _Instance:
    """An instance's memory, and the Python objects that it points into."""

    cdef instance_t *instance
    cdef object plan, device, lock
    cdef int carpdev

    def __cinit__(self, int index, int carpdev, plan, device, lock):
        cdef instance_t *instance = <instance_t *> kept_calloc(sizeof(instance_t))
        cdef uint64_t seed = 0
        self.instance = instance
        self.plan, self.carpdev, self.device, self.lock = plan, carpdev, device, lock
        if instance == NULL:
            raise MemoryError
        _fill_plan(&instance.plan, plan)
        instance.plan.gated = device.gate is not None
        instance.index, instance.vhid = index, plan.host.vhid
        instance.timers.heap_at = -1
        instance.timers.announce_due = instance.timers.take_due = instance.timers.retry_due = MACHINE_NEVER
        instance.timers.tenure_due = MACHINE_NEVER
        instance.ownership.lease = LEASE_FOREVER
        instance.ownership.least_advbase = plan.host.advbase
        getrandom(&seed, 8, 0)
        machine_init(&instance.machine, &instance.plan.config, NULL, NULL, seed)

    def __dealloc__(self):
        if self.instance != NULL:
            _free_plan(&self.instance.plan)
            kept_free(self.instance)
