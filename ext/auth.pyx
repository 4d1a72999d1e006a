# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, annotation_typing=False
"""Digests over adverts, and the counter that vouches for the header.

The compiled twin of `pycarp._python.auth`, which says where each rule comes from and what each method takes and gives.
An advert costs two SHA-1 compressions under each dialect, three when what precedes the counter leaves no room for the
padding in its last block (with 12 to 15 IPv4 addresses, 28 to 31 ...), and twice that with link-local IPv6 addresses,
which OpenBSD's digest leaves out.
``PYCARP_SHA1`` in the environment forces a SHA-1 variant: "avx512", "sha-ni", "avx2", "armv8" or "portable".
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sha1 cimport (
    CARP_SHA1_BLOCK, CARP_SHA1_DIGEST, carp_sha1_block, carp_sha1_count, carp_sha1_current, carp_sha1_digest,
    carp_sha1_init, carp_sha1_mac, carp_sha1_macs, carp_sha1_select, carp_sha1_variant,
)

from .kept cimport kept_calloc, kept_free
from .packet cimport COUNTER_LENGTH, DIGEST_LENGTH, octets
from .timing cimport CHANGE_HEARD_INTERVALS, NS_PER_SECOND

from ..errors import ImplementationError
from ..protocol import DIALECT_BSD, DIALECTS, SPOKEN
from ..protocol.keys import counter_bytes, counter_fields, not_in_use, prepare, spoken

cdef extern from "atomic.h" nogil:
    uint64_t atomic_add64(uint64_t *place, uint64_t by)

cdef extern from *:
    """
    /* Through a volatile pointer: the compiler may not leave out stores to memory that is not read again. */
    static void pycarp_wipe(void *memory, size_t length)
    {
        volatile unsigned char *at = (volatile unsigned char *)memory;
        while (length-- != 0)
            *at++ = 0;
    }
    """
    void pycarp_wipe(void *memory, size_t length) noexcept nogil

REMEMBERED = AUTH_ISSUED // 2
"""This many of one's own adverts are known again when they come back."""

cdef tuple _DIALECTS = DIALECTS
cdef uint64_t _serials = 0

include "digest.pxi"


# SHA-1 and HMAC on prepared states

cdef inline uint32_t _load32(const uint8_t *place) noexcept nogil:
    return (
        (<uint32_t> place[0] << 24) | (<uint32_t> place[1] << 16) | (<uint32_t> place[2] << 8) | <uint32_t> place[3]
    )


cdef inline void _store32(uint8_t *place, uint32_t word) noexcept nogil:
    place[0] = <uint8_t> (word >> 24)
    place[1] = <uint8_t> (word >> 16)
    place[2] = <uint8_t> (word >> 8)
    place[3] = <uint8_t> word


cdef inline void _close(uint8_t *blocks, size_t used, size_t count, uint64_t total) noexcept nogil:
    """SHA-1's padding after `used` bytes of `count` blocks, for a message of `total` bytes (FIPS 180-4, 5.1.1)."""
    cdef size_t end = count * CARP_SHA1_BLOCK
    memset(blocks + used, 0, end - used)
    blocks[used] = 0x80
    _store32(blocks + end - 8, <uint32_t> (total >> 29))
    _store32(blocks + end - 4, <uint32_t> (total << 3))


cdef inline void _order(
    carp_sha1_mac *order, const key_t *key, const mac_t *mac, const uint8_t *counter
) noexcept nogil:
    """What carp_sha1_macs needs to know for one digest."""
    order.inner = &mac.state[0]
    order.outer = &key.outer[0]
    order.tail = &mac.tail[0]
    order.blocks = mac.blocks
    order.at = mac.counter
    order.counter = counter


cdef inline const key_t *_key(const auth_t *auth, int dialect) noexcept nogil:
    """The key for a dialect that is in use here."""
    cdef int index
    for index in range(1, auth.key_count):
        if auth.keys[index].dialect == dialect:
            return &auth.keys[index]
    return &auth.keys[0]


# Set-up

cdef void auth_clear(auth_t *auth) noexcept nogil:
    """Forgets everything, in a way that the compiler cannot leave out."""
    pycarp_wipe(auth, sizeof(auth_t))


cdef void auth_prepare(auth_t *auth, uint8_t vhid) noexcept nogil:
    """Begins the set-up: then each key with its forms of the addresses, the one to sign with first."""
    auth_clear(auth)
    auth.vhid = vhid


cdef void auth_add_key(auth_t *auth, int dialect, const uint8_t *key) noexcept nogil:
    """`key` has KEY_BYTES. At most AUTH_KEYS times."""
    cdef key_t *added = &auth.keys[auth.key_count]
    cdef uint8_t pad[CARP_SHA1_BLOCK]
    cdef int index
    added.dialect = <uint8_t> dialect
    memset(pad, 0x36, CARP_SHA1_BLOCK)
    for index in range(KEY_BYTES):
        pad[index] ^= key[index]
    carp_sha1_init(added.inner)
    carp_sha1_block(added.inner, pad, 1)
    for index in range(CARP_SHA1_BLOCK):
        pad[index] ^= 0x36 ^ 0x5C
    carp_sha1_init(added.outer)
    carp_sha1_block(added.outer, pad, 1)
    pycarp_wipe(pad, sizeof(pad))
    auth.key_count += 1


cdef void auth_add_variant(auth_t *auth, const uint8_t *addresses, size_t length) noexcept nogil:
    """The addresses as digests under the key that was added last cover them. They have to stay where they are as long
    as `auth` may be derived from. AUTH_VARIANTS times for one key, once for the others."""
    cdef key_t *key = &auth.keys[auth.key_count - 1]
    if key.count == 0:
        key.addresses, key.length = addresses, length
    _hash_variant(key, auth.vhid, addresses, length)


cdef void auth_derive(const auth_t *auth, uint8_t vhid, auth_t *out) noexcept nogil:
    """What the same passphrase and addresses make under another vhid; it has heard nobody and issued nothing.

    It owes nothing to `auth` afterwards, and so cannot be derived from itself.
    """
    cdef int index
    auth_prepare(out, vhid)
    out.guard = auth.guard
    out.key_count = auth.key_count
    for index in range(auth.key_count):
        memcpy(out.keys[index].inner, auth.keys[index].inner, sizeof(auth.keys[index].inner))
        memcpy(out.keys[index].outer, auth.keys[index].outer, sizeof(auth.keys[index].outer))
        out.keys[index].dialect = auth.keys[index].dialect
        # What OpenBSD believes and does not send holds its own address, which has the vhid in it.
        _hash_variant(&out.keys[index], vhid, auth.keys[index].addresses, auth.keys[index].length)


cdef void _hash_variant(key_t *key, uint8_t vhid, const uint8_t *addresses, size_t length) noexcept nogil:
    cdef mac_t *mac = &key.macs[key.count]
    cdef uint8_t block[CARP_SHA1_BLOCK]
    cdef const uint8_t *rest = addresses
    cdef size_t used = 3, taken, left = length
    memcpy(mac.state, key.inner, sizeof(mac.state))
    block[0] = 2
    block[1] = 1
    block[2] = vhid
    while used + left >= CARP_SHA1_BLOCK:
        taken = CARP_SHA1_BLOCK - used
        memcpy(block + used, rest, taken)
        carp_sha1_block(mac.state, block, 1)
        rest += taken
        left -= taken
        used = 0
    memcpy(mac.tail, block, used)
    if left:
        memcpy(mac.tail + used, rest, left)
    used += left
    mac.counter = <uint8_t> used
    memset(mac.tail + used, 0, COUNTER_LENGTH)
    # The counter, one byte that ends the message, and its length in 8 bytes.
    mac.blocks = 1 if used + COUNTER_LENGTH + 9 <= CARP_SHA1_BLOCK else 2
    _close(mac.tail, used + COUNTER_LENGTH, mac.blocks, CARP_SHA1_BLOCK + 3 + length + COUNTER_LENGTH)
    key.count += 1


# Per advert

cdef int auth_dialects(const auth_t *auth, uint8_t *dialects) noexcept nogil:
    """How many dialects the next advert is to be sent under; `dialects` (of AUTH_KEYS) says which."""
    cdef int count = 0
    if auth.change.value != SPEAK_NEW:
        count = _spoken(auth, 0, dialects, 0)
    if auth.change.value != SPEAK_OLD:
        count = _spoken(auth, AUTH_NEXT, dialects, count)
    return count


cdef inline int _spoken(const auth_t *auth, int first, uint8_t *dialects, int count) noexcept nogil:
    """Adds those from dialect `first` on: the one that was heard, or all. Returns how many there are then."""
    cdef int index
    cdef uint8_t heard = auth.heard >> first & ((1 << AUTH_DIALECTS) - 1), dialect
    for index in range(auth.key_count):
        dialect = auth.keys[index].dialect
        if dialect < first or dialect >= first + AUTH_DIALECTS:
            continue
        if heard == 0 or heard & (heard - 1) or heard == 1 << (dialect - first):
            dialects[count] = dialect
            count += 1
    return count


cdef void auth_sign(const auth_t *auth, int dialect, const uint8_t *counter, uint8_t *digest) noexcept nogil:
    """Writes DIGEST_LENGTH bytes."""
    cdef const key_t *key = _key(auth, dialect)
    cdef carp_sha1_mac order
    cdef int word
    _order(&order, key, &key.macs[0], counter)
    carp_sha1_macs(&order, 1)
    for word in range(5):
        _store32(digest + 4 * word, order.digest[word])


cdef int auth_orders(const auth_t *auth, const uint8_t *counter, carp_sha1_mac *orders) noexcept nogil:
    """Fills in the digests that may be right for a counter; how many. `auth` and the counter have to stay."""
    cdef int index, variant, count = 0
    for index in range(auth.key_count):
        for variant in range(auth.keys[index].count):
            _order(&orders[count], &auth.keys[index], &auth.keys[index].macs[variant], counter)
            count += 1
    return count


cdef void auth_compute(carp_sha1_mac *orders, size_t count) noexcept nogil:
    carp_sha1_macs(orders, count)


cdef int auth_judge(auth_t *auth, const carp_sha1_mac *orders, const uint8_t *digest) noexcept nogil:
    """As auth_verify, from the digests that were computed for `auth_orders` of the same `auth`."""
    cdef int found = AUTH_NONE, index, _variant
    cdef const uint32_t *words
    cdef uint32_t difference
    for index in range(auth.key_count):
        for _variant in range(auth.keys[index].count):
            words = &orders[0].digest[0]
            difference = words[0] ^ _load32(digest)
            difference |= words[1] ^ _load32(digest + 4)
            difference |= words[2] ^ _load32(digest + 8)
            difference |= words[3] ^ _load32(digest + 12)
            difference |= words[4] ^ _load32(digest + 16)
            if difference == 0 and found == AUTH_NONE:
                found = auth.keys[index].dialect
            orders += 1
    if found != AUTH_NONE:
        auth.heard |= <uint8_t> (1 << found)
        auth.heard_last = <uint8_t> found
    return found


cdef int auth_verify(auth_t *auth, const uint8_t *counter, const uint8_t *digest) noexcept nogil:
    """The dialect under which the digest is right, or AUTH_NONE; remembers it as heard.

    Every key and variant is tried and every word compared, whatever was found before: time tells nothing.
    """
    cdef carp_sha1_mac orders[AUTH_MACS]
    carp_sha1_macs(orders, auth_orders(auth, counter, orders))
    return auth_judge(auth, orders, digest)


cdef uint64_t _tags(const auth_t *auth, const key_t *key, const uint8_t *vouched) noexcept nogil:
    """The first 40 bits of what vouches for five bytes: 24 for the first layout, then 16 for today's."""
    cdef uint8_t block[CARP_SHA1_BLOCK]
    cdef uint8_t end[COUNTER_LENGTH]
    cdef carp_sha1_mac order
    # The message is "pycarp", 1, the vhid, and these five bytes: its last eight stand in the counter's place.
    memcpy(block, b"pycar\0\0\0\0\0\0\0\0", 13)
    memcpy(end, b"p\x01", 2)
    end[2] = auth.vhid
    memcpy(end + 3, vouched, 5)
    _close(block, 13, 1, CARP_SHA1_BLOCK + 13)
    order.inner = &key.inner[0]
    order.outer = &key.outer[0]
    order.tail = block
    order.blocks = 1
    order.at = 5
    order.counter = end
    carp_sha1_macs(&order, 1)
    return <uint64_t> order.digest[0] << 8 | order.digest[1] >> 24


cdef inline bint _has_first(const uint8_t *counter, uint64_t tags) noexcept nogil:
    return _load32(counter) >> 8 == tags >> 16


cdef inline bint _has_tag(const uint8_t *counter, uint64_t tags) noexcept nogil:
    return _load32(counter) >> 16 == (tags & 0xFFFF)


cdef void auth_counter(
    auth_t *auth, int dialect, uint8_t advbase, uint8_t advskew, int demotion, uint8_t nonce, uint16_t serial,
    uint8_t pace, uint8_t *counter,
) noexcept nogil:
    """Writes COUNTER_LENGTH bytes, and remembers them. A `demotion` below 0: the sender takes no part in it."""
    cdef uint64_t tags
    counter[3] = 0 if demotion < 0 else <uint8_t> demotion
    counter[4] = <uint8_t> (serial >> 8)
    counter[5] = <uint8_t> serial
    counter[6] = advbase
    counter[7] = advskew
    tags = _tags(auth, _key(auth, dialect), counter + 3)
    counter[0] = <uint8_t> (tags >> 8)
    counter[1] = <uint8_t> tags
    counter[2] = <uint8_t> (pace << 4 | (0 if demotion < 0 else COUNTER_PART) | (nonce & 7))
    memcpy(auth.issued[auth.issued_next], counter, COUNTER_LENGTH)
    auth.issued_next = (auth.issued_next + 1) & (AUTH_ISSUED - 1)
    if auth.issued_count < AUTH_ISSUED:
        auth.issued_count += 1


cdef int auth_check(
    const auth_t *auth, int dialect, const uint8_t *counter, uint8_t advbase, uint8_t advskew, uint8_t demotion
) noexcept nogil:
    """What is wrong with an advert whose digest is right under `dialect`: CHECK_ECHO, CHECK_ALTERED, or CHECK_FINE."""
    cdef int index
    cdef bint same = counter[6] == advbase and counter[7] == advskew
    cdef uint64_t tags
    if not auth.guard:
        return CHECK_FINE
    for index in range(auth.issued_count):
        if memcmp(auth.issued[index], counter, COUNTER_LENGTH) == 0:
            return CHECK_ECHO
    cdef bint says = same and counter[3] == demotion
    if says and demotion == 0:
        return CHECK_FINE
    tags = _tags(auth, _key(auth, dialect), counter + 3)
    if _has_tag(counter, tags):
        return CHECK_FINE if says else CHECK_ALTERED
    # In the first layout a nonce stands there, which may be any demotion.
    return CHECK_ALTERED if _has_first(counter, tags) and (demotion or not same) else CHECK_FINE


cdef bint auth_tagged(const auth_t *auth, int dialect, const uint8_t *counter) noexcept nogil:
    """Whether a counter whose digest is right under `dialect` has our tag: then it has a pace and a serial."""
    return _has_tag(counter, _tags(auth, _key(auth, dialect), counter + 3))


cdef bint auth_vouches(
    const auth_t *auth, int dialect, const uint8_t *counter, uint8_t advbase, uint8_t advskew, uint8_t demotion
) noexcept nogil:
    """Whether an advert whose digest is right under `dialect` is a pycarp host's that says its demotion."""
    if not counter[2] & COUNTER_PART or counter[3] != demotion or counter[6] != advbase or counter[7] != advskew:
        return False
    return auth_tagged(auth, dialect, counter)


cdef uint8_t auth_pace(const auth_t *auth, int dialect, const uint8_t *counter) noexcept nogil:
    """The code of the pace that such a counter says, or 0."""
    cdef uint8_t code = counter[2] >> 4
    return code if code and auth_tagged(auth, dialect, counter) else 0


include "change.pxi"


# The border

cdef inline const uint8_t *_at(bytes data) noexcept:
    return <const uint8_t *> PyBytes_AS_STRING(data)


cdef tuple _CHECKS = ("", "echo", "altered")


cdef class Authenticator:
    """Authenticator(passphrase, vhid, addresses, dialect='auto', replay='guard', following=None)
--

    Signs and verifies the adverts of one virtual host.

    Raises `ConfigError`. Not safe to share between threads: `verify` remembers which dialects it met.
    """

    # In __cinit__, which runs once: no half-made object, and no second key in it.
    def __cinit__(self, passphrase, vhid, addresses, dialect="auto", replay="guard", following=None):
        cdef bytes key, form
        self.auth = &self._own
        ways, guard = prepare(passphrase, vhid, addresses, dialect, replay, following)
        auth_prepare(self.auth, vhid)
        if following is not None:
            self.auth.change.changing, self.auth.change.value = True, SPEAK_BOTH
        self.auth.guard = guard
        self._ways = {name: forms for name, (_key, forms) in ways.items()}
        for name, (key, forms) in ways.items():
            auth_add_key(self.auth, _DIALECTS.index(name), _at(key))
            for form in forms:
                auth_add_variant(self.auth, _at(form), PyBytes_GET_SIZE(form))
        self.auth.serial = atomic_add64(&_serials, 1) + 1

    def __dealloc__(self):
        if self.auth == NULL:
            return  # the arguments were wrong
        auth_clear(self.auth)
        if self.auth != &self._own:
            kept_free(self.auth)

    cdef auth_t *keep(self) except NULL:
        """For a thread that must not wait while the program forks. A forked child finds zeros."""
        cdef auth_t *kept
        if self.auth == &self._own:
            kept = <auth_t *> kept_calloc(sizeof(auth_t))
            if kept == NULL:
                raise MemoryError
            memcpy(kept, self.auth, sizeof(auth_t))
            auth_clear(self.auth)
            self.auth = kept
        return self.auth

    def __repr__(self):
        return f"<Authenticator vhid {self.auth.vhid} {'+'.join(_names(self.auth))}>"

    @property
    def guards(self) -> bool:
        """Whether `replay` is "guard"."""
        return bool(self.auth.guard)

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects under which the next advert is to be sent, one frame each."""
        cdef uint8_t dialects[AUTH_KEYS]
        cdef int index
        return tuple([_DIALECTS[dialects[index]] for index in range(auth_dialects(self.auth, dialects))])

    @property
    def accepts(self) -> tuple[str, ...]:
        """The dialects that are understood."""
        return tuple(_names(self.auth))

    @property
    def speaks(self) -> str:
        """During a change what is signed with: "old", "both" or "new". Otherwise ""."""
        return SPOKEN[self.auth.change.value] if self.auth.change.changing else ""

    def speak(self, which: str) -> None:
        """Sign with "old", "both" or "new" from now on, whatever is heard; "auto": with what the group speaks."""
        cdef int value = spoken(which, self.auth.change.changing)
        self.auth.change.told = value >= 0
        if value >= 0:
            self.auth.change.value = <uint8_t> value

    def follow(self, dialect: str, now: int, interval: int) -> str:
        """An advert that is right under `dialect` was heard at `now` (ns); `interval` is our own."""
        return self.speaks if auth_follow(self.auth, _chosen(self.auth, dialect), now, interval) else ""

    def sign(self, counter: bytes | int, dialect: str | None = None) -> bytes:
        """The 20-byte digest for an advert with this counter (8 bytes, or an integer below 2**64)."""
        cdef int chosen = _chosen(self.auth, dialect)
        cdef bytes octets8 = counter_bytes(counter)
        cdef uint8_t digest[DIGEST_LENGTH]
        auth_sign(self.auth, chosen, _at(octets8), digest)
        return PyBytes_FromStringAndSize(<const char *> digest, DIGEST_LENGTH)

    def verify(self, counter: bytes | int, digest: bytes) -> str | None:
        """The dialect under which `digest` is right for `counter`, or None. Compares in constant time."""
        cdef bytes octets8 = counter_bytes(counter)
        cdef bytes octets20 = octets(digest)
        cdef int found
        if PyBytes_GET_SIZE(octets20) != DIGEST_LENGTH:
            return None
        found = auth_verify(self.auth, _at(octets8), _at(octets20))
        return None if found == AUTH_NONE else _DIALECTS[found]

    def counter(
        self,
        advbase: int,
        advskew: int,
        nonce: int,
        dialect: str | None = None,
        demotion: int | None = None,
        serial: int = 0,
        pace: int = 0,
    ) -> bytes:
        """The 8-byte counter of an advert of ours."""
        cdef bytes first, vouched
        cdef uint8_t counter[COUNTER_LENGTH]
        cdef int said = -1
        cdef const uint8_t *at
        first, vouched = counter_fields(advbase, advskew, nonce, demotion, serial, pace)
        at = _at(vouched)
        if demotion is not None:
            said = at[0]
        auth_counter(
            self.auth, _chosen(self.auth, dialect), at[3], at[4], said, _at(first)[0] & 7,
            <uint16_t> (at[1] << 8 | at[2]), pace, counter,
        )
        return PyBytes_FromStringAndSize(<const char *> counter, COUNTER_LENGTH)

    def check(self, counter: bytes | int, advbase: int, advskew: int, dialect: str, demotion: int = 0) -> str:
        """What is wrong with an advert whose digest is right under `dialect`: "echo", "altered", or "" for nothing."""
        cdef bytes octets8 = counter_bytes(counter)
        cdef bytes header = bytes((advbase, advskew, demotion))
        cdef const uint8_t *at = _at(header)
        cdef int chosen = _chosen(self.auth, dialect)
        return _CHECKS[auth_check(self.auth, chosen, _at(octets8), at[0], at[1], at[2])]

    def vouches(self, counter: bytes | int, advbase: int, advskew: int, dialect: str, demotion: int) -> bool:
        """Whether an advert whose digest is right under `dialect` is a pycarp host's that says its demotion."""
        cdef bytes octets8 = counter_bytes(counter)
        cdef bytes header = bytes((advbase, advskew, demotion))
        cdef const uint8_t *at = _at(header)
        cdef int chosen = _chosen(self.auth, dialect)
        return bool(auth_vouches(self.auth, chosen, _at(octets8), at[0], at[1], at[2]))

    def tagged(self, counter: bytes | int, dialect: str) -> bool:
        """Whether a counter whose digest is right under `dialect` has our tag: then it has a pace and a serial."""
        cdef bytes octets8 = counter_bytes(counter)
        return bool(auth_tagged(self.auth, _chosen(self.auth, dialect), _at(octets8)))

    def pace(self, counter: bytes | int, dialect: str) -> int:
        """The code of the pace that a counter says whose digest is right under `dialect`, or 0."""
        cdef bytes octets8 = counter_bytes(counter)
        return auth_pace(self.auth, _chosen(self.auth, dialect), _at(octets8))

    def sibling(self, vhid: int) -> Authenticator:
        """One for another vhid, with the same passphrase, addresses, dialect and replay; it has heard nobody yet."""
        cdef Authenticator made = Authenticator(None, vhid, (), DIALECT_BSD)
        cdef uint64_t serial = made.auth.serial
        cdef int index
        auth_derive(self.auth, made.auth.vhid, made.auth)
        for index in range(self.auth.key_count):
            made.auth.keys[index].addresses = self.auth.keys[index].addresses
            made.auth.keys[index].length = self.auth.keys[index].length
        made.auth.serial = serial
        made._ways = self._ways
        return made

    def bequest(self) -> dict[str, Any]:
        """What it has learned and issued, for another one with the same arguments, as plain values; no secret."""
        cdef int at, count = self.auth.issued_count
        cdef list order = [(self.auth.issued_next - count + at) & (AUTH_ISSUED - 1) for at in range(count)]
        heard = [number for number in range(len(_DIALECTS)) if self.auth.heard >> number & 1]
        heard.sort(key=self.auth.heard_last.__eq__)
        return {
            "heard": [_DIALECTS[number] for number in heard],
            "issued": [(<bytes> self.auth.issued[at][:COUNTER_LENGTH]).hex() for at in order],
            "change": _change_values(&self.auth.change),
        }

    def inherit(self, values: dict[str, Any]) -> None:
        """Go on from what another one's `bequest` says."""
        cdef bytes counter
        cdef int number
        for name in values["heard"]:
            if name in _names(self.auth):
                number = _DIALECTS.index(name)
                self.auth.heard |= <uint8_t> (1 << number)
                self.auth.heard_last = <uint8_t> number
        for one in values["issued"]:
            counter = counter_bytes(bytes.fromhex(one))
            memcpy(self.auth.issued[self.auth.issued_next], _at(counter), COUNTER_LENGTH)
            self.auth.issued_next = (self.auth.issued_next + 1) & (AUTH_ISSUED - 1)
            self.auth.issued_count = min(AUTH_ISSUED, self.auth.issued_count + 1)
        _inherit_change(&self.auth.change, values.get("change"))


cdef list _names(const auth_t *auth):
    cdef int index
    return [_DIALECTS[auth.keys[index].dialect] for index in range(auth.key_count)]


cdef int _chosen(const auth_t *auth, object dialect) except -2:
    cdef list names
    cdef uint8_t dialects[AUTH_KEYS]
    cdef int index, count
    if dialect is None:
        count = auth_dialects(auth, dialects)
        for index in range(count):
            if auth.heard and dialects[index] == auth.heard_last:
                return auth.heard_last
        return dialects[0]
    names = _names(auth)
    if dialect not in names:
        raise not_in_use(dialect, names)
    return _DIALECTS.index(dialect)
