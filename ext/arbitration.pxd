# cython: language_level=3
"""Who owns the addresses when hosts of other vhids have them too: the twin of `pycarp._python.arbitration`.

Inline functions, which become part of the module that uses them. They know nothing of the machine.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from .timing cimport MASTER_DOWN_INTERVALS, NS_PER_SECOND, NS_PER_SKEW, master_down


cdef enum:
    SIBLINGS = 2
    SIBLING_ANSWERS = 3

# In the order of protocol.STANDINGS.
cdef enum:
    STANDING_YIELD
    STANDING_PREFER
    STANDING_STALEMATE
    STANDING_SEVERAL
    STANDING_WARN


# Another vhid with our addresses, as it was last heard.
cdef struct sibling_t:
    uint8_t vhid
    bint stalemate  # it did not let go
    int answers  # how many adverts told it to let go
    int64_t interval
    int64_t gone_at  # not heard until then, it is gone
    int64_t first_answer
    int64_t copies_end  # until then, what is heard are copies of the advert that was answered last


cdef struct arbitration_t:
    uint8_t vhid
    bint enabled  # if not, siblings are only reported
    sibling_t siblings[SIBLINGS]  # those whose gone_at lies ahead
    uint8_t standings[256]  # what was reported of each vhid, counted from 1


cdef inline const sibling_t *_only(const arbitration_t *arbitration, int64_t now) noexcept nogil:
    """The one sibling that is heard, or NULL. With several, nobody knows which of them the others hear."""
    cdef const sibling_t *found = NULL
    cdef int index
    if not arbitration.enabled:
        return NULL
    for index in range(SIBLINGS):
        if arbitration.siblings[index].gone_at > now:
            if found != NULL:
                return NULL
            found = &arbitration.siblings[index]
    return found


cdef inline int64_t arbitration_gone_at(const arbitration_t *arbitration, int64_t now) noexcept nogil:
    """When the one sibling that is heard will be gone; 0: there is none, or there are several."""
    cdef const sibling_t *sibling = _only(arbitration, now)
    return sibling.gone_at if sibling != NULL else 0


cdef inline int64_t arbitration_owned_until(const arbitration_t *arbitration, int64_t now) noexcept nogil:
    """Until when, at least, a sibling owns the addresses, whatever our own group says; 0: it does not."""
    cdef const sibling_t *sibling = _only(arbitration, now)
    if sibling != NULL and (sibling.vhid > arbitration.vhid or sibling.stalemate):
        return sibling.gone_at
    return 0


cdef inline sibling_t *_note(
    arbitration_t *arbitration, uint8_t vhid, uint8_t advbase, uint8_t advskew, int64_t own_master_down, int64_t now
) noexcept nogil:
    """Remember that it is there; NULL when there are too many already."""
    cdef sibling_t *sibling = NULL
    cdef sibling_t *free = NULL
    cdef int64_t gone_after = master_down(advbase, advskew, MASTER_DOWN_INTERVALS, False)
    cdef int index
    for index in range(SIBLINGS):
        if arbitration.siblings[index].gone_at <= now:
            free = &arbitration.siblings[index]
        elif arbitration.siblings[index].vhid == vhid:
            sibling = &arbitration.siblings[index]
    if sibling == NULL:
        if free == NULL:
            return NULL
        # What a sibling did not let go of before it was gone is forgotten.
        sibling = free
        memset(sibling, 0, sizeof(sibling_t))
        sibling.vhid = vhid
    # 0/0 stands for a very short time, not for none.
    sibling.interval = max(advbase * NS_PER_SECOND + advskew * NS_PER_SKEW, NS_PER_SKEW)
    gone_after = max(gone_after, 3 * NS_PER_SKEW)
    if vhid > arbitration.vhid or sibling.stalemate:
        # It is waited for as for a master of ours; but who advertises seldom is not silent between two adverts.
        gone_after = max(gone_after, own_master_down)
    sibling.gone_at = now + gone_after
    return sibling


cdef inline uint8_t arbitration_hear(
    arbitration_t *arbitration, uint8_t vhid, uint8_t advbase, uint8_t advskew, bint master, int64_t own_master_down,
    int64_t now,
) noexcept nogil:
    """Take note of a sibling's advert; returns what it means for this host, which is MASTER of its group or not."""
    cdef sibling_t *sibling
    cdef int index
    if not arbitration.enabled:
        return STANDING_WARN
    sibling = _note(arbitration, vhid, advbase, advskew, own_master_down, now)
    if sibling == NULL or _only(arbitration, now) != sibling:
        for index in range(SIBLINGS):
            arbitration.siblings[index].answers = 0
            arbitration.siblings[index].stalemate = False
        return STANDING_SEVERAL
    if vhid > arbitration.vhid:
        return STANDING_YIELD
    # A quarter off: what comes every interval comes a little early now and then.
    if master and sibling.answers >= SIBLING_ANSWERS and now - sibling.first_answer >= 11 * sibling.interval >> 2:
        sibling.stalemate = True
        sibling.gone_at = max(sibling.gone_at, now + own_master_down)
    return STANDING_STALEMATE if sibling.stalemate else STANDING_PREFER


cdef inline bint arbitration_answer(arbitration_t *arbitration, int64_t now, bint first) noexcept nogil:
    """Whether a MASTER answers now what it heard of a lower sibling: with an advert, so that it lets go.

    `first`: this host has become MASTER, and its first advert is an answer in any case.
    """
    cdef sibling_t *sibling = <sibling_t *> _only(arbitration, now)
    if sibling == NULL or (now < sibling.copies_end and not first):
        return False
    if first or sibling.answers == 0:
        sibling.answers = 0
        sibling.first_answer = now
    sibling.answers += 1
    sibling.copies_end = now + (sibling.interval >> 1)
    return True


cdef inline bint arbitration_others(const arbitration_t *arbitration, uint8_t vhid, int64_t now) noexcept nogil:
    """Whether siblings but this one are heard."""
    cdef int index
    for index in range(SIBLINGS):
        if arbitration.siblings[index].gone_at > now and arbitration.siblings[index].vhid != vhid:
            return True
    return False


cdef inline void arbitration_forget(arbitration_t *arbitration, int vhid) noexcept nogil:
    """One sibling has bowed out; -1: this host goes to INIT, and all of them are forgotten."""
    cdef int index
    for index in range(SIBLINGS):
        if vhid < 0 or arbitration.siblings[index].vhid == vhid:
            memset(&arbitration.siblings[index], 0, sizeof(sibling_t))


cdef inline bint arbitration_report(arbitration_t *arbitration, uint8_t vhid, uint8_t standing) noexcept nogil:
    """Whether this is news to the engine: a standing is reported once, and when it changes."""
    cdef bint news = arbitration.standings[vhid] != standing + 1
    arbitration.standings[vhid] = standing + 1
    return news


cdef inline void arbitration_report_anew(arbitration_t *arbitration) noexcept nogil:
    """After a new start everything is news."""
    memset(arbitration.standings, 0, sizeof(arbitration.standings))
