# The loop: it waits for frames, replies, commands and deadlines, and runs what is due.
#
# Thread: runtime, no GIL.

cdef enum:
    # ns
    LEAD_MOST = 300_000  # the loop waits awake this long before a deadline, at most ...
    ALLOWANCE_MOST = 10_000_000  # ... and saves up this much of it
    WARM = 400_000  # a processor that has just woken is slow for this long
    FLOOD_WINDOW = 1_000_000  # whether frames are a flood is decided once in this time
    FLOOD_NAP = 3_000_000  # between two looks at the ring while it is flooded
    UNSENT_LOOK = 500_000  # between two looks at whether there is room for an order that found none
    # Numbers
    FRAMES_A_LOOK = 32  # frames received between two looks at the clock
    FLOOD = 4  # this many frames in a window make it a flood: each alone would cost a wake-up
    SPIN_SHARE = 100  # at most this part of a CPU is spent on waiting awake
    FEW = 8  # instances for whom there is time to spare before a deadline
    PRIORITY = 2  # SCHED_FIFO's


cdef void *run(void *argument) noexcept nogil:
    """The thread: it runs until `closing`."""
    cdef runtime_t *runtime = <runtime_t *> argument
    cdef instance_t *instance
    cdef pollfd *fds = NULL
    cdef void *grown
    cdef uint32_t frames
    cdef int room = 0, at
    _begin(runtime)
    while True:
        # While we were stopped the guardian may have let go: that comes before anything we would say ourselves.
        look_for_pause(runtime)
        if runtime.guardian.readable:
            collect(runtime)
        run_commands(runtime)
        report_demotions(runtime)
        if runtime.closing:
            break
        if runtime.guardian.unsent:
            send_unsent_orders(runtime)
        look_at_watchdog(runtime)
        if runtime.guardian.hand_over_due and monotonic() >= runtime.guardian.hand_over_due:
            hand_over(runtime, monotonic())
        frames = 0
        for at in range(runtime.carpdev_count):
            frames += _read_frames(runtime, runtime.carpdevs[at], monotonic())
        _count_frames(&runtime.pacing, frames)
        _run_timers(runtime, monotonic(), False)
        if runtime.heap_count:
            instance = runtime.heap[0]
            if instance.machine.state == STATE_MASTER:
                prepare(
                    instance, instance.machine.config.advbase, machine_advskew(&instance.machine),
                    machine_said_pace(&instance.machine), next_serial(runtime, &instance.transmit, instance.timers.due),
                )
        if room < 2 + runtime.carpdev_count:
            grown = kept_realloc(fds, (2 + runtime.carpdev_count) * sizeof(pollfd))
            if grown != NULL:
                fds, room = <pollfd *> grown, 2 + runtime.carpdev_count
        _wait(runtime, fds)
    kept_free(fds)
    lifeline_unlock(runtime.lifeline)
    return NULL


cdef bint _choose_priority(bint realtime) noexcept nogil:
    """Of a real-time program this thread keeps what it was started with: the program's own loops would else stop it."""
    cdef sched_param priority
    cdef int policy = SCHED_OTHER
    cdef bint has
    pthread_getschedparam(pthread_self(), &policy, &priority)
    has = policy in (SCHED_FIFO, SCHED_RR) and priority.sched_priority >= PRIORITY
    if realtime and not has:
        priority.sched_priority = PRIORITY
        has = pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) == 0
    elif not realtime and policy in (SCHED_FIFO, SCHED_RR):
        priority.sched_priority = 0
        pthread_setschedparam(pthread_self(), SCHED_OTHER, &priority)
    return realtime and has


cdef void _begin(runtime_t *runtime) noexcept nogil:
    prctl(PR_SET_NAME, <unsigned long> <char *> b"pycarp-runtime")
    prctl(PR_SET_TIMERSLACK, 1)
    mlock(runtime, sizeof(runtime_t))
    atomic_store32(&runtime.has_realtime, 1 if _choose_priority(runtime.wants_realtime) else 2)
    lifeline_lock(runtime.lifeline)
    atomic_store32(&runtime.lifeline_locked, 1)
    runtime.pacing.refreshed = monotonic()
    runtime.suspended = boottime() - runtime.pacing.refreshed
    read_clock(runtime)


cdef uint32_t _read_frames(runtime_t *runtime, carpdev_t *carpdev, int64_t now) noexcept nogil:
    """Take what the ring holds, a ringful at most, and look after the timers meanwhile."""
    cdef batch_t batch
    cdef const uint8_t *frames[BATCH]
    cdef uint32_t count = 0, timers = FRAMES_A_LOOK
    cdef int at
    carpdev.input.wall = realtime() - now
    while count < carpdev.ring.count and _collect_frames(carpdev, &batch, frames):
        for at in range(batch.count):
            receive(runtime, carpdev, &batch.verdicts[at], frames[at], now)
            ring_release(&carpdev.ring)
        count += <uint32_t> batch.count
        if count >= timers:
            timers = count + FRAMES_A_LOOK
            now = monotonic()
            _run_timers(runtime, now, True)
    return count


cdef bint _collect_frames(carpdev_t *carpdev, batch_t *batch, const uint8_t **frames) noexcept nogil:
    """What waits, BATCH at most, with its digests computed; False: nothing does."""
    cdef size_t length
    input_begin(batch)
    while batch.count < BATCH:
        frames[batch.count] = ring_ahead(&carpdev.ring, <uint32_t> batch.count, &length)
        if frames[batch.count] == NULL:
            break
        if batch.count == 1:
            ring_expect(&carpdev.ring, 2, BATCH)  # where two wait, more do
        input_add(&carpdev.input, batch, frames[batch.count], length)
    input_compute(batch)
    return batch.count > 0


cdef void _run_timers(runtime_t *runtime, int64_t now, bint reading) noexcept nogil:
    """`reading`: frames still wait. A takeover waits for them, too: an advert may be among them."""
    cdef instance_t *instance
    cdef timers_t *timers
    if now - PAUSE_NOTICED > next_due(runtime):
        look_for_pause(runtime)  # once more: we may have been stopped while frames were read
    while next_due(runtime) <= now:
        instance = runtime.heap[0]
        timers = &instance.timers
        if reading and machine_overdue(&instance.machine, now):
            postpone(runtime, instance, now + 1)
            continue
        measure(runtime.measures.wakeup, now - timers.due)
        _run_machine(runtime, instance, timers.due, now)
        if timers.take_due <= now:
            timers.take_due = MACHINE_NEVER
            announce(instance)
            take(runtime, instance, now, False)
        if timers.retry_due <= now:
            retry(runtime, instance, now)
        if timers.tenure_due <= now:
            follow(runtime, instance, now)
        if timers.announce_due <= now:
            timers.announce_due = MACHINE_NEVER
            if instance.ownership.owned and not machine_leaving(&instance.machine):
                announce(instance)
        schedule(runtime, instance)


cdef void _run_machine(runtime_t *runtime, instance_t *instance, int64_t due, int64_t now) noexcept nogil:
    cdef actions_t actions
    cdef bint advert, between, owned = instance.ownership.owned, leaving = machine_leaving(&instance.machine)
    if must_wait(runtime, instance, now):
        machine_delay_takeover(&instance.machine, now)
    between = instance.machine.state == STATE_MASTER and instance.machine.pace_due == due
    advert = instance.machine.state == STATE_MASTER and instance.machine.advert_due == due
    machine_timeout(&instance.machine, now, &actions)
    carry_out(runtime, instance, &actions, now)
    if leaving and instance.machine.state == STATE_BACKUP:
        leave_to(runtime, instance, instance.ownership.heir)
    if advert or between:
        instance.transmit.late = monotonic() - due
        measure(runtime.measures.sending, instance.transmit.late)
        if owned and advert and instance.ownership.owned and (
            instance.ownership.announcements or now - instance.ownership.announced >= _announce_after(instance)
        ):
            instance.ownership.announcements -= instance.ownership.announcements > 0
            if instance.timers.announce_due == MACHINE_NEVER:
                instance.timers.announce_due = now + min(
                    ANNOUNCE_AFTER_ADVERT, machine_interval(&instance.machine) // 2
                )


cdef int64_t _announce_after(instance_t *instance) noexcept nogil:
    """With the advert nearest to so many seconds after it last did."""
    if instance.plan.announce_every == 0:
        return MACHINE_NEVER
    return instance.plan.announce_every - min(machine_interval(&instance.machine), NS_PER_SECOND) // 2


# Waiting

cdef void _wait(runtime_t *runtime, pollfd *fds) noexcept nogil:
    """Until there is something to do: on the kernel as long as that is precise enough, the rest awake."""
    cdef pacing_t *pacing = &runtime.pacing
    cdef int64_t due = _next_look(runtime), now = monotonic(), left = due - now, lead
    cdef bint napping = pacing.flooded, timed = due != MACHINE_NEVER, ready
    cdef int64_t nap = FLOOD_NAP if napping else UNSENT_LOOK
    cdef timespec timeout
    if left <= 0:
        return
    _refresh_allowance(pacing, now)
    lead = 0 if _between(runtime, due) else min(pacing.lead, pacing.allowance)
    # Many instances keep the processor warm.
    if lead and runtime.heap_count <= FEW and pacing.allowance > ALLOWANCE_MOST // 2:
        lead += WARM
    if left <= lead:
        while monotonic() < due:
            pass
        pacing.allowance -= left
        return
    if timed:
        left -= lead
    # In a flood the ring is looked at every few ms, and nothing else wakes us.
    if (napping or runtime.guardian.unsent) and left > nap:
        left = nap
        timed = False
    timeout = duration(left)
    ready = _poll(runtime, fds, &timeout if timed or napping or runtime.guardian.unsent else NULL, not napping)
    if timed and not ready:
        _learn(pacing, monotonic() - (now + left))


cdef bint _poll(runtime_t *runtime, pollfd *fds, const timespec *timeout, bint frames) noexcept nogil:
    """Sleep until a descriptor is ready; False if none became so."""
    cdef int at, ready, error, count = 2 + runtime.carpdev_count if frames else 2
    cdef unsigned int length
    cdef unsigned long long woken
    for at in range(count):
        fds[at].fd = (
            runtime.wake if at == 0 else runtime.guardian.fd if at == 1 else runtime.carpdevs[at - 2].ring.fd
        )
        fds[at].events = POLLIN
        fds[at].revents = 0
    ready = ppoll(fds, count, timeout, NULL)
    if ready > 0 and fds[0].revents:
        read(runtime.wake, &woken, 8)
    if ready > 0 and fds[1].revents:
        runtime.guardian.readable = True
    for at in range(2, count):
        if ready > 0 and fds[at].revents & POLLERR:
            # The interface went down: said once, and left standing until it is read.
            length = sizeof(error)
            getsockopt(fds[at].fd, SOL_SOCKET, SO_ERROR, &error, &length)
    return ready != 0


cdef inline bint _between(const runtime_t *runtime, int64_t due) noexcept nogil:
    """Whether nothing but an advert between those of the interval is due then: that may be a little late."""
    return runtime.heap_count and runtime.heap[0].timers.due == due == runtime.heap[0].machine.pace_due


cdef inline int64_t _next_look(const runtime_t *runtime) noexcept nogil:
    """The first deadline of all."""
    cdef int64_t due = next_due(runtime)
    if runtime.demotions_due:
        due = min(due, runtime.demotions_due)
    if runtime.watchdog.limit and not runtime.watchdog.expired:
        due = min(due, <int64_t> atomic_load64(&runtime.watchdog.fed) + runtime.watchdog.limit)
    if runtime.guardian.hand_over_due:
        due = min(due, runtime.guardian.hand_over_due)
    return due


cdef inline void _refresh_allowance(pacing_t *pacing, int64_t now) noexcept nogil:
    pacing.allowance = min(pacing.allowance + (now - pacing.refreshed) // SPIN_SHARE, ALLOWANCE_MOST)
    pacing.refreshed = now


cdef inline void _learn(pacing_t *pacing, int64_t late) noexcept nogil:
    """Follow how late the kernel wakes us: up at once, down slowly."""
    late = min(late, LEAD_MOST)
    if late > pacing.lead:
        pacing.lead = late
    else:
        pacing.lead -= (pacing.lead - late) // 32


cdef inline void _count_frames(pacing_t *pacing, uint32_t count) noexcept nogil:
    cdef int64_t now = monotonic(), passed = now - pacing.window
    pacing.frames += count
    if passed >= FLOOD_WINDOW:
        pacing.flooded = <int64_t> pacing.frames * FLOOD_WINDOW > FLOOD * passed
        pacing.frames = 0
        pacing.window = now
