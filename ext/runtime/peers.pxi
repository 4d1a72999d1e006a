# Who was heard of a group, and of its siblings: for whoever asks what there is.
#
# Thread: runtime, no GIL; `peer_objects`: any caller.

cdef tuple _DIALECTS = DIALECTS


cdef source_t *note_source(
    instance_t *instance, const verdict_t *verdict, const peer_t *peer, int64_t now
) noexcept nogil:
    """An advert with the right digest came. In a full table it takes the place of the one that was silent longest: a
    liar with many addresses costs no memory, and the master is found again by its next advert."""
    cdef sources_t *sources = &instance.sources
    cdef source_t *source = &sources.items[sources.last]
    if not _is(source, peer, verdict.advert.vhid):
        source = find_source(sources, peer, verdict.advert.vhid)
    if source.count == 0 or memcmp(source.counter, verdict.advert.counter, COUNTER_LENGTH) != 0:
        memcpy(source.counter, verdict.advert.counter, COUNTER_LENGTH)
        source.counter_since = now
    source.heard = now
    source.count += 1
    source.advbase, source.advskew = verdict.advert.advbase, verdict.advert.advskew
    memcpy(source.mac, verdict.datagram.source_mac, MAC_LENGTH)
    return source


cdef inline bint _is(const source_t *source, const peer_t *peer, uint8_t vhid) noexcept nogil:
    # What is behind an IPv4 address is zero in both.
    return source.family == peer.family and source.vhid == vhid and memcmp(source.address, peer.address, 16) == 0


cdef source_t *find_source(sources_t *sources, const peer_t *peer, uint8_t vhid) noexcept nogil:
    """The one of this peer; made if there is none."""
    cdef source_t *source
    cdef int at, oldest = 0
    for at in range(sources.count):
        if _is(&sources.items[at], peer, vhid):
            sources.last = at
            return &sources.items[at]
        if sources.items[at].heard < sources.items[oldest].heard:
            oldest = at
    if sources.count < KNOWN_PEERS:
        oldest = sources.count
        sources.count += 1
    source = &sources.items[oldest]
    memset(source, 0, sizeof(source_t))
    memcpy(source.address, peer.address, 16)
    source.family, source.vhid = peer.family, vhid
    sources.last = oldest
    return source


cdef const source_t *heard_last(const sources_t *sources, const uint8_t *mac) noexcept nogil:
    """The host with this MAC, or NULL; of several, which had the group's one after another, the last one."""
    cdef const source_t *found = NULL
    cdef int at
    for at in range(sources.count):
        if memcmp(sources.items[at].mac, mac, MAC_LENGTH) == 0:
            if found == NULL or sources.items[at].heard > found.heard:
                found = &sources.items[at]
    return found


cdef tuple peer_objects(const sources_t *sources):
    """Those of a copy, the one that was heard last first."""
    cdef const source_t *source
    cdef int at
    cdef list found = []
    for at in range(sources.count):
        source = &sources.items[at]
        found.append(
            Peer(
                source=address_text(source.address, source.family),
                vhid=source.vhid,
                mac=(<bytes> source.mac[:MAC_LENGTH]).hex(":"),
                kind="bow-out" if source.advbase == BOWOUT and source.advskew == BOWOUT else "advert",
                advbase=source.advbase,
                advskew=source.advskew,
                dialects=tuple([name for number, name in enumerate(_DIALECTS) if source.dialects >> number & 1]),
                heard=source.heard,
                count=source.count,
            )
        )
    return tuple(sorted(found, key=_heard, reverse=True))


def _heard(peer):
    return peer.heard
