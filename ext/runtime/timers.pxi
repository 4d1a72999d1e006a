# Who is due next: a heap of instances by their deadlines.
#
# Thread: runtime, no GIL.

cdef inline void _place(runtime_t *runtime, instance_t *instance, int at) noexcept nogil:
    runtime.heap[at] = instance
    instance.timers.heap_at = at


cdef void _sift(runtime_t *runtime, int at) noexcept nogil:
    """Put the entry at `at` where its deadline belongs."""
    cdef instance_t *instance = runtime.heap[at]
    cdef int64_t due = instance.timers.due
    cdef int other
    while at > 0:
        other = (at - 1) // 2
        if runtime.heap[other].timers.due <= due:
            break
        _place(runtime, runtime.heap[other], at)
        at = other
    while True:
        other = 2 * at + 1
        if other >= runtime.heap_count:
            break
        if other + 1 < runtime.heap_count and runtime.heap[other + 1].timers.due < runtime.heap[other].timers.due:
            other += 1
        if due <= runtime.heap[other].timers.due:
            break
        _place(runtime, runtime.heap[other], at)
        at = other
    _place(runtime, instance, at)


cdef void unschedule(runtime_t *runtime, instance_t *instance) noexcept nogil:
    cdef int at = instance.timers.heap_at
    if at < 0:
        return
    instance.timers.heap_at = -1
    runtime.heap_count -= 1
    if at < runtime.heap_count:
        _place(runtime, runtime.heap[runtime.heap_count], at)
        _sift(runtime, at)


cdef void schedule(runtime_t *runtime, instance_t *instance) noexcept nogil:
    """The instance's deadline may have changed."""
    cdef timers_t *timers = &instance.timers
    timers.due = min(
        min(machine_deadline(&instance.machine), timers.announce_due),
        min(min(timers.take_due, timers.retry_due), timers.tenure_due),
    )
    if timers.due == MACHINE_NEVER or instance.frozen:
        unschedule(runtime, instance)
        return
    if timers.heap_at < 0:
        # There is room: the array grows with the instances.
        _place(runtime, instance, runtime.heap_count)
        runtime.heap_count += 1
    _sift(runtime, timers.heap_at)


cdef void postpone(runtime_t *runtime, instance_t *instance, int64_t until) noexcept nogil:
    """Look at what is due not before `until`, or when it is scheduled anew."""
    instance.timers.due = until
    _sift(runtime, instance.timers.heap_at)


cdef inline int64_t next_due(const runtime_t *runtime) noexcept nogil:
    """When the first instance is due."""
    return runtime.heap[0].timers.due if runtime.heap_count else MACHINE_NEVER
