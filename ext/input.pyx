# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, annotation_typing=False
"""The input path: is this frame an advert for us, and is it to be believed? The kernel's checks in the kernel's order.

The compiled twin of `pycarp._python.input`, which says where each rule comes from and what each method takes.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from .auth cimport (
    AUTH_MACS, AUTH_NONE, CHECK_ALTERED, CHECK_ECHO, COUNTER_PART, Authenticator, auth_check, auth_clear,
    auth_compute, auth_derive, auth_judge, auth_orders, auth_tagged, auth_verify,
)
from .machine cimport BOWOUT, STATE_INIT, STATE_MASTER
from .packet cimport (
    COUNTER_LENGTH, MAC_LENGTH, address_text, advert_object, octets, packet_advert, packet_checksum_ok, packet_dissect,
    packet_is_vrrp,
)
from .timing cimport (
    NS_PER_SECOND, NS_PER_SKEW, SERIAL_APART, SERIAL_CANDIDATE_APART, SERIAL_CLOCKS_APART, SERIAL_ROUND,
    SERIAL_SHORTEST, SIBLING_TRIAL, SIBLING_TRIALS_KEPT, SIBLING_TURN,
)

from .._records import fields
from ..protocol.abc import EVERYTHING, Hearing, Verdict
from ..protocol import DIALECTS, State
from ..stats import Stats

cdef tuple _DIALECTS = DIALECTS
IGNORED = "ignored"
"""The verdict on a frame that no IP layer would have handed to CARP: nothing is counted."""

cdef enum:
    VERSION = 2
    TTL = 255
    FOR_CARP = 1
    FOR_CARPDEV = 2

cdef uint32_t _MAYBE_VRRP = (
    1 << COUNT_BADIF | 1 << COUNT_BADLEN | 1 << COUNT_BADSUM | 1 << COUNT_BADVHID | 1 << COUNT_BADVER
    | 1 << COUNT_BADAUTH
)
cdef tuple _VERDICTS = (*[field.name for field in fields(Stats)], "", IGNORED, "allow", "", "sibling")


# Which interface the kernel would hand a datagram to

cdef inline bint _among(const addresses_t *addresses, const uint8_t *address, uint8_t length) noexcept nogil:
    cdef size_t index
    for index in range(addresses.count):
        if addresses.items[index].length == length and memcmp(addresses.items[index].octets, address, length) == 0:
            return True
    return False


cdef inline bint _to_group(const uint8_t *address, uint8_t length) noexcept nogil:
    if length == 4:
        return memcmp(address, b"\xe0\x00\x00\x12", 4) == 0
    return memcmp(address, b"\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x12", 16) == 0


cdef inline bint _to_everybody(const uint8_t *address, uint8_t length) noexcept nogil:
    if length == 4:
        return memcmp(address, b"\xe0\x00\x00\x01", 4) == 0 or memcmp(address, b"\xff\xff\xff\xff", 4) == 0
    return memcmp(address, b"\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16) == 0


include "hearing.pxi"


cdef int _delivery_to_group(const input_t *input_, const uint8_t *mac) noexcept nogil:
    """An access point or a bridge has turned the multicast into unicasts."""
    cdef const input_instance_t *instance
    cdef int index
    if input_.has_mac and memcmp(mac, input_.mac, MAC_LENGTH) == 0:
        return FOR_CARP
    for index in range(input_.instance_count):
        instance = input_.instances[input_.vhids[index]]
        if instance.has_mac and memcmp(mac, instance.mac, MAC_LENGTH) == 0:
            return FOR_CARP
    return 0


cdef int _delivery_by_mac(const input_t *input_, const datagram_t *datagram, uint8_t length) noexcept nogil:
    """For a frame to one MAC only."""
    cdef const uint8_t *destination = datagram.destination
    cdef const input_instance_t *instance
    cdef int index
    if _in_group(input_, destination, length):
        return _delivery_to_group(input_, datagram.destination_mac)
    # The carpdev's own MAC may also be the virtual host's (mac="interface"): then what comes for its address is its.
    for index in range(input_.instance_count):
        instance = input_.instances[input_.vhids[index]]
        if (
            instance.state == STATE_MASTER
            and instance.has_mac
            and memcmp(datagram.destination_mac, instance.mac, MAC_LENGTH) == 0
            and (_among(&instance.addresses, destination, length) or _to_everybody(destination, length))
        ):
            return FOR_CARP
    if not input_.has_mac or memcmp(datagram.destination_mac, input_.mac, MAC_LENGTH) != 0:
        return 0
    if _among(&input_.addresses, destination, length):
        return FOR_CARPDEV
    for index in range(input_.instance_count):
        if _among(&input_.instances[input_.vhids[index]].addresses, destination, length):
            return FOR_CARPDEV
    return 0


cdef inline int _delivery(const input_t *input_, const datagram_t *datagram) noexcept nogil:
    """Whether the kernel would hand this to a carp interface, to the carpdev itself, or to both."""
    cdef uint8_t length = 4 if datagram.family == 4 else 16
    if input_.aimed and _of_peer(input_, datagram, length):
        return FOR_CARP
    if not datagram.destination_mac[0] & 1:
        return _delivery_by_mac(input_, datagram, length)
    if _in_group(input_, datagram.destination, length):
        return FOR_CARP
    if _to_everybody(datagram.destination, length) or _among(&input_.broadcasts, datagram.destination, length):
        return FOR_CARP | FOR_CARPDEV
    return 0


# The checks

cdef inline int _fault(const verdict_t *verdict, bint any_ttl) noexcept nogil:
    """The counter of the first check that fails for the bytes alone, or VERDICT_VALID. `any_ttl`: of a routed peer."""
    cdef const datagram_t *datagram = &verdict.datagram
    if datagram.ttl != TTL and not any_ttl:
        return COUNT_BADTTL
    if not verdict.has_advert:
        return COUNT_BADLEN
    if not packet_checksum_ok(
        datagram.family, datagram.source, datagram.destination, datagram.payload, datagram.length
    ):
        return COUNT_BADSUM
    return VERDICT_VALID


cdef inline int _check(input_t *input_, input_instance_t *instance, verdict_t *verdict, int64_t now) noexcept nogil:
    """What the carp interface makes of it."""
    cdef const datagram_t *datagram = &verdict.datagram
    cdef int fault = verdict.fault
    if not input_.allow:
        return VERDICT_ALLOW
    if fault == COUNT_BADTTL and instance != NULL and _among(
        &instance.hearing.routed, datagram.source, 4 if datagram.family == 4 else 16
    ):
        fault = _fault(verdict, True)
    if fault != VERDICT_VALID:
        return fault
    if instance == NULL:
        return _seek(input_, verdict, now)
    if instance.state == STATE_INIT or (input_.aimed and not _heard(input_, instance, datagram)):
        return COUNT_BADVHID
    if verdict.advert.version != VERSION:
        return COUNT_BADVER
    if instance.auth == NULL:
        return VERDICT_UNVERIFIED
    verdict.dialect = _verified(instance.auth, verdict)
    if verdict.dialect == AUTH_NONE:
        return COUNT_BADAUTH
    return _guard(input_, instance, instance.auth, verdict, now, VERDICT_VALID)


cdef inline int _verified(auth_t *auth, const verdict_t *verdict) noexcept nogil:
    """The dialect under which the digest is right, or AUTH_NONE."""
    if verdict.macs != NULL and verdict.macs_of == auth:
        return auth_judge(auth, verdict.macs, verdict.advert.digest)
    return auth_verify(auth, verdict.advert.counter, verdict.advert.digest)


cdef bint _anothers_bowout(
    const input_t *input_, const input_instance_t *instance, const verdict_t *verdict
) noexcept nogil:
    """Whether a counter of our own is a bow-out's from another address: all bow-outs of a second are much alike."""
    cdef const uint8_t *counter = verdict.advert.counter
    cdef uint8_t length = 4 if verdict.datagram.family == 4 else 16
    return (
        verdict.advert.advbase == BOWOUT and verdict.advert.advskew == BOWOUT and counter[3] == verdict.advert.demotion
        and counter[6] == BOWOUT and counter[7] == BOWOUT
        and not _among(&input_.addresses, verdict.datagram.source, length)
        and not _among(&instance.addresses, verdict.datagram.source, length)
    )


cdef inline int _guard(
    const input_t *input_, input_instance_t *instance, const auth_t *auth, verdict_t *verdict, int64_t now, int fine
) noexcept nogil:
    """What an advert whose digest is right under `auth` is counted as; `fine`: nothing is wrong with it."""
    cdef const uint8_t *counter = verdict.advert.counter
    cdef int wrong = auth_check(
        auth, verdict.dialect, counter, verdict.advert.advbase, verdict.advert.advskew, verdict.advert.demotion
    )
    if wrong == CHECK_ECHO and not _anothers_bowout(input_, instance, verdict):
        return COUNT_ECHO
    if wrong == CHECK_ALTERED:
        return COUNT_ALTERED
    if (
        auth.guard and counter[7] == verdict.advert.advskew and counter[6] == verdict.advert.advbase
        and counter[3] == verdict.advert.demotion
        and not _believable(instance, auth, verdict, now, input_.wall)
    ):
        return COUNT_REPLAYED
    # Most counters without our tag show it by the header that they do not repeat.
    if (
        counter[2] >> 4 and counter[7] == verdict.advert.advskew and counter[6] == verdict.advert.advbase
        and auth_tagged(auth, verdict.dialect, counter)
    ):
        verdict.pace = counter[2] >> 4
    return fine


include "serials.pxi"
include "siblings.pxi"


cdef int _signed(const input_instance_t *instance, const verdict_t *verdict) noexcept nogil:
    """The dialect of an advert that would be valid if it had been sent to the group, or AUTH_NONE."""
    if instance == NULL or instance.state == STATE_INIT or instance.auth == NULL:
        return AUTH_NONE
    if verdict.fault != VERDICT_VALID or verdict.advert.version != VERSION:
        return AUTH_NONE
    return auth_verify(instance.auth, verdict.advert.counter, verdict.advert.digest)


cdef inline void _read(const uint8_t *frame, size_t length, verdict_t *verdict) noexcept nogil:
    """What the bytes alone tell."""
    verdict.macs = NULL
    verdict.has_advert = False
    verdict.carp = packet_dissect(frame, length, &verdict.datagram)
    if verdict.carp:
        verdict.has_advert = packet_advert(verdict.datagram.payload, verdict.datagram.length, &verdict.advert)
        verdict.fault = _fault(verdict, False)


cdef void input_begin(batch_t *batch) noexcept nogil:
    """Begins to take frames, BATCH at most."""
    batch.count = batch.mac_count = 0


cdef void input_add(input_t *input_, batch_t *batch, const uint8_t *frame, size_t length) noexcept nogil:
    """Takes one Ethernet frame. Its digests are to be computed if they are likely to be asked for."""
    cdef verdict_t *verdict = &batch.verdicts[batch.count]
    cdef const input_instance_t *instance
    batch.count += 1
    _read(frame, length, verdict)
    if not verdict.carp or verdict.fault != VERDICT_VALID or verdict.advert.version != VERSION or not frame[0] & 1:
        return
    instance = input_.instances[verdict.advert.vhid]
    if (
        instance == NULL or instance.auth == NULL or instance.state == STATE_INIT
        or not _to_group(verdict.datagram.destination, 4 if verdict.datagram.family == 4 else 16)
        or batch.mac_count > BATCH_MACS - AUTH_MACS
    ):
        return
    verdict.macs, verdict.macs_of = &batch.macs[batch.mac_count], instance.auth
    batch.mac_count += auth_orders(instance.auth, verdict.advert.counter, &batch.macs[batch.mac_count])


cdef void input_compute(batch_t *batch) noexcept nogil:
    """All digests, side by side. Then input_judge takes each verdict, in order."""
    auth_compute(batch.macs, batch.mac_count)


cdef void input_judge(input_t *input_, verdict_t *verdict, int64_t now) noexcept nogil:
    """Takes a frame, which came at `now` (ns), through all checks, counts it, and says what came of it."""
    cdef input_instance_t *instance = NULL
    cdef uint64_t *counters = input_.unclaimed
    cdef int packets, receivers
    cdef bint has_advert = verdict.has_advert
    verdict.counter = VERDICT_IGNORED
    verdict.dialect = AUTH_NONE
    verdict.has_advert = verdict.vrrp = False
    verdict.pace = 0
    if not verdict.carp:
        return
    receivers = _delivery(input_, &verdict.datagram)
    if not receivers:
        return
    if verdict.datagram.length > 1:
        instance = input_.instances[verdict.datagram.payload[1]]
        if instance != NULL:
            counters = instance.counters
    packets = COUNT_IPACKETS if verdict.datagram.family == 4 else COUNT_IPACKETS6
    verdict.has_advert = has_advert
    if receivers & FOR_CARPDEV:
        # The kernel hands a frame for everybody to the carpdev as well, which is no carp interface.
        counters[packets] += 1
        verdict.counter = VERDICT_ALLOW
        if input_.allow:
            verdict.counter = COUNT_BADIF
            counters[COUNT_BADIF] += 1
            if not receivers & FOR_CARP:
                verdict.dialect = _signed(instance, verdict)
    if receivers & FOR_CARP:
        counters[packets] += 1
        verdict.counter = _check(input_, instance, verdict, now)
        if verdict.counter < COUNTERS:
            counters[verdict.counter] += 1
    if verdict.counter < COUNTERS and _MAYBE_VRRP >> verdict.counter & 1:
        verdict.vrrp = packet_is_vrrp(verdict.datagram.payload, verdict.datagram.length)


cdef void input_frame(
    input_t *input_, const uint8_t *frame, size_t length, int64_t now, verdict_t *verdict
) noexcept nogil:
    """As input_judge, for one Ethernet frame alone."""
    _read(frame, length, verdict)
    input_judge(input_, verdict, now)


cdef void input_sent(input_t *input_, uint8_t vhid, uint8_t family) noexcept nogil:
    """One advert of an instance that is here went out in a family."""
    input_.instances[vhid].counters[COUNT_OPACKETS if family == 4 else COUNT_OPACKETS6] += 1


# Instances

cdef void input_set_instance(input_t *input_, uint8_t vhid, input_instance_t *instance) noexcept nogil:
    """Puts an instance in its place, or another one in place of the former; `instance` may be changed before this."""
    if input_.instances[vhid] == NULL:
        input_.vhids[input_.instance_count] = vhid
        input_.instance_count += 1
    input_.instances[vhid] = instance
    _note_aimed(input_)
    _forget(input_, vhid, instance.auth)


cdef void input_remove_instance(input_t *input_, uint8_t vhid) noexcept nogil:
    """Takes an instance that is here out of its place and wipes what was derived from its keys."""
    cdef int at
    input_.instances[vhid] = NULL
    input_.instance_count -= 1
    for at in range(input_.instance_count):
        if input_.vhids[at] == vhid:
            input_.vhids[at] = input_.vhids[input_.instance_count]
            break
    _note_aimed(input_)
    _forget(input_, vhid, NULL)


# The border

cdef int input_store_addresses(addresses_t *addresses, object packed) except -1:
    """Replaces the addresses by others, packed in any iterable. Lengths that no address has match no frame."""
    cdef set kept = {octets(address) for address in packed if len(address) in (4, 16)}
    cdef address_t *items = NULL
    cdef bytes address
    cdef size_t index = 0
    if kept:
        items = <address_t *> calloc(len(kept), sizeof(address_t))
        if items == NULL:
            raise MemoryError
    for address in kept:
        items[index].length = <uint8_t> PyBytes_GET_SIZE(address)
        memcpy(items[index].octets, PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address))
        index += 1
    free(addresses.items)
    addresses.items = items
    addresses.count = index
    return 0


cdef int input_store_carpdev(addresses_t *addresses, addresses_t *broadcasts, object given) except -1:
    """The carpdev's addresses and the broadcast addresses of their subnets."""
    cdef tuple whole = tuple(given)
    input_store_addresses(addresses, [address.packed for address in whole])
    input_store_addresses(
        broadcasts,
        [
            address.network.broadcast_address.packed
            for address in whole
            if address.version == 4 and address.network.prefixlen < 31
        ],
    )
    return 0


cdef bint _store_mac(uint8_t *place, object mac) except? -1:
    """Whether it is a MAC of six bytes; another one matches no frame."""
    cdef bytes data = octets(mac)
    if PyBytes_GET_SIZE(data) != MAC_LENGTH:
        return False
    memcpy(place, PyBytes_AS_STRING(data), MAC_LENGTH)
    return True


cdef void _add(uint64_t *total, const uint64_t *counters) noexcept nogil:
    cdef int counter
    for counter in range(COUNTERS):
        total[counter] += counters[counter]


cdef void _free_instance(input_instance_t *instance) noexcept:
    input_free_hearing(&instance.hearing)
    free(instance.addresses.items)
    free(instance)


cdef class Input:
    """Input()
--

    The input path of one carpdev and the instances on it.
    """

    def __cinit__(self):
        self.input_.allow = True
        self._authenticators = [None] * 256

    def __dealloc__(self):
        cdef int index
        for index in range(self.input_.instance_count):
            _free_instance(self.input_.instances[self.input_.vhids[index]])
        input_forget_all(&self.input_)
        free(self.input_.addresses.items)
        free(self.input_.broadcasts.items)

    cdef input_instance_t *_instance(self, object vhid) except NULL:
        if vhid not in range(256) or self.input_.instances[<int> vhid] == NULL:
            raise KeyError(vhid)
        return self.input_.instances[<int> vhid]

    @property
    def allow(self) -> bool:
        """net.inet.carp.allow: while False every advert is counted and dropped."""
        return self.input_.allow

    @allow.setter
    def allow(self, value: bool) -> None:
        self.input_.allow = value

    @property
    def wall(self) -> int:
        """ns, of the wall clock before the `now` of `receive`."""
        return self.input_.wall

    @wall.setter
    def wall(self, value: int) -> None:
        self.input_.wall = value

    def set_carpdev(self, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev's MAC and addresses, which tell what came for the host itself and not for its group."""
        input_store_carpdev(&self.input_.addresses, &self.input_.broadcasts, addresses)
        self.input_.has_mac = _store_mac(self.input_.mac, mac)

    def set_instance(
        self,
        vhid: int,
        authenticator: Authenticator,
        mac: bytes,
        addresses: Iterable[bytes],
        siblings: bool = True,
        hearing: Hearing | None = None,
    ) -> None:
        """Add an instance, or change what is known of it; `addresses` are packed. Its counters and state stay.

        The digest is verified in C if `authenticator` is this package's own, through its `verify` otherwise.
        """
        cdef input_instance_t *former
        cdef input_instance_t *instance
        if vhid not in range(256):
            raise ValueError(f"vhid {vhid!r} is not a number of 0-255")
        instance = <input_instance_t *> calloc(1, sizeof(input_instance_t))
        if instance == NULL:
            raise MemoryError
        try:
            instance.has_mac = _store_mac(instance.mac, mac)
            input_store_addresses(&instance.addresses, addresses)
            input_store_hearing(&instance.hearing, hearing or EVERYTHING)
        except BaseException:
            _free_instance(instance)
            raise
        former = self.input_.instances[<int> vhid]
        if former == NULL:
            instance.state = STATE_INIT
        else:
            instance.state = former.state
            memcpy(instance.counters, former.counters, sizeof(instance.counters))
            instance.serials = former.serials
            _free_instance(former)
        # Not for subclasses: one may verify in its own way.
        instance.auth = (<Authenticator> authenticator).auth if type(authenticator) is Authenticator else NULL
        instance.siblings = siblings
        input_set_instance(&self.input_, vhid, instance)
        self._authenticators[vhid] = authenticator

    def set_state(self, vhid: int, state: State) -> None:
        """In INIT an instance hears nothing (badvhid); as MASTER it also hears what comes for its own MAC."""
        self._instance(vhid).state = State(state)

    def remove_instance(self, vhid: int) -> None:
        """Forget an instance and its counters."""
        cdef input_instance_t *instance = self._instance(vhid)
        input_remove_instance(&self.input_, vhid)
        _free_instance(instance)
        self._authenticators[vhid] = None

    def stats(self, vhid: int | None = None) -> Stats:
        """The counters of one instance, including what came to its carpdev for none; without `vhid`, the carpdev's."""
        cdef uint64_t total[COUNTERS]
        cdef int index
        memcpy(total, self.input_.unclaimed, sizeof(total))
        if vhid is not None:
            _add(total, self._instance(vhid).counters)
        else:
            for index in range(self.input_.instance_count):
                _add(total, self.input_.instances[self.input_.vhids[index]].counters)
        return Stats(*[total[index] for index in range(COUNTERS)])

    def count_sent(self, vhid: int, family: int) -> None:
        """One advert of an instance went out in a family (4 or 6)."""
        self._instance(vhid).counters[COUNT_OPACKETS if family == 4 else COUNT_OPACKETS6] += 1

    def receive(self, frame: bytes, now: int = 0) -> Verdict:
        """Take one Ethernet frame, which came at `now` (ns), through all checks, count it, and say what came of it."""
        cdef bytes whole = octets(frame)
        cdef verdict_t verdict
        input_frame(&self.input_, <const uint8_t *> PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), now, &verdict)
        return self._told(&verdict)

    def receive_many(self, frames: Sequence[bytes], now: int = 0) -> list[Verdict]:
        """Take frames that waited, one after the other: the verdicts of `receive`, made faster."""
        cdef batch_t batch
        cdef list found = [], wholes = [octets(frame) for frame in frames]
        cdef bytes whole
        cdef int first, at
        for first in range(0, len(wholes), BATCH):
            input_begin(&batch)
            for whole in wholes[first : first + BATCH]:
                input_add(&self.input_, &batch, <const uint8_t *> PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole))
            input_compute(&batch)
            for at in range(batch.count):
                input_judge(&self.input_, &batch.verdicts[at], now)
                found.append(self._told(&batch.verdicts[at]))
        return found

    cdef object _told(self, verdict_t *verdict):
        """The verdict as an object."""
        cdef object advert = None, dialect = None, sibling_of = None, asked
        cdef uint8_t family, router
        if verdict.has_advert:
            family = verdict.datagram.family
            advert = advert_object(
                family,
                address_text(verdict.datagram.source, family),
                address_text(verdict.datagram.destination, family),
                PyBytes_FromStringAndSize(<const char *> verdict.datagram.source_mac, MAC_LENGTH),
                &verdict.advert,
            )
        if verdict.counter == VERDICT_VALID or verdict.counter == VERDICT_SIBLING:
            dialect = _DIALECTS[verdict.dialect]
            if verdict.counter == VERDICT_SIBLING:
                sibling_of = verdict.sibling_of
        elif verdict.counter == COUNT_BADIF and verdict.dialect != AUTH_NONE:
            dialect = _DIALECTS[verdict.dialect]
        asked = Verdict(_VERDICTS[verdict.counter], advert, dialect, sibling_of, pace=verdict.pace)
        if verdict.counter == VERDICT_UNVERIFIED:
            asked = self._ask(advert)
            verdict.vrrp = asked.counter == "badauth" and packet_is_vrrp(
                verdict.datagram.payload, verdict.datagram.length
            )
        if not verdict.vrrp:
            return asked
        family, router = verdict.datagram.family, verdict.datagram.payload[1]
        return asked._replace(vrrp=address_text(verdict.datagram.source, family), vrrp_router=router)

    cdef object _ask(self, advert):
        """The verdict on an advert whose instance has an authenticator in Python, counted."""
        cdef object authenticator = self._authenticators[advert.vhid], wrong
        cdef object dialect = authenticator.verify(advert.counter, advert.digest)
        cdef int counter = COUNT_BADAUTH
        if dialect is not None:
            wrong = authenticator.check(advert.counter, advert.advbase, advert.advskew, dialect, advert.demotion)
            if not wrong:
                pace = advert.counter[2] >> 4
                if pace and not authenticator.tagged(advert.counter, dialect):
                    pace = 0
                return Verdict("", advert, dialect, pace=pace)
            counter = COUNT_ECHO if wrong == "echo" else COUNT_ALTERED
        # It may have removed the instance meanwhile.
        if self.input_.instances[<int> advert.vhid] != NULL:
            self.input_.instances[<int> advert.vhid].counters[counter] += 1
        return Verdict(_VERDICTS[counter], advert)
