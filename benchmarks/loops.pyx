# cython: language_level=3, boundscheck=False
"""Loops without the interpreter around the native core's functions, so that they are measured and not the call to them.

Compiled on the fly by `building.loops`; part of the benchmarks only. Every loop returns a figure that proves its work.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from pycarp._native.auth cimport (
    AUTH_BSD, AUTH_MACS, AUTH_NONE, Authenticator, auth_compute, auth_judge, auth_orders, auth_sign, auth_verify,
)
from pycarp._native.input cimport (
    BATCH, Input, batch_t, input_add, input_begin, input_compute, input_frame, input_judge, verdict_t,
)
from pycarp._native.machine cimport Machine, actions_t, machine_deadline, machine_receive, machine_timeout, peer_t
from pycarp._native.packet cimport advert_t, datagram_t, packet_advert, packet_checksum_ok, packet_dissect

from sha1 cimport carp_sha1_mac

cdef extern from "sha1.h" nogil:
    void carp_sha1_init(uint32_t *state) noexcept
    void carp_sha1_block(uint32_t *state, const uint8_t *data, size_t blocks) noexcept
    int carp_sha1_select(const char *variant) noexcept

cdef enum:
    RECORD = 28  # counter and digest


def select(variant):
    """The SHA-1 variant that `block` runs; the core has chosen its own."""
    if carp_sha1_select(variant.encode()) != 0:
        raise ValueError(f"no SHA-1 variant {variant!r} here")


def block(size_t turns):
    """SHA-1 compressions, each of the outcome of the one before."""
    cdef uint32_t state[5]
    cdef uint8_t data[64]
    cdef size_t turn
    memset(data, 0x5A, 64)
    carp_sha1_init(state)
    with nogil:
        for turn in range(turns):
            carp_sha1_block(state, data, 1)
    return state[0]


def verify_one(Authenticator authenticator, const uint8_t[::1] records, size_t turns):
    """Verifications of records in turn; each begins when the one before is decided. Returns how many were right."""
    cdef size_t count = records.shape[0] // RECORD, at = 0, turn, right = 0
    cdef int found
    with nogil:
        for turn in range(turns):
            found = auth_verify(authenticator.auth, &records[at * RECORD], &records[at * RECORD + 8])
            right += found != AUTH_NONE
            # What was found decides which is next, so that the processor cannot begin it before.
            at = (at + 1 + <size_t> (found - AUTH_BSD)) % count
    return right


def verify_many(Authenticator authenticator, const uint8_t[::1] records, size_t turns):
    """Verifications of records in turn, as many together as frames that wait. Returns how many were right."""
    cdef carp_sha1_mac orders[BATCH * AUTH_MACS]
    cdef size_t count = records.shape[0] // RECORD, first, at, turn, right = 0
    cdef size_t each = 0
    with nogil:
        for turn in range(turns // BATCH):
            first = turn * BATCH % (count - BATCH + 1)
            for at in range(BATCH):
                each = auth_orders(authenticator.auth, &records[(first + at) * RECORD], &orders[at * each])
            auth_compute(orders, BATCH * each)
            for at in range(BATCH):
                right += AUTH_NONE != auth_judge(
                    authenticator.auth, &orders[at * each], &records[(first + at) * RECORD + 8]
                )
    return right


def sign(Authenticator authenticator, size_t turns):
    """Signatures, each over a counter that the one before gave."""
    cdef uint8_t counter[8]
    cdef uint8_t digest[20]
    cdef size_t turn, at
    memset(counter, 0, 8)
    with nogil:
        for turn in range(turns):
            auth_sign(authenticator.auth, AUTH_BSD, counter, digest)
            for at in range(8):
                counter[at] = digest[at]
    return digest[0]


def parse(const uint8_t[::1] frame, size_t turns):
    """From a frame to an advert whose checksum is right, digest aside."""
    cdef datagram_t datagram
    cdef advert_t advert
    cdef size_t turn, length = frame.shape[0], good = 0
    with nogil:
        for turn in range(turns):
            good += (
                packet_dissect(&frame[0], length, &datagram)
                and packet_advert(datagram.payload, datagram.length, &advert)
                and packet_checksum_ok(
                    datagram.family, datagram.source, datagram.destination, datagram.payload, datagram.length
                )
            )
    return good


def input_frames(Input input_, const uint8_t[::1] frames, size_t length, size_t turns):
    """Verdicts on frames of one length, which lie one after the other, in turn. Returns the last one's number."""
    cdef verdict_t verdict
    cdef size_t turn, at = 0, count = frames.shape[0] // length
    verdict.counter = -1
    with nogil:
        for turn in range(turns):
            input_frame(&input_.input_, &frames[at * length], length, <int64_t> turn, &verdict)
            at += 1
            if at == count:
                at = 0
    return verdict.counter


def input_batches(Input input_, const uint8_t[::1] frames, size_t length, size_t turns):
    """As `input_frames`, as many together as frames that wait."""
    cdef batch_t batch
    cdef size_t turn, at = 0, count = frames.shape[0] // length
    cdef int each
    batch.verdicts[0].counter = -1
    with nogil:
        for turn in range(turns // BATCH):
            input_begin(&batch)
            for each in range(BATCH):
                input_add(&input_.input_, &batch, &frames[at * length], length)
                at += 1
                if at == count:
                    at = 0
            input_compute(&batch)
            for each in range(batch.count):
                input_judge(&input_.input_, &batch.verdicts[each], <int64_t> turn)
    return batch.verdicts[0].counter


def receive(Machine machine, uint8_t advbase, uint8_t advskew, int64_t now, size_t turns):
    """Adverts for a BACKUP, a microsecond apart. Returns the deadline it ends with."""
    cdef actions_t actions
    cdef peer_t peer
    cdef size_t turn
    memset(&peer, 0, sizeof(peer))
    with nogil:
        for turn in range(turns):
            now += 1000
            machine_receive(&machine.machine, 4, advbase, advskew, -1, 0, now, &peer, now, &actions)
    return machine_deadline(&machine.machine)


def timeout(Machine machine, size_t turns):
    """Adverts of a MASTER, each at its time. Returns how many actions that asked for."""
    cdef actions_t actions
    cdef size_t turn, asked = 0
    with nogil:
        for turn in range(turns):
            machine_timeout(&machine.machine, machine_deadline(&machine.machine), &actions)
            asked += actions.count
    return asked
