# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, annotation_typing=False
"""Adverts as bytes: what goes onto the wire, built whole, and what came from it, taken apart. No I/O, no state.

The compiled twin of `pycarp._python.packet`, which says where each rule comes from and what each function takes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from ipaddress import IPv6Address, ip_address

from ..protocol.abc import Datagram
from ..protocol import Advert
from ..protocol.frames import exactly

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object o, object name, object value) except -1
    str PyUnicode_FromFormat(const char *format, ...)

cdef enum:
    ETHERNET_LENGTH = 14
    IPV4_LENGTH = 20
    IPV6_LENGTH = 40
    PROTOCOL_CARP = 112
    AUTHLEN = 7
    VERSION_AND_TYPE = 0x21
    MOST_TAGS = 2


# Checksums. The sum is taken over 32-bit words in the machine's own byte order: folded, it has the same bytes as one
# over 16-bit words in network order (RFC 1071, section 2), so that only the result needs care.

cdef inline uint64_t _sum(const uint8_t *data, size_t length) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t word
    cdef uint8_t last[4]
    while length >= 4:
        memcpy(&word, data, 4)
        total += word
        data += 4
        length -= 4
    if length:
        memset(last, 0, 4)
        memcpy(last, data, length)
        memcpy(&word, last, 4)
        total += word
    return total


cdef inline uint16_t _fold(uint64_t total) noexcept nogil:
    """The one's complement sum in 16 bits, in the machine's byte order."""
    total = (<uint32_t> total) + (total >> 32)
    total = (<uint32_t> total) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t> total


cdef inline void _put_checksum(uint8_t *place, uint64_t total) noexcept nogil:
    cdef uint16_t folded = <uint16_t> (0xFFFF - _fold(total))
    memcpy(place, &folded, 2)


cdef inline uint16_t _load16(const uint8_t *place) noexcept nogil:
    return <uint16_t> ((place[0] << 8) | place[1])


cdef inline uint64_t _pseudo_header(const uint8_t *source, const uint8_t *destination) noexcept nogil:
    """The sum over an advert's IPv6 pseudo-header (RFC 8200, section 8.1)."""
    cdef uint8_t tail[8]
    memset(tail, 0, 8)
    tail[3] = CARP_LENGTH
    tail[7] = PROTOCOL_CARP
    return _sum(source, 16) + _sum(destination, 16) + _sum(tail, 8)


cdef bint packet_checksum_ok(
    uint8_t family, const uint8_t *source, const uint8_t *destination, const uint8_t *payload, size_t length
) noexcept nogil:
    cdef uint64_t total = _sum(payload, length if length < CARP_LENGTH else CARP_LENGTH)
    if _fold(total) == 0xFFFF:
        return True
    if family == 4:
        return False
    return _fold(total + _pseudo_header(source, destination)) == 0xFFFF


# Taking apart

cdef bint _dissect_ipv4(const uint8_t *frame, size_t length, datagram_t *datagram) noexcept nogil:
    """`frame` begins so that its IP header is where an untagged frame has it; so in `_dissect_ipv6`."""
    cdef const uint8_t *ip = frame + ETHERNET_LENGTH
    cdef size_t header, total
    if length < ETHERNET_LENGTH + IPV4_LENGTH or ip[0] >> 4 != 4 or ip[9] != PROTOCOL_CARP:
        return False
    header = 4 * (ip[0] & 15)
    total = _load16(ip + 2)
    if header < IPV4_LENGTH or total < header or length < ETHERNET_LENGTH + total:
        return False
    if _fold(_sum(ip, header)) != 0xFFFF:
        return False
    if _load16(ip + 6) & 0x3FFF:
        return False
    if (ip[12] >= 224 and ip[12] <= 239) or ip[12] == 127 or ip[16] == 127:
        return False
    datagram.family = 4
    datagram.ttl = ip[8]
    datagram.source = ip + 12
    datagram.destination = ip + 16
    datagram.payload = ip + header
    datagram.length = <uint32_t> (total - header)
    return True


cdef inline bint _loopback(const uint8_t *address) noexcept nogil:
    return memcmp(address, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0


cdef bint _dissect_ipv6(const uint8_t *frame, size_t length, datagram_t *datagram) noexcept nogil:
    cdef const uint8_t *ip = frame + ETHERNET_LENGTH
    cdef size_t payload
    if length < ETHERNET_LENGTH + IPV6_LENGTH or ip[0] >> 4 != 6 or ip[6] != PROTOCOL_CARP:
        return False
    payload = _load16(ip + 4)
    if length < ETHERNET_LENGTH + IPV6_LENGTH + payload:
        return False
    if ip[8] == 0xFF or _loopback(ip + 8) or _loopback(ip + 24):
        return False
    datagram.family = 6
    datagram.ttl = ip[7]
    datagram.source = ip + 8
    datagram.destination = ip + 24
    datagram.payload = ip + IPV6_LENGTH
    datagram.length = <uint32_t> payload
    return True


cdef bint packet_dissect(const uint8_t *frame, size_t length, datagram_t *datagram) noexcept nogil:
    """Whether there is a CARP datagram in the frame; only then `datagram` is filled in."""
    cdef uint16_t ethertype
    if length < ETHERNET_LENGTH:
        return False
    ethertype = _load16(frame + 12)
    datagram.destination_mac = frame
    datagram.source_mac = frame + MAC_LENGTH
    if ethertype == 0x0800:
        return _dissect_ipv4(frame, length, datagram)
    if ethertype == 0x86DD:
        return _dissect_ipv6(frame, length, datagram)
    return _dissect_tagged(frame, length, ethertype, datagram)


cdef bint _dissect_tagged(
    const uint8_t *frame, size_t length, uint16_t ethertype, datagram_t *datagram
) noexcept nogil:
    """A frame that does not begin as an IP datagram: there may be tags of VLAN id 0."""
    cdef int tags = 0
    while ethertype == 0x8100 or ethertype == 0x88A8:
        # The tag is two bytes after the ethertype, then comes the next ethertype.
        if tags == MOST_TAGS or length < ETHERNET_LENGTH + 4 or _load16(frame + ETHERNET_LENGTH) & 0x0FFF:
            return False
        tags += 1
        frame += 4
        length -= 4
        ethertype = _load16(frame + 12)
    if ethertype == 0x0800:
        return _dissect_ipv4(frame, length, datagram)
    return ethertype == 0x86DD and _dissect_ipv6(frame, length, datagram)


cdef bint packet_advert(const uint8_t *payload, size_t length, advert_t *advert) noexcept nogil:
    """Whether the payload is long enough for an advert; only then `advert` is filled in."""
    if length < CARP_LENGTH:
        return False
    advert.version = payload[0] >> 4
    advert.type = payload[0] & 15
    advert.vhid = payload[1]
    advert.advskew = payload[2]
    advert.authlen = payload[3]
    advert.demotion = payload[4]
    advert.advbase = payload[5]
    advert.counter = payload + 8
    advert.digest = payload + 16
    return True


cdef bint packet_is_vrrp(const uint8_t *payload, size_t length) noexcept nogil:
    """Whether this is a packet of VRRP version 2 or 3: the twin of `pycarp.protocol.checks.vrrp_router`."""
    cdef size_t count
    if length < 8 or payload[0] & 15 != 1 or payload[3] == 0:
        return False
    count = payload[3]
    if payload[0] >> 4 == 2:
        return length == 16 + 4 * count
    return payload[0] >> 4 == 3 and (length == 8 + 4 * count or length == 8 + 16 * count)


# Building

cdef void template_init(
    template_t *template, uint8_t vhid, const uint8_t *source_mac, uint8_t family, const uint8_t *source
) noexcept nogil:
    """`source_mac` has 6 bytes, `source` 4 or 16."""
    cdef uint8_t *frame = template.frame
    cdef uint8_t *ip = frame + ETHERNET_LENGTH
    cdef uint8_t *carp
    memset(template, 0, sizeof(template_t))
    memcpy(frame + MAC_LENGTH, source_mac, MAC_LENGTH)
    template.family = family
    if family == 4:
        memcpy(frame, b"\x01\x00\x5e\x00\x00\x12", MAC_LENGTH)
        memcpy(frame + 12, b"\x08\x00", 2)
        memcpy(ip, b"\x45\x10\x00\x38\x00\x00\x40\x00\xff\x70", 10)
        memcpy(ip + 12, source, 4)
        memcpy(ip + 16, b"\xe0\x00\x00\x12", 4)
        _put_checksum(ip + 10, _sum(ip, IPV4_LENGTH))
        template.header = ETHERNET_LENGTH + IPV4_LENGTH
    else:
        memcpy(frame, b"\x33\x33\x00\x00\x00\x12", MAC_LENGTH)
        memcpy(frame + 12, b"\x86\xdd", 2)
        memcpy(ip, b"\x60\x00\x00\x00\x00\x24\x70\xff", 8)
        memcpy(ip + 8, source, 16)
        memcpy(ip + 24, b"\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x12", 16)
        template.header = ETHERNET_LENGTH + IPV6_LENGTH
    template.length = <uint8_t> (template.header + CARP_LENGTH)
    carp = frame + template.header
    carp[0] = VERSION_AND_TYPE
    carp[1] = vhid
    carp[3] = AUTHLEN
    template.constant_sum = _fold(_sum(carp, 8))


cdef size_t template_frame(
    const template_t *template, uint8_t advbase, uint8_t advskew, uint8_t demotion, const uint8_t *counter,
    const uint8_t *digest, uint8_t *frame,
) noexcept nogil:
    """Writes the whole frame, at most ADVERT_FRAME_MAX bytes, and returns its length."""
    cdef uint8_t *carp = frame + template.header
    cdef uint8_t changed[8]
    memcpy(frame, template.frame, template.length)
    memset(changed, 0, 8)
    changed[2] = carp[2] = advskew
    changed[4] = carp[4] = demotion
    changed[5] = carp[5] = advbase
    memcpy(carp + 8, counter, COUNTER_LENGTH)
    memcpy(carp + 16, digest, DIGEST_LENGTH)
    _put_checksum(
        carp + 6, template.constant_sum + _sum(changed, 8) + _sum(counter, COUNTER_LENGTH) + _sum(digest, DIGEST_LENGTH)
    )
    return template.length


# The border

cdef bytes octets(object data):
    """`data` itself when it is bytes, a copy of any other buffer. TypeError for what is none."""
    if type(data) is bytes:
        return data
    return bytes(memoryview(data))


cdef uint8_t _byte(str name, object value) except? 0:
    if not 0 <= value <= 255:
        raise ValueError(f"{name} {value} does not fit a byte: give 0-255")
    return value


cdef inline const uint8_t *_at(bytes data) noexcept:
    return <const uint8_t *> PyBytes_AS_STRING(data)


cdef inline bytes _bytes(const uint8_t *data, Py_ssize_t length):
    return PyBytes_FromStringAndSize(<const char *> data, length)


cdef str address_text(const uint8_t *address, uint8_t family):
    """The address as `ipaddress` writes it."""
    if family == 4:
        return PyUnicode_FromFormat(
            b"%u.%u.%u.%u", <unsigned> address[0], <unsigned> address[1], <unsigned> address[2], <unsigned> address[3]
        )
    return str(IPv6Address(_bytes(address, 16)))


cdef object advert_object(object family, object source, object destination, object source_mac, const advert_t *advert):
    """An `Advert`. Its frozen __init__ calls object.__setattr__ for each attribute; this does the same directly."""
    cdef object made = Advert.__new__(Advert)
    PyObject_GenericSetAttr(made, "family", family)
    PyObject_GenericSetAttr(made, "source", source)
    PyObject_GenericSetAttr(made, "destination", destination)
    PyObject_GenericSetAttr(made, "source_mac", source_mac)
    PyObject_GenericSetAttr(made, "version", advert.version)
    PyObject_GenericSetAttr(made, "type", advert.type)
    PyObject_GenericSetAttr(made, "vhid", advert.vhid)
    PyObject_GenericSetAttr(made, "advskew", advert.advskew)
    PyObject_GenericSetAttr(made, "authlen", advert.authlen)
    PyObject_GenericSetAttr(made, "demotion", advert.demotion)
    PyObject_GenericSetAttr(made, "advbase", advert.advbase)
    PyObject_GenericSetAttr(made, "counter", _bytes(advert.counter, COUNTER_LENGTH))
    PyObject_GenericSetAttr(made, "digest", _bytes(advert.digest, DIGEST_LENGTH))
    return made


cdef class AdvertTemplate:
    """AdvertTemplate(vhid, source_mac, source)
--

    An Ethernet frame with an advert in it, but for the four things that change from one advert to the next.
    """

    def __cinit__(self, vhid, source_mac, source):
        cdef object address = ip_address(source)
        cdef bytes packed = address.packed
        cdef bytes mac = exactly("source_mac", source_mac, MAC_LENGTH)
        template_init(&self.template, _byte("vhid", vhid), _at(mac), address.version, _at(packed))

    def frame(self, advbase: int, advskew: int, counter: bytes, digest: bytes, demotion: int = 0) -> bytes:
        """The whole frame. `counter` is 8 bytes, `digest` 20; 255/255: a bow-out. `demotion` is OpenBSD's byte."""
        cdef uint8_t built[ADVERT_FRAME_MAX]
        cdef uint8_t base = _byte("advbase", advbase), skew = _byte("advskew", advskew)
        cdef uint8_t said = _byte("demotion", demotion)
        cdef bytes octets8 = exactly("counter", counter, COUNTER_LENGTH)
        cdef bytes octets20 = exactly("digest", digest, DIGEST_LENGTH)
        return _bytes(built, template_frame(&self.template, base, skew, said, _at(octets8), _at(octets20), built))


def dissect(frame: bytes) -> Datagram | None:
    """The CARP datagram in an Ethernet frame; None for everything that an IP layer would not hand on as one."""
    cdef datagram_t datagram
    cdef bytes whole = octets(frame)
    if not packet_dissect(_at(whole), PyBytes_GET_SIZE(whole), &datagram):
        return None
    return Datagram(
        datagram.family,
        _bytes(datagram.destination_mac, MAC_LENGTH),
        _bytes(datagram.source_mac, MAC_LENGTH),
        _bytes(datagram.source, 4 if datagram.family == 4 else 16),
        _bytes(datagram.destination, 4 if datagram.family == 4 else 16),
        datagram.ttl,
        _bytes(datagram.payload, datagram.length),
    )


def advert(datagram: Datagram) -> Advert | None:
    """The fields of the advert in a datagram, none of them checked; None when it is shorter than an advert."""
    cdef advert_t parsed
    cdef bytes payload = octets(datagram.payload)
    if not packet_advert(_at(payload), PyBytes_GET_SIZE(payload), &parsed):
        return None
    return advert_object(
        datagram.family, str(ip_address(datagram.source)), str(ip_address(datagram.destination)), datagram.source_mac,
        &parsed,
    )


def checksum_ok(datagram: Datagram) -> bool:
    """Whether the CARP checksum is right: over the 36 bytes, or for IPv6 also with the pseudo-header."""
    cdef bytes payload = octets(datagram.payload)
    cdef bytes source, destination
    if datagram.family == 4:
        return packet_checksum_ok(4, NULL, NULL, _at(payload), PyBytes_GET_SIZE(payload))
    source, destination = exactly("source", datagram.source, 16), exactly("destination", datagram.destination, 16)
    return packet_checksum_ok(6, _at(source), _at(destination), _at(payload), PyBytes_GET_SIZE(payload))
