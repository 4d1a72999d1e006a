# cython: language_level=3
"""What the native runtime's thread works on. Everything here belongs to that thread while it runs."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .auth cimport auth_t
from .input cimport addresses_t, input_t, input_instance_t
from .machine cimport machine_config_t, machine_t, peer_t
from .packet cimport ADVERT_FRAME_MAX, template_t
from .ring cimport ring_t
from .system cimport pthread_t, sem_t


cdef enum:
    PEERS = 32  # remembered for each virtual host, and for each carpdev
    READY = 4  # frames of one advert: two families under two dialects
    RIVALS = 8  # told of while MASTER
    ANSWERS = 64  # of the guardian, kept for those who asked; a power of two
    RECORDS = 4096  # events under way to Python; a power of two
    BUCKETS = 40  # of a histogram: bucket i counts what took less than 2**i ns

cdef enum:
    RECORD_STATE
    RECORD_TAKEN
    RECORD_DROPPED
    RECORD_NOT_WRITTEN
    RECORD_PEER
    RECORD_REJECTED
    RECORD_SILENT
    RECORD_DEMOTED
    RECORD_NOT_SENT
    RECORD_SIBLING
    RECORD_RIVAL
    RECORD_STALLED
    RECORD_DELAYED
    RECORD_UNLEASED
    RECORD_WATCHDOG
    RECORD_FED
    RECORD_GUARDIAN  # it is gone: Python starts another

cdef enum:
    COMMAND_ADD_CARPDEV
    COMMAND_UPDATE_CARPDEV
    COMMAND_REMOVE_CARPDEV
    COMMAND_ADD_INSTANCE
    COMMAND_MOVE_INSTANCE
    COMMAND_START
    COMMAND_STOP
    COMMAND_LINK
    COMMAND_FORCE
    COMMAND_REPLAN
    COMMAND_RETAKE
    COMMAND_ANNOUNCE
    COMMAND_DEMOTE
    COMMAND_REFUSE
    COMMAND_LEAVE
    COMMAND_STATS
    COMMAND_STOP_ALL
    COMMAND_SETTLED
    COMMAND_ASK
    COMMAND_ANSWER
    COMMAND_GUARDIAN
    COMMAND_WATCH
    COMMAND_CLOSE


cdef struct record_t:
    # One event on its way to Python.
    int64_t at, value
    peer_t peer
    int index
    uint8_t kind, vhid
    uint8_t before, after, reason
    uint8_t dialect, advbase, advskew, counter, family, standing


cdef struct known_t:
    # A peer that has been reported.
    uint8_t address[16]
    uint8_t family, vhid
    uint8_t what  # the dialect, or the counter, that it was reported for


cdef struct frame_t:
    uint8_t octets[ADVERT_FRAME_MAX]
    uint8_t length, family


cdef struct plan_t:
    # A plan's bytes; the authenticator is the Python object's and is kept alive there.
    template_t templates[2]
    int template_count
    uint8_t *announcements  # whole frames in a row
    uint16_t *announcement_lengths
    int announcement_count
    auth_t *auth
    addresses_t addresses
    uint8_t mac[6]
    machine_config_t config
    uint8_t announcement_repeats


cdef struct host_t:
    int index
    uint8_t vhid
    machine_t machine
    input_instance_t seat
    plan_t plan
    carpdev_t *segment  # NULL: its carpdev is gone
    int64_t due
    int heap_at  # its place among the timers, -1: none
    int64_t announce_due
    int64_t take_due  # of one that has deposed another
    frame_t ready[READY]  # the next advert, signed ahead
    int ready_count
    uint8_t ready_advbase, ready_advskew
    uint32_t ready_dialects
    bint failing
    known_t peers[PEERS]
    int peer_count
    int64_t deciding  # when the take or drop that is under way was decided, 0: none is
    int64_t rest, rest_due  # after a take that failed
    # What the guardian has been told. `taken`: the addresses were ordered here, and it wants to hear from us.
    bint taken
    uint8_t owed  # 1 + the order for which there was no room, or 0
    uint32_t pending  # orders that have not been answered
    int64_t alive  # CLOCK_BOOTTIME of the last advert as MASTER
    bint wanted  # it was started
    uint32_t lease  # seconds that the addresses live, or LEASE_FOREVER
    uint32_t told  # the lease that the guardian was told last
    uint8_t least  # the smallest advbase heard in the group, and our own
    bint unleased_told
    uint8_t announcements  # still to be repeated after a takeover
    uint64_t losses  # of the segment's ring, when a valid advert was heard last
    uint8_t holds  # intervals that a takeover has waited since then
    int64_t heard  # when a valid advert was heard last, 0: never
    int64_t refused  # until then silence is no reason to take over
    known_t rivals[RIVALS]
    int rival_count
    # A suppression that it has counted for itself and that the others have not yet, and the next host with one.
    int64_t suppression
    host_t *suppressing_next
    int64_t demotion_told


cdef struct carpdev_t:
    int number
    int send_fd
    ring_t ring
    input_t input
    host_t *hosts[256]  # by vhid
    known_t rejected[PEERS]
    int rejected_count


cdef struct command_t:
    void *next
    sem_t done
    int kind
    int index, segment, integer
    host_t *host
    carpdev_t *carpdev
    plan_t plan
    addresses_t addresses, broadcasts
    uint8_t mac[6]
    bint has_mac
    bint found
    int64_t limit
    uint64_t counters[64]


cdef struct measures_t:
    uint64_t wakeup[BUCKETS]  # from a deadline to the loop looking at it
    uint64_t sending[BUCKETS]  # from a deadline to its advert being sent
    uint64_t takeover[BUCKETS]  # from the decision to the kernel having the addresses


cdef struct runtime_t:
    void *commands
    int wake  # eventfd: commands
    int guardian  # our end of its socket, -1: there is none
    bint guardian_ready  # it has said something
    bint orphaned  # it is gone, and Python is at starting another
    bint hanging  # it does not answer
    int64_t pinged  # when it was asked whether it hangs, 0: it has answered
    int64_t orphan_due  # when we hand over unless there is another, 0: not at all
    uint32_t numbers  # of questions to it
    uint32_t answers[ANSWERS]  # the number answered, by number
    int32_t answer_errors[ANSWERS]
    int64_t answer_finished[ANSWERS]
    void *lifeline
    uint32_t holding  # the lifeline
    int64_t grace  # ns by which an advert may be late before the guardian lets go
    int64_t suspended  # ns that this machine has been, when looked at last
    # The program has to be heard from every so many ns, 0: not at all.
    int64_t watchdog
    uint64_t fed  # when it was
    uint32_t starving
    carpdev_t **segments
    int segment_count
    host_t **hosts
    int host_count
    host_t **heap
    int heap_count, heap_room
    int64_t demotion
    host_t *suppressing_first
    host_t *suppressing_last
    bint suppressing
    int64_t demoted_due  # when demotions are told, 0: there is nothing to tell
    bint owing  # some virtual host's order waits for room
    uint64_t seed
    bint closing
    uint32_t wants_realtime, has_realtime
    # How early to wake: as late as the kernel has been, within what may be spent on waiting awake.
    int64_t lead, allowance, refreshed
    # How many frames came since then, and whether those were a flood.
    int64_t window
    uint32_t frames
    bint flooded
    # Events to Python: one puts, one fetches.
    record_t records[RECORDS]
    uint32_t recorded, fetched
    uint64_t lost
    int tell  # eventfd: there are records
    measures_t measures
    pthread_t thread
