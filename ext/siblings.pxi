# Hosts that have our secret and our addresses under another vhid. Included by input.pyx, for whose input path it is one
# more check; the compiled twin of `pycarp._python.siblings`, which says why it is as it is.

cdef enum:
    COST = 100_000_000  # ns in which one more trial is earned
    SAVED = 20 * COST  # no more trials than these are saved up
    HALF = 10 * COST

cdef int64_t REST = 10_000_000_000  # ns; a vhid has one turn in them when trials are scarce


cdef inline bint _wanted(const input_instance_t *seat) noexcept nogil:
    return seat != NULL and seat.siblings and seat.auth != NULL and seat.state != STATE_INIT


cdef inline bint _current(const input_t *input_, const sibling_t *sibling) noexcept nogil:
    """Whether it was derived from what its host has now."""
    cdef const input_instance_t *seat = input_.seats[sibling.host]
    return _wanted(seat) and seat.auth.serial == sibling.serial


cdef int _seek(input_t *input_, verdict_t *verdict, int64_t now) noexcept nogil:
    """What an advert is counted as whose vhid nobody here has."""
    cdef sibling_t *sibling
    cdef uint8_t vhid = verdict.advert.vhid
    if vhid == 0 or verdict.advert.version != VERSION:
        return COUNT_BADVHID
    sibling = _recognised(input_, verdict, vhid)
    if sibling == NULL:
        sibling = _tried(input_, verdict, vhid, now)
    if sibling == NULL:
        return COUNT_BADVHID
    input_.search.clock += 1
    sibling.heard = input_.search.clock
    # A kernel counts it so, whatever else it is to us.
    input_.unclaimed[COUNT_BADVHID] += 1
    verdict.sibling_of = sibling.host
    return _guard(&sibling.auth, verdict, VERDICT_SIBLING)


cdef sibling_t *_recognised(input_t *input_, verdict_t *verdict, uint8_t vhid) noexcept nogil:
    """The known sibling that this advert is of, or NULL; in the order of the hosts here."""
    cdef search_t *search = &input_.search
    cdef sibling_t *sibling
    cdef sibling_t *following
    cdef int at, host = -1
    while True:
        following = NULL
        for at in range(search.count):
            sibling = &search.known[at]
            if sibling.vhid != vhid or sibling.host <= host or not _current(input_, sibling):
                continue
            if following == NULL or sibling.host < following.host:
                following = sibling
        if following == NULL:
            return NULL
        verdict.dialect = auth_verify(&following.auth, verdict.advert.counter, verdict.advert.digest)
        if verdict.dialect != AUTH_NONE:
            return following
        host = following.host


cdef inline sibling_t *_known(input_t *input_, int host, uint8_t vhid) noexcept nogil:
    cdef int at
    for at in range(input_.search.count):
        if input_.search.known[at].vhid == vhid and input_.search.known[at].host == host:
            return &input_.search.known[at]
    return NULL


cdef sibling_t *_tried(input_t *input_, verdict_t *verdict, uint8_t vhid, int64_t now) noexcept nogil:
    """A sibling that was not known before, or NULL: this is none, or there are no trials left."""
    cdef search_t *search = &input_.search
    cdef const sibling_t *known
    cdef sibling_t *trial
    cdef int step, host, first = search.turn[vhid]
    if now > search.since:
        search.spent = search.spent - (now - search.since) if search.spent > now - search.since else 0
        search.since = now
    if search.spent > HALF and now < search.again[vhid]:
        return NULL
    for step in range(256):
        if search.spent > SAVED - COST:
            return NULL
        host = (first + step) & 255
        if not _wanted(input_.seats[host]):
            continue
        known = _known(input_, host, vhid)
        if known != NULL and _current(input_, known):
            continue
        search.spent += COST
        search.again[vhid] = now + REST
        search.turn[vhid] = <uint8_t> (host + 1)
        trial = &search.known[search.count]
        auth_derive(input_.seats[host].auth, vhid, &trial.auth)
        verdict.dialect = auth_verify(&trial.auth, verdict.advert.counter, verdict.advert.digest)
        if verdict.dialect != AUTH_NONE:
            search.again[vhid] = 0  # it has proved what it is
            trial.host, trial.vhid, trial.serial = <uint8_t> host, vhid, input_.seats[host].auth.serial
            return _keep(input_, trial)
        auth_clear(&trial.auth)
    return NULL


cdef sibling_t *_keep(input_t *input_, sibling_t *trial) noexcept nogil:
    """Where it is kept: in the place of what was derived from a former secret, else of the one that was heard longest
    ago if there are many."""
    cdef search_t *search = &input_.search
    cdef sibling_t *place = _known(input_, trial.host, trial.vhid)
    cdef int at
    if place == NULL and search.count < SIBLINGS:
        search.count += 1
        return trial
    if place == NULL:
        place = &search.known[0]
        for at in range(1, SIBLINGS):
            if search.known[at].heard < place.heard:
                place = &search.known[at]
    memcpy(place, trial, sizeof(sibling_t))
    auth_clear(&trial.auth)
    return place


cdef void input_forget(input_t *input_, uint8_t vhid) noexcept nogil:
    """Forgets the siblings of a host. For one that is gone or has another secret; what was theirs is not believed
    any more in any case."""
    cdef search_t *search = &input_.search
    cdef int at = 0
    while at < search.count:
        if search.known[at].host != vhid:
            at += 1
            continue
        search.count -= 1
        if at != search.count:
            memcpy(&search.known[at], &search.known[search.count], sizeof(sibling_t))
        auth_clear(&search.known[search.count].auth)


cdef void input_forget_all(input_t *input_) noexcept nogil:
    """Forgets every sibling, before the memory is given away: what verifies for them signs for them, too."""
    while input_.search.count:
        input_.search.count -= 1
        auth_clear(&input_.search.known[input_.search.count].auth)
