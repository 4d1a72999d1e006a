# Hosts that have our secret and our addresses under another vhid. Included by input.pyx, for whose input path it is one
# more check; the compiled twin of `pycarp._python.siblings`, which says why it is as it is.

cdef inline bint _wanted(const input_instance_t *instance) noexcept nogil:
    return instance != NULL and instance.siblings and instance.auth != NULL and instance.state != STATE_INIT


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
    verdict.sibling_of = sibling.of
    return _guard(input_, input_.instances[sibling.of], &sibling.auth, verdict, now, VERDICT_SIBLING)


cdef sibling_t *_recognised(input_t *input_, verdict_t *verdict, uint8_t vhid) noexcept nogil:
    """The known sibling that sent this advert, or NULL; in the order of the instances' vhids."""
    cdef search_t *search = &input_.search
    cdef sibling_t *sibling
    cdef sibling_t *following
    cdef int at, tried = -1
    while True:
        following = NULL
        for at in range(search.count):
            sibling = &search.known[at]
            if sibling.vhid != vhid or sibling.of <= tried or not _wanted(input_.instances[sibling.of]):
                continue
            if following == NULL or sibling.of < following.of:
                following = sibling
        if following == NULL:
            return NULL
        verdict.dialect = auth_verify(&following.auth, verdict.advert.counter, verdict.advert.digest)
        if verdict.dialect != AUTH_NONE:
            return following
        tried = following.of


cdef inline bint _is_known(const search_t *search, int of, uint8_t vhid) noexcept nogil:
    cdef int at
    for at in range(search.count):
        if search.known[at].vhid == vhid and search.known[at].of == of:
            return True
    return False


cdef sibling_t *_tried(input_t *input_, verdict_t *verdict, uint8_t vhid, int64_t now) noexcept nogil:
    """A sibling that was not known before, or NULL: this is none, or there are no trials left."""
    cdef search_t *search = &input_.search
    cdef sibling_t *trial
    cdef int step, of, first = search.turn[vhid]
    if now > search.since:
        search.spent = search.spent - (now - search.since) if search.spent > now - search.since else 0
        search.since = now
    if search.spent > SIBLING_TRIALS_KEPT // 2 and now < search.again[vhid]:
        return NULL
    for step in range(256):
        if search.spent > SIBLING_TRIALS_KEPT - SIBLING_TRIAL:
            return NULL
        of = (first + step) & 255
        if not _wanted(input_.instances[of]) or _is_known(search, of, vhid):
            continue
        search.spent += SIBLING_TRIAL
        search.again[vhid] = now + SIBLING_TURN
        search.turn[vhid] = <uint8_t> (of + 1)
        trial = &search.known[search.count]
        auth_derive(input_.instances[of].auth, vhid, &trial.auth)
        verdict.dialect = auth_verify(&trial.auth, verdict.advert.counter, verdict.advert.digest)
        if verdict.dialect != AUTH_NONE:
            search.again[vhid] = 0  # it has proved what it is
            trial.of, trial.vhid, trial.serial = <uint8_t> of, vhid, input_.instances[of].auth.serial
            return _keep(search, trial)
        auth_clear(&trial.auth)
    return NULL


cdef sibling_t *_keep(search_t *search, sibling_t *trial) noexcept nogil:
    """Where it is kept: if there are many, in the place of the one that was heard longest ago."""
    cdef sibling_t *place = &search.known[0]
    cdef int at
    if search.count < SIBLINGS_KNOWN:
        search.count += 1
        return trial
    for at in range(1, SIBLINGS_KNOWN):
        if search.known[at].heard < place.heard:
            place = &search.known[at]
    memcpy(place, trial, sizeof(sibling_t))
    auth_clear(&trial.auth)
    return place


cdef void _forget(input_t *input_, uint8_t vhid, const auth_t *auth) noexcept nogil:
    """Wipes the siblings of an instance, but for those that were derived from `auth`."""
    cdef search_t *search = &input_.search
    cdef int at = 0
    while at < search.count:
        if search.known[at].of != vhid or (auth != NULL and search.known[at].serial == auth.serial):
            at += 1
            continue
        search.count -= 1
        if at != search.count:
            memcpy(&search.known[at], &search.known[search.count], sizeof(sibling_t))
        auth_clear(&search.known[search.count].auth)


cdef void input_forget_all(input_t *input_) noexcept nogil:
    """Wipes every sibling, before the memory is given away: what verifies for them signs for them, too."""
    while input_.search.count:
        input_.search.count -= 1
        auth_clear(&input_.search.known[input_.search.count].auth)
