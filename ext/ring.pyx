# cython: language_level=3
"""A memory-mapped ring of received frames, for the native runtime only. Nothing here is for Python.

TPACKET_V2: its frames are there one by one, where V3 would keep a lone one until its block is closed by time.

Thread: runtime, no GIL; a ring is opened and closed by any caller.
"""

from libc.errno cimport errno
from libc.string cimport memset

from .system cimport (
    MAP_FAILED,
    MADV_DONTFORK,
    MAP_SHARED,
    PACKET_RX_RING,
    PACKET_STATISTICS,
    PACKET_VERSION,
    PROT_READ,
    PROT_WRITE,
    TP_STATUS_KERNEL,
    TP_STATUS_LOSING,
    TP_STATUS_USER,
    TPACKET_V2,
    atomic_load32,
    atomic_store32,
    getsockopt,
    madvise,
    mlock,
    mmap,
    munmap,
    prefetch,
    setsockopt,
    tpacket2_hdr,
    tpacket_req,
    tpacket_stats,
)

cdef enum:
    SOL_PACKET = 263
    # Room for the headers of an advert, whatever its IP options, behind the kernel's own 66 bytes. What is longer is
    # cut off here and checked by the length it had.
    FRAME_SIZE = 256
    BLOCK_SIZE = 65536
    BLOCKS = 16
    # Of a processor's cache; an advert ends in the third.
    LINE = 64
    FETCHED = 3


cdef int ring_open(ring_t *ring, int fd) noexcept nogil:
    """Give a packet socket a ring. 0, or an errno."""
    cdef int version = TPACKET_V2
    cdef tpacket_req request
    cdef void *mapping
    memset(ring, 0, sizeof(ring_t))
    request.tp_block_size = BLOCK_SIZE
    request.tp_block_nr = BLOCKS
    request.tp_frame_size = FRAME_SIZE
    request.tp_frame_nr = BLOCKS * (BLOCK_SIZE // FRAME_SIZE)
    if setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0:
        return errno
    if setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0:
        return errno
    mapping = mmap(NULL, BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if mapping == MAP_FAILED:
        return errno
    # The kernel's pages are not swapped; this makes sure that they are mapped. Not being allowed to does no harm.
    mlock(mapping, BLOCK_SIZE * BLOCKS)
    # A forked child would keep the socket by it.
    madvise(mapping, BLOCK_SIZE * BLOCKS, MADV_DONTFORK)
    ring.frames = <uint8_t *> mapping
    ring.length = BLOCK_SIZE * BLOCKS
    ring.count = request.tp_frame_nr
    ring.fd = fd
    return 0


cdef void ring_close(ring_t *ring) noexcept nogil:
    if ring.frames != NULL:
        munmap(ring.frames, ring.length)
        ring.frames = NULL


cdef inline uint8_t *_place(const ring_t *ring, uint32_t ahead) noexcept nogil:
    cdef uint32_t at = ring.at + ahead
    if at >= ring.count:
        at -= ring.count
    return ring.frames + <size_t> at * FRAME_SIZE


cdef void ring_expect(const ring_t *ring, uint32_t first, uint32_t end) noexcept nogil:
    """Begin to fetch the frames from `first` ahead on: another processor wrote them, and one wait does for all."""
    cdef int line
    cdef uint32_t ahead
    for ahead in range(first, end):
        for line in range(FETCHED):
            prefetch(_place(ring, ahead) + LINE * line)


cdef const uint8_t *ring_ahead(ring_t *ring, uint32_t ahead, size_t *length) noexcept nogil:
    """The frame behind the next `ahead` ones, which are there, and the length that it had on the wire; NULL: there is
    none. It is ours until it was the next one, and ring_release.

    At least the first 190 bytes are there.
    """
    cdef tpacket2_hdr *header = <tpacket2_hdr *> _place(ring, ahead)
    cdef uint32_t status = atomic_load32(&header.tp_status)
    if not status & TP_STATUS_USER:
        return NULL
    if status & TP_STATUS_LOSING:
        ring.losing = True
    length[0] = header.tp_len
    return <const uint8_t *> header + header.tp_mac


cdef int64_t ring_arrival(const ring_t *ring) noexcept nogil:
    """When the next frame, which is there, came to the kernel: CLOCK_REALTIME, ns."""
    cdef const tpacket2_hdr *header = <const tpacket2_hdr *> (ring.frames + <size_t> ring.at * FRAME_SIZE)
    return <int64_t> header.tp_sec * 1000000000 + header.tp_nsec


cdef void ring_release(ring_t *ring) noexcept nogil:
    """Give the next frame back to the kernel."""
    cdef tpacket2_hdr *header = <tpacket2_hdr *> (ring.frames + <size_t> ring.at * FRAME_SIZE)
    atomic_store32(&header.tp_status, TP_STATUS_KERNEL)
    ring.at += 1
    if ring.at == ring.count:
        ring.at = 0


cdef void ring_count_losses(ring_t *ring) noexcept nogil:
    cdef tpacket_stats stats
    cdef unsigned int length = sizeof(stats)
    ring.losing = False
    # The kernel starts anew at every question.
    if getsockopt(ring.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0:
        ring.losses += stats.tp_drops
