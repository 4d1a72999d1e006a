# cython: language_level=3, binding=True, embedsignature=True, annotation_typing=False
"""The input path: is this frame an advert for us, and is it to be believed? The kernel's checks in the kernel's order.

The compiled twin of `pycarp._python.input`, which says where each rule comes from.
"""

from dataclasses import fields

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from .auth cimport (
    AUTH_BSD,
    AUTH_NONE,
    CHECK_ALTERED,
    CHECK_ECHO,
    Authenticator,
    auth_check,
    auth_clear,
    auth_derive,
    auth_verify,
)
from .machine cimport STATE_INIT, STATE_MASTER
from .packet cimport (
    MAC_LENGTH,
    address_text,
    advert_object,
    octets,
    packet_advert,
    packet_checksum_ok,
    packet_dissect,
)

from ..protocol.abc import Verdict
from ..protocol import DIALECT_BSD, DIALECT_NETBSD, State
from ..stats import Stats

IGNORED = "ignored"
"""The verdict on a frame that no IP layer would have handed to CARP: nothing is counted."""

cdef enum:
    VERSION = 2
    TTL = 255

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


cdef void _delivery_by_mac(
    const input_t *input_, const datagram_t *datagram, uint8_t length, bint *for_carp, bint *for_carpdev
) noexcept nogil:
    """For a frame to one MAC only."""
    cdef const uint8_t *destination = datagram.destination
    cdef const input_instance_t *seat
    cdef int index
    # The carpdev's own MAC may also be the virtual host's (mac="interface"): then what comes for its address is its.
    for index in range(input_.seat_count):
        seat = input_.seats[input_.seated[index]]
        if (
            seat.state == STATE_MASTER
            and seat.has_mac
            and memcmp(datagram.destination_mac, seat.mac, MAC_LENGTH) == 0
            and (
                _among(&seat.addresses, destination, length)
                or _to_group(destination, length)
                or _to_everybody(destination, length)
            )
        ):
            for_carp[0] = True
            return
    if not input_.has_mac or memcmp(datagram.destination_mac, input_.mac, MAC_LENGTH) != 0:
        return
    for_carpdev[0] = _among(&input_.addresses, destination, length)
    for index in range(input_.seat_count):
        if for_carpdev[0]:
            return
        for_carpdev[0] = _among(&input_.seats[input_.seated[index]].addresses, destination, length)


cdef inline void _delivery(
    const input_t *input_, const datagram_t *datagram, bint *for_carp, bint *for_carpdev
) noexcept nogil:
    """Whether the kernel would hand this to a carp interface, and to the carpdev itself."""
    cdef uint8_t length = 4 if datagram.family == 4 else 16
    for_carp[0] = for_carpdev[0] = False
    if not datagram.destination_mac[0] & 1:
        _delivery_by_mac(input_, datagram, length, for_carp, for_carpdev)
    elif _to_group(datagram.destination, length):
        for_carp[0] = True
    elif _to_everybody(datagram.destination, length) or _among(&input_.broadcasts, datagram.destination, length):
        for_carp[0] = for_carpdev[0] = True


# The checks

cdef inline int _check(input_t *input_, input_instance_t *seat, verdict_t *verdict, int64_t now) noexcept nogil:
    """What the carp interface makes of it."""
    cdef const datagram_t *datagram = &verdict.datagram
    if not input_.allow:
        return VERDICT_ALLOW
    if datagram.ttl != TTL:
        return COUNT_BADTTL
    if not verdict.has_advert:
        return COUNT_BADLEN
    if not packet_checksum_ok(
        datagram.family, datagram.source, datagram.destination, datagram.payload, datagram.length
    ):
        return COUNT_BADSUM
    if seat == NULL:
        return _seek(input_, verdict, now)
    if seat.state == STATE_INIT:
        return COUNT_BADVHID
    if verdict.advert.version != VERSION:
        return COUNT_BADVER
    if seat.auth == NULL:
        return VERDICT_UNVERIFIED
    verdict.dialect = auth_verify(seat.auth, verdict.advert.counter, verdict.advert.digest)
    if verdict.dialect == AUTH_NONE:
        return COUNT_BADAUTH
    return _guard(seat.auth, verdict, VERDICT_VALID)


cdef inline int _guard(const auth_t *auth, const verdict_t *verdict, int fine) noexcept nogil:
    """What an advert whose digest is right is counted as; `fine`: nothing is wrong with it."""
    cdef int wrong = auth_check(
        auth, verdict.dialect, verdict.advert.counter, verdict.advert.advbase, verdict.advert.advskew
    )
    if wrong == CHECK_ECHO:
        return COUNT_ECHO
    return COUNT_ALTERED if wrong == CHECK_ALTERED else fine


include "siblings.pxi"


cdef void input_frame(
    input_t *input_, const uint8_t *frame, size_t length, int64_t now, verdict_t *verdict
) noexcept nogil:
    """Takes one Ethernet frame, which came at `now` (ns), through all checks, counts it, and says what came of it."""
    cdef bint for_carp, for_carpdev
    cdef input_instance_t *seat = NULL
    cdef uint64_t *counters = input_.unclaimed
    cdef int packets
    verdict.counter = VERDICT_IGNORED
    verdict.dialect = AUTH_NONE
    verdict.has_advert = False
    if not packet_dissect(frame, length, &verdict.datagram):
        return
    _delivery(input_, &verdict.datagram, &for_carp, &for_carpdev)
    if not for_carp and not for_carpdev:
        return
    if verdict.datagram.length > 1:
        seat = input_.seats[verdict.datagram.payload[1]]
        if seat != NULL:
            counters = seat.counters
    packets = COUNT_IPACKETS if verdict.datagram.family == 4 else COUNT_IPACKETS6
    verdict.has_advert = packet_advert(verdict.datagram.payload, verdict.datagram.length, &verdict.advert)
    if for_carpdev:
        # The kernel hands a frame for everybody to the carpdev as well, which is no carp interface.
        counters[packets] += 1
        verdict.counter = VERDICT_ALLOW
        if input_.allow:
            verdict.counter = COUNT_BADIF
            counters[COUNT_BADIF] += 1
    if for_carp:
        counters[packets] += 1
        verdict.counter = _check(input_, seat, verdict, now)
        if verdict.counter < COUNTERS:
            counters[verdict.counter] += 1


cdef void input_sent(input_t *input_, uint8_t vhid, uint8_t family) noexcept nogil:
    """One advert of a virtual host, which must have its seat, went out in a family."""
    input_.seats[vhid].counters[COUNT_OPACKETS if family == 4 else COUNT_OPACKETS6] += 1


# The border

cdef int _store_addresses(addresses_t *addresses, object packed) except -1:
    """Replaces the addresses by others, packed in any iterable; lengths that no address has cannot match, and are
    left out."""
    cdef list kept = [address for address in packed if len(address) in (4, 16)]
    cdef address_t *items = NULL
    cdef bytes address
    cdef size_t index = 0
    if kept:
        items = <address_t *> calloc(len(kept), sizeof(address_t))
        if items == NULL:
            raise MemoryError
        for value in kept:
            address = octets(value)
            items[index].length = <uint8_t> PyBytes_GET_SIZE(address)
            memcpy(items[index].octets, PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address))
            index += 1
    free(addresses.items)
    addresses.items = items
    addresses.count = index
    return 0


cdef bint _store_mac(uint8_t *place, object mac) except? -1:
    """Whether it is a MAC of six bytes; another one matches no frame."""
    cdef bytes data = octets(mac)
    if PyBytes_GET_SIZE(data) != MAC_LENGTH:
        return False
    memcpy(place, PyBytes_AS_STRING(data), MAC_LENGTH)
    return True


cdef void _free_seat(input_instance_t *seat) noexcept:
    free(seat.addresses.items)
    free(seat)


cdef class Input:
    """Input()
--

    The input path of one carpdev and the virtual hosts on it.

    `allow` is net.inet.carp.allow: while False every advert is counted and dropped.
    """

    def __cinit__(self):
        self.input_.allow = True
        self._authenticators = [None] * 256

    def __dealloc__(self):
        cdef int index
        for index in range(self.input_.seat_count):
            _free_seat(self.input_.seats[self.input_.seated[index]])
        input_forget_all(&self.input_)
        free(self.input_.addresses.items)
        free(self.input_.broadcasts.items)

    cdef input_instance_t *_seat(self, object vhid) except NULL:
        if vhid not in range(256) or self.input_.seats[<int> vhid] == NULL:
            raise KeyError(vhid)
        return self.input_.seats[<int> vhid]

    @property
    def allow(self) -> bool:
        return self.input_.allow

    @allow.setter
    def allow(self, value: bool) -> None:
        self.input_.allow = value

    def set_carpdev(self, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev's MAC and addresses, which tell what came for the host itself and not for its group."""
        cdef tuple given = tuple(addresses)
        cdef set packed = {address.packed for address in given}
        cdef set broadcasts = {
            address.network.broadcast_address.packed
            for address in given
            if address.version == 4 and address.network.prefixlen < 31
        }
        self.input_.has_mac = _store_mac(self.input_.mac, mac)
        _store_addresses(&self.input_.addresses, packed)
        _store_addresses(&self.input_.broadcasts, broadcasts)

    def set_instance(
        self,
        vhid: int,
        authenticator: Authenticator,
        mac: bytes,
        addresses: Iterable[bytes],
        siblings: bool = True,
    ) -> None:
        """Seat a virtual host, or change what is known of it; `addresses` are packed. Its counters and state stay.

        The digest is verified in C if `authenticator` is this package's own, through its `verify` otherwise. With
        `siblings`, and with this package's own, adverts of vhids that nobody here has are tried as well.
        """
        cdef uint8_t place[MAC_LENGTH]
        cdef bint has_mac = _store_mac(place, mac)
        cdef set packed = set(addresses)
        cdef input_instance_t *seat
        cdef int number
        if vhid not in range(256):
            raise ValueError(f"vhid {vhid!r} is not a number of 0-255")
        number = vhid
        seat = self.input_.seats[number]
        if seat == NULL:
            seat = <input_instance_t *> calloc(1, sizeof(input_instance_t))
            if seat == NULL:
                raise MemoryError
            try:
                _store_addresses(&seat.addresses, packed)
            except BaseException:
                _free_seat(seat)
                raise
            seat.state = STATE_INIT
            self.input_.seated[self.input_.seat_count] = <uint8_t> number
            self.input_.seat_count += 1
            self.input_.seats[number] = seat
        else:
            _store_addresses(&seat.addresses, packed)
        # Not for subclasses: one may verify in its own way.
        seat.auth = &(<Authenticator> authenticator).auth if type(authenticator) is Authenticator else NULL
        seat.siblings = siblings
        input_forget(&self.input_, <uint8_t> number)
        self._authenticators[number] = authenticator
        seat.has_mac = has_mac
        if has_mac:
            memcpy(seat.mac, place, MAC_LENGTH)

    def set_state(self, vhid: int, state: State) -> None:
        """In INIT a virtual host hears nothing (badvhid); as MASTER it also hears what comes for its own MAC."""
        self._seat(vhid).state = State(state)

    def remove_instance(self, vhid: int) -> None:
        """Forget a virtual host and its counters."""
        cdef input_instance_t *seat = self._seat(vhid)
        cdef int number = vhid, index
        self.input_.seats[number] = NULL
        self.input_.seat_count -= 1
        for index in range(self.input_.seat_count):
            if self.input_.seated[index] == number:
                self.input_.seated[index] = self.input_.seated[self.input_.seat_count]
        _free_seat(seat)
        input_forget(&self.input_, <uint8_t> number)
        self._authenticators[number] = None

    def stats(self, vhid: int | None = None) -> Stats:
        """The counters of one virtual host, including what came to its carpdev for no virtual host at all.

        Without `vhid`, those of the carpdev. A copy: it does not change later.
        """
        cdef uint64_t total[COUNTERS]
        cdef const uint64_t *part
        cdef int index, counter
        memcpy(total, self.input_.unclaimed, sizeof(total))
        if vhid is not None:
            part = self._seat(vhid).counters
            for counter in range(COUNTERS):
                total[counter] += part[counter]
        else:
            for index in range(self.input_.seat_count):
                part = self.input_.seats[self.input_.seated[index]].counters
                for counter in range(COUNTERS):
                    total[counter] += part[counter]
        return Stats(*[total[counter] for counter in range(COUNTERS)])

    def count_sent(self, vhid: int, family: int) -> None:
        """One advert of a virtual host went out in a family (4 or 6)."""
        self._seat(vhid).counters[COUNT_OPACKETS if family == 4 else COUNT_OPACKETS6] += 1

    def receive(self, frame: bytes, now: int = 0) -> Verdict:
        """Take one Ethernet frame, which came at `now` (ns), through all checks, count it, and say what came of it.

        Never raises on hostile bytes.
        """
        cdef bytes whole = octets(frame)
        cdef verdict_t verdict
        cdef object advert = None, dialect = None, wrong = "", sibling_of = None
        cdef uint8_t family
        input_frame(&self.input_, <const uint8_t *> PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), now, &verdict)
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
            dialect = DIALECT_BSD if verdict.dialect == AUTH_BSD else DIALECT_NETBSD
            if verdict.counter == VERDICT_SIBLING:
                sibling_of = verdict.sibling_of
        elif verdict.counter == VERDICT_UNVERIFIED:
            dialect = self._authenticators[advert.vhid].verify(advert.counter, advert.digest)
            if dialect is not None:
                wrong = self._authenticators[advert.vhid].check(advert.counter, advert.advbase, advert.advskew, dialect)
            self._count_unverified(&verdict, dialect, wrong)
            dialect = None if wrong else dialect
        return Verdict(_VERDICTS[verdict.counter], advert, dialect, sibling_of)

    cdef void _count_unverified(self, verdict_t *verdict, object dialect, object wrong):
        """Completes a verdict with what an authenticator in Python said."""
        cdef input_instance_t *seat = self.input_.seats[verdict.advert.vhid]
        if dialect is None:
            verdict.counter = COUNT_BADAUTH
        elif wrong:
            verdict.counter = COUNT_ECHO if wrong == "echo" else COUNT_ALTERED
        else:
            verdict.counter = VERDICT_VALID
        # It may have unseated the virtual host meanwhile.
        if verdict.counter < COUNTERS and seat != NULL:
            seat.counters[verdict.counter] += 1
