# Led virtual hosts (`pycarp.Owner`): the addresses are here until the end of a tenure, which the program moves on.
#
# Thread: runtime, no GIL.

cdef enum:
    SHORT_TENURE = 100_000_000  # ns: one that ends within this time is not renewed with the guardian any more


cdef void hold(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """The program has the addresses here until `value` (CLOCK_BOOTTIME, ns); 0: not any longer."""
    instance.tenure = command.value
    instance.timers.retry_due = MACHINE_NEVER
    follow(runtime, instance, now)


cdef void extend(runtime_t *runtime, instance_t *instance, command_t *command, int64_t now) noexcept nogil:
    """The same, unless the tenure is over: then nothing is done, and `value` is 0."""
    if instance.tenure - boottime() <= TENURE_ENDS_BEFORE:
        command.value = 0
        return
    instance.tenure = command.value
    follow(runtime, instance, now)


cdef void begin(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """Start its machine; that of a led one starts with its tenure."""
    cdef actions_t actions
    if instance.plan.led:
        follow(runtime, instance, now)
        return
    machine_start(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)


cdef void follow(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """Do what the program has said of a led one."""
    cdef actions_t actions
    cdef int64_t left = instance.tenure - boottime()
    if not instance.plan.led:
        return
    if left <= TENURE_ENDS_BEFORE:
        _end(runtime, instance, now)
        return
    # The gate's steps are coarse: towards the end the lease is renewed more and more often.
    instance.timers.tenure_due = MACHINE_NEVER if instance.tenure == TENURE_FOREVER else now + _next_tenure_look(left)
    if instance.timers.retry_due == MACHINE_NEVER:
        machine_start(&instance.machine, now, &actions)
        carry_out(runtime, instance, &actions, now)
    if instance.machine.state == STATE_BACKUP:
        machine_force(&instance.machine, STATE_MASTER, now, &actions)
        carry_out(runtime, instance, &actions, now)
    elif instance.machine.state == STATE_MASTER:
        beat(runtime, instance, now, False)
    schedule(runtime, instance)


cdef void lapse(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    """The guardian has let go of the addresses: at the end of the tenure, or because it could not renew their lease."""
    cdef actions_t actions
    if instance.tenure - boottime() > TENURE_ENDS_BEFORE:
        machine_stop(&instance.machine, now, &actions)
        carry_out(runtime, instance, &actions, now)
        retry_later(runtime, instance, now)
    else:
        _end(runtime, instance, now)


cdef inline int64_t _next_tenure_look(int64_t left) noexcept nogil:
    return left // 2 if left > SHORT_TENURE else left - TENURE_ENDS_BEFORE


cdef void _end(runtime_t *runtime, instance_t *instance, int64_t now) noexcept nogil:
    cdef actions_t actions
    if instance.tenure:
        report_value(runtime, instance, b"TenureEnded", 0, now)
    instance.tenure = 0
    instance.timers.tenure_due = instance.timers.retry_due = MACHINE_NEVER
    machine_stop(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)
    schedule(runtime, instance)
