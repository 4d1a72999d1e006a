# Serials against replays. Included by input.pyx, for whose input path it is one more check; the compiled twin of
# `pycarp._python.serials`, which says why it is as it is.

@cython.cdivision(True)
cdef inline int64_t _apart(int64_t lead, int64_t other) noexcept nogil:
    """How much the one is before the other: serials go round."""
    cdef int64_t apart = (lead - other) % SERIAL_ROUND
    if apart >= SERIAL_ROUND // 2:
        return apart - SERIAL_ROUND
    return apart + SERIAL_ROUND if apart < -SERIAL_ROUND // 2 else apart


cdef inline bint _within(int64_t apart, int64_t limit) noexcept nogil:
    return -limit <= apart and apart <= limit


cdef inline uint16_t _serial(const advert_t *advert) noexcept nogil:
    return <uint16_t> (advert.counter[4] << 8 | advert.counter[5])


cdef inline bint _is_bowout(const advert_t *advert) noexcept nogil:
    return advert.advbase == BOWOUT and advert.advskew == BOWOUT


cdef inline bint _after(const advert_t *advert, uint16_t serial, bint bowouts) noexcept nogil:
    """Whether an advert is later than this serial (RFC 1982). A bow-out comes in several copies."""
    cdef uint16_t difference = <uint16_t> (_serial(advert) - serial)
    return (difference > 0 and difference < 0x8000) or (bowouts and difference == 0 and _is_bowout(advert))


cdef inline bint _is_sender(
    const sender_t *sender, const uint8_t *source, uint8_t length, uint8_t vhid
) noexcept nogil:
    return sender.vhid == vhid and sender.length == length and memcmp(sender.source, source, length) == 0


cdef bint _believable(
    input_instance_t *instance, const auth_t *auth, const verdict_t *verdict, int64_t now, int64_t wall
) noexcept nogil:
    """Whether to believe an advert whose digest is right and whose counter agrees with its header."""
    cdef serials_t *serials = &instance.serials
    cdef const advert_t *advert = &verdict.advert
    cdef const uint8_t *source = verdict.datagram.source
    cdef uint8_t length = 4 if verdict.datagram.family == 4 else 16
    cdef int64_t lead = <int64_t> _serial(advert) * 1000000000 - now
    cdef sender_t *sender = &serials.senders[serials.last]
    cdef int at
    if serials.count == 0 or not _is_sender(sender, source, length, advert.vhid):
        sender = NULL
        for at in range(serials.count):
            if _is_sender(&serials.senders[at], source, length, advert.vhid):
                sender = &serials.senders[at]
                serials.last = <uint8_t> at
                break
    if sender != NULL and sender.believed and _within(_apart(lead, sender.lead), SERIAL_APART):
        if not sender.has_left or _after(advert, sender.left, True):
            _believe(serials, sender, verdict, now, lead)
            return True
    if not auth_tagged(auth, verdict.dialect, advert.counter):
        return True
    if sender == NULL:
        sender = _new_sender(serials, source, length, advert.vhid, now)
    if _good_once(serials, sender, advert, now):
        return True
    if not _explained(serials, sender, advert, now, lead, wall, instance.state == STATE_MASTER):
        return False
    sender.believed, sender.lead, sender.heard = True, lead, now
    _believe(serials, sender, verdict, now, lead)
    return True


cdef inline bint _lives(const sender_t *sender, int64_t now) noexcept nogil:
    """Whether its stream goes on, as far as we know."""
    return sender.believed and now <= sender.live_until


cdef bint _good_once(
    serials_t *serials, sender_t *sender, const advert_t *advert, int64_t now
) noexcept nogil:
    """Whether this is the bow-out of a guardian, signed long ago and not heard before, of a host that is heard."""
    if (
        not _is_bowout(advert) or advert.counter[2] & COUNTER_PART or not _lives(sender, now)
        or _is_spent(serials, advert.counter)
    ):
        return False
    _spend(serials, advert.counter)
    sender.live_until = now
    return True


cdef bint _explained(
    const serials_t *serials, sender_t *sender, const advert_t *advert, int64_t now, int64_t lead, int64_t wall,
    bint master,
) noexcept nogil:
    """Whether there is a good reason for what is not as promised."""
    cdef bint timely, first = not master and not _is_bowout(advert)
    cdef int at
    if _lives(sender, now):
        # What is ahead is no past: it may be that our own clock stood still, in a virtual machine that was stopped.
        if _apart(lead, sender.lead) > 0:
            _goes_on(sender, advert, now, lead)
        else:
            sender.tries = False
        return False
    timely = _within(_apart(lead, wall), SERIAL_CLOCKS_APART) and not _heard_elsewhere(serials, sender, advert)
    timely = timely and (not sender.has_left or _after(advert, sender.left, True))
    for at in range(serials.count):
        if serials.senders[at].believed:
            first = False
    if timely or first or _goes_on(sender, advert, now, lead):
        return True
    if not sender.believed:
        sender.heard = now
    return False


cdef bint _goes_on(sender_t *sender, const advert_t *advert, int64_t now, int64_t lead) noexcept nogil:
    """Whether a stream that is not believed yet has advanced with time for long enough."""
    cdef int64_t base = advert.advbase * NS_PER_SECOND if advert.advbase else advert.advskew * NS_PER_SKEW
    if _is_bowout(advert):
        return False
    if not sender.tries or not _within(_apart(lead, sender.tried_lead), SERIAL_CANDIDATE_APART):
        sender.tries, sender.tried_lead, sender.tried_since = True, lead, now
        sender.tried_serial = _serial(advert)
        return False
    return (
        now - sender.tried_since >= max(7 * base // 5, SERIAL_SHORTEST) and _after(advert, sender.tried_serial, False)
    )


cdef inline void _believe(
    serials_t *serials, sender_t *sender, const verdict_t *verdict, int64_t now, int64_t lead
) noexcept nogil:
    """It is what its sender says now."""
    cdef const advert_t *advert = &verdict.advert
    cdef said_t *said
    cdef int64_t slower = sender.lead
    if now > sender.heard:
        slower -= (now - sender.heard) // 1024
    sender.lead = lead if _apart(lead, slower) > 0 else slower
    sender.heard = now
    sender.tries = False
    if not _is_bowout(advert):
        sender.live_until = now + 5 * (advert.advbase * NS_PER_SECOND + advert.advskew * NS_PER_SKEW) // 2
        sender.has_left = False
    else:
        if verdict.datagram.destination_mac[0] & 1:
            sender.live_until = now
            # A guardian's was signed long ago, and says nothing about what may follow.
            if advert.counter[2] & COUNTER_PART:
                sender.left, sender.has_left = _serial(advert), True
        if not advert.counter[2] & COUNTER_PART and not _is_spent(serials, advert.counter):
            _spend(serials, advert.counter)
    said = &serials.heard[serials.heard_next]
    memcpy(said.source, sender.source, 16)
    said.length = sender.length
    memcpy(said.counter, advert.counter, COUNTER_LENGTH)
    serials.heard_next = (serials.heard_next + 1) % COUNTERS_KEPT
    if serials.heard_count < COUNTERS_KEPT:
        serials.heard_count += 1


cdef bint _is_spent(const serials_t *serials, const uint8_t *counter) noexcept nogil:
    cdef int at
    for at in range(serials.spent_count):
        if memcmp(serials.spent[at], counter, COUNTER_LENGTH) == 0:
            return True
    return False


cdef void _spend(serials_t *serials, const uint8_t *counter) noexcept nogil:
    memcpy(serials.spent[serials.spent_next], counter, COUNTER_LENGTH)
    serials.spent_next = (serials.spent_next + 1) % COUNTERS_KEPT
    if serials.spent_count < COUNTERS_KEPT:
        serials.spent_count += 1


cdef bint _heard_elsewhere(const serials_t *serials, const sender_t *sender, const advert_t *advert) noexcept nogil:
    """Whether another address of this family has said just this: then it was copied from there."""
    cdef const said_t *said
    cdef int at
    for at in range(serials.heard_count):
        said = &serials.heard[at]
        if (
            memcmp(said.counter, advert.counter, COUNTER_LENGTH) == 0 and said.length == sender.length
            and memcmp(said.source, sender.source, said.length) != 0
        ):
            return True
    return False


cdef sender_t *_new_sender(
    serials_t *serials, const uint8_t *source, uint8_t length, uint8_t vhid, int64_t now
) noexcept nogil:
    cdef sender_t *made
    cdef sender_t *one
    cdef int at, oldest = 0
    if serials.count < SENDERS_KNOWN:
        oldest = serials.count
        serials.count += 1
    else:
        for at in range(1, SENDERS_KNOWN):
            one, made = &serials.senders[at], &serials.senders[oldest]
            if one.believed < made.believed or (one.believed == made.believed and one.heard < made.heard):
                oldest = at
    made = &serials.senders[oldest]
    memset(made, 0, sizeof(sender_t))
    memcpy(made.source, source, length)
    made.length, made.vhid, made.heard = length, vhid, now
    serials.last = <uint8_t> oldest
    return made
