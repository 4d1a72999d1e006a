"""The time limits that both implementations or the guardian share, and the sums that follow from advbase and
advskew.

All values are integer nanoseconds. `ext/timing.h` has the same figures for C and Cython, under the same names; a test
compares the two. A limit is named for what ends with it.
"""

from __future__ import annotations

from . import NS_PER_SECOND, NS_PER_SKEW

_MS = NS_PER_MS = 1_000_000

# The state machine

TIE_JITTER = 20 * _MS
"""Up to this is added to master-down where two equal hosts could otherwise move in lockstep."""
TIE_COPIES_END = 2 * _MS
"""Within this time after a tie, equal adverts are further copies of the rival's."""
TAKEOVER_STEP = 20_000
"""Several backups hear one bow-out: each waits this long for each unit of advskew, so that the best acts first ..."""
TAKEOVER_JITTER = 500_000
"""... and up to this longer, so that equals do not act together."""
OPENBSD_LATE = 20 * _MS
"""OpenBSD's timers run in ticks of 10 ms, and end up to two of them late."""
MASTER_DOWN_INTERVALS = 3
"""Of a master's adverts, so many are missed before it is gone."""
SEND_ERRORS_FORGOTTEN = 30 * NS_PER_SECOND
"""A BACKUP sends nothing that could succeed: its demotion for send errors ends after this time."""

# Pace

NO_PACE = 0
PACES = tuple(ms * _MS for ms in (0, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000))
"""What the four bits of the counter say: the time between a MASTER's adverts, with those in between; 0: none are."""
PACE_STEP = 10_000
"""Each unit of advskew makes a BACKUP wait this much longer for a master that says a pace."""
PACE_HEARD_FIRST = 64
"""A BACKUP obeys a pace after so many adverts of one host that say one."""
PACE_GAPS_FORGOTTEN = 600 * NS_PER_SECOND
"""A gap between adverts counts half when none of half its length has been seen for this long."""
PACE_RETURNS_WITHIN = 4
"""A master that is heard again within so many times the silence after which another took over had not gone."""
PACE_ADVERTS_A_SECOND = 1000
"""The most adverts a second of all MASTERs with a pace on one interface."""
PACE_NEVER = 1 << 61
"""A pace of which no advert comes (ns)."""
PACE_BEAT = 50 * _MS
"""With a pace, the guardian hears from the runtime this often, and a gate is renewed."""

# Sibling search

SIBLING_TRIAL = 100 * _MS
"""In this time one more trial of a key is earned ..."""
SIBLING_TRIALS_KEPT = 20 * SIBLING_TRIAL
"""... and no more than these are saved up."""
SIBLING_TURN = 10 * NS_PER_SECOND
"""While fewer than half of the trials are left, a vhid has one turn in this time."""

# Takeover

HEIR_HEARD_WITHIN = 100 * _MS
"""Who hands over by command keeps the addresses this long, until another MASTER is heard; then it stays MASTER."""
HEIR_READY_WITHIN = 20 * _MS
"""... and this long after the first advert of one that is taking them."""
HEIR_ANNOUNCES_AGAIN = 500_000
"""Who took over from one that bowed out announces again this long after: the other's last frames may have come last."""
BOWOUT_AFTER_DROP = 300_000
"""The runtime sends a bow-out this long after it ordered the drop: answers stop within 0.1 ms."""
ANNOUNCE_AFTER_RIVAL = 2 * _MS
"""A MASTER that heard a worse MASTER announces again this long after, when that one has yielded."""
ANNOUNCEMENTS_AFTER_RIVAL = 2
"""... and with this many of its adverts after that, to which the other yields ..."""
ANNOUNCE_AFTER_ADVERT = 5 * _MS
"""A MASTER repeats its announcement this long after an advert, or half an interval: who preempts or yields on that
advert has done so by then. An announcement that came later than a preempting one's advert would mislead switches."""
ANNOUNCE_AFTER_DEFENCE = 50 * _MS
"""Who defends its addresses announces at once, and again this long after: who yielded has removed them by then."""
MADE_WAY_WITHIN = 100 * _MS
"""Who yields to our advert tells us so within this time."""
TAKE_AFTER_DEPOSING = 3 * _MS
"""Who deposes a MASTER that lives takes the addresses this long after its first advert: by then the other has heard
that advert and dropped them."""
LINK_DOWN_AFTER_DROP = 50 * _MS
"""The guardian takes the link of a dropped address down this long after the drop: that keeps RTNL, for which others
wait, the next owner among them."""
LATE_AFTER_TAKE = 10 * _MS
"""Where a take leaves many routes for later, the guardian adds them this long after it: they keep RTNL, too."""
DEVICE_REMOVED_AFTER_DROP = 60 * _MS
"""The device of a former MASTER is removed this long after the drop: its link is down by then."""
RETRY_FIRST = NS_PER_SECOND
"""An instance that cannot take its addresses bows out and tries again after this time, doubled each time ..."""
RETRY_LAST = 64 * NS_PER_SECOND
"""... up to this: its better advskew would else depose at once who takes them in its stead."""
DEMOTION_REPORTED_AFTER = 50 * _MS
"""Demotions are reported this long after the first of many: where hundreds demote each other, only the outcome is
news."""
DEAF_AT_LEAST = NS_PER_SECOND
"""A worse MASTER that is heard beside us for 2.75 intervals of the slower one, and for this long, does not hear us."""
VRRP_FORGOTTEN = 600 * NS_PER_SECOND
CHANGE_HEARD_INTERVALS = 10
"""For so many intervals, and at least a second, the old secret counts as in use after it was heard."""
"""A VRRP router with our number that was silent for this long is reported again."""

# Leases

RENEWAL_LATE_ALLOWANCE = 100 * _MS
"""A renewal comes with the next advert, at most this late."""
LEASE_ENDS_LATE = 980 * _MS
"""The kernel's timer for lifetimes is deferrable: a busy machine ends a lease this late, an idle one later yet."""
LEASE_MAY_BE_OVER = 900 * _MS
"""A renewal that is carried out this long after the lease's end could bring back an address that had gone."""

# Takes of many

NOTICES_AT_ONCE = 20
"""A take gives programs that listen for addresses a notice for each address, and one of the link. Takes with so many
notices are carried out at once, whatever those programs do ..."""
NOTICE_SPACING = 25 * _MS
"""... and as many more as time goes by. Each further take waits while one of those programs is behind ..."""
TAKE_WAITS_AT_MOST = 50 * _MS
"""... but not longer than this. named 9.18 reads a take's notices within 3 to 5 ms, and 20 ms on a busy machine."""
LINK_WAITS_AT_MOST = 5 * NS_PER_SECOND
"""The link of a dropped address waits as well, for this long."""
LISTENERS_LOOKED_AT_AGAIN = _MS
"""A look costs 20 us, and 1 ms where a thousand sockets listen."""
LISTENER_STUCK_AFTER = NS_PER_SECOND
"""No take waits for a program that has read nothing for this long. named 9.18 pauses for 20 ms, and for 230 ms
on a busy machine."""

# Gates

GATE_SHUTS_BEFORE = 12 * _MS
"""A gate shuts this long before others may take over: it does so at a tick of the kernel's clock, which comes every
10 ms at most."""
GATE_RENEWED_LATE = 5 * _MS
"""A gate stays open until a renewal that comes this late, at least."""

# Tenures

TENURE_ENDS_BEFORE = 20 * _MS
"""A led virtual host drops its addresses this long before its tenure ends: when it ends, another host may have them."""

# The guardian, and pauses of the runtime

LATE_ALLOWANCE_REALTIME = 40 * _MS
"""The guardian lets go when an advert of a native runtime under SCHED_FIFO is this late ..."""
LATE_ALLOWANCE_ORDINARY = 100 * _MS
"""... of one that shares a busy machine as an ordinary thread ..."""
LATE_ALLOWANCE_PYTHON = 70 * _MS
"""... and, at least, of one in Python, where half an advbase is allowed."""
GUARDIAN_WOKEN_LATE = 5 * _MS
"""A guardian that wakes later than this for a deadline was stopped itself ..."""
GUARDIAN_WOKEN_LATE_ALLOWANCE = 20 * _MS
"""... and then gives the engine this long, once, to show that it lives."""
GUARDIAN_ANSWERS_WITHIN = 1500 * _MS
"""A guardian that has not answered for this long hangs: another one takes its place."""
GUARDIAN_REPLACED_WITHIN = NS_PER_SECOND
"""A native runtime that has had no guardian for this long hands over."""
PAUSE_NOTICED = 50 * _MS
"""A loop that is this late was stopped, or its machine was suspended: then every MASTER is looked at."""
ORDERS_DONE_WITHIN = 10 * NS_PER_SECOND
"""Who waits for orders to be carried out gives up after this time."""

TENURE_FOREVER = 1 << 61
"""A tenure without an end (CLOCK_BOOTTIME, ns)."""
LEASE_FOREVER = 0xFFFFFFFF
"""The lifetime of an address that the kernel never removes by itself (seconds, the netlink value)."""


def lease(interval: int, advbase: int, missed: int = MASTER_DOWN_INTERVALS) -> int | None:
    """The fewest whole seconds (the kernel counts no others) that last until the next renewal.

    None where they would not end before other hosts take over: after `missed` times the smallest `advbase` of the
    group, in seconds, three times at most. `interval` is ns.
    """
    seconds = -(-(interval + RENEWAL_LATE_ALLOWANCE) // NS_PER_SECOND)
    limit = min(missed, MASTER_DOWN_INTERVALS) * advbase * NS_PER_SECOND
    return seconds if seconds * NS_PER_SECOND + LEASE_ENDS_LATE < limit else None


SERIAL_ROUND = 65_536 * NS_PER_SECOND
"""Serials are seconds modulo 2**16."""
SERIAL_APART = 2_500_000_000
"""A serial may be so far from what its sender's last ones promise: two units, and half of one for delays."""
SERIAL_CANDIDATE_APART = 1_500_000_000
"""The same for a stream that is not believed yet."""
SERIAL_CLOCKS_APART = 5 * NS_PER_SECOND
"""The clock of a sender that is believed at once is so far from ours at most."""
SERIAL_SHORTEST = 1_100_000_000
"""A stream that is believed for its own sake has gone on for so long: a serial advances each second."""
SERIAL_DRIFT = 1024
"""A sender's clock may lose one part in so many against ours."""


def gate(interval: int, after: int) -> int | None:
    """How many ms from an advert on a gate stays open: until just before other hosts may take over, `after` ns of
    silence. None where that would not last until the next advert, `interval` ns later."""
    limit = after - GATE_SHUTS_BEFORE
    return limit // _MS if limit >= max(interval + GATE_RENEWED_LATE, GATE_SHUTS_BEFORE) else None


def gate_without_room(interval: int) -> int:
    """The same where others may take over before the next advert: until the next one, in any case."""
    return (interval + RENEWAL_LATE_ALLOWANCE) * 3 // 2 // _MS


def gate_bounds(advbase: int, advskew: int, missed: int) -> tuple[int, int]:
    """The longest that a gate stays open in time, and the longest where there is no room for that (0: there always is),
    in ms."""
    after, demoted = takeover_after(advbase, advskew, missed), (advbase + 1) * NS_PER_SECOND
    return gate(0, after) or 0, 0 if gate(demoted, after) else gate_without_room(demoted)


def beats(interval: int, pacing: int) -> int:
    """The guardian hears from a MASTER every so many ns: with each advert, or, with a pace, not that often."""
    return max(PACE_BEAT, pacing) + pacing if pacing else interval


def paced_lease(pacing: int, missed: int, ends: int) -> str:
    """One sentence for those whose backups take over faster than anything ends: after `ends` ns."""
    return (
        f"with a pace of {pacing // NS_PER_MS} ms, others may take over after {missed * pacing // NS_PER_MS} ms: a "
        f"host that stands still may keep the addresses for {ends / NS_PER_SECOND:.3g} s"
    )


def tenure_lease(left: int, gated: bool) -> int:
    """How many ms a gate stays open, or how many seconds addresses live, that are here for `left` ns more."""
    if gated:
        return max(0, left - GATE_SHUTS_BEFORE) // _MS
    return max(1, -(-left // NS_PER_SECOND))


def master_down(advbase: int, advskew: int, missed: int = MASTER_DOWN_INTERVALS, timing: str = "bsd") -> int:
    """After this many ns without an advert a BACKUP with these values takes over; with advbase 0 as OpenBSD does.

    OpenBSD counts advskew as often as advbase. What it sends late is no silence: with advbase 0 each advert may be so
    late, else the whole.
    """
    if timing == "openbsd":
        late = OPENBSD_LATE if advbase else missed * OPENBSD_LATE
        return missed * (advbase * NS_PER_SECOND + max(advskew, 0 if advbase else 1) * NS_PER_SKEW) + late
    return missed * advbase * NS_PER_SECOND + (advskew if advbase else missed * advskew) * NS_PER_SKEW


def takeover_after(advbase: int, advskew: int, missed: int = MASTER_DOWN_INTERVALS) -> int:
    """After this many ns of our silence another host of the group may have taken over."""
    missed = min(missed, MASTER_DOWN_INTERVALS)
    return missed * (advbase * NS_PER_SECOND if advbase else max(advskew, 1) * NS_PER_SKEW)


def announce_after(every: int, interval: int) -> int:
    """A MASTER announces with the first advert this many ns after it last did: the one nearest to `every` seconds.

    A rival may come back and yield in silence. With 0 it never does so by itself.
    """
    return every * NS_PER_SECOND - min(interval, NS_PER_SECOND) // 2 if every else PACE_NEVER


def no_gate(interval: int, after: int) -> str:
    """One sentence for those whose intervals (ns) leave no room for a gate that shuts in time."""
    return (
        f"with adverts every {interval / NS_PER_SECOND:.3g} s, others may take over after "
        f"{after / NS_PER_SECOND:.3g} s: the gate shuts after {gate_without_room(interval) / 1000:.3g} s"
    )


def no_lease(interval: int, advbase: int) -> str:
    """One sentence for those whose intervals (ns) leave no room for a lease."""
    return (
        f"adverts every {interval / NS_PER_SECOND:.3g} s and a smallest advbase of {advbase} leave no whole second "
        "that lasts from one advert to the next and ends before others take over: the guardian alone lets go of the "
        "addresses"
    )
