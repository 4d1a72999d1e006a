# The runtime's part in who holds the addresses: what it tells the guardian and hears from it, and the doubts that it
# has about itself. Included by runtime.pyx; the compiled twin of the second half of pycarp._python.runtime.


# Orders

cdef inline int64_t _patience(const host_t *host) noexcept nogil:
    """After so many ns of our silence another host of the group may have taken over."""
    if _least(host):
        return 3 * SECOND_NS * _least(host)
    return 3 * SKEW_NS * host.machine.config.advskew


cdef bint _send_order(runtime_t *runtime, const order_t *order) noexcept nogil:
    cdef int outcome
    if runtime.guardian < 0:
        return False
    outcome = guardian_order(runtime.guardian, order)
    if outcome == GUARDIAN_GONE:
        _lose_guardian(runtime)
    return outcome == MESSAGE_DONE


cdef void _order(runtime_t *runtime, host_t *host, int kind, int64_t now, bint again) noexcept nogil:
    """Have the guardian take, renew or drop. What finds no room comes later: an order that got lost could leave an
    address behind."""
    cdef order_t order
    cdef bint sent
    memset(&order, 0, sizeof(order_t))
    order.kind = <uint8_t> kind
    order.index = <uint32_t> host.index
    order.at = now
    order.boot = boottime()
    order.lease = host.lease
    order.next_beat_ms = <uint32_t> ((machine_interval(&host.machine) + runtime.grace + 999999) // 1000000)
    order.takeover_after_ms = <uint32_t> (_patience(host) // 1000000)
    order.number = again
    sent = _send_order(runtime, &order)
    if sent and (kind == ORDER_TAKE or kind == ORDER_RENEW):
        host.told = host.lease
    if kind == ORDER_TAKE or kind == ORDER_DROP:
        host.owed = 0
        if sent:
            host.pending += 1
        else:
            host.owed = <uint8_t> (1 + kind)
            runtime.owing = True


cdef void _repay(runtime_t *runtime) noexcept nogil:
    cdef int at
    runtime.owing = False
    if runtime.guardian < 0:
        # The next one is told everything anew.
        _ask_for_guardian(runtime)
        return
    for at in range(runtime.host_count):
        if runtime.hosts[at].owed:
            _order(runtime, runtime.hosts[at], runtime.hosts[at].owed - 1, monotonic(), False)


cdef inline uint8_t _least(const host_t *host) noexcept nogil:
    return host.least if host.least < host.machine.config.advbase else host.machine.config.advbase


cdef void _choose_lease(host_t *host) noexcept nogil:
    cdef int64_t seconds = (machine_interval(&host.machine) + LEASE_SLACK_NS + SECOND_NS - 1) // SECOND_NS
    if seconds * SECOND_NS + LEASE_LATENESS_NS < 3 * SECOND_NS * _least(host):
        host.lease = <uint32_t> seconds
    else:
        host.lease = LEASE_FOREVER


cdef void _tell_lease(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    cdef record_t *record
    if host.lease != LEASE_FOREVER or host.unleased_told:
        return
    host.unleased_told = True
    record = _record(runtime, host, RECORD_UNLEASED, now)
    if record != NULL:
        record.value, record.advbase = machine_interval(&host.machine), _least(host)
        _publish(runtime)


cdef void _take(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    if not host.taken:
        host.announcements = host.plan.announcement_repeats
    host.taken = True
    _choose_lease(host)
    _order(runtime, host, ORDER_TAKE, now, False)


cdef void _ping(runtime_t *runtime, int64_t now) noexcept nogil:
    """Ask something that is answered at once: a guardian that hangs renews nothing, and says nothing."""
    cdef order_t order
    if runtime.guardian < 0:
        return
    if runtime.pinged:
        if now - runtime.pinged > PING_PATIENCE_NS:
            runtime.hanging = True  # Python ends it
            _lose_guardian(runtime)
        return
    memset(&order, 0, sizeof(order_t))
    order.kind = ORDER_FORGET
    order.index = order.number = ORDER_NOBODY
    if _send_order(runtime, &order):
        runtime.pinged = now


cdef void _beat(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    """An advert's time has come: the guardian hears that we live, and the lease of addresses goes on with an advert
    that was sent."""
    cdef bint renew
    host.alive = boottime()
    if not host.taken:
        return
    _ping(runtime, now)
    _choose_lease(host)
    _tell_lease(runtime, host, now)
    renew = not host.failing and (host.told != LEASE_FOREVER or host.lease != LEASE_FOREVER)
    _order(runtime, host, ORDER_RENEW if renew else ORDER_BEAT, now, False)


# Replies

cdef void _rest(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    host.rest *= 2
    if host.rest < REST_LEAST_NS:
        host.rest = REST_LEAST_NS
    elif host.rest > REST_MOST_NS:
        host.rest = REST_MOST_NS
    host.rest_due = now + host.rest
    _schedule(runtime, host)


cdef void _wake(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    """The rest is over. Where there is no guardian, Python tries once more to start one."""
    cdef actions_t actions
    host.rest_due = MACHINE_NEVER
    if runtime.guardian < 0:
        _rest(runtime, host, now)
        _ask_for_guardian(runtime)
        return
    machine_start(&host.machine, now, &actions)
    _carry_out(runtime, host, &actions, now)


cdef void _tell_not_done(runtime_t *runtime, host_t *host, const reply_t *reply) noexcept nogil:
    cdef record_t *record = _record(runtime, host, RECORD_NOT_WRITTEN, reply.finished)
    if record != NULL:
        record.value = reply.error
        record.counter = reply.kind
        _publish(runtime)


cdef void _carried_out(runtime_t *runtime, host_t *host, const reply_t *reply) noexcept nogil:
    cdef actions_t actions
    cdef record_t *record
    cdef int64_t now, decided = host.deciding if host.deciding else reply.started
    cdef bint take = reply.kind == ORDER_TAKE
    if reply.error:
        _tell_not_done(runtime, host, reply)
        if take and host.machine.state == STATE_MASTER:
            # The addresses could not be taken: bow out, so that another may, and stand by again after a rest.
            now = monotonic()
            machine_stop(&host.machine, now, &actions)
            _carry_out(runtime, host, &actions, now)
            _rest(runtime, host, now)
        return
    if take:
        host.rest = 0
        if host.deciding:
            _measure(runtime.measures.takeover, reply.finished - host.deciding)
    host.deciding = 0
    if reply.number:
        return  # another guardian has taken once more what was here already
    if take:
        _tell_lease(runtime, host, reply.finished)
    record = _record(runtime, host, RECORD_TAKEN if take else RECORD_DROPPED, reply.finished)
    if record != NULL:
        record.value = reply.finished - decided
        _publish(runtime)


cdef void _collect(runtime_t *runtime) noexcept nogil:
    """What the guardian has done, or not."""
    cdef reply_t reply
    cdef host_t *host
    cdef int outcome = MESSAGE_DONE, at
    runtime.guardian_ready = False
    while runtime.guardian >= 0:
        outcome = guardian_reply(runtime.guardian, &reply)
        if outcome != MESSAGE_DONE:
            break
        if reply.number == ORDER_NOBODY:
            runtime.pinged = 0
            continue
        host = _host(runtime, <int> reply.index)
        if reply.kind == ORDER_TAKE or reply.kind == ORDER_DROP:
            if host != NULL:
                if host.pending:
                    host.pending -= 1
                if not reply.flags & REPLY_SUPERSEDED:
                    _carried_out(runtime, host, &reply)
        elif reply.kind == REPLY_RELEASED:
            if host != NULL:
                _stalled(runtime, host, True)
        elif reply.number:
            at = reply.number % ANSWERS
            runtime.answers[at] = reply.number
            runtime.answer_errors[at] = reply.error
        elif reply.error and host != NULL:
            _tell_not_done(runtime, host, &reply)
    if outcome == GUARDIAN_GONE:
        _lose_guardian(runtime)


# When there is none

cdef void _ask_for_guardian(runtime_t *runtime) noexcept nogil:
    cdef record_t *record
    if runtime.orphaned:
        return
    record = _record(runtime, NULL, RECORD_GUARDIAN, monotonic())
    if record == NULL:
        runtime.owing = True  # Python is far behind: once more, soon
        return
    runtime.orphaned = True
    _publish(runtime)


cdef void _lose_guardian(runtime_t *runtime) noexcept nogil:
    runtime.guardian = -1
    runtime.guardian_ready = False
    runtime.pinged = 0
    # Python may be busy, or stuck.
    runtime.orphan_due = monotonic() + ORPHAN_NS
    _ask_for_guardian(runtime)


cdef void _hand_over(runtime_t *runtime, int64_t now) noexcept nogil:
    """No guardian can be had: no address may stay that nobody could drop. Without a bow-out: the addresses stay until
    their lease ends, and others wait longer than that."""
    cdef actions_t actions
    cdef host_t *host
    cdef int at
    runtime.orphan_due = 0
    for at in range(runtime.host_count):
        host = runtime.hosts[at]
        machine_retire(&host.machine, REASON_HANDED_OVER, False, now, &actions)
        _carry_out(runtime, host, &actions, now)
        machine_stop(&host.machine, now, &actions)
        _carry_out(runtime, host, &actions, now)
        # Whoever comes next drops first.
        host.pending = 0
        host.owed = 1 + ORDER_DROP
        if host.wanted:
            _rest(runtime, host, now)
    runtime.owing = False


cdef void _meet_guardian(runtime_t *runtime, int fd, int64_t now) noexcept nogil:
    """Another one knows what is to be taken, renewed and dropped, but not what is here."""
    cdef host_t *host
    cdef bint dropping
    cdef int at
    runtime.guardian = fd
    runtime.orphaned = False
    runtime.orphan_due = runtime.pinged = 0
    if fd < 0:
        _hand_over(runtime, now)
        return
    for at in range(runtime.host_count):
        host = runtime.hosts[at]
        dropping = host.pending or host.owed == 1 + ORDER_DROP
        host.pending = host.owed = 0
        if host.taken:
            _order(runtime, host, ORDER_TAKE, now, host.deciding == 0)
        elif dropping:
            _order(runtime, host, ORDER_DROP, now, False)
        _end_rest(runtime, host, now)


cdef void _command_for_guardian(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef order_t order
    cdef host_t *host
    cdef uint32_t number
    cdef int at
    if command.kind == COMMAND_GUARDIAN:
        _meet_guardian(runtime, command.integer, now)
    elif command.kind == COMMAND_WATCH:
        runtime.watchdog = command.limit
        atomic_store64(&runtime.fed, <uint64_t> now)
    elif command.kind == COMMAND_SETTLED:
        command.found = True
        for at in range(runtime.host_count):
            host = runtime.hosts[at]
            if (command.index < 0 or host.index == command.index) and (host.pending or host.owed):
                command.found = runtime.guardian < 0 and not runtime.orphaned
    elif command.kind == COMMAND_ASK:
        memset(&order, 0, sizeof(order_t))
        runtime.numbers += 1
        if runtime.numbers == 0:
            runtime.numbers = 1
        order.kind = <uint8_t> command.integer
        order.index = <uint32_t> command.index
        order.at = now
        order.number = runtime.numbers
        command.found = _send_order(runtime, &order)
        command.counters[0] = order.number
    elif command.kind == COMMAND_ANSWER:
        number = <uint32_t> command.counters[0]
        at = number % ANSWERS
        command.found = runtime.answers[at] == number
        command.integer = runtime.answer_errors[at]
        if not command.found and runtime.guardian < 0:
            command.found = True
            command.integer = EHOSTDOWN


# Doubts about oneself

cdef void _stalled(runtime_t *runtime, host_t *host, bint released) noexcept nogil:
    cdef int64_t now = monotonic()
    cdef actions_t actions
    cdef record_t *record
    if host.machine.state != STATE_MASTER or (released and not host.taken):
        return
    record = _record(runtime, host, RECORD_STALLED, now)
    if record != NULL:
        record.value, record.counter = boottime() - host.alive, released
        _publish(runtime)
    machine_retire(&host.machine, REASON_STALLED, False, now, &actions)
    _carry_out(runtime, host, &actions, now)


cdef void _look_for_pause(runtime_t *runtime) noexcept nogil:
    """Were we stopped, or was the machine asleep? Then others may have taken over meanwhile."""
    cdef int64_t now = monotonic(), boot = boottime(), limit
    cdef int64_t suspended = boot - now
    cdef bint late = runtime.heap_count > 0 and now - runtime.heap[0].due > PAUSE_LEAST_NS
    cdef host_t *host
    cdef int at
    if not late and suspended - runtime.suspended <= PAUSE_LEAST_NS:
        return
    runtime.suspended = suspended
    _collect(runtime)
    if runtime.pinged:
        runtime.pinged = now  # it may have been stopped with us
    for at in range(runtime.host_count):
        host = runtime.hosts[at]
        limit = _patience(host)
        if host.lease != LEASE_FOREVER and host.lease * SECOND_NS < limit:
            limit = host.lease * SECOND_NS
        if host.machine.state == STATE_MASTER and boot - host.alive > limit:
            _stalled(runtime, host, False)


cdef bint _must_wait(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    """Whether silence is no reason to take over: by order, or because it may be our own loss, where frames found no
    room since the last valid advert."""
    cdef record_t *record
    if not machine_overdue(&host.machine, now):
        return False
    if now < host.refused:
        return True
    if host.segment == NULL or host.holds >= MOST_DELAYS:
        return False
    ring_count_losses(&host.segment.ring)
    if host.segment.ring.losses == host.losses:
        return False
    host.holds += 1
    record = _record(runtime, host, RECORD_DELAYED, now)
    if record != NULL:
        record.value = <int64_t> (host.segment.ring.losses - host.losses)
        _publish(runtime)
    return True


cdef void _note_rival(
    runtime_t *runtime, host_t *host, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    cdef int64_t own = machine_interval(&host.machine)
    cdef int64_t other = SECOND_NS * verdict.advert.advbase + SKEW_NS * verdict.advert.advskew
    cdef uint8_t rule = 2 if other < own else 1 if other == own else 0
    cdef record_t *record
    if verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT:
        return
    if _known(host.rivals, &host.rival_count, RIVALS, peer.address, peer.family, host.vhid, rule):
        return
    record = _record(runtime, host, RECORD_RIVAL, now)
    if record != NULL:
        record.peer = peer[0]
        record.counter = rule
        _publish(runtime)


cdef void _look_at_watchdog(runtime_t *runtime) noexcept nogil:
    """Is the program that embeds us still there? If not, another host shall serve in its stead."""
    cdef int64_t now, silence
    cdef actions_t actions
    cdef record_t *record
    cdef int at
    if not runtime.watchdog and not runtime.starving:
        return
    now = monotonic()
    silence = now - <int64_t> atomic_load64(&runtime.fed)
    if (silence >= runtime.watchdog and runtime.watchdog > 0) == (runtime.starving != 0):
        return
    atomic_store32(&runtime.starving, 1 - runtime.starving)
    record = _record(runtime, NULL, RECORD_WATCHDOG if runtime.starving else RECORD_FED, now)
    if record != NULL:
        record.value = silence
        _publish(runtime)
    if not runtime.starving:
        _suppress(runtime, -1, NULL, now)
        return
    for at in range(runtime.host_count):
        machine_retire(&runtime.hosts[at].machine, REASON_WATCHDOG, True, now, &actions)
        _carry_out(runtime, runtime.hosts[at], &actions, now)
    _suppress(runtime, 1, NULL, now)
