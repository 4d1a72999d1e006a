# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, cdivision=True
"""The runtime in a native thread: the compiled twin of `pycarp._python.runtime`, whose rooms and names it has.

The thread receives, runs the machines and their timers, sends, and orders addresses from the guardian. It never asks
for the GIL. Python comes to it by commands, which it carries out between two frames. Events leave it through a ring
that a Python thread empties.
"""

import os
from ipaddress import ip_address

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EHOSTDOWN, ENODEV, ENOENT, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport timespec

from pycarp._unpatched import threading, time
from .auth cimport (
    AUTH_KEYS, AUTH_NONE, Authenticator, auth_counter, auth_dialects, auth_follow, auth_pace, auth_sign, auth_t,
    auth_vouches,
)
from .guardian cimport (
    GUARDIAN_GONE, LEASE_FOREVER, MESSAGE_DONE, ORDER_BEAT, ORDER_DROP, ORDER_FORGET, ORDER_NOBODY, ORDER_QUIET,
    ORDER_REMOVE, ORDER_RENEW, ORDER_RESTORE, ORDER_TAKE, REPLY_RELEASED, REPLY_SUPERSEDED, guardian_order,
    guardian_reply, order_t, reply_t,
)
from .input cimport (
    BATCH, COUNT_BADIF, COUNT_BADVHID, COUNT_ECHO, COUNTERS, VERDICT_SIBLING, VERDICT_VALID, addresses_t, batch_t,
    hearing_t, input_add, input_begin, input_compute, input_forget_all, input_free_hearing, input_instance_t,
    input_judge, input_remove_instance, input_sent, input_set_instance, input_store_addresses, input_store_carpdev,
    input_store_hearing, input_t, verdict_t,
)
from .machine cimport (
    ACTION_ANNOUNCE, ACTION_DROP, ACTION_FAMILY_SILENT, ACTION_SEND_ADVERT, ACTION_SIBLING_FOUND, ACTION_SUPPRESS,
    ACTION_TAKE, ACTION_TRANSITION, MACHINE_ACTIONS, MACHINE_NEVER, PEER_NOBODY, REASON_BOWOUT, REASON_DEMOTED,
    REASON_HANDED_OVER, REASON_PREEMPT, REASON_STALLED, REASON_TOO_SLOW, REASON_WATCHDOG, SEND_ERRORS, STATE_BACKUP,
    STATE_INIT, STATE_MASTER, action_t, actions_t, machine_advskew, machine_config_t, machine_deadline, machine_defend,
    machine_delay_takeover, machine_demote, machine_echo, machine_force, machine_heard_pace, machine_heir, machine_init,
    machine_interval, machine_leave, machine_leaving, machine_limit_pace, machine_link, machine_overdue, machine_pacing,
    machine_pause_pace, machine_read_config, machine_receive, machine_reconfigure, machine_retire, machine_said_pace,
    machine_sent, machine_sent_demotion, machine_set_values, machine_sibling, machine_silence, machine_start,
    machine_stop, machine_t, machine_timeout, machine_usual_silence, machine_values, peer_t,
)
from .kept cimport kept_calloc, kept_free, kept_realloc
from .packet cimport (
    ADVERT_FRAME_MAX, AdvertTemplate, COUNTER_LENGTH, DIGEST_LENGTH, MAC_LENGTH, address_text, advert_t, template_frame,
    template_t,
)
from .ring cimport (
    ring_ahead, ring_arrival, ring_close, ring_count_losses, ring_expect, ring_open, ring_release, ring_t,
)
from .spawn cimport Lifeline, lifeline_lock, lifeline_unlock
from .system cimport (
    MSG_DONTWAIT, POLLERR, POLLIN, PR_SET_NAME, PR_SET_TIMERSLACK, SCHED_FIFO, SCHED_OTHER, SCHED_RR, SIG_SETMASK,
    SO_ERROR, SOL_SOCKET, atomic_add64, atomic_load32, atomic_load64, atomic_push, atomic_store32, atomic_store64,
    atomic_take64, atomic_take_all, boottime, duration, getrandom, getsockopt, kept_join, kept_thread, mlock, monotonic,
    nanosleep, pollfd, ppoll, prctl, pthread_getschedparam, pthread_self, pthread_setschedparam, pthread_sigmask,
    pthread_t, read, realtime, sched_param, sem_destroy, sem_init, sem_post, sem_t, sem_wait, send, sigfillset,
    sigset_t, write,
)
from .timing cimport (
    ANNOUNCEMENTS_AFTER_RIVAL, ANNOUNCE_AFTER_ADVERT, ANNOUNCE_AFTER_DEFENCE, ANNOUNCE_AFTER_RIVAL,
    BOWOUT_AFTER_DROP, DEAF_AT_LEAST, DEMOTION_REPORTED_AFTER, DEVICE_REMOVED_AFTER_DROP, GATE_RENEWED_LATE,
    GATE_SHUTS_BEFORE, GUARDIAN_ANSWERS_WITHIN, GUARDIAN_REPLACED_WITHIN, HEIR_ANNOUNCES_AGAIN,
    LATE_ALLOWANCE_ORDINARY, LATE_ALLOWANCE_REALTIME, LEASE_ENDS_LATE, MADE_WAY_WITHIN, MASTER_DOWN_INTERVALS, NO_PACE,
    NS_PER_SECOND, NS_PER_SKEW, ORDERS_DONE_WITHIN, PACE_ADVERTS_A_SECOND, PACE_BEAT, PACE_NEVER, PAUSE_NOTICED,
    RENEWAL_LATE_ALLOWANCE, RETRY_FIRST, RETRY_LAST, TAKE_AFTER_DEPOSING, TENURE_ENDS_BEFORE, TENURE_FOREVER,
    VRRP_FORGOTTEN,
)

from .._records import fields
from .. import events
from ..engine.snapshot import Overview, Peer, Reading
from ..engine.teller import Others
from ..errors import GUARDIAN_HANGS, HANDED_ON, NO_GUARDIAN, NOT_ENTRUSTED, CapabilityError, CarpError, EngineError
from ..linux import netlink
from ..linux.guardian_client import Guardian, GuardianGone
from ..linux.threads import precise
from ..protocol import DIALECTS, SPOKEN, STANDINGS, Reason, State
from ..protocol.checks import DEAF_HINT, HINTS, LED_HINT, vrrp_advice
from ..protocol.frames import virtual_mac
from ..protocol.timing import PACES as _PACES
from ..protocol.timing import no_gate, no_lease, paced_lease
from ..protocol.timing import takeover_after as takeover_time
from ..sentences import PACE_OBEYED as _PACE_OBEYED, PACE_SAID as _PACE_SAID, PACE_SENT as _PACE_SENT
from ..sentences import heard_so, pace_kept, pace_slowed
from ..stats import Measures, Stats
from . import spawn

include "state.pxi"
include "reports.pxi"
include "timers.pxi"
include "clock.pxi"
include "transmit.pxi"
include "addresses.pxi"
include "pace.pxi"
include "actions.pxi"
include "tenure.pxi"
include "suspicion.pxi"
include "guardian.pxi"
include "peers.pxi"
include "receive.pxi"
include "commands.pxi"
include "bequest.pxi"
include "loop.pxi"
include "plans.pxi"
include "reading.pxi"
include "handle.pxi"
