# With which of two secrets or address sets an authenticator signs. Included by auth.pyx; the compiled twin of
# `pycarp._python.change`, which says why it is as it is.

cdef bint auth_follow(auth_t *auth, int dialect, int64_t now, int64_t interval) noexcept nogil:
    """An advert was heard that is right under `dialect`; whether another one is spoken from now on."""
    cdef change_t *change = &auth.change
    cdef bint new = dialect >= AUTH_NEXT, lately
    cdef uint8_t before = change.value
    cdef int64_t other
    if not change.changing:
        return False
    change.heard[1 if new else 0] = now
    if change.told:
        return False
    other = change.heard[0 if new else 1]
    lately = other > 0 and now - other <= max(CHANGE_HEARD_INTERVALS * interval, NS_PER_SECOND)
    if new:
        change.value = SPEAK_BOTH if lately else SPEAK_NEW
    elif before == SPEAK_NEW or (before == SPEAK_BOTH and change.heard[1]):
        change.value = SPEAK_BOTH
    else:
        change.value = SPEAK_OLD
    return change.value != before


cdef object _change_values(const change_t *change):
    if not change.changing:
        return None
    return [change.value, 1 if change.told else 0, change.heard[0], change.heard[1]]


cdef object _inherit_change(change_t *change, object values):
    if change.changing and values is not None:
        change.value, change.told, change.heard[0], change.heard[1] = values
