# What Python asks of the loop, by the methods of `Runtime`: one function for each.
#
# Thread: runtime, no GIL. `handle` posts them; the loop runs them between two frames.

cdef void run_commands(runtime_t *runtime) noexcept nogil:
    """Carry out what Python asks, in the order in which it came."""
    cdef command_t *command = <command_t *> atomic_take_all(&runtime.commands)
    cdef command_t *first = NULL
    cdef command_t *next_
    cdef instance_t *instance
    while command != NULL:
        next_ = <command_t *> command.next
        command.next = first
        first = command
        command = next_
    while first != NULL:
        command = first
        first = <command_t *> command.next
        command.found = True
        if command.run != NULL:
            command.run(runtime, command, monotonic())
        else:
            instance = find_instance(runtime, command.index)
            command.found = instance != NULL
            command.frozen = instance != NULL and instance.frozen and not _while_frozen(command.on)
            if instance != NULL and not command.frozen:
                command.on(runtime, instance, command, monotonic())
        # From here on the command is its caller's again.
        sem_post(&command.done)


cdef bint _while_frozen(command_on_t on) noexcept nogil:
    return on == thaw or on == remove_instance or on == stats or on == look


cdef instance_t *find_instance(runtime_t *runtime, int index) noexcept nogil:
    cdef int at
    for at in range(runtime.instance_count):
        if runtime.instances[at].index == index:
            return runtime.instances[at]
    return NULL


cdef carpdev_t *_find_carpdev(runtime_t *runtime, int number) noexcept nogil:
    cdef int at
    for at in range(runtime.carpdev_count):
        if runtime.carpdevs[at].number == number:
            return runtime.carpdevs[at]
    return NULL


# Carpdevs

cdef void add_carpdev(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef void *grown = kept_realloc(runtime.carpdevs, (runtime.carpdev_count + 1) * sizeof(carpdev_t *))
    command.found = grown != NULL
    if grown == NULL:
        return
    runtime.carpdevs = <carpdev_t **> grown
    runtime.carpdevs[runtime.carpdev_count] = command.new_carpdev
    runtime.carpdev_count += 1
    _set_addresses(command.new_carpdev, command)


cdef void update_carpdev(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef carpdev_t *carpdev = _find_carpdev(runtime, command.carpdev)
    command.found = carpdev != NULL
    if carpdev != NULL:
        _set_addresses(carpdev, command)


cdef void _set_addresses(carpdev_t *carpdev, command_t *command) noexcept nogil:
    """The caller frees what it gets back."""
    cdef addresses_t former = carpdev.input.addresses
    carpdev.input.addresses = command.addresses
    command.addresses = former
    former = carpdev.input.broadcasts
    carpdev.input.broadcasts = command.broadcasts
    command.broadcasts = former
    memcpy(carpdev.input.mac, command.mac, 6)
    carpdev.input.has_mac = command.has_mac


cdef void remove_carpdev(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef carpdev_t *carpdev = _find_carpdev(runtime, command.carpdev)
    cdef int at
    command.found = carpdev != NULL
    command.new_carpdev = carpdev  # the caller frees it
    if carpdev == NULL:
        return
    for at in range(runtime.instance_count):
        if runtime.instances[at].carpdev == carpdev:
            _leave(runtime.instances[at])
    for at in range(runtime.carpdev_count):
        if runtime.carpdevs[at] == carpdev:
            runtime.carpdev_count -= 1
            runtime.carpdevs[at] = runtime.carpdevs[runtime.carpdev_count]
            return


# Instances

cdef bint _make_room(runtime_t *runtime) noexcept nogil:
    """For one more instance: in the list, in the heap, and on the agenda."""
    cdef size_t room = runtime.instance_count + 2
    cdef void *grown = kept_realloc(runtime.instances, room * sizeof(instance_t *))
    if grown == NULL:
        return False
    runtime.instances = <instance_t **> grown
    grown = kept_realloc(runtime.heap, room * sizeof(instance_t *))
    if grown == NULL:
        return False
    runtime.heap = <instance_t **> grown
    grown = kept_realloc(runtime.agenda.demotions, room * sizeof(demotion_t))
    if grown == NULL:
        return False
    runtime.agenda.demotions = <demotion_t *> grown
    runtime.agenda.demotion_room = <int> room
    runtime.agenda.demotion_first = 0  # none is under way while a command runs
    return True


cdef void add_instance(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef instance_t *instance = command.new_instance
    cdef actions_t actions
    command.found = _make_room(runtime)
    if not command.found:
        return
    runtime.instances[runtime.instance_count] = instance
    runtime.instance_count += 1
    if runtime.demotion:
        machine_demote(&instance.machine, <int32_t> runtime.demotion, now, &actions)
    instance.machine.aside = runtime.aside
    instance.reported.demotion = instance.machine.demotion
    instance.reported.since = now
    instance.carpdev = _find_carpdev(runtime, command.carpdev)
    _join(instance)


cdef void move_instance(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    _leave(instance)
    _swap_plan(instance, command)
    memset(instance.input.counters, 0, sizeof(instance.input.counters))
    instance.carpdev = _find_carpdev(runtime, command.carpdev)
    _join(instance)


cdef void remove_instance(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef int at
    _leave(instance)
    unschedule(runtime, instance)
    for at in range(runtime.instance_count):
        if runtime.instances[at] == instance:
            runtime.instance_count -= 1
            runtime.instances[at] = runtime.instances[runtime.instance_count]
            return


cdef void replan(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """`value`: the configuration has changed."""
    cdef actions_t actions
    _swap_plan(instance, command)
    _join(instance)
    if command.value:
        retry_now(runtime, instance, now)
        machine_reconfigure(&instance.machine, &instance.plan.config, now, &actions)
        carry_out(runtime, instance, &actions, now)
        if instance.carpdev != NULL:
            share_pace(runtime, instance.carpdev, now)


cdef void start_instance(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """`value`: the state that its configuration forces, or -1."""
    instance.timers.retry_due = MACHINE_NEVER
    instance.wanted = True
    begin(runtime, instance, now)
    if command.value >= 0:
        force(runtime, instance, command, now)


cdef void stop_instance(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef actions_t actions
    instance.timers.retry_due = MACHINE_NEVER
    instance.wanted = False
    instance.tenure, instance.timers.tenure_due = 0, MACHINE_NEVER
    machine_stop(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef void stop_all(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef int at
    for at in range(runtime.instance_count):
        if not runtime.instances[at].frozen:
            stop_instance(runtime, runtime.instances[at], command, now)


cdef void link(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef actions_t actions
    machine_link(&instance.machine, command.value != 0, now, &actions)
    carry_out(runtime, instance, &actions, now)
    follow(runtime, instance, now)


cdef void force(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef actions_t actions
    machine_force(&instance.machine, <uint8_t> command.value, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef void give_way(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef actions_t actions
    if not machine_leaving(&instance.machine):  # else one may be taking them already
        memset(instance.ownership.heir, 0, MAC_LENGTH)
    machine_leave(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef void retake(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """`value`: no event is to follow."""
    retry_now(runtime, instance, now)
    if instance.ownership.owned:
        announce(instance)
    # Without adverts that are sent, a lease ends as it should.
    if instance.ownership.owned and not instance.transmit.failing:
        take(runtime, instance, now, command.value)


cdef void announce_again(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """`value`: it defends its addresses."""
    if command.value:
        defend(runtime, instance, now)
    elif instance.ownership.owned:
        announce(instance)


cdef void defend(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    cdef actions_t actions
    if not instance.ownership.owned or instance.timers.take_due != MACHINE_NEVER:
        return
    # Who yields to that advert removes the addresses some ms later, and answers until then.
    instance.timers.announce_due = now + ANNOUNCE_AFTER_DEFENCE
    if instance.ownership.announcements < ANNOUNCEMENTS_AFTER_RIVAL:
        instance.ownership.announcements = <uint8_t> ANNOUNCEMENTS_AFTER_RIVAL
    machine_defend(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef void refuse(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    instance.suspicion.refused_until = command.value


cdef void stats(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef int at
    memcpy(command.counters, instance.input.counters, sizeof(instance.input.counters))
    if instance.carpdev != NULL:
        for at in range(COUNTERS):
            command.counters[at] += instance.carpdev.input.unclaimed[at]


cdef void look(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """A copy of all that is known of it, into the caller's `new_instance`; its pointers are the runtime's."""
    memcpy(command.new_instance, instance, sizeof(instance_t))
    stats(runtime, instance, command, now)


cdef void _join(instance_t *instance) noexcept nogil:
    """Show the input path of its carpdev what the instance is."""
    cdef input_instance_t *entry = &instance.input
    entry.auth = instance.plan.auth
    entry.addresses = instance.plan.addresses
    entry.hearing = instance.plan.hearing
    memcpy(entry.mac, instance.plan.mac, 6)
    entry.has_mac = True
    entry.siblings = not instance.plan.led
    entry.state = instance.machine.state
    if instance.carpdev != NULL:
        instance.carpdev.instances[instance.vhid] = instance
        input_set_instance(&instance.carpdev.input, instance.vhid, entry)


cdef void _leave(instance_t *instance) noexcept nogil:
    cdef carpdev_t *carpdev = instance.carpdev
    instance.carpdev = NULL
    if carpdev != NULL and carpdev.instances[instance.vhid] == instance:
        carpdev.instances[instance.vhid] = NULL
        input_remove_instance(&carpdev.input, instance.vhid)


cdef void _swap_plan(instance_t *instance, command_t *command) noexcept nogil:
    cdef plan_t former = instance.plan
    instance.plan = command.plan
    command.plan = former
    instance.transmit.ready_count = 0


# All of it

cdef void demote(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef int64_t by = max(command.value, -runtime.demotion)
    demote_others(runtime, by, NULL)
    drain(runtime, now)
    if by and runtime.demotions_due:
        # Whoever asked for it is told at once.
        runtime.demotions_due = now
        report_demotions(runtime)
    command.value = runtime.demotion


cdef void demote_one(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    cdef actions_t actions
    machine_demote(&instance.machine, <int32_t> command.value, now, &actions)
    carry_out(runtime, instance, &actions, now)
    runtime.demotions_due = now
    report_demotions(runtime)
    command.value = instance.machine.demotion


cdef void stand_aside(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef int at
    runtime.aside = command.value != 0
    for at in range(runtime.instance_count):
        _stand_aside(runtime, runtime.instances[at])


cdef void stand_one_aside(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    instance.aside = command.value != 0
    _stand_aside(runtime, instance)


cdef void _stand_aside(runtime_t *runtime, instance_t *instance) noexcept nogil:
    cdef machine_t *machine = &instance.machine
    machine.aside = runtime.aside or instance.aside
    machine.stands_back = machine.stands_back and machine.aside


cdef void watch(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    runtime.watchdog.limit = command.value
    atomic_store64(&runtime.watchdog.fed, <uint64_t> now)


cdef void count_losses(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef int at
    for at in range(runtime.carpdev_count):
        ring_count_losses(&runtime.carpdevs[at].ring)
        command.value += <int64_t> runtime.carpdevs[at].ring.losses


cdef void close(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    runtime.closing = True


# The guardian

cdef void attach(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    """`value`: our end of its socket, or -1: there is none, nor will there be one soon."""
    meet_guardian(runtime, <int> command.value, now)


cdef void orders_done(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    """Whether the orders of one instance, or of all (-1), are carried out, or nobody is there to do so."""
    cdef const instance_t *instance
    cdef int at
    if runtime.guardian.fd < 0 and not runtime.guardian.lost:
        return
    for at in range(runtime.instance_count):
        instance = runtime.instances[at]
        if command.index < 0 or instance.index == command.index:
            if instance.ownership.unanswered or instance.ownership.unsent:
                command.found = False


cdef void ask(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    """Send an order that the guardian answers in its own time. `value`: its kind; then the number of the question."""
    cdef order_t message
    memset(&message, 0, sizeof(order_t))
    runtime.guardian.numbers += 1
    if runtime.guardian.numbers == 0:
        runtime.guardian.numbers = 1
    message.kind = <uint8_t> command.value
    message.index = <uint32_t> command.index
    message.at = now
    message.number = runtime.guardian.numbers
    command.value = message.number
    command.found = send_order(runtime, &message)


cdef void answer(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    """Whether a question is answered. `value`: its number; then the error's number, or 0."""
    cdef uint32_t number = <uint32_t> command.value
    cdef int at = number % ANSWERS
    command.found = True
    if runtime.guardian.answers[at] == number:
        command.value = runtime.guardian.answer_errors[at]
    elif runtime.guardian.fd < 0:
        command.value = EHOSTDOWN
    else:
        command.found = False
