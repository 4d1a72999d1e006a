# cython: language_level=3
"""The state machine without Python objects: a struct, and step functions that write down what is to be done.

Every step takes `now`, 0 to MACHINE_NOW_LIMIT - 1, and an `actions_t` that it fills anew. It returns 0, or -1 when the
injected source of randomness failed: then the machine is as it was before, and there are no actions.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

from .arbitration cimport arbitration_t


cdef enum:
    BOWOUT = 255
    SUPPRESSED_ADVSKEW = 240
    MOST_DEMOTION = 255  # what the demotion byte of an advert can say
    SEND_ERRORS = 3
    MACHINE_ACTIONS = 8  # the most that one step can ask for is five: stop, of a MASTER in every kind of trouble

# The numbers of protocol.State.
cdef enum:
    STATE_INIT, STATE_BACKUP, STATE_MASTER

# In the order of protocol.Reason.
cdef enum:
    REASON_STARTED, REASON_STOPPED, REASON_LINK_DOWN, REASON_LINK_UP, REASON_MASTER_DOWN, REASON_BOWOUT
    REASON_TOO_SLOW, REASON_PREEMPT, REASON_DEMOTED, REASON_BETTER, REASON_TIE, REASON_FORCED, REASON_STALLED
    REASON_WATCHDOG, REASON_SIBLING, REASON_HANDED_OVER

cdef enum:
    ACTION_SEND_ADVERT, ACTION_ANNOUNCE, ACTION_TAKE, ACTION_DROP, ACTION_TRANSITION, ACTION_SUPPRESS
    ACTION_FAMILY_SILENT, ACTION_SIBLING_FOUND

cdef enum:
    MACHINE_IPV4, MACHINE_IPV6  # indexes of the families' timers

cdef enum:
    PEER_NOBODY = 0
    PEER_OPAQUE = 255


cdef struct peer_t:
    # Who an advert claims to come from. The machine hands it on and looks at nothing in it.
    uint8_t family  # 4, 6, PEER_NOBODY, or PEER_OPAQUE: whatever the caller means by it
    uint8_t address[16]


cdef struct action_t:
    int64_t at  # of a transition
    peer_t peer  # of a transition, or of the sibling
    uint8_t kind
    uint8_t advbase, advskew, pace  # of an advert to send
    bint between  # those of its interval
    uint8_t before, after, reason  # of a transition
    uint8_t family  # that is silent
    int8_t by  # of a suppression
    uint8_t vhid, standing  # of a sibling


cdef struct actions_t:
    int count
    action_t items[MACHINE_ACTIONS]


cdef struct machine_config_t:
    uint8_t advbase
    uint8_t advskew
    uint8_t vhid
    bint preempt
    bint arbitrate  # with siblings
    bint runnable  # administratively up, and there are addresses
    bint openbsd  # its way to count silence
    uint8_t missed  # adverts, until the master is gone
    bint says_demotion  # in the byte of its adverts
    bint adds_demotion  # to advskew
    int64_t preempt_delay, start_delay
    int64_t pace  # between adverts, 0: there are none in between


# A whole number of 0 to bound - 1, or -1 for a failure.
ctypedef int64_t (*machine_draw_t)(void *context, int64_t bound) noexcept nogil


cdef struct gaps_t:
    # How far apart adverts came; `worst` is halved when nothing near it has been seen for a while.
    int64_t last, worst, halve_at


cdef struct pace_t:
    gaps_t own, heard
    int64_t least  # between our adverts, as the caller limits them
    int64_t said  # by the master heard last, ns
    int64_t count  # of its adverts since it says a pace
    peer_t source
    int64_t took  # after so much silence we took over from it
    int64_t wait  # our random part: equals do not act together


cdef struct machine_t:
    machine_config_t config
    machine_draw_t draw  # NULL: the machine's own generator
    void *context  # for draw
    uint64_t seed  # the state of its own generator
    int64_t demotion, send_errors, send_successes
    # Timers, in ns; MACHINE_NEVER when they do not run.
    int64_t advert_due, master_down_due, takeover_due, forget_errors_due, withheld_until
    int64_t held_until  # a moment; it takes nothing over before
    int64_t preempt_from  # a moment; a slower master is not preempted before
    int64_t pace_due  # the next advert between those of the interval
    int64_t leaving_until  # a MASTER has offered its addresses to the others, and keeps them until another has them
    int64_t family_due[2]  # master-down of a family in which the master was heard
    bint silent_families[2]
    int64_t tie_wait  # the random part of master-down, kept after a tie for as long as nobody but equals is heard
    int64_t tie_copies_end  # until then equal adverts are copies of those of the rivals in a tie
    int64_t master_since
    int64_t echo_answered  # the `master_since` for which that is done, or -1
    uint8_t master_reason
    uint8_t state
    uint8_t takeover_reason
    peer_t heir  # who is taking over from one that leaves, but has not got the addresses yet
    bint has_heir
    uint8_t heir_family  # an index
    peer_t peer  # whose advert the planned takeover answers
    bint started, link, link_suppressed
    bint stands_back, aside  # it has handed over, or stands aside: another's advert does not make it MASTER
    arbitration_t arbitration
    pace_t pace


cdef extern from *:
    """
    #define MACHINE_NEVER INT64_MAX
    #define MACHINE_NOW_LIMIT (INT64_C(1) << 62)
    """
    const int64_t MACHINE_NEVER
    const int64_t MACHINE_NOW_LIMIT


# A configuration's values, for the machine. Needs the GIL.
cdef machine_config_t machine_read_config(object config) except *

# What a machine leaves to one of another process. Both need the GIL.
cdef dict machine_values(const machine_t *machine)
cdef int machine_set_values(machine_t *machine, dict values) except -1

cdef void machine_init(
    machine_t *machine, const machine_config_t *config, machine_draw_t draw, void *context, uint64_t seed
) noexcept nogil

cdef int64_t machine_deadline(const machine_t *machine) noexcept nogil
cdef uint8_t machine_advskew(const machine_t *machine) noexcept nogil
cdef int64_t machine_interval(const machine_t *machine) noexcept nogil
cdef int64_t machine_master_down(const machine_t *machine) noexcept nogil

# With those in between; 0: there are none. The code of what the next advert says. The silence after which the master
# heard last is gone.
cdef int64_t machine_pacing(const machine_t *machine) noexcept nogil
cdef uint8_t machine_said_pace(const machine_t *machine) noexcept nogil
cdef int64_t machine_silence(const machine_t *machine) noexcept nogil
cdef int64_t machine_usual_silence(const machine_t *machine) noexcept nogil
cdef int64_t machine_heard_pace(const machine_t *machine) noexcept nogil
cdef void machine_pause_pace(machine_t *machine, int64_t now) noexcept nogil
cdef void machine_limit_pace(machine_t *machine, int64_t least, int64_t now) noexcept nogil

# The demotion byte of what is sent.
cdef uint8_t machine_sent_demotion(const machine_t *machine) noexcept nogil

# An advert's `peer` is never NULL. `demotion` is its byte where that is to be obeyed, or -1; `pace` the code that its
# counter vouches for; `arrived` when the kernel had it.
cdef int machine_start(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_stop(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_link(machine_t *machine, bint up, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_receive(
    machine_t *machine, uint8_t family, uint8_t advbase, uint8_t advskew, int demotion, uint8_t pace,
    int64_t arrived, const peer_t *peer, int64_t now, actions_t *actions,
) noexcept nogil
cdef int machine_sibling(
    machine_t *machine, uint8_t vhid, uint8_t advbase, uint8_t advskew, const peer_t *peer, int64_t now,
    actions_t *actions,
) noexcept nogil
cdef int machine_timeout(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_demote(machine_t *machine, int32_t by, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_sent(machine_t *machine, bint ok, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_force(machine_t *machine, uint8_t state, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_reconfigure(
    machine_t *machine, const machine_config_t *config, int64_t now, actions_t *actions
) noexcept nogil
cdef int machine_retire(
    machine_t *machine, uint8_t reason, bint bowout, int64_t now, actions_t *actions
) noexcept nogil

cdef int machine_leave(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_echo(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef int machine_defend(machine_t *machine, int64_t now, actions_t *actions) noexcept nogil
cdef void machine_heir(machine_t *machine, uint8_t family, const peer_t *peer, int64_t now) noexcept nogil
cdef inline bint machine_leaving(const machine_t *machine) noexcept nogil:
    return machine.leaving_until != MACHINE_NEVER

# Before machine_timeout, when frames may have been lost: whether it would take over because nobody was heard; and let
# that takeover wait for one more interval.
cdef bint machine_overdue(const machine_t *machine, int64_t now) noexcept nogil
cdef void machine_delay_takeover(machine_t *machine, int64_t now) noexcept nogil


cdef class Machine:
    cdef machine_t machine
    cdef object _config
    cdef object _random
    cdef object _peer
    cdef object _error
    cdef list _done(self, int outcome, const actions_t *actions, object source=*)
