# What the loop works on: a struct for each room that owns something.
#
# Thread: runtime, no GIL. Other threads read single values: state, demotion, whether addresses are owned, when a peer
# was heard, `watchdog.expired`, the histograms. Any caller writes `watchdog.fed`. The event thread reads and clears
# `guardian.hanging`. Times are CLOCK_MONOTONIC, ns, where nothing else is said.

cdef enum:
    KNOWN_PEERS = 32  # peers and rivals remembered for each instance, rejected ones for each carpdev
    READY = 2 * AUTH_KEYS  # frames of one advert: two families, each under every dialect
    AGENDA = 4 * MACHINE_ACTIONS  # actions: of a step and of its sent advert, and the same of one demoted instance
    ANSWERS = 64  # of the guardian, kept for those who asked; a power of two
    RECORDS = 4096  # events under way to Python; a power of two
    BUCKETS = 40  # of a histogram: bucket i counts what took less than 2**i ns
    BOWOUT = 255  # advbase and advskew of the last advert


# reports

cdef struct record_t
# In the event thread: the event that a record is. `who` are its first arguments, `host` is the configuration, or None.
ctypedef object (*make_event_t)(const record_t *record, dict who, object host)

cdef struct record_t:
    # One event on its way to Python.
    make_event_t make  # NULL: it has no other field than `value`
    const char *name  # then: of the class in pycarp.events, and of that field if there is one
    int64_t at, value
    int index  # of the instance, -1: it concerns the engine as a whole
    peer_t peer
    uint8_t vhid, detail

cdef struct known_t:
    # A peer that was reported.
    uint8_t address[16]
    uint8_t family, vhid
    uint8_t what  # the dialect, the counter or the rule that it was reported for

cdef struct known_peers_t:
    known_t items[KNOWN_PEERS]
    int count

cdef struct reports_t:
    # One thread puts, one fetches.
    record_t records[RECORDS]
    uint32_t put, fetched
    uint64_t lost
    int wake  # eventfd: there are records

cdef struct reported_t:
    # What was reported of an instance and is not repeated.
    known_peers_t rivals, vrrp
    int peers  # how many, under how many dialects
    int64_t since  # when its state changed last, or it was added
    uint8_t why  # 1 + the reason, 0: it has been added only
    peer_t cause
    int64_t vrrp_heard
    bint deaf  # that rival
    int64_t demotion
    bint unleased
    uint8_t slow  # which pace is slower than it was to be, 0: none
    int64_t slow_pace  # and what it is

cdef struct measures_t:
    # See stats.Measures.
    uint64_t wakeup[BUCKETS]
    uint64_t sending[BUCKETS]
    uint64_t takeover[BUCKETS]


# peers

cdef struct source_t:
    # Who was heard: a source address and a vhid that adverts claimed.
    uint8_t address[16]
    int64_t heard  # when last
    uint64_t count
    uint8_t family, vhid, advbase, advskew
    uint8_t dialects  # a mask
    uint8_t mac[6]
    uint8_t counter[8]  # of its last advert
    int64_t counter_since  # and of all since then: only OpenBSD's stays

cdef struct sources_t:
    source_t items[KNOWN_PEERS]
    int count, last  # the one that was heard last


# timers

cdef struct timers_t:
    # When an instance is due, and its deadlines beside the machine's.
    int64_t due, announce_due, take_due, retry_due, tenure_due
    int heap_at  # its place in the heap, -1: none


# transmit

cdef struct frame_t:
    uint8_t octets[ADVERT_FRAME_MAX]
    uint8_t length, family

cdef struct transmit_t:
    frame_t ready[READY]  # the next advert, signed ahead
    int ready_count
    uint8_t ready_advbase, ready_advskew, ready_demotion, ready_pace
    uint16_t ready_serial
    uint32_t left  # 1 more than the serial of the last bow-out to the group, 0 for none
    uint32_t ready_dialects
    bint failing  # the last advert could not be sent
    int paced_frames  # of one advert, when the pace was shared out
    int64_t least_pace  # that the machine was told, ns
    bint speaks  # it has advertised as MASTER
    int64_t late  # ns that the last advert of a MASTER was sent after its deadline
    int64_t ahead  # what another process leaves: the runtime's


# addresses

cdef struct ownership_t:
    # What the guardian was told of an instance.
    bint owned  # its addresses were ordered here, and the guardian expects beats
    uint8_t unsent  # 1 + the order that found no room, or 0
    uint32_t unanswered  # orders
    uint32_t lease  # as the guardian is told: seconds that the addresses live, or ms that the gate is open
    bint outlived  # others may take over before its end
    uint8_t least_advbase  # heard in the group
    uint8_t announcements  # still to be repeated after a takeover, or after a rival was heard
    int64_t announced  # when last
    bint inherits  # they come from one that has bowed out, and keeps them until they are announced here
    uint8_t heir[6]  # the MAC of one that is taking them from us, or zeros
    int64_t decided  # when the take or drop under way was, 0: there is none
    int64_t beaten  # when the guardian heard that we live
    int64_t advertised  # CLOCK_BOOTTIME of the last advert as MASTER
    int64_t retry_delay


# suspicion

cdef struct suspicion_t:
    int64_t heard  # when a valid advert was heard last, 0: never
    uint64_t losses  # of the carpdev's ring, then
    uint8_t delays  # intervals that a takeover has waited since
    int64_t refused_until  # until then silence is no reason to take over
    int64_t rival_since  # when a worse rival was heard first, without a pause since
    int64_t rival_heard  # when last, 0: not as MASTER

cdef struct watchdog_t:
    int64_t limit  # the program is to be heard from every this many ns, 0: not at all
    uint64_t fed  # when it was last
    uint32_t expired


# Instances and carpdevs

cdef struct destination_t:
    # What stands before an advert to one address: see `pycarp.engine.destinations`.
    uint8_t header[14 + 40]
    uint8_t length, family

cdef struct plan_t:
    # A plan's bytes; the authenticator is the Python object's and is kept alive there.
    template_t templates[2]
    int template_count
    destination_t *destinations
    int destination_count
    uint8_t aimed  # a mask of the families (bit 4, bit 6) whose adverts go there
    hearing_t hearing
    frame_t *announce_frames
    int announce_count
    uint8_t announce_repeats
    int64_t announce_every  # ns; 0 for never
    auth_t *auth
    addresses_t addresses
    uint8_t mac[6]
    machine_config_t config
    bint gated  # its device has a gate
    bint obeys_all, obeys_known  # whose demotion counts: everybody's, or that of pycarp and OpenBSD hosts
    bint virtual  # the addresses have the group's MAC, not the carpdev's
    bint led  # the program decides who has the addresses

cdef struct instance_t:
    int index
    uint8_t vhid
    bint wanted  # it was started, and not stopped since
    bint aside  # it does not become MASTER by another's advert; the runtime's is about all
    int64_t tenure  # led: until when (CLOCK_BOOTTIME) the program has the addresses here, 0: not
    bint frozen  # another process is to go on with it: nothing happens here meanwhile
    bint released  # the guardian has let go of it while it was frozen
    machine_t machine
    input_instance_t input
    plan_t plan
    carpdev_t *carpdev  # NULL: it has gone
    timers_t timers
    transmit_t transmit
    ownership_t ownership
    suspicion_t suspicion
    reported_t reported
    sources_t sources

cdef struct carpdev_t:
    int number
    int send_fd
    ring_t ring
    input_t input
    instance_t *instances[256]  # by vhid
    known_peers_t rejected


# actions

cdef struct item_t:
    instance_t *instance
    action_t action
    bint after_drop  # an advert that waits until the addresses have gone
    bint last  # of what the machine asked for in one step

cdef struct demotion_t:
    # All instances but its cause are demoted; those before `next` have been.
    int64_t by
    instance_t *cause
    int next

cdef struct agenda_t:
    # A stack of actions, and a ring of demotions in the order in which they came; the first one is under way. What lies
    # below `floor` was on the stack when that began, and waits until all demotions are done.
    item_t items[AGENDA]
    int count, floor
    demotion_t *demotions
    int demotion_first, demotion_count, demotion_room


# addresses, guardian

cdef struct guardian_t:
    int fd  # our end of its socket, -1: there is none
    bint readable
    bint lost  # Python is at starting another one
    bint hanging
    bint unsent  # some instance's order found no room
    int64_t asked  # when it was asked whether it hangs, 0: it has answered
    int64_t hand_over_due  # unless there is another one, 0: not at all
    int64_t late_allowance  # an advert may be this many ns late before it lets go
    uint32_t numbers  # of questions
    uint32_t answers[ANSWERS]  # the number answered, by number
    int32_t answer_errors[ANSWERS]


# loop

cdef struct pacing_t:
    # How early to wake: as late as the kernel has been, within what may be spent on waiting awake.
    int64_t lead, allowance, refreshed
    # How many frames came in this window, and whether those were a flood.
    int64_t window
    uint32_t frames
    bint flooded

cdef struct runtime_t:
    void *commands
    int wake  # eventfd: commands
    void *lifeline
    uint32_t lifeline_locked
    uint32_t wants_realtime, has_realtime
    bint closing
    pthread_t thread
    carpdev_t **carpdevs
    int carpdev_count
    instance_t **instances
    int instance_count
    uint8_t expected[256]  # whether this vhid is, was or will be here: set by any caller, never cleared
    instance_t **heap
    int heap_count
    agenda_t agenda
    guardian_t guardian
    watchdog_t watchdog
    pacing_t pacing
    int64_t suspended  # ns that this machine has been, when looked at last
    int64_t ahead  # ns, of the clock that serials are read from, before CLOCK_BOOTTIME
    int64_t demotion
    bint aside  # no instance becomes MASTER by another's advert
    int64_t demotions_due  # then changed demotions are reported, 0: none has changed
    measures_t measures
    reports_t reports


# commands

cdef struct command_t
ctypedef void (*command_run_t)(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil
ctypedef void (*command_on_t)(
    runtime_t *runtime, instance_t *instance, command_t *command, int64_t now
) noexcept nogil

cdef struct command_t:
    void *next
    sem_t done
    command_run_t run  # one of these is there
    command_on_t on  # with the instance of this index
    int index, carpdev
    int64_t value
    bint found
    bint frozen  # the instance is, and nothing was done
    instance_t *new_instance
    carpdev_t *new_carpdev
    plan_t plan
    addresses_t addresses, broadcasts
    uint8_t mac[6]
    bint has_mac
    uint64_t counters[COUNTERS]
