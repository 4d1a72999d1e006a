# cython: language_level=3
"""The figures of `pycarp.protocol.timing`, which says what each is for, for Cython."""

from libc.stdint cimport int64_t, uint8_t


cdef extern from "timing.h":
    const int64_t NS_PER_SECOND, NS_PER_MS, NS_PER_SKEW
    const int64_t TIE_JITTER, TIE_COPIES_END, TAKEOVER_STEP, TAKEOVER_JITTER, SEND_ERRORS_FORGOTTEN
    const int64_t OPENBSD_LATE, MASTER_DOWN_INTERVALS
    const int64_t NO_PACE, PACE_HEARD_FIRST, PACE_GAPS_FORGOTTEN, PACE_RETURNS_WITHIN, PACE_ADVERTS_A_SECOND, PACE_BEAT
    const int64_t PACE_NEVER, PACE_STEP
    const int64_t SIBLING_TRIAL, SIBLING_TRIALS_KEPT, SIBLING_TURN
    const int64_t SERIAL_ROUND, SERIAL_APART, SERIAL_CANDIDATE_APART, SERIAL_CLOCKS_APART, SERIAL_SHORTEST, SERIAL_DRIFT
    const int64_t HEIR_HEARD_WITHIN, HEIR_READY_WITHIN, HEIR_ANNOUNCES_AGAIN
    const int64_t BOWOUT_AFTER_DROP, ANNOUNCE_AFTER_RIVAL, MADE_WAY_WITHIN, TAKE_AFTER_DEPOSING
    const int64_t ANNOUNCE_AFTER_ADVERT, ANNOUNCE_AFTER_DEFENCE
    const int64_t DEVICE_REMOVED_AFTER_DROP, RETRY_FIRST, RETRY_LAST, DEMOTION_REPORTED_AFTER
    const int64_t CHANGE_HEARD_INTERVALS, DEAF_AT_LEAST, VRRP_FORGOTTEN
    const int64_t ANNOUNCEMENTS_AFTER_RIVAL
    const int64_t RENEWAL_LATE_ALLOWANCE, LEASE_ENDS_LATE, GATE_SHUTS_BEFORE, GATE_RENEWED_LATE
    const int64_t TENURE_ENDS_BEFORE, TENURE_FOREVER
    const int64_t LATE_ALLOWANCE_REALTIME, LATE_ALLOWANCE_ORDINARY
    const int64_t GUARDIAN_ANSWERS_WITHIN, GUARDIAN_REPLACED_WITHIN, PAUSE_NOTICED, ORDERS_DONE_WITHIN


cdef inline int64_t master_down(uint8_t advbase, uint8_t advskew, int64_t missed, bint openbsd) noexcept nogil:
    cdef int64_t base = advbase * NS_PER_SECOND, skew = advskew * NS_PER_SKEW
    if openbsd:
        if advbase == 0:
            return missed * (max(skew, NS_PER_SKEW) + OPENBSD_LATE)
        return missed * (base + skew) + OPENBSD_LATE
    return missed * base + (skew if advbase else missed * skew)
