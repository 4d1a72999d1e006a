# cython: language_level=3, binding=True, embedsignature=True
"""The runtime in a native thread: the compiled twin of `pycarp._python.runtime`.

The thread receives, judges, runs the machines and their timers, sends, and orders addresses about, and never asks for
the GIL. Python comes to it by commands, which it carries out between two frames; events leave it through a ring that a
Python thread empties when it can.
"""

import os
import threading
import time

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EHOSTDOWN, ENODEV, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport timespec

from .auth cimport Authenticator, auth_counter, auth_dialects, auth_sign
from .input cimport (
    COUNT_ALTERED,
    COUNT_BADAUTH,
    COUNT_BADSUM,
    COUNT_BADTTL,
    COUNT_BADVER,
    COUNT_BADVHID,
    COUNT_ECHO,
    COUNTERS,
    VERDICT_SIBLING,
    VERDICT_VALID,
    input_forget_all,
    input_frame,
    input_remove_instance,
    input_sent,
    input_set_instance,
    input_store_addresses,
    input_store_carpdev,
    verdict_t,
)
from .machine cimport (
    ACTION_ANNOUNCE,
    ACTION_DROP,
    ACTION_FAMILY_SILENT,
    ACTION_SEND_ADVERT,
    ACTION_SIBLING_FOUND,
    ACTION_SUPPRESS,
    ACTION_TAKE,
    ACTION_TRANSITION,
    MACHINE_NEVER,
    PEER_NOBODY,
    REASON_HANDED_OVER,
    REASON_PREEMPT,
    REASON_STALLED,
    REASON_TOO_SLOW,
    REASON_WATCHDOG,
    STATE_INIT,
    STATE_MASTER,
    action_t,
    actions_t,
    machine_advskew,
    machine_deadline,
    machine_demote,
    machine_force,
    machine_delay_takeover,
    machine_init,
    machine_interval,
    machine_link,
    machine_overdue,
    machine_receive,
    machine_reconfigure,
    machine_retire,
    machine_sent,
    machine_sibling,
    machine_start,
    machine_stop,
    machine_timeout,
)
from .guardian cimport (
    GUARDIAN_GONE,
    LEASE_FOREVER,
    MESSAGE_DONE,
    ORDER_BEAT,
    ORDER_DROP,
    ORDER_FORGET,
    ORDER_NOBODY,
    ORDER_QUIET,
    ORDER_REMOVE,
    ORDER_RENEW,
    ORDER_RESTORE,
    ORDER_TAKE,
    REPLY_RELEASED,
    REPLY_SUPERSEDED,
    guardian_order,
    guardian_reply,
    order_t,
    reply_t,
)
from .packet cimport AdvertTemplate, COUNTER_LENGTH, DIGEST_LENGTH, address_text, template_frame
from .ring cimport ring_close, ring_count_losses, ring_next, ring_open, ring_release
from .spawn cimport Lifeline, lifeline_lock, lifeline_unlock
from .system cimport (
    MSG_DONTWAIT,
    POLLERR,
    POLLIN,
    PR_SET_NAME,
    PR_SET_TIMERSLACK,
    SCHED_FIFO,
    SIG_SETMASK,
    SO_ERROR,
    SOL_SOCKET,
    atomic_add64,
    atomic_load32,
    atomic_load64,
    atomic_push,
    atomic_store32,
    atomic_store64,
    atomic_take64,
    atomic_take_all,
    boottime,
    duration,
    getrandom,
    getsockopt,
    mlock,
    monotonic,
    nanosleep,
    pollfd,
    ppoll,
    prctl,
    pthread_create,
    pthread_join,
    pthread_self,
    pthread_setschedparam,
    pthread_sigmask,
    read,
    sched_param,
    sem_destroy,
    sem_init,
    sem_post,
    sem_wait,
    send,
    sigfillset,
    sigset_t,
    write,
)

from .. import events
from ..errors import CapabilityError, CarpError, EngineError
from ..protocol.timing import no_lease
from ..linux import netlink
from ..linux.guardian_client import Guardian, GuardianGone
from ..protocol import DIALECT_BSD, DIALECT_NETBSD, STANDINGS, Reason, State
from ..stats import Measures, Stats
from . import spawn

cdef extern from *:
    """
    #define DROP_LEAD_NS INT64_C(300000)
    #define RIVAL_LEAD_NS INT64_C(2000000)
    #define YIELD_LEAD_NS INT64_C(3000000)
    #define LEAD_MOST_NS INT64_C(300000)
    #define ALLOWANCE_MOST_NS INT64_C(10000000)
    #define NAP_NS INT64_C(3000000)
    #define WINDOW_NS INT64_C(1000000)
    #define WARM_NS INT64_C(400000)
    #define TELL_DELAY_NS INT64_C(50000000)
    #define REPAY_NS INT64_C(500000)
    #define REST_LEAST_NS INT64_C(1000000000)
    #define REST_MOST_NS INT64_C(64000000000)
    #define PING_PATIENCE_NS INT64_C(1500000000)
    #define ORPHAN_NS INT64_C(1000000000)
    #define PAUSE_LEAST_NS INT64_C(50000000)
    #define SECOND_NS INT64_C(1000000000)
    #define SKEW_NS INT64_C(3906250)
    #define LEASE_SLACK_NS INT64_C(100000000)
    #define LEASE_LATENESS_NS INT64_C(980000000)
    #define GRACE_NS INT64_C(40000000)
    #define GRACE_ORDINARY_NS INT64_C(100000000)
    """
    const int64_t DROP_LEAD_NS  # a bow-out waits this long after the drop was ordered: answers stop within 0.1 ms
    const int64_t RIVAL_LEAD_NS  # after a worse MASTER was heard we announce again, when it has yielded
    # Who takes over from a MASTER that lives takes the addresses so long after its first advert: by then the other has
    # heard that, and dropped them.
    const int64_t YIELD_LEAD_NS
    const int64_t LEAD_MOST_NS
    const int64_t ALLOWANCE_MOST_NS
    const int64_t WINDOW_NS
    const int64_t WARM_NS
    const int64_t NAP_NS  # between two looks at the ring while it is flooded
    # Demotions are told so long after the first of a flock: where hundreds demote each other, as when one cable goes,
    # only what comes of it is news.
    const int64_t TELL_DELAY_NS
    const int64_t REPAY_NS  # between two looks at whether the writer has room for an order that found none
    # Who cannot take its addresses bows out and rests, so long at first and twice as long each time: its better advskew
    # would depose at once who takes them in its stead, and the group would never come to rest.
    const int64_t REST_LEAST_NS
    const int64_t REST_MOST_NS
    const int64_t PING_PATIENCE_NS  # a guardian that has not answered for so long hangs: another one takes its place
    const int64_t ORPHAN_NS  # who has no guardian for so long hands over
    const int64_t PAUSE_LEAST_NS  # who is so late has been stopped, or its machine has: then every MASTER is looked at
    const int64_t SECOND_NS
    const int64_t SKEW_NS
    const int64_t LEASE_SLACK_NS  # as in pycarp.protocol.timing
    const int64_t LEASE_LATENESS_NS
    # The guardian lets go when an advert is so late: this thread is that only where it is stopped, without SCHED_FIFO
    # also on a busy machine.
    const int64_t GRACE_NS
    const int64_t GRACE_ORDINARY_NS

cdef enum:
    FRAMES_A_LOOK = 32  # frames judged between two looks at the clock
    FLOOD = 4  # so many frames in a ms make it a flood: each alone would cost a wake-up
    SPIN_SHARE = 100  # at most one part in so many of a CPU is spent on waiting awake
    BOWOUT = 255  # advbase and advskew of the last advert
    MOST_DELAYS = 2  # intervals that a takeover waits because frames were lost
    FEW = 8  # virtual hosts for whom there is time to spare before a deadline
    PRIORITY = 2  # SCHED_FIFO's, above the writer's

cdef tuple _STATES = (State.INIT, State.BACKUP, State.MASTER)
cdef tuple _REASONS = tuple(Reason)
cdef tuple _DIALECTS = (DIALECT_BSD, DIALECT_NETBSD)
cdef dict _COUNTERS = {
    COUNT_BADAUTH: "badauth",
    COUNT_BADVHID: "badvhid",
    COUNT_BADTTL: "badttl",
    COUNT_BADSUM: "badsum",
    COUNT_BADVER: "badver",
    COUNT_ALTERED: "altered",
    COUNT_ECHO: "echo",
}
cdef dict _ORDERS = {ORDER_TAKE: "taken", ORDER_RENEW: "renewed", ORDER_DROP: "dropped"}
cdef tuple _RULES = ("worse", "tie", "better")
cdef double _SETTLE = 10.0  # seconds that addresses may take to leave
cdef double _SETTLE_LOOK = 0.0005  # seconds between two looks whether they have
# Seconds until the device of a MASTER goes: the guardian has taken its link down by then. Both keep those waiting who
# change interfaces on this machine, and the next owner may be among them.
cdef double _LINGER = 0.06


# Telling Python

cdef record_t *_record(runtime_t *runtime, const host_t *host, int kind, int64_t at) noexcept nogil:
    """A new record to be filled in and published; NULL, and counted, when Python is too far behind."""
    cdef record_t *record
    cdef unsigned long long one = 1
    if runtime.recorded - atomic_load32(&runtime.fetched) >= RECORDS:
        if atomic_add64(&runtime.lost, 1) == 0:
            write(runtime.tell, &one, 8)
        return NULL
    record = &runtime.records[runtime.recorded % RECORDS]
    memset(record, 0, sizeof(record_t))
    record.kind = <uint8_t> kind
    record.at = at
    if host != NULL:
        record.index = host.index
        record.vhid = host.vhid
    return record


cdef inline void _publish(runtime_t *runtime) noexcept nogil:
    cdef unsigned long long one = 1
    atomic_store32(&runtime.recorded, runtime.recorded + 1)
    write(runtime.tell, &one, 8)


cdef bint _known(
    known_t *known, int *count, int room, const uint8_t *address, uint8_t family, uint8_t vhid, uint8_t what
) noexcept nogil:
    """Whether this was told before, or there is no more room to remember that it was; notes it if not."""
    cdef size_t length = 4 if family == 4 else 16
    cdef known_t *one
    cdef int at
    # A full table tells nothing new: a liar with many addresses costs neither memory nor time.
    if count[0] == room:
        return True
    for at in range(count[0]):
        one = &known[at]
        if (
            one.what == what and one.vhid == vhid and one.family == family
            and memcmp(one.address, address, length) == 0
        ):
            return True
    one = &known[count[0]]
    memset(one, 0, sizeof(known_t))
    memcpy(one.address, address, length)
    one.family, one.vhid, one.what = family, vhid, what
    count[0] += 1
    return False


cdef inline void _measure(uint64_t *histogram, int64_t ns) noexcept nogil:
    cdef int bucket = 0
    while ns > 0 and bucket < BUCKETS - 1:
        ns >>= 1
        bucket += 1
    histogram[bucket] += 1


# Timers: a heap of the virtual hosts that wait for one

cdef inline void _place(runtime_t *runtime, host_t *host, int at) noexcept nogil:
    runtime.heap[at] = host
    host.heap_at = at


cdef void _sift(runtime_t *runtime, int at) noexcept nogil:
    """Put the entry at `at` where its deadline belongs."""
    cdef host_t *host = runtime.heap[at]
    cdef int other
    while at > 0:
        other = (at - 1) // 2
        if runtime.heap[other].due <= host.due:
            break
        _place(runtime, runtime.heap[other], at)
        at = other
    while True:
        other = 2 * at + 1
        if other >= runtime.heap_count:
            break
        if other + 1 < runtime.heap_count and runtime.heap[other + 1].due < runtime.heap[other].due:
            other += 1
        if host.due <= runtime.heap[other].due:
            break
        _place(runtime, runtime.heap[other], at)
        at = other
    _place(runtime, host, at)


cdef void _unschedule(runtime_t *runtime, host_t *host) noexcept nogil:
    cdef int at = host.heap_at
    if at < 0:
        return
    host.heap_at = -1
    runtime.heap_count -= 1
    if at < runtime.heap_count:
        _place(runtime, runtime.heap[runtime.heap_count], at)
        _sift(runtime, at)


cdef void _schedule(runtime_t *runtime, host_t *host) noexcept nogil:
    """Its deadline may have changed."""
    cdef int64_t due = machine_deadline(&host.machine)
    if host.announce_due < due:
        due = host.announce_due
    if host.take_due < due:
        due = host.take_due
    if host.rest_due < due:
        due = host.rest_due
    host.due = due
    if due == MACHINE_NEVER:
        _unschedule(runtime, host)
        return
    if host.heap_at < 0:
        # There is room: the array grows with the virtual hosts.
        _place(runtime, host, runtime.heap_count)
        runtime.heap_count += 1
    _sift(runtime, host.heap_at)


# Sending

cdef uint32_t _dialects(const host_t *host, uint8_t *dialects, int *count) noexcept nogil:
    cdef uint32_t mask = 0
    cdef int at
    count[0] = auth_dialects(host.plan.auth, dialects)
    for at in range(count[0]):
        mask |= 1 << dialects[at]
    return mask


cdef void _prepare(runtime_t *runtime, host_t *host, uint8_t advbase, uint8_t advskew) noexcept nogil:
    """Have the next advert ready: signed ahead, so that at the deadline there is nothing to do but to send."""
    cdef uint8_t dialects[2]
    cdef uint8_t counter[COUNTER_LENGTH]
    cdef uint8_t digest[DIGEST_LENGTH]
    cdef uint32_t nonce = 0
    cdef int count, at, family
    cdef uint32_t mask = _dialects(host, dialects, &count)
    cdef frame_t *frame
    if (
        host.ready_count
        and host.ready_advbase == advbase
        and host.ready_advskew == advskew
        and host.ready_dialects == mask
    ):
        return
    host.ready_count = 0
    getrandom(&nonce, 3, 0)
    for at in range(count):
        auth_counter(host.plan.auth, dialects[at], advbase, advskew, nonce, counter)
        auth_sign(host.plan.auth, dialects[at], counter, digest)
        for family in range(host.plan.template_count):
            frame = &host.ready[host.ready_count]
            frame.length = <uint8_t> template_frame(
                &host.plan.templates[family], advbase, advskew, counter, digest, frame.octets
            )
            frame.family = host.plan.templates[family].family
            host.ready_count += 1
    host.ready_advbase, host.ready_advskew, host.ready_dialects = advbase, advskew, mask


cdef inline int _send(const host_t *host, const uint8_t *frame, size_t length) noexcept nogil:
    if host.segment == NULL:
        return ENODEV
    if send(host.segment.send_fd, frame, length, MSG_DONTWAIT) < 0:
        return errno
    return 0


cdef void _send_advert(runtime_t *runtime, host_t *host, uint8_t advbase, uint8_t advskew, int64_t now) noexcept nogil:
    cdef actions_t actions
    cdef record_t *record
    cdef int at, error, failure = 0
    _prepare(runtime, host, advbase, advskew)
    for at in range(host.ready_count):
        error = _send(host, host.ready[at].octets, host.ready[at].length)
        if error == 0:
            input_sent(&host.segment.input, host.vhid, host.ready[at].family)
        elif failure == 0:
            failure = error
    host.ready_count = 0
    if failure and not host.failing:
        record = _record(runtime, host, RECORD_NOT_SENT, now)
        if record != NULL:
            record.value = failure
            _publish(runtime)
    host.failing = failure != 0
    if host.machine.state == STATE_MASTER and advbase != BOWOUT:
        _beat(runtime, host, now)
    if host.machine.state != STATE_INIT:
        machine_sent(&host.machine, failure == 0, now, &actions)
        _carry_out(runtime, host, &actions, now)


cdef void _announce(host_t *host) noexcept nogil:
    cdef const uint8_t *frame = host.plan.announcements
    cdef int at
    for at in range(host.plan.announcement_count):
        _send(host, frame, host.plan.announcement_lengths[at])
        frame += host.plan.announcement_lengths[at]


# Carrying out what a machine says

cdef void _demote_others(runtime_t *runtime, int64_t by, host_t *cause, int64_t now) noexcept nogil:
    cdef actions_t actions
    cdef host_t *host
    cdef int at
    runtime.demotion += by
    if runtime.demotion < 0:
        runtime.demotion = 0
    for at in range(runtime.host_count):
        host = runtime.hosts[at]
        if host != cause:
            machine_demote(&host.machine, <int32_t> by, now, &actions)
            _carry_out(runtime, host, &actions, now)


cdef void _suppress(runtime_t *runtime, int64_t by, host_t *cause, int64_t now) noexcept nogil:
    """Demote all virtual hosts but the one that has counted it for itself."""
    if by == 0:
        return
    if runtime.suppressing:
        # A demoted MASTER advertises at once. Where that fails it demotes in turn, and so would hundreds, one inside
        # the other: one after the other they are carried out below.
        if cause.suppression == 0:
            cause.suppressing_next = NULL
            if runtime.suppressing_first == NULL:
                runtime.suppressing_first = cause
            else:
                runtime.suppressing_last.suppressing_next = cause
            runtime.suppressing_last = cause
        cause.suppression += by
        return
    runtime.suppressing = True
    _demote_others(runtime, by, cause, now)
    while runtime.suppressing_first != NULL:
        cause = runtime.suppressing_first
        runtime.suppressing_first = cause.suppressing_next
        by, cause.suppression = cause.suppression, 0
        _demote_others(runtime, by, cause, now)
    runtime.suppressing = False
    if runtime.demoted_due == 0:
        runtime.demoted_due = now + TELL_DELAY_NS


cdef void _tell_demotions(runtime_t *runtime) noexcept nogil:
    cdef record_t *record
    cdef host_t *host
    cdef int at
    if runtime.demoted_due == 0 or (monotonic() < runtime.demoted_due and not runtime.closing):
        return
    runtime.demoted_due = 0
    for at in range(runtime.host_count):
        host = runtime.hosts[at]
        if host.machine.demotion != host.demotion_told:
            host.demotion_told = host.machine.demotion
            record = _record(runtime, host, RECORD_DEMOTED, monotonic())
            if record != NULL:
                record.value = host.demotion_told
                _publish(runtime)


cdef void _transition(runtime_t *runtime, host_t *host, const action_t *action) noexcept nogil:
    cdef record_t *record = _record(runtime, host, RECORD_STATE, action.at)
    host.seat.state = action.after
    host.rival_count = 0
    if action.after == STATE_MASTER:
        host.alive = boottime()
    if record != NULL:
        record.before, record.after, record.reason = action.before, action.after, action.reason
        record.peer = action.peer
        _publish(runtime)


cdef inline bint _deposes(const action_t *action) noexcept nogil:
    """Whether it makes us MASTER in the place of one that lives."""
    return (
        action.kind == ACTION_TRANSITION
        and action.after == STATE_MASTER
        and (action.reason == REASON_PREEMPT or action.reason == REASON_TOO_SLOW)
    )


cdef void _carry_out(runtime_t *runtime, host_t *host, const actions_t *actions, int64_t now) noexcept nogil:
    cdef const action_t *action
    cdef record_t *record
    cdef timespec pause
    cdef bint dropped = False, deposing = False, taking = False
    cdef int at
    for at in range(actions.count):
        deposing = deposing or _deposes(&actions.items[at])
        taking = taking or actions.items[at].kind == ACTION_TAKE
    if deposing and taking:
        host.take_due = now + YIELD_LEAD_NS
    for at in range(actions.count):
        action = &actions.items[at]
        if action.kind == ACTION_SEND_ADVERT:
            if dropped:
                pause = duration(DROP_LEAD_NS)
                nanosleep(&pause, NULL)
            _send_advert(runtime, host, action.advbase, action.advskew, now)
        elif (action.kind == ACTION_ANNOUNCE or action.kind == ACTION_TAKE) and host.take_due != MACHINE_NEVER:
            pass
        elif action.kind == ACTION_ANNOUNCE:
            _announce(host)
        elif action.kind == ACTION_TAKE:
            host.deciding = now
            _take(runtime, host, now)
        elif action.kind == ACTION_DROP:
            dropped = True
            host.deciding = now
            host.take_due = MACHINE_NEVER
            host.taken = False
            _order(runtime, host, ORDER_DROP, now, False)
        elif action.kind == ACTION_TRANSITION:
            _transition(runtime, host, action)
        elif action.kind == ACTION_SUPPRESS:
            _suppress(runtime, action.by, host, now)
        elif action.kind == ACTION_FAMILY_SILENT:
            record = _record(runtime, host, RECORD_SILENT, now)
            if record != NULL:
                record.family = action.family
                _publish(runtime)
        elif action.kind == ACTION_SIBLING_FOUND:
            record = _record(runtime, host, RECORD_SIBLING, now)
            if record != NULL:
                record.peer = action.peer
                record.value, record.standing = action.vhid, action.standing
                _publish(runtime)
    _schedule(runtime, host)


cdef void _run_timers(runtime_t *runtime, int64_t now) noexcept nogil:
    cdef actions_t actions
    cdef host_t *host
    cdef int64_t due
    cdef bint advert
    if runtime.heap_count and now - runtime.heap[0].due > PAUSE_LEAST_NS:
        _look_for_pause(runtime)  # once more: we may have been stopped while frames were read
    while runtime.heap_count and runtime.heap[0].due <= now:
        host = runtime.heap[0]
        due = host.due
        _measure(runtime.measures.wakeup, now - due)
        if _must_wait(runtime, host, now):
            machine_delay_takeover(&host.machine, now)
        advert = host.machine.state == STATE_MASTER and host.machine.advert_due == due
        machine_timeout(&host.machine, now, &actions)
        _carry_out(runtime, host, &actions, now)
        if advert:
            _measure(runtime.measures.sending, monotonic() - due)
            if host.taken and host.announcements:
                host.announcements -= 1
                _announce(host)
        if host.take_due <= now:
            host.take_due = MACHINE_NEVER
            host.deciding = now
            _announce(host)
            _take(runtime, host, now)
            _schedule(runtime, host)
        if host.rest_due <= now:
            _wake(runtime, host, now)
        if host.announce_due <= now:
            host.announce_due = MACHINE_NEVER
            if host.taken:
                _announce(host)
            _schedule(runtime, host)


# Receiving

cdef void _receive(
    runtime_t *runtime, carpdev_t *segment, const uint8_t *frame, size_t length, int64_t now
) noexcept nogil:
    cdef verdict_t verdict
    cdef actions_t actions
    cdef record_t *record
    cdef host_t *host
    cdef peer_t peer
    cdef uint8_t was
    cdef bint held
    cdef int counter
    input_frame(&segment.input, frame, length, now, &verdict)
    if not verdict.has_advert:
        return
    host = segment.hosts[verdict.advert.vhid]
    counter = verdict.counter
    if counter == VERDICT_VALID and host != NULL:
        memset(&peer, 0, sizeof(peer_t))
        peer.family = verdict.datagram.family
        memcpy(peer.address, verdict.datagram.source, 4 if peer.family == 4 else 16)
        if not _known(
            host.peers, &host.peer_count, PEERS, peer.address, peer.family, host.vhid, <uint8_t> verdict.dialect
        ):
            record = _record(runtime, host, RECORD_PEER, now)
            if record != NULL:
                record.peer = peer
                record.dialect = <uint8_t> verdict.dialect
                record.advbase, record.advskew = verdict.advert.advbase, verdict.advert.advskew
                _publish(runtime)
        if verdict.advert.advbase < host.least:
            host.least = verdict.advert.advbase
        ring_count_losses(&segment.ring)
        host.losses, host.holds = segment.ring.losses, 0
        host.heard = now
        was = host.machine.state
        if was == STATE_MASTER:
            _note_rival(runtime, host, &verdict, &peer, now)
        machine_receive(
            &host.machine, peer.family, verdict.advert.advbase, verdict.advert.advskew, &peer, now, &actions
        )
        if was == STATE_MASTER and host.machine.state == STATE_MASTER and host.announce_due == MACHINE_NEVER:
            host.announce_due = now + RIVAL_LEAD_NS
        _carry_out(runtime, host, &actions, now)
    elif counter == VERDICT_SIBLING:
        host = segment.hosts[verdict.sibling_of]
        if host != NULL:
            memset(&peer, 0, sizeof(peer_t))
            peer.family = verdict.datagram.family
            memcpy(peer.address, verdict.datagram.source, 4 if peer.family == 4 else 16)
            held = host.taken
            machine_sibling(
                &host.machine, verdict.advert.vhid, verdict.advert.advbase, verdict.advert.advskew, &peer, now, &actions
            )
            # Its MAC is another: clients may have learned that.
            if held and host.machine.state == STATE_MASTER and host.announce_due == MACHINE_NEVER:
                host.announce_due = now + RIVAL_LEAD_NS
            _carry_out(runtime, host, &actions, now)
    elif (
        counter == COUNT_BADAUTH
        # The kernel counts so too when the vhid is ours, but in INIT.
        or (counter == COUNT_BADVHID and host == NULL)
        or counter == COUNT_BADTTL
        or counter == COUNT_BADSUM
        or counter == COUNT_BADVER
        or counter == COUNT_ALTERED
        or counter == COUNT_ECHO
    ):
        if not _known(
            segment.rejected, &segment.rejected_count, PEERS, verdict.datagram.source, verdict.datagram.family,
            verdict.advert.vhid, <uint8_t> counter,
        ):
            record = _record(runtime, host, RECORD_REJECTED, now)
            if record != NULL:
                record.vhid = verdict.advert.vhid
                record.counter = <uint8_t> counter
                record.peer.family = verdict.datagram.family
                memcpy(record.peer.address, verdict.datagram.source, 4 if record.peer.family == 4 else 16)
                _publish(runtime)


cdef uint32_t _drain(runtime_t *runtime, carpdev_t *segment, int64_t now) noexcept nogil:
    """Take what the ring holds, a ringful at most, and look after the timers meanwhile."""
    cdef const uint8_t *frame
    cdef size_t length
    cdef uint32_t count = 0
    while count < segment.ring.count:
        frame = ring_next(&segment.ring, &length)
        if frame == NULL:
            break
        _receive(runtime, segment, frame, length, now)
        ring_release(&segment.ring)
        count += 1
        if count % FRAMES_A_LOOK == 0:
            now = monotonic()
            _run_timers(runtime, now)
    return count


include "ownership.pxi"


# Commands

cdef host_t *_host(runtime_t *runtime, int index) noexcept nogil:
    cdef int at
    for at in range(runtime.host_count):
        if runtime.hosts[at].index == index:
            return runtime.hosts[at]
    return NULL


cdef carpdev_t *_segment(runtime_t *runtime, int number) noexcept nogil:
    cdef int at
    for at in range(runtime.segment_count):
        if runtime.segments[at].number == number:
            return runtime.segments[at]
    return NULL


cdef void _sit(host_t *host) noexcept nogil:
    """Show the host's plan and state to the input path of its segment."""
    cdef carpdev_t *segment = host.segment
    host.seat.auth = host.plan.auth
    host.seat.addresses = host.plan.addresses
    memcpy(host.seat.mac, host.plan.mac, 6)
    host.seat.has_mac = True
    host.seat.siblings = True
    host.seat.state = host.machine.state
    if segment == NULL:
        return
    input_set_instance(&segment.input, host.vhid, &host.seat)
    segment.hosts[host.vhid] = host


cdef void _leave(host_t *host) noexcept nogil:
    cdef carpdev_t *segment = host.segment
    host.segment = NULL
    if segment == NULL or segment.hosts[host.vhid] != host:
        return
    segment.hosts[host.vhid] = NULL
    input_remove_instance(&segment.input, host.vhid)


cdef void _stop(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    cdef actions_t actions
    host.rest_due = MACHINE_NEVER
    host.wanted = False
    machine_stop(&host.machine, now, &actions)
    _carry_out(runtime, host, &actions, now)


cdef void _end_rest(runtime_t *runtime, host_t *host, int64_t now) noexcept nogil:
    """Something has changed: it may be possible now."""
    if host.rest_due != MACHINE_NEVER:
        host.rest_due = now
        _schedule(runtime, host)


cdef void _command_for_segment(runtime_t *runtime, command_t *command) noexcept nogil:
    cdef carpdev_t *segment = _segment(runtime, command.segment)
    cdef carpdev_t **grown
    cdef addresses_t former
    cdef int at
    if command.kind == COMMAND_ADD_CARPDEV:
        grown = <carpdev_t **> realloc(runtime.segments, (runtime.segment_count + 1) * sizeof(carpdev_t *))
        if grown == NULL:
            return
        runtime.segments = grown
        runtime.segments[runtime.segment_count] = segment = command.carpdev
        runtime.segment_count += 1
    command.found = segment != NULL
    if segment == NULL:
        return
    if command.kind == COMMAND_REMOVE_CARPDEV:
        for at in range(runtime.host_count):
            if runtime.hosts[at].segment == segment:
                _leave(runtime.hosts[at])
        for at in range(runtime.segment_count):
            if runtime.segments[at] == segment:
                runtime.segment_count -= 1
                runtime.segments[at] = runtime.segments[runtime.segment_count]
                break
        command.carpdev = segment
        return
    # The caller frees what it gets back.
    former = segment.input.addresses
    segment.input.addresses = command.addresses
    command.addresses = former
    former = segment.input.broadcasts
    segment.input.broadcasts = command.broadcasts
    command.broadcasts = former
    memcpy(segment.input.mac, command.mac, 6)
    segment.input.has_mac = command.has_mac


cdef void _swap_plan(host_t *host, command_t *command) noexcept nogil:
    cdef plan_t former = host.plan
    host.plan = command.plan
    command.plan = former
    host.ready_count = 0


cdef void _command_for_host(runtime_t *runtime, command_t *command, int64_t now) noexcept nogil:
    cdef host_t *host = _host(runtime, command.index)
    cdef actions_t actions
    cdef host_t **grown
    cdef int at
    cdef bint changed
    if command.kind == COMMAND_ADD_INSTANCE:
        grown = <host_t **> realloc(runtime.hosts, (runtime.host_count + 1) * sizeof(host_t *))
        if grown == NULL:
            return
        runtime.hosts = grown
        grown = <host_t **> realloc(runtime.heap, (runtime.host_count + 1) * sizeof(host_t *))
        if grown == NULL:
            return
        runtime.heap = grown
        host = command.host
        runtime.hosts[runtime.host_count] = host
        runtime.host_count += 1
        if runtime.demotion:
            machine_demote(&host.machine, <int32_t> runtime.demotion, now, &actions)
        host.demotion_told = host.machine.demotion
        host.segment = _segment(runtime, command.segment)
        _sit(host)
    command.found = host != NULL
    if host == NULL:
        return
    if command.kind == COMMAND_MOVE_INSTANCE:
        _leave(host)
        _swap_plan(host, command)
        memset(host.seat.counters, 0, sizeof(host.seat.counters))
        host.segment = _segment(runtime, command.segment)
        _sit(host)
    elif command.kind == COMMAND_REFUSE:
        host.refused = command.limit
    elif command.kind == COMMAND_LEAVE:
        _leave(host)
        _unschedule(runtime, host)
        for at in range(runtime.host_count):
            if runtime.hosts[at] == host:
                runtime.host_count -= 1
                runtime.hosts[at] = runtime.hosts[runtime.host_count]
                break
    elif command.kind == COMMAND_START:
        host.rest_due = MACHINE_NEVER
        host.wanted = True
        machine_start(&host.machine, now, &actions)
        _carry_out(runtime, host, &actions, now)
        if command.integer >= 0:
            machine_force(&host.machine, <uint8_t> command.integer, now, &actions)
            _carry_out(runtime, host, &actions, now)
    elif command.kind == COMMAND_STOP:
        _stop(runtime, host, now)
    elif command.kind == COMMAND_LINK:
        machine_link(&host.machine, command.integer != 0, now, &actions)
        _carry_out(runtime, host, &actions, now)
    elif command.kind == COMMAND_FORCE:
        machine_force(&host.machine, <uint8_t> command.integer, now, &actions)
        _carry_out(runtime, host, &actions, now)
    elif command.kind == COMMAND_REPLAN:
        changed = command.integer != 0
        _swap_plan(host, command)
        _sit(host)
        if changed:
            _end_rest(runtime, host, now)
            machine_reconfigure(&host.machine, &host.plan.config, now, &actions)
            _carry_out(runtime, host, &actions, now)
    elif command.kind == COMMAND_RETAKE or command.kind == COMMAND_ANNOUNCE:
        if command.kind == COMMAND_RETAKE:
            _end_rest(runtime, host, now)
        if host.taken:
            _announce(host)
            # Without adverts that are sent, a lease ends as it should.
            if command.kind == COMMAND_RETAKE and not host.failing:
                host.deciding = now
                _take(runtime, host, now)
    elif command.kind == COMMAND_STATS:
        for at in range(COUNTERS):
            command.counters[at] = host.seat.counters[at]
            if host.segment != NULL:
                command.counters[at] += host.segment.input.unclaimed[at]
        command.counters[COUNTERS] = 0
        if host.segment != NULL:
            ring_count_losses(&host.segment.ring)
            command.counters[COUNTERS] = host.segment.ring.losses


cdef void _run_commands(runtime_t *runtime) noexcept nogil:
    """Carry out what Python asks, in the order in which it came."""
    cdef command_t *command = <command_t *> atomic_take_all(&runtime.commands)
    cdef command_t *reversed_ = NULL
    cdef command_t *next_
    cdef int64_t now
    cdef int at
    cdef int64_t by
    while command != NULL:
        next_ = <command_t *> command.next
        command.next = reversed_
        reversed_ = command
        command = next_
    while reversed_ != NULL:
        command = reversed_
        reversed_ = <command_t *> command.next
        now = monotonic()
        if command.kind <= COMMAND_REMOVE_CARPDEV:
            _command_for_segment(runtime, command)
        elif command.kind == COMMAND_DEMOTE:
            by = command.integer
            if by < -runtime.demotion:
                by = -runtime.demotion
            _suppress(runtime, by, NULL, now)
            if by and runtime.demoted_due:
                # Who asked for it is told at once.
                runtime.demoted_due = now
                _tell_demotions(runtime)
            command.counters[0] = <uint64_t> runtime.demotion
        elif command.kind == COMMAND_STOP_ALL:
            for at in range(runtime.host_count):
                _stop(runtime, runtime.hosts[at], now)
        elif command.kind == COMMAND_CLOSE:
            runtime.closing = True
        elif command.kind >= COMMAND_SETTLED:
            _command_for_guardian(runtime, command, now)
        else:
            _command_for_host(runtime, command, now)
        # From here on the command is its caller's again.
        sem_post(&command.done)


# The thread

cdef inline void _refresh_allowance(runtime_t *runtime, int64_t now) noexcept nogil:
    runtime.allowance += (now - runtime.refreshed) // SPIN_SHARE
    if runtime.allowance > ALLOWANCE_MOST_NS:
        runtime.allowance = ALLOWANCE_MOST_NS
    runtime.refreshed = now


cdef inline void _learn(runtime_t *runtime, int64_t late) noexcept nogil:
    """Follow how late the kernel wakes us: up at once, down slowly."""
    if late > LEAD_MOST_NS:
        late = LEAD_MOST_NS
    if late > runtime.lead:
        runtime.lead = late
    else:
        runtime.lead -= (runtime.lead - late) // 32


cdef inline void _count_frames(runtime_t *runtime, uint32_t count) noexcept nogil:
    """Whether it is a flood is decided once in a ms, from how many came meanwhile."""
    cdef int64_t now = monotonic(), passed = now - runtime.window
    runtime.frames += count
    if passed >= WINDOW_NS:
        runtime.flooded = runtime.frames * WINDOW_NS > FLOOD * passed
        runtime.frames = 0
        runtime.window = now


cdef void _wait(runtime_t *runtime, pollfd *fds) noexcept nogil:
    """Until there is something to do: on the kernel as long as that is precise enough, the rest awake."""
    cdef int64_t due = runtime.heap[0].due if runtime.heap_count else MACHINE_NEVER
    cdef int64_t now = monotonic(), left = due - now, lead, until
    cdef bint napping = runtime.flooded
    cdef int64_t nap = NAP_NS if napping else REPAY_NS
    cdef unsigned long long woken
    cdef timespec timeout
    cdef int at, count = 2 if napping else 2 + runtime.segment_count, ready, error
    cdef unsigned int length
    if runtime.demoted_due and runtime.demoted_due < due:
        due = runtime.demoted_due
        left = due - now
    if runtime.watchdog and not runtime.starving and <int64_t> atomic_load64(&runtime.fed) + runtime.watchdog < due:
        due = <int64_t> atomic_load64(&runtime.fed) + runtime.watchdog
        left = due - now
    if runtime.orphan_due and runtime.orphan_due < due:
        due = runtime.orphan_due
        left = due - now
    if left <= 0:
        return
    _refresh_allowance(runtime, now)
    lead = runtime.lead if runtime.lead < runtime.allowance else runtime.allowance
    # A processor that has just woken is slow for a while: it gets time to become warm. Many virtual hosts keep it so.
    if runtime.heap_count <= FEW and runtime.allowance > ALLOWANCE_MOST_NS // 2:
        lead += WARM_NS
    if left <= lead:
        while monotonic() < due:
            pass
        runtime.allowance -= left
        return
    if due != MACHINE_NEVER:
        left -= lead
    # In a flood the ring is looked at every few ms, and nothing else wakes us.
    if (napping or runtime.owing) and left > nap:
        left = nap
        due = MACHINE_NEVER
    until = now + left
    if due != MACHINE_NEVER or napping or runtime.owing:
        timeout = duration(left)
    fds[0].fd = runtime.wake
    fds[0].events = POLLIN
    fds[0].revents = 0
    fds[1].fd = runtime.guardian
    fds[1].events = POLLIN
    fds[1].revents = 0
    for at in range(count - 2):
        fds[2 + at].fd = runtime.segments[at].ring.fd
        fds[2 + at].events = POLLIN
        fds[2 + at].revents = 0
    ready = ppoll(fds, count, &timeout if due != MACHINE_NEVER or napping or runtime.owing else NULL, NULL)
    if ready == 0:
        if due != MACHINE_NEVER:
            _learn(runtime, monotonic() - until)
        return
    if ready > 0 and fds[0].revents:
        read(runtime.wake, &woken, 8)
    if ready > 0 and fds[1].revents:
        runtime.guardian_ready = True
    for at in range(count - 2):
        if fds[2 + at].revents & POLLERR:
            # The interface went down: said once, and left standing until it is read.
            length = sizeof(error)
            getsockopt(fds[2 + at].fd, SOL_SOCKET, SO_ERROR, &error, &length)


cdef void *_run(void *argument) noexcept nogil:
    cdef runtime_t *runtime = <runtime_t *> argument
    cdef sched_param priority
    cdef pollfd *fds = NULL
    cdef pollfd *grown
    cdef int room = 0, at
    cdef uint32_t handled
    cdef host_t *host
    prctl(PR_SET_NAME, <unsigned long> <char *> b"pycarp-runtime")
    prctl(PR_SET_TIMERSLACK, 1)
    mlock(runtime, sizeof(runtime_t))
    if runtime.wants_realtime:
        priority.sched_priority = PRIORITY
        atomic_store32(
            &runtime.has_realtime, 1 if pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) == 0 else 2
        )
    lifeline_lock(runtime.lifeline)
    atomic_store32(&runtime.holding, 1)
    runtime.refreshed = monotonic()
    runtime.suspended = boottime() - runtime.refreshed
    while True:
        # While we were stopped the guardian may have let go: that comes before anything we would say ourselves.
        _look_for_pause(runtime)
        if runtime.guardian_ready:
            _collect(runtime)
        _run_commands(runtime)
        _tell_demotions(runtime)
        if runtime.closing:
            break
        if runtime.owing:
            _repay(runtime)
        _look_at_watchdog(runtime)
        if runtime.orphan_due and monotonic() >= runtime.orphan_due:
            _hand_over(runtime, monotonic())
        handled = 0
        for at in range(runtime.segment_count):
            handled += _drain(runtime, runtime.segments[at], monotonic())
        _count_frames(runtime, handled)
        _run_timers(runtime, monotonic())
        if runtime.heap_count:
            host = runtime.heap[0]
            if host.machine.state == STATE_MASTER:
                _prepare(runtime, host, host.machine.config.advbase, machine_advskew(&host.machine))
        if room < 2 + runtime.segment_count:
            grown = <pollfd *> realloc(fds, (2 + runtime.segment_count) * sizeof(pollfd))
            if grown != NULL:
                fds, room = grown, 2 + runtime.segment_count
        _wait(runtime, fds)
    free(fds)
    lifeline_unlock(runtime.lifeline)
    return NULL


# The border

cdef void _free_plan(plan_t *plan) noexcept:
    free(plan.announcements)
    free(plan.announcement_lengths)
    free(plan.addresses.items)
    memset(plan, 0, sizeof(plan_t))


cdef int _fill_plan(plan_t *place, object plan) except -1:
    """A plan's bytes in memory of their own. What `plan.authenticator` points to is not copied: it learns."""
    cdef bytes whole = b"".join(plan.announce_frames), mac = plan.mac
    cdef AdvertTemplate template
    cdef int at
    memset(place, 0, sizeof(plan_t))
    try:
        for _family, template in plan.templates:
            place.templates[place.template_count] = template.template
            place.template_count += 1
        place.announcement_count = <int> len(plan.announce_frames)
        place.announcements = <uint8_t *> malloc(len(whole) + 1)
        place.announcement_lengths = <uint16_t *> malloc(2 * place.announcement_count + 2)
        if place.announcements == NULL or place.announcement_lengths == NULL:
            raise MemoryError
        memcpy(place.announcements, PyBytes_AS_STRING(whole), len(whole))
        for at in range(place.announcement_count):
            place.announcement_lengths[at] = <uint16_t> len(plan.announce_frames[at])
        input_store_addresses(&place.addresses, plan.packed)
        memcpy(place.mac, PyBytes_AS_STRING(mac), 6)
        place.auth = &(<Authenticator?> plan.authenticator).auth
        place.config.advbase = plan.host.advbase
        place.config.advskew = plan.host.advskew
        place.config.vhid = plan.host.vhid
        place.config.preempt = plan.host.preempt
        place.config.arbitrate = plan.host.siblings == "arbitrate"
        place.announcement_repeats = <uint8_t> (plan.host.announcements - 1)
        place.config.runnable = plan.host.up and bool(plan.host.addresses)
    except BaseException:
        _free_plan(place)
        raise
    return 0


cdef void _fill_carpdev(command_t *command, object mac, object addresses) except *:
    cdef bytes octets = bytes(mac)
    input_store_carpdev(&command.addresses, &command.broadcasts, addresses)
    command.has_mac = len(octets) == 6
    if command.has_mac:
        memcpy(command.mac, PyBytes_AS_STRING(octets), 6)


cdef class _Seat:
    """A virtual host's memory, and the Python objects that it points into."""

    cdef host_t *host
    cdef object plan, device, lock
    cdef int segment

    def __cinit__(self):
        self.host = <host_t *> calloc(1, sizeof(host_t))
        if self.host == NULL:
            raise MemoryError

    def __dealloc__(self):
        _free_plan(&self.host.plan)
        free(self.host)


cdef class Runtime:
    """Runtime(emit, realtime="auto")
--

    Runs virtual hosts in a native thread. Methods, arguments and errors are those of `pycarp._python.runtime.Runtime`.
    """

    cdef runtime_t *runtime
    cdef Lifeline _lifeline
    cdef object _emit, _lock, _event_thread, _guardian
    cdef dict _seats, _sockets, _labels
    cdef list _forgotten
    cdef bint _running, _abandoned, _ended, _realtime

    def __cinit__(self):
        self.runtime = <runtime_t *> calloc(1, sizeof(runtime_t))
        if self.runtime == NULL:
            raise MemoryError
        self.runtime.wake = self.runtime.tell = self.runtime.guardian = -1

    def __init__(self, emit, realtime="auto"):
        cdef sigset_t everything, former
        cdef int error
        self._emit = emit
        self._lock = threading.Lock()
        self._seats, self._sockets, self._labels, self._forgotten = {}, {}, {}, []
        getrandom(&self.runtime.seed, 8, 0)
        self._realtime = realtime is not False
        self._lifeline = spawn.Lifeline()
        self.runtime.lifeline = self._lifeline.memory
        try:
            self.runtime.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.runtime.tell = os.eventfd(0, os.EFD_CLOEXEC)
            self.runtime.wants_realtime = self._realtime
            # The program's signals are its own threads' business.
            sigfillset(&everything)
            pthread_sigmask(SIG_SETMASK, &everything, &former)
            error = pthread_create(&self.runtime.thread, NULL, _run, self.runtime)
            pthread_sigmask(SIG_SETMASK, &former, NULL)
            if error:
                raise OSError(error, os.strerror(error))
            self._running = True
            # Also until it holds the lifeline: the guardian waits for its end.
            while atomic_load32(&self.runtime.holding) == 0:
                with nogil:
                    _doze()
            if realtime is True and self.runtime.has_realtime != 1:
                raise CapabilityError(
                    "realtime=True needs the permission for SCHED_FIFO: grant CAP_SYS_NICE, or a limit on rtprio "
                    '(systemd: LimitRTPRIO=2), or take realtime="auto"'
                )
            self.runtime.grace = GRACE_NS if self.runtime.has_realtime == 1 else GRACE_ORDINARY_NS
            self._guardian = Guardian(self._lifeline, self._realtime, spawn)
            self._attach()
            event_thread = threading.Thread(target=self._deliver, name="pycarp-events", daemon=True)
            event_thread.start()
            self._event_thread = event_thread
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        cdef int at
        if self.runtime == NULL:
            return
        if self._running and not self._abandoned:
            # Nobody closed it, and nobody can any more. Its sockets are gone already: only the thread must not live on.
            with nogil:
                self.runtime.closing = True
                _nudge(self.runtime)
                pthread_join(self.runtime.thread, NULL)
        for at in range(self.runtime.segment_count):
            _free_segment(self.runtime.segments[at])
        free(self.runtime.segments)
        free(self.runtime.hosts)
        free(self.runtime.heap)
        free(self.runtime)

    # The interface

    def add_carpdev(self, int segment, sockets, mac, addresses, allow):
        """Speak and hear on one more carpdev. The sockets are the runtime's from now on."""
        cdef command_t command
        cdef carpdev_t *fresh = <carpdev_t *> calloc(1, sizeof(carpdev_t))
        cdef int error
        if fresh == NULL:
            raise MemoryError
        memset(&command, 0, sizeof(command_t))
        try:
            error = ring_open(&fresh.ring, sockets.receive.fileno())
            if error:
                raise OSError(error, f"a packet ring could not be had: {os.strerror(error)}")
            _fill_carpdev(&command, mac, addresses)
            fresh.number = command.segment = segment
            fresh.send_fd = sockets.send.fileno()
            fresh.input.allow = allow
            command.carpdev = fresh
            self._call(&command, COMMAND_ADD_CARPDEV)
            if not command.found:
                raise MemoryError
        except BaseException:
            _free_segment(fresh)
            raise
        finally:
            free(command.addresses.items)
            free(command.broadcasts.items)
        self._sockets[segment] = sockets

    def update_carpdev(self, int segment, mac, addresses):
        """The carpdev has another MAC or other addresses now."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.segment = segment
        try:
            _fill_carpdev(&command, mac, addresses)
            self._call(&command, COMMAND_UPDATE_CARPDEV)
        finally:
            free(command.addresses.items)
            free(command.broadcasts.items)
        if not command.found:
            raise KeyError(segment)

    def remove_carpdev(self, int segment):
        """Close the sockets of a carpdev; its virtual hosts must be gone or get another by `move_instance`."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.segment = segment
        self._call(&command, COMMAND_REMOVE_CARPDEV)
        if not command.found:
            raise KeyError(segment)
        _free_segment(command.carpdev)
        self._sockets.pop(segment).close()

    def add_instance(self, int index, int segment, plan, device, lock):
        """Seat a virtual host, in INIT. Its addresses come and go by the device's prepared requests, its lock is held
        by the guardian too."""
        cdef command_t command
        cdef _Seat seat = _Seat()
        memset(&command, 0, sizeof(command_t))
        _fill_plan(&seat.host.plan, plan)
        seat.plan = plan
        seat.host.index = command.index = index
        seat.host.vhid = plan.host.vhid
        seat.host.heap_at = -1
        seat.host.announce_due = seat.host.take_due = seat.host.rest_due = MACHINE_NEVER
        seat.host.lease = seat.host.told = LEASE_FOREVER
        seat.host.least = plan.host.advbase
        seat.device, seat.lock, seat.segment = device, lock, segment
        command.segment = segment
        command.host = seat.host
        machine_init(&seat.host.machine, &seat.host.plan.config, NULL, NULL, _seed())
        self._labels[index] = plan.host
        self._seats[index] = seat
        self._entrust(seat, plan)
        self._call(&command, COMMAND_ADD_INSTANCE)

    def move_instance(self, int index, int segment, plan, device, lock):
        """Seat a virtual host, whose link is down, on a carpdev that came back."""
        (<_Seat> self._seats[index]).lock = lock
        self._replan(index, segment, plan, device, COMMAND_MOVE_INSTANCE)

    def remove_instance(self, int index, restore=False):
        """Stop a virtual host, see its addresses dropped and its device removed, and forget it.

        `restore` gives the carpdev its settings back. Raises `OSError` for what could not be removed, `EngineError`
        where there is no guardian to do it; forgotten it is all the same.
        """
        held = self.owns(index)
        self.stop_instance(index)
        self._settle(index)
        time.sleep(_LINGER if held else 0)
        try:
            for kind in [ORDER_REMOVE, ORDER_RESTORE] if restore else [ORDER_REMOVE]:
                error = self._ask_guardian(index, kind)
                if error:
                    raise OSError(error, os.strerror(error))
        finally:
            try:
                self._ask_guardian(index, ORDER_FORGET)
            except EngineError:
                pass
            self._command(index, COMMAND_LEAVE, 0)
            self._forgotten.append(index)
            del self._seats[index]

    def stop_all(self):
        """Stop every virtual host, and see all addresses dropped."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        held = any([self.owns(index) for index in list(self._seats)])
        self._call(&command, COMMAND_STOP_ALL)
        self._settle(-1)
        time.sleep(_LINGER if held else 0)

    def refuse(self, int index, int64_t until):
        """Silence is no reason to take over before `until` (CLOCK_MONOTONIC, ns)."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.index = index
        command.limit = until
        self._call(&command, COMMAND_REFUSE)
        if not command.found:
            raise KeyError(index)

    def heard(self, int index):
        """When a valid advert was heard last (CLOCK_MONOTONIC, ns), 0: never; does not wait for the thread."""
        return (<_Seat> self._seats[index]).host.heard

    def watch(self, int64_t limit):
        """From now on `alive` is to be called at least every `limit` ns; 0 ends it."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.limit = limit
        self._call(&command, COMMAND_WATCH)

    def alive(self):
        """The program that embeds the engine is well. Does not wait for the thread."""
        atomic_store64(&self.runtime.fed, <uint64_t> monotonic())
        if atomic_load32(&self.runtime.starving) and self.runtime.wake >= 0:
            _nudge(self.runtime)

    def start_instance(self, int index):
        """INIT -> BACKUP, and whatever state its configuration forces."""
        state = (<_Seat> self._seats[index]).plan.host.state
        self._command(index, COMMAND_START, -1 if state is None else state)

    def stop_instance(self, int index):
        """Bow out, drop, INIT."""
        self._command(index, COMMAND_STOP, 0)

    def link(self, int index, up):
        """The carpdev of a virtual host went or came."""
        self._command(index, COMMAND_LINK, bool(up))

    def force(self, int index, state):
        """Put a virtual host into a state by hand."""
        self._command(index, COMMAND_FORCE, State(state))

    def replan(self, int index, plan, device):
        """Go on with another plan; a changed configuration is taken up as `Machine.reconfigure` says."""
        self._replan(index, 0, plan, device, COMMAND_REPLAN)

    def retake(self, int index):
        """The addresses' place was made anew: a MASTER takes and announces again."""
        self._command(index, COMMAND_RETAKE, 0)

    def announce(self, int index):
        """A MASTER announces its addresses once more."""
        self._command(index, COMMAND_ANNOUNCE, 0)

    def demote(self, int by):
        """Change the demotion of every virtual host; returns the new host-wide demotion."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.integer = by
        self._call(&command, COMMAND_DEMOTE)
        return command.counters[0]

    def state(self, int index):
        """The state now; does not wait for the thread."""
        return _STATES[(<_Seat> self._seats[index]).host.machine.state]

    def owns(self, int index):
        """Whether its addresses are to be here now: a MASTER may have to wait for them."""
        return bool((<_Seat> self._seats[index]).host.taken)

    def demotion(self, int index):
        """The demotion now; does not wait for the thread."""
        return (<_Seat> self._seats[index]).host.machine.demotion

    def stats(self, int index):
        """The counters of a virtual host."""
        cdef command_t command
        cdef int at
        memset(&command, 0, sizeof(command_t))
        command.index = index
        self._call(&command, COMMAND_STATS)
        if not command.found:
            raise KeyError(index)
        return Stats(*[command.counters[at] for at in range(COUNTERS)])

    def measures(self):
        """What the thread measured of itself, since its start."""
        cdef int at, segment
        cdef object losses = 0
        cdef command_t command
        for index in list(self._seats):
            memset(&command, 0, sizeof(command_t))
            command.index = index
            self._call(&command, COMMAND_STATS)
        # No command is under way while the lock is held, and the thread changes the list of segments in none but those.
        with self._lock:
            for segment in range(self.runtime.segment_count):
                losses += self.runtime.segments[segment].ring.losses
        return Measures(
            realtime=self.runtime.has_realtime == 1,
            ring_losses=losses,
            wakeup=tuple([self.runtime.measures.wakeup[at] for at in range(BUCKETS)]),
            sending=tuple([self.runtime.measures.sending[at] for at in range(BUCKETS)]),
            takeover=tuple([self.runtime.measures.takeover[at] for at in range(BUCKETS)]),
        )

    def close(self):
        """Stop every virtual host, see all addresses dropped, close the sockets, end the threads and the guardian."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        try:
            self.stop_all()
            self._ask_guardian(0, ORDER_QUIET)
        except EngineError:
            pass
        # Held to the end: a command that came after this one would never be answered.
        with self._lock:
            if self._running:
                self._ask(&command, COMMAND_CLOSE)
                with nogil:
                    pthread_join(self.runtime.thread, NULL)
                self._running = False
                self._ended = True
        # Outside of the lock: the event thread may wait for it, to bring the thread another guardian.
        if self._event_thread is not None:
            event_thread, self._event_thread = self._event_thread, None
            _nudge_event_thread(self.runtime)
            event_thread.join()
        with self._lock:
            if self._guardian is not None:
                self._guardian.close()
                self._guardian = None
            self._lifeline.close()
            self._close_descriptors()

    def abandon(self):
        """In a forked child, where the threads do not exist: close the descriptors, and not a word on the wire."""
        self._abandoned = True
        self._running = False
        if self._guardian is not None:
            self._guardian.abandon()
        self._lifeline.close()
        self._close_descriptors()

    # The guardian

    def _attach(self):
        """Show the thread its guardian, or that it has none."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.integer = -1 if self._guardian is None else self._guardian.fileno()
        self._call(&command, COMMAND_GUARDIAN)

    def _entrust(self, _Seat seat, plan):
        """Give the guardian what it needs to take, renew and drop, and the bow-outs for when we cannot send them."""
        sockets, guardian = self._sockets.get(seat.segment), self._guardian
        if guardian is None or sockets is None:
            return  # entrusted when there is one, or a carpdev again
        try:
            guardian.add(seat.host.index, seat.device, plan.bowouts, sockets.send, seat.lock)
        except GuardianGone:
            pass  # the thread has noticed, and another is on its way

    def _ask_guardian(self, int index, int kind):
        """Have the guardian do what it answers in its own time; returns the error's number, or 0."""
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.index = index
        command.integer = kind
        self._call(&command, COMMAND_ASK)
        if not command.found:
            raise EngineError("the guardian of the addresses is gone")
        give_up = time.monotonic() + _SETTLE
        while time.monotonic() < give_up:
            command.found = False
            self._call(&command, COMMAND_ANSWER)
            if command.found:
                if command.integer == EHOSTDOWN:
                    raise EngineError("the guardian of the addresses is gone")
                return command.integer
            time.sleep(_SETTLE_LOOK)
        raise EngineError("the guardian of the addresses does not answer")

    def _settle(self, int index):
        """Wait until the orders of one virtual host, or of all (-1), are carried out: not for ever."""
        cdef command_t command
        give_up = time.monotonic() + _SETTLE
        while time.monotonic() < give_up:
            memset(&command, 0, sizeof(command_t))
            command.index = index
            self._call(&command, COMMAND_SETTLED)
            if command.found:
                return
            time.sleep(_SETTLE_LOOK)

    def _replace_guardian(self):
        """In the event thread: start another one. Where that cannot be, the thread hands over."""
        former, self._guardian = self._guardian, None
        if former is not None:
            if self.runtime.hanging:
                former.kill()
            former.close(0)
        self.runtime.hanging = False
        try:
            self._guardian = Guardian(self._lifeline, self._realtime, spawn)
            for seat in list(self._seats.values()):
                self._entrust(seat, (<_Seat> seat).plan)
            self._emit(events.GuardianReplaced(vhid=0, name="", at=monotonic()))
        except (CarpError, OSError) as error:
            if self._guardian is not None:
                former, self._guardian = self._guardian, None
                former.close(0)
            what = (
                f"no other can be started ({error}): this host stands back, its addresses go when their lease ends"
            )
            self._emit(events.GuardianLost(vhid=0, name="", at=monotonic(), what=what))
            # Where we still may, we drop them ourselves.
            for seat in list(self._seats.values()):
                try:
                    with netlink.RouteSocket() as route:
                        route.execute((<_Seat> seat).device.drop)
                except OSError:
                    pass
        try:
            self._attach()
        except EngineError:
            pass  # it is being closed

    # How

    def _close_descriptors(self):
        cdef int at
        for at in range(self.runtime.segment_count):
            ring_close(&self.runtime.segments[at].ring)
        for sockets in self._sockets.values():
            sockets.close()
        self._sockets.clear()
        descriptors = [self.runtime.wake, self.runtime.tell]
        self.runtime.wake = self.runtime.tell = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    cdef int _call(self, command_t *command, int kind) except -1:
        """Have the thread carry out a command. The GIL is free meanwhile."""
        with self._lock:
            if not self._running:
                raise EngineError("the engine is not running")
            self._ask(command, kind)
        return 0

    cdef void _ask(self, command_t *command, int kind) noexcept:
        command.kind = kind
        sem_init(&command.done, 0, 0)
        with nogil:
            atomic_push(&self.runtime.commands, <void **> command)
            _nudge(self.runtime)
            while sem_wait(&command.done) != 0:
                pass
        sem_destroy(&command.done)

    def _command(self, int index, int kind, int integer):
        cdef command_t command
        memset(&command, 0, sizeof(command_t))
        command.index = index
        command.integer = integer
        self._call(&command, kind)
        if not command.found:
            raise KeyError(index)

    def _replan(self, int index, int segment, plan, device, int kind):
        cdef command_t command
        cdef _Seat seat = self._seats[index]
        memset(&command, 0, sizeof(command_t))
        command.index = index
        command.segment = segment
        command.integer = plan.host != seat.plan.host
        _fill_plan(&command.plan, plan)
        try:
            seat.device = device
            if kind == COMMAND_MOVE_INSTANCE:
                seat.segment = segment
            self._entrust(seat, plan)
            self._labels[index] = plan.host
            self._call(&command, kind)
            seat.plan = plan
        finally:
            # Now it is the former one, or, if nothing came of it, the new one.
            _free_plan(&command.plan)

    def _deliver(self):
        """In a Python thread: events from the ring to their consumer."""
        while True:
            os.read(self.runtime.tell, 8)
            ended = self._ended
            forgotten, self._forgotten = self._forgotten, []
            while self.runtime.fetched != atomic_load32(&self.runtime.recorded):
                lost_guardian = self.runtime.records[self.runtime.fetched % RECORDS].kind == RECORD_GUARDIAN
                event = self._event(&self.runtime.records[self.runtime.fetched % RECORDS])
                atomic_store32(&self.runtime.fetched, self.runtime.fetched + 1)
                if event is not None:
                    self._emit(event)
                if lost_guardian and not ended:
                    self._replace_guardian()
            lost = atomic_take64(&self.runtime.lost)
            if lost:
                self._emit(events.EventsLost(vhid=0, name="", at=monotonic(), count=lost))
            for index in forgotten:
                self._labels.pop(index, None)
            if ended:
                return

    cdef object _event(self, const record_t *record):
        cdef object host = self._labels.get(record.index)
        cdef object peer = None
        cdef dict who = {"vhid": record.vhid, "name": "" if host is None else host.name, "at": record.at}
        if host is not None and record.kind != RECORD_REJECTED:
            who["vhid"] = host.vhid
        if record.peer.family != PEER_NOBODY:
            peer = address_text(record.peer.address, record.peer.family)
        if record.kind == RECORD_REJECTED:
            name = _COUNTERS[record.counter]
            return events.AdvertRejected(**who, counter=name, peer=peer, hint=events.HINTS[name])
        if record.kind == RECORD_GUARDIAN:
            return events.GuardianLost(**who, what="it died; another is started")
        if record.kind == RECORD_WATCHDOG:
            return events.WatchdogExpired(**who, silence=record.value)
        if record.kind == RECORD_FED:
            return events.WatchdogFed(**who)
        if host is None:
            return None
        if record.kind == RECORD_STATE:
            return events.StateChanged(
                **who,
                before=_STATES[record.before],
                after=_STATES[record.after],
                reason=_REASONS[record.reason],
                peer=peer,
            )
        if record.kind == RECORD_TAKEN or record.kind == RECORD_DROPPED:
            kind = events.AddressesTaken if record.kind == RECORD_TAKEN else events.AddressesDropped
            return kind(**who, addresses=tuple([str(one) for one in host.addresses]), took=record.value)
        if record.kind == RECORD_NOT_WRITTEN:
            addresses = ", ".join([str(one.ip) for one in host.addresses])
            done = _ORDERS.get(record.counter, "entrusted to the guardian")
            what = f"{addresses} could not be {done}: {os.strerror(record.value)}"
            return events.Failed(**who, what=what)
        if record.kind == RECORD_PEER:
            return events.PeerHeard(
                **who, peer=peer, dialect=_DIALECTS[record.dialect], advbase=record.advbase, advskew=record.advskew
            )
        if record.kind == RECORD_SILENT:
            return events.FamilySilent(**who, family=record.family)
        if record.kind == RECORD_DEMOTED:
            return events.Demoted(**who, demotion=record.value)
        if record.kind == RECORD_SIBLING:
            standing = STANDINGS[record.standing]
            return events.SiblingHeard(
                **who,
                sibling=record.value,
                peer=peer,
                standing=standing,
                advice=events.sibling_advice(standing, record.value, peer),
            )
        if record.kind == RECORD_RIVAL:
            return events.RivalHeard(**who, peer=peer, rule=_RULES[record.counter])
        if record.kind == RECORD_STALLED:
            return events.Stalled(**who, pause=record.value, released=bool(record.counter))
        if record.kind == RECORD_DELAYED:
            return events.TakeoverDelayed(**who, losses=record.value)
        if record.kind == RECORD_UNLEASED:
            return events.LeaseUnavailable(**who, why=no_lease(record.value, record.advbase))
        return events.Failed(**who, what=f"an advert could not be sent: {os.strerror(record.value)}")


cdef void _nudge(runtime_t *runtime) noexcept nogil:
    cdef unsigned long long one = 1
    write(runtime.wake, &one, 8)


cdef void _nudge_event_thread(runtime_t *runtime) noexcept nogil:
    cdef unsigned long long one = 1
    write(runtime.tell, &one, 8)


cdef void _doze() noexcept nogil:
    cdef timespec pause = duration(50000)
    nanosleep(&pause, NULL)


cdef void _free_segment(carpdev_t *segment) noexcept:
    input_forget_all(&segment.input)
    ring_close(&segment.ring)
    free(segment.input.addresses.items)
    free(segment.input.broadcasts.items)
    free(segment)


cdef uint64_t _seed() noexcept:
    cdef uint64_t seed = 0
    getrandom(&seed, 8, 0)
    return seed
