# From a frame to the machine.
#
# Thread: runtime, no GIL.

cdef list _COUNTERS = [field.name for field in fields(Stats)]
cdef uint32_t _REPORTED = sum([1 << number for number, name in enumerate(_COUNTERS) if name in HINTS])


cdef void receive(
    runtime_t *runtime, carpdev_t *carpdev, verdict_t *verdict, const uint8_t *frame, int64_t now
) noexcept nogil:
    """Judge one frame of a batch, and show it to the machine that it is for."""
    cdef instance_t *instance
    cdef actions_t actions
    cdef peer_t peer
    input_judge(&carpdev.input, verdict, now)
    if not verdict.has_advert and not verdict.vrrp:
        return
    memset(&peer, 0, sizeof(peer_t))
    peer.family = verdict.datagram.family
    memcpy(peer.address, verdict.datagram.source, 4 if peer.family == 4 else 16)
    if verdict.vrrp:
        _vrrp(runtime, carpdev.instances[verdict.datagram.payload[1]], &peer, now)
        return
    instance = carpdev.instances[verdict.advert.vhid]
    if verdict.counter == VERDICT_VALID and instance != NULL:
        if frame[0] & 1 or not _made_way(instance, verdict, &peer):
            _valid(runtime, instance, verdict, &peer, now)
    elif verdict.counter == VERDICT_SIBLING:
        instance = carpdev.instances[verdict.sibling_of]
        if instance != NULL:
            _sibling(runtime, instance, verdict, &peer, now)
    elif verdict.counter == COUNT_ECHO and instance != NULL:
        machine_echo(&instance.machine, now, &actions)
        if actions.count:
            carry_out(runtime, instance, &actions, now)
        else:
            _rejected(runtime, carpdev, instance, verdict, &peer, now)
    else:
        _rejected(runtime, carpdev, instance, verdict, &peer, now)


cdef void _valid(
    runtime_t *runtime, instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    cdef suspicion_t *suspicion = &instance.suspicion
    cdef actions_t actions
    cdef uint8_t was = instance.machine.state
    cdef bint leaving = machine_leaving(&instance.machine)
    cdef uint8_t pace
    _note_peer(runtime, instance, verdict, peer, now)
    if verdict.advert.advbase < instance.ownership.least_advbase:
        instance.ownership.least_advbase = verdict.advert.advbase
    suspicion.heard = now
    ring_count_losses(&instance.carpdev.ring)
    suspicion.losses, suspicion.delays = instance.carpdev.ring.losses, 0
    if leaving and _takes_over(runtime, instance, verdict, peer, now):
        return
    if was == STATE_MASTER and not leaving:
        note_rival(runtime, instance, verdict, peer, now)
    if makes_way_in_vain(runtime, instance, verdict):
        return
    pace = _pace(instance, verdict)
    machine_receive(
        &instance.machine, peer.family, verdict.advert.advbase, verdict.advert.advskew,
        _obeyed(instance, verdict, peer, now), pace, _arrived(instance, now) if pace else now, peer, now, &actions,
    )
    if was == STATE_MASTER and instance.machine.state == STATE_MASTER and not leaving:
        _announce_soon(instance, now)
        # It yields to our next advert, and may do so in silence.
        if instance.ownership.announcements < ANNOUNCEMENTS_AFTER_RIVAL:
            instance.ownership.announcements = <uint8_t> ANNOUNCEMENTS_AFTER_RIVAL
    carry_out(runtime, instance, &actions, now)
    follow_pace(runtime, instance, now)
    if was == STATE_MASTER and instance.machine.state == STATE_BACKUP:
        if leaving:
            leave_to(runtime, instance, verdict.datagram.source_mac)
        else:
            make_way(runtime, instance, verdict.datagram.source_mac)


cdef int _obeyed(instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now) noexcept nogil:
    """The demotion byte of an advert where that is to be obeyed, or -1: see `Plan.obeyed`."""
    cdef const advert_t *advert = &verdict.advert
    cdef int64_t same_for
    if instance.plan.obeys_all:
        return advert.demotion
    if not instance.plan.obeys_known or (advert.demotion == 0 and machine_sent_demotion(&instance.machine) == 0):
        return -1
    if auth_vouches(
        instance.plan.auth, verdict.dialect, advert.counter, advert.advbase, advert.advskew, advert.demotion
    ):
        return advert.demotion
    same_for = now - find_source(&instance.sources, peer, advert.vhid).counter_since
    return advert.demotion if 4 * same_for >= 5 * _interval(instance) else -1


cdef inline int64_t _interval(const instance_t *instance) noexcept nogil:
    """As configured, not as a demotion makes it."""
    cdef const machine_config_t *config = &instance.machine.config
    return max(config.advbase * NS_PER_SECOND + config.advskew * NS_PER_SKEW, NS_PER_SKEW)


cdef inline uint8_t _pace(const instance_t *instance, const verdict_t *verdict) noexcept nogil:
    """The code of the pace that an advert says, where it is vouched for."""
    return auth_pace(instance.plan.auth, verdict.dialect, verdict.advert.counter)


cdef int64_t _arrived(const instance_t *instance, int64_t now) noexcept nogil:
    """When the kernel had the frame that is judged; now, where the wall clock says something else."""
    cdef int64_t age = realtime() - ring_arrival(&instance.carpdev.ring)
    return monotonic() - age if 0 <= age < NS_PER_SECOND else now


cdef bint _takes_over(
    runtime_t *runtime, instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    """Whether this is the first advert of one that takes over while we leave: it has not got the addresses yet."""
    if (
        (verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT) or not instance.plan.virtual
        or memcmp(verdict.datagram.source_mac, instance.plan.mac, MAC_LENGTH) == 0
    ):
        return False
    memcpy(instance.ownership.heir, verdict.datagram.source_mac, MAC_LENGTH)
    machine_heir(&instance.machine, peer.family, peer, now)
    schedule(runtime, instance)
    return True


cdef bint _made_way(const instance_t *instance, const verdict_t *verdict, const peer_t *peer) noexcept nogil:
    """Whether this is the bow-out of one that yielded to us, while we have yielded to a third."""
    return (
        verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT
        and instance.machine.state == STATE_BACKUP and boottime() - instance.ownership.advertised < MADE_WAY_WITHIN
        # What peers send comes by unicast, also the bow-out of the one that we have yielded to.
        and not (instance.plan.aimed and memcmp(&instance.reported.cause, peer, sizeof(peer_t)) == 0)
    )


cdef void _sibling(
    runtime_t *runtime, instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    cdef actions_t actions
    cdef bint owned = instance.ownership.owned
    note_source(instance, verdict, peer, now).dialects |= 1 << verdict.dialect
    if (
        verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT
        and makes_way_in_vain(runtime, instance, verdict)
    ):
        return
    machine_sibling(
        &instance.machine, verdict.advert.vhid, verdict.advert.advbase, verdict.advert.advskew, peer, now, &actions
    )
    if owned and instance.machine.state == STATE_MASTER:
        _announce_soon(instance, now)  # its MAC is another: clients may have learned that
    carry_out(runtime, instance, &actions, now)


cdef inline void _announce_soon(instance_t *instance, int64_t now) noexcept nogil:
    """The last frames of whoever has to yield may mislead switches and clients."""
    if instance.timers.announce_due == MACHINE_NEVER:
        instance.timers.announce_due = now + ANNOUNCE_AFTER_RIVAL


cdef inline void _note_peer(
    runtime_t *runtime, instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    cdef source_t *source = note_source(instance, verdict, peer, now)
    cdef record_t record
    if auth_follow(instance.plan.auth, verdict.dialect, now, _interval(instance)):
        record = new_record(instance, change_event, now)
        record.peer = peer[0]
        record.detail = instance.plan.auth.change.value
        report(runtime, &record)
    if source.dialects >> verdict.dialect & 1:
        return
    source.dialects |= 1 << verdict.dialect
    if instance.reported.peers == KNOWN_PEERS:
        return
    instance.reported.peers += 1
    record = new_record(instance, peer_event, now)
    record.peer = peer[0]
    record.detail = <uint8_t> verdict.dialect
    record.value = verdict.advert.advbase << 8 | verdict.advert.advskew
    report(runtime, &record)


cdef void _vrrp(runtime_t *runtime, instance_t *instance, const peer_t *peer, int64_t now) noexcept nogil:
    """A VRRP router was heard; `instance` is the one that has its number, or NULL."""
    cdef reported_t *reported
    cdef record_t record
    if instance == NULL:
        return
    reported = &instance.reported
    if now - reported.vrrp_heard > VRRP_FORGOTTEN:
        reported.vrrp.count = 0
    reported.vrrp_heard = now
    if not known(&reported.vrrp, peer, instance.vhid, 0):
        record = new_record(instance, vrrp_event, now)
        record.peer = peer[0]
        report(runtime, &record)


cdef void _rejected(
    runtime_t *runtime, carpdev_t *carpdev, instance_t *instance, const verdict_t *verdict, const peer_t *peer,
    int64_t now,
) noexcept nogil:
    cdef uint8_t counter = <uint8_t> verdict.counter
    cdef record_t record
    cdef int at
    cdef bint deaf = instance != NULL and instance.plan.aimed != 0 and instance.machine.state != STATE_INIT
    if counter == COUNT_BADVHID and not deaf and (instance != NULL or runtime.expected[verdict.advert.vhid]):
        return  # the kernel counts so too, but it is ours, and only in INIT; or it comes soon, or has just gone
    if counter == COUNT_BADIF and verdict.dialect == AUTH_NONE:
        return  # not of the group
    for at in range(runtime.instance_count):
        if instance == NULL and runtime.instances[at].carpdev == carpdev and runtime.instances[at].plan.led:
            return  # none here is of a group
    if _REPORTED >> counter & 1 and not known(&carpdev.rejected, peer, verdict.advert.vhid, counter):
        record = new_record(instance, rejected_event, now)
        record.peer = peer[0]
        record.vhid, record.detail = verdict.advert.vhid, counter
        report(runtime, &record)


cdef object peer_event(const record_t *record, dict who, object host):
    advbase, advskew = divmod(record.value, 256)
    dialect = _DIALECTS[record.detail]
    return events.PeerHeard(**who, peer=peer_of(record), dialect=dialect, advbase=advbase, advskew=advskew)


cdef object change_event(const record_t *record, dict who, object host):
    return events.ChangeStep(**who, speaks=SPOKEN[record.detail], why=heard_so(peer_of(record)))


cdef object rejected_event(const record_t *record, dict who, object host):
    counter = _COUNTERS[record.detail]
    hint = LED_HINT if host and host.led else HINTS[counter]
    if counter == "badvhid" and host:
        hint = DEAF_HINT
    return events.AdvertRejected(**who, counter=counter, peer=peer_of(record), hint=hint)


cdef object vrrp_event(const record_t *record, dict who, object host):
    peer = peer_of(record)
    return events.VrrpHeard(**who, peer=peer, advice=vrrp_advice(record.vhid, peer))
