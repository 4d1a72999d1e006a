# cython: language_level=3
"""The input path without Python objects: from the bytes of a frame to a verdict, counted on the way."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from sha1 cimport carp_sha1_mac

from .auth cimport auth_t
from .packet cimport advert_t, datagram_t


# The counters, in the order of stats.Stats.
cdef enum:
    COUNT_IPACKETS
    COUNT_IPACKETS6
    COUNT_BADIF
    COUNT_BADTTL
    COUNT_HDROPS
    COUNT_BADSUM
    COUNT_BADVER
    COUNT_BADLEN
    COUNT_BADAUTH
    COUNT_BADVHID
    COUNT_BADADDRS
    COUNT_OPACKETS
    COUNT_OPACKETS6
    COUNT_ONOMEM
    COUNT_OSTATES
    COUNT_PREEMPT
    COUNT_ALTERED
    COUNT_ECHO
    COUNT_REPLAYED
    COUNTERS
    # What a verdict may be besides one of the counters.
    VERDICT_VALID = COUNTERS
    VERDICT_IGNORED
    VERDICT_ALLOW
    VERDICT_UNVERIFIED  # all is well but for the digest, for which the instance has no auth_t
    VERDICT_SIBLING  # of a vhid that nobody here has, but with the secret and the addresses of an instance


cdef enum:
    SIBLINGS_KNOWN = 8  # on each carpdev
    # Frames that are judged together at most, and digests that are computed for them: two for each.
    BATCH = 32
    BATCH_MACS = 2 * BATCH

cdef enum:
    SENDERS_KNOWN = 16
    COUNTERS_KEPT = 16


cdef struct sender_t:
    # See `pycarp._python.serials`; so for serials_t.
    uint8_t source[16]
    uint8_t length, vhid
    bint believed, has_left, tries
    uint16_t left, tried_serial
    int64_t heard, lead, live_until, tried_lead, tried_since


cdef struct said_t:
    uint8_t source[16]
    uint8_t length
    uint8_t counter[8]


cdef struct serials_t:
    # All zeros is a good beginning.
    sender_t senders[SENDERS_KNOWN]
    said_t heard[COUNTERS_KEPT]
    uint8_t spent[COUNTERS_KEPT][8]
    uint8_t count, last, heard_count, heard_next, spent_count, spent_next


cdef struct address_t:
    uint8_t length  # 4 or 16
    uint8_t octets[16]


cdef struct addresses_t:
    address_t *items
    size_t count


cdef struct hearing_t:
    # See `pycarp.protocol.abc.Hearing`.
    addresses_t groups, peers, routed
    bint aimed  # it is not that of carp(4)


cdef struct input_instance_t:
    # What the input path knows of an instance. Whoever sets it owns the memory.
    auth_t *auth  # NULL: the caller verifies
    addresses_t addresses
    uint8_t mac[6]
    bint has_mac
    uint8_t state
    hearing_t hearing
    bint siblings  # whether adverts of other vhids are tried with `auth`
    uint64_t counters[COUNTERS]
    serials_t serials


cdef struct sibling_t:
    # Another vhid that has the secret and the addresses of an instance.
    auth_t auth
    uint64_t serial  # of the instance's own auth_t, from which `auth` was derived
    uint64_t heard  # when last, by search_t.clock
    uint8_t of, vhid  # the instance's, and its own


cdef struct search_t:
    # See `pycarp._python.siblings.Search`. All zeros is a good beginning.
    sibling_t known[SIBLINGS_KNOWN + 1]  # the one after `count` is for trying
    int count
    uint64_t clock
    int64_t spent, since
    int64_t again[256]  # by the other vhid
    uint8_t turn[256]


cdef struct input_t:
    input_instance_t *instances[256]  # by vhid
    uint8_t vhids[256]  # of the instances, in no order
    int instance_count
    addresses_t addresses  # of the carpdev
    addresses_t broadcasts
    uint8_t mac[6]
    bint has_mac
    bint aimed  # the hearing of some instance is not that of carp(4)
    bint allow
    int64_t wall  # ns, of the wall clock before `now`
    uint64_t unclaimed[COUNTERS]
    search_t search


cdef struct verdict_t:
    # The pointers in here are into the frame.
    int counter  # COUNT_..., or VERDICT_...
    int dialect  # AUTH_BSD or AUTH_NETBSD of a valid advert, of a sibling's, and of one sent by IP unicast (badif)
    int sibling_of  # with VERDICT_SIBLING: the vhid of the instance that has the same secret and addresses
    bint has_advert  # whether `advert` is filled in
    bint vrrp  # it is a VRRP packet
    bint carp  # it is a datagram of protocol 112, and `datagram` is filled in
    int fault  # the counter of the first check that fails for the bytes alone, or VERDICT_VALID
    const carp_sha1_mac *macs  # the digests under `macs_of`, computed beforehand, or NULL
    const auth_t *macs_of
    uint8_t pace  # of a valid advert, or a sibling's, of a pycarp host: the code in its counter, 0 for none
    datagram_t datagram
    advert_t advert


cdef struct batch_t:
    verdict_t verdicts[BATCH]
    int count
    carp_sha1_mac macs[BATCH_MACS]
    int mac_count


cdef void input_set_instance(input_t *input_, uint8_t vhid, input_instance_t *instance) noexcept nogil
cdef void input_remove_instance(input_t *input_, uint8_t vhid) noexcept nogil
cdef void input_forget_all(input_t *input_) noexcept nogil
cdef void input_frame(
    input_t *input_, const uint8_t *frame, size_t length, int64_t now, verdict_t *verdict
) noexcept nogil
# The same in steps, for frames that wait. The bytes of all have to stay until the last one is judged, and so have the
# instances' auths. What happens in between may change anything else: each is judged as it would be alone.
cdef void input_begin(batch_t *batch) noexcept nogil
cdef void input_add(input_t *input_, batch_t *batch, const uint8_t *frame, size_t length) noexcept nogil
cdef void input_compute(batch_t *batch) noexcept nogil
cdef void input_judge(input_t *input_, verdict_t *verdict, int64_t now) noexcept nogil
cdef void input_sent(input_t *input_, uint8_t vhid, uint8_t family) noexcept nogil

# At the border, under the GIL

cdef int input_store_addresses(addresses_t *addresses, object packed) except -1
cdef int input_store_hearing(hearing_t *place, object hearing) except -1
cdef void input_free_hearing(hearing_t *hearing) noexcept
cdef int input_store_carpdev(addresses_t *addresses, addresses_t *broadcasts, object given) except -1


cdef class Input:
    cdef input_t input_
    cdef list _authenticators  # by vhid; keeps alive what the instances point to
    cdef input_instance_t *_instance(self, object vhid) except NULL
    cdef object _told(self, verdict_t *verdict)
    cdef object _ask(self, object advert)
