# Events on their way to Python, what is reported once only, and what the thread measures of itself.
#
# Thread: runtime, no GIL. In every room, functions called ..._event run in the event thread.

cdef tuple _STATES = (State.INIT, State.BACKUP, State.MASTER)


cdef inline record_t new_record(const instance_t *instance, make_event_t make, int64_t at) noexcept nogil:
    """To be filled in and reported."""
    cdef record_t record
    memset(&record, 0, sizeof(record_t))
    record.make = make
    record.at = at
    record.index = -1
    if instance != NULL:
        record.index, record.vhid = instance.index, instance.vhid
    return record


cdef bint report_value(
    runtime_t *runtime, const instance_t *instance, const char *name, int64_t value, int64_t at
) noexcept nogil:
    """An event by the name of its class in pycarp.events and of its only field: b"Demoted demotion"."""
    cdef record_t record = new_record(instance, NULL, at)
    record.name, record.value = name, value
    return report(runtime, &record)


cdef bint report(runtime_t *runtime, const record_t *record) noexcept nogil:
    """False, and counted, when Python is too far behind."""
    cdef reports_t *reports = &runtime.reports
    if reports.put - atomic_load32(&reports.fetched) >= RECORDS:
        if atomic_add64(&reports.lost, 1) == 0:
            wake(reports.wake)
        return False
    reports.records[reports.put % RECORDS] = record[0]
    atomic_store32(&reports.put, reports.put + 1)
    wake(reports.wake)
    return True


cdef inline void wake(int eventfd) noexcept nogil:
    cdef unsigned long long one = 1
    write(eventfd, &one, 8)


cdef bint known(known_peers_t *table, const peer_t *peer, uint8_t vhid, uint8_t what) noexcept nogil:
    """Whether this was reported before; notes it if not. A full table knows everybody: a liar with many addresses costs
    neither memory nor time."""
    cdef size_t length = 4 if peer.family == 4 else 16
    cdef known_t *one
    cdef int at
    if table.count == KNOWN_PEERS:
        return True
    for at in range(table.count):
        one = &table.items[at]
        if (
            one.what == what and one.vhid == vhid and one.family == peer.family
            and memcmp(one.address, peer.address, length) == 0
        ):
            return True
    one = &table.items[table.count]
    memset(one, 0, sizeof(known_t))
    memcpy(one.address, peer.address, length)
    one.family, one.vhid, one.what = peer.family, vhid, what
    table.count += 1
    return False


cdef void report_demotions(runtime_t *runtime) noexcept nogil:
    """Report the demotions that have changed, once that is due."""
    cdef instance_t *instance
    cdef int64_t now
    cdef int at
    if runtime.demotions_due == 0:
        return
    now = monotonic()
    if now < runtime.demotions_due and not runtime.closing:
        return
    runtime.demotions_due = 0
    for at in range(runtime.instance_count):
        instance = runtime.instances[at]
        if instance.machine.demotion != instance.reported.demotion:
            instance.reported.demotion = instance.machine.demotion
            report_value(runtime, instance, b"Demoted demotion", instance.machine.demotion, now)


cdef inline void measure(uint64_t *histogram, int64_t ns) noexcept nogil:
    cdef int bucket = 0
    while ns > 0 and bucket < BUCKETS - 1:
        ns >>= 1
        bucket += 1
    histogram[bucket] += 1


cdef object event_of(const record_t *record, object host):
    """The event that a record is; `host` is the configuration of its instance, or None."""
    cdef dict who = {"vhid": record.vhid, "name": "" if host is None else host.name, "at": record.at}
    cdef list names
    if record.make != NULL:
        return record.make(record, who, host)
    names = (<bytes> record.name).decode().split()
    return getattr(events, names[0])(**who, **{name: record.value for name in names[1:]})


cdef object peer_of(const record_t *record):
    """The source address that an advert claimed, or None."""
    return None if record.peer.family == PEER_NOBODY else address_text(record.peer.address, record.peer.family)
