# What the instances take for adverts beside those to carp(4)'s groups: see `pycarp.protocol.abc.Hearing`.

cdef bint _in_group(const input_t *input_, const uint8_t *address, uint8_t length) noexcept nogil:
    """Whether this is a group of carp(4) or of an instance."""
    cdef int index
    if _to_group(address, length):
        return True
    if input_.aimed:
        for index in range(input_.instance_count):
            if _among(&input_.instances[input_.vhids[index]].hearing.groups, address, length):
                return True
    return False


cdef bint _of_peer(const input_t *input_, const datagram_t *datagram, uint8_t length) noexcept nogil:
    """Whether this was sent to the host by a peer of the instance, or, of another vhid, by that of any."""
    cdef const input_instance_t *instance = NULL
    cdef int index
    cdef bint peer = False
    if not _among(&input_.addresses, datagram.destination, length):
        return False
    if datagram.length > 1:
        instance = input_.instances[datagram.payload[1]]
    if instance != NULL:
        peer = _among(&instance.hearing.peers, datagram.source, length)
    else:
        for index in range(input_.instance_count):
            instance = input_.instances[input_.vhids[index]]
            peer = peer or _among(&instance.hearing.peers, datagram.source, length)
    # A peer that does not know our MAC sends to those that look for it.
    if datagram.destination_mac[0] & 1:
        return peer
    return peer and _delivery_to_group(input_, datagram.destination_mac) == FOR_CARP


cdef bint _heard(const input_t *input_, const input_instance_t *instance, const datagram_t *datagram) noexcept nogil:
    """Whether the instance listens to the group that this was sent to, if it was sent to one."""
    cdef uint8_t length = 4 if datagram.family == 4 else 16
    if not _in_group(input_, datagram.destination, length):
        return True
    if not instance.hearing.aimed:
        return _to_group(datagram.destination, length)
    return _among(&instance.hearing.groups, datagram.destination, length)


cdef void _note_aimed(input_t *input_) noexcept nogil:
    cdef int index
    input_.aimed = False
    for index in range(input_.instance_count):
        input_.aimed |= input_.instances[input_.vhids[index]].hearing.aimed


cdef int input_store_hearing(hearing_t *place, object hearing) except -1:
    input_store_addresses(&place.groups, hearing.groups)
    input_store_addresses(&place.peers, hearing.peers)
    input_store_addresses(&place.routed, hearing.routed)
    place.aimed = hearing != EVERYTHING
    return 0


cdef void input_free_hearing(hearing_t *hearing) noexcept:
    free(hearing.groups.items)
    free(hearing.peers.items)
    free(hearing.routed.items)
    memset(hearing, 0, sizeof(hearing_t))
