# cython: language_level=3
"""Digests over adverts without Python objects: what does not change from one advert to the next is hashed once."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from sha1 cimport carp_sha1_mac


cdef enum:
    KEY_BYTES = 20
    AUTH_DIALECTS = 3
    AUTH_KEYS = 2 * AUTH_DIALECTS  # one for each dialect, at most, and during a change the next one's
    AUTH_VARIANTS = 2  # forms of the addresses under one key: OpenBSD believes two
    AUTH_MACS = AUTH_KEYS + 2 * (AUTH_VARIANTS - 1)
    AUTH_ISSUED = 128  # counters of one's own that are known again: 64 adverts under two dialects; a power of two
    AUTH_NONE = -1
    AUTH_BSD = 0
    AUTH_NETBSD = 1
    AUTH_OPENBSD = 2
    COUNTER_PART = 8  # of a counter's byte 2: its sender takes part in demotion
    AUTH_NEXT = AUTH_DIALECTS  # is added to the dialects of the secret and addresses that hold after a change
    # What is spoken during a change.
    SPEAK_OLD = 0
    SPEAK_BOTH = 1
    SPEAK_NEW = 2


cdef struct mac_t:
    # HMAC's inner hash up to the counter, under one key, over one variant of the addresses.
    uint32_t state[5]  # after the pad and every whole block of what precedes the counter
    uint8_t tail[128]  # the rest of that, zeros for the counter, SHA-1's padding and length: all of the last blocks
    uint8_t blocks  # how many blocks the tail has: 1 or 2
    uint8_t counter  # where in the tail the counter goes


cdef struct key_t:
    # The key itself is not kept.
    uint32_t inner[5]  # after the inner pad
    uint32_t outer[5]  # after the outer pad
    mac_t macs[AUTH_VARIANTS]  # one signs with the first
    uint8_t count
    uint8_t dialect
    # The addresses as the first form has them, for auth_derive. They belong to whoever set this up.
    const uint8_t *addresses
    size_t length


cdef struct change_t:
    # See `pycarp._python.change.Change`. Any caller writes `value` and `told`, a byte each.
    int64_t heard[2]  # when the old and the new were heard last, 0: never
    uint8_t value  # SPEAK_...
    bint changing
    uint8_t told


cdef struct auth_t:
    key_t keys[AUTH_KEYS]
    change_t change
    uint8_t key_count
    uint8_t heard  # peers' dialects, a bit each
    uint8_t heard_last
    uint8_t vhid
    bint guard
    uint8_t issued_count, issued_next
    uint8_t issued[AUTH_ISSUED][8]
    uint64_t serial  # tells one Authenticator from another that came to lie where it lay; 0: it is none's


# What auth_check finds
cdef enum:
    CHECK_FINE
    CHECK_ECHO
    CHECK_ALTERED


# Set-up
cdef void auth_clear(auth_t *auth) noexcept nogil
cdef void auth_prepare(auth_t *auth, uint8_t vhid) noexcept nogil
cdef void auth_add_key(auth_t *auth, int dialect, const uint8_t *key) noexcept nogil
cdef void auth_add_variant(auth_t *auth, const uint8_t *addresses, size_t length) noexcept nogil
cdef void auth_derive(const auth_t *auth, uint8_t vhid, auth_t *out) noexcept nogil

# Per advert. A dialect is AUTH_BSD, AUTH_NETBSD or AUTH_OPENBSD, of which there is a key; auth_verify may give
# AUTH_NONE.
cdef int auth_dialects(const auth_t *auth, uint8_t *dialects) noexcept nogil
cdef bint auth_follow(auth_t *auth, int dialect, int64_t now, int64_t interval) noexcept nogil
cdef void auth_sign(const auth_t *auth, int dialect, const uint8_t *counter, uint8_t *digest) noexcept nogil
# Verifying in steps, for many at once: what is to be computed (at most AUTH_MACS for each), by one call for all of
# them, and what comes of it.
cdef int auth_orders(const auth_t *auth, const uint8_t *counter, carp_sha1_mac *orders) noexcept nogil
cdef void auth_compute(carp_sha1_mac *orders, size_t count) noexcept nogil
cdef int auth_judge(auth_t *auth, const carp_sha1_mac *orders, const uint8_t *digest) noexcept nogil
cdef int auth_verify(auth_t *auth, const uint8_t *counter, const uint8_t *digest) noexcept nogil
cdef int auth_check(
    const auth_t *auth, int dialect, const uint8_t *counter, uint8_t advbase, uint8_t advskew, uint8_t demotion
) noexcept nogil
cdef bint auth_tagged(const auth_t *auth, int dialect, const uint8_t *counter) noexcept nogil
cdef bint auth_vouches(
    const auth_t *auth, int dialect, const uint8_t *counter, uint8_t advbase, uint8_t advskew, uint8_t demotion
) noexcept nogil
cdef uint8_t auth_pace(const auth_t *auth, int dialect, const uint8_t *counter) noexcept nogil
cdef void auth_counter(
    auth_t *auth, int dialect, uint8_t advbase, uint8_t advskew, int demotion, uint8_t nonce, uint16_t serial,
    uint8_t pace, uint8_t *counter,
) noexcept nogil


cdef class Authenticator:
    cdef auth_t *auth
    cdef auth_t _own  # where `auth` is at first
    cdef dict _ways  # keeps alive the addresses that the keys point to

    cdef auth_t *keep(self) except NULL
