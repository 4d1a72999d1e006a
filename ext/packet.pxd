# cython: language_level=3
"""Frames without Python objects: what came from the wire as pointers into it, what goes onto it in a buffer."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum:
    MAC_LENGTH = 6
    CARP_LENGTH = 36
    COUNTER_LENGTH = 8
    DIGEST_LENGTH = 20
    ADVERT_FRAME_MAX = 14 + 40 + 36


cdef struct datagram_t:
    # A CARP datagram inside an Ethernet frame; every pointer is into that frame. Addresses have 4 or 16 bytes.
    const uint8_t *destination_mac
    const uint8_t *source_mac
    const uint8_t *source
    const uint8_t *destination
    const uint8_t *payload
    uint32_t length  # of the payload
    uint8_t family  # 4 or 6
    uint8_t ttl


cdef struct advert_t:
    # The fields of an advert, none of them checked; the pointers are into its payload.
    uint8_t version
    uint8_t type
    uint8_t vhid
    uint8_t advskew
    uint8_t authlen
    uint8_t demotion
    uint8_t advbase
    const uint8_t *counter
    const uint8_t *digest


cdef struct template_t:
    # A whole frame whose advbase, advskew, checksum, counter and digest are still to be filled in.
    uint8_t frame[ADVERT_FRAME_MAX]
    uint8_t length  # of the frame
    uint8_t header  # where the CARP header begins
    uint8_t family
    uint32_t constant_sum  # of what never changes in the CARP header, for its checksum


cdef bint packet_dissect(const uint8_t *frame, size_t length, datagram_t *datagram) noexcept nogil
cdef bint packet_advert(const uint8_t *payload, size_t length, advert_t *advert) noexcept nogil
cdef bint packet_is_vrrp(const uint8_t *payload, size_t length) noexcept nogil
cdef bint packet_checksum_ok(
    uint8_t family, const uint8_t *source, const uint8_t *destination, const uint8_t *payload, size_t length
) noexcept nogil

cdef void template_init(
    template_t *template, uint8_t vhid, const uint8_t *source_mac, uint8_t family, const uint8_t *source
) noexcept nogil
cdef size_t template_frame(
    const template_t *template, uint8_t advbase, uint8_t advskew, uint8_t demotion, const uint8_t *counter,
    const uint8_t *digest, uint8_t *frame,
) noexcept nogil

# At the border, under the GIL

cdef bytes octets(object data)
cdef str address_text(const uint8_t *address, uint8_t family)
cdef object advert_object(object family, object source, object destination, object source_mac, const advert_t *advert)


cdef class AdvertTemplate:
    cdef template_t template
