"""Reasons not to act: pauses, lost frames, rivals, a program that is not heard from.

Thread: runtime.
"""

from __future__ import annotations

from ... import events
from ..._unpatched import time
from ...protocol import Advert, Reason, State
from ...protocol.timing import DEAF_AT_LEAST, PAUSE_NOTICED
from .actions import carry_out, demote_others, drain
from .addresses import lease_ends_after, takeover_after
from .reports import report
from .state import KNOWN_PEERS, Instance, RuntimeState, active, boottime
from .tenure import follow, lapse

_MOST_DELAYS = 2
"""Intervals that a takeover waits because frames were lost."""


def look_for_pause(runtime: RuntimeState) -> None:
    """Were we stopped, or was the machine asleep? Then others may have taken over meanwhile."""
    now = time.monotonic_ns()
    suspended = boottime() - now
    late = now - runtime.heap[0][0] if runtime.heap else 0
    if late > PAUSE_NOTICED or suspended - runtime.suspended > PAUSE_NOTICED:
        runtime.guardian.asked = min(runtime.guardian.asked, 1) * now  # it may have been stopped with us
        for instance in active(runtime):
            look_at_silence(runtime, instance)
    runtime.suspended = suspended


def look_at_silence(runtime: RuntimeState, instance: Instance) -> None:
    """Has a MASTER been silent for so long that others may have taken over?"""
    if instance.plan.host.led:
        if instance.machine.state is State.MASTER:
            follow(runtime, instance, time.monotonic_ns())
        return
    limit = min(takeover_after(instance), lease_ends_after(instance))
    if instance.machine.state is State.MASTER and boottime() - instance.ownership.advertised > limit:
        stalled(runtime, instance, released=False)


def stalled(runtime: RuntimeState, instance: Instance, released: bool) -> None:
    """A MASTER did not run for so long that it stands by. `released`: the guardian has let go of its addresses."""
    if instance.frozen or instance.machine.state is not State.MASTER or (released and not instance.ownership.owned):
        return
    now = time.monotonic_ns()
    if instance.plan.host.led:
        lapse(runtime, instance, now)
        return
    pause = boottime() - instance.ownership.advertised
    report(runtime, instance, events.Stalled, now, pause=pause, released=released)
    carry_out(runtime, instance, instance.machine.retire(Reason.STALLED, False, now), now)


def must_wait(runtime: RuntimeState, instance: Instance, now: int) -> bool:
    """Whether silence is no reason to take over: by order, or because frames were lost since the last valid advert."""
    suspicion = instance.suspicion
    if not instance.machine.overdue(now):
        return False
    if now < suspicion.refused_until or runtime.watchdog.expired:
        return True
    if suspicion.delays >= _MOST_DELAYS:
        return False
    lost = instance.carpdev.count_losses() - suspicion.losses
    if not lost and not instance.carpdev.behind:
        return False
    suspicion.delays += 1
    report(runtime, instance, events.TakeoverDelayed, now, losses=lost)
    return True


def makes_way_in_vain(runtime: RuntimeState, instance: Instance, advert: Advert) -> bool:
    """Whether a host makes way for us while our program is not heard from: no address is taken for it."""
    backup = instance.machine.state is State.BACKUP
    return runtime.watchdog.expired and backup and advert.interval > instance.machine.interval


def note_rival(runtime: RuntimeState, instance: Instance, advert: Advert, now: int) -> None:
    """Another MASTER was heard by a MASTER."""
    own, rivals = instance.machine.interval, instance.reported.rivals
    if advert.bowout:
        return
    rule = "better" if advert.interval < own else "tie" if advert.interval == own else "worse"
    if (advert.source, rule) not in rivals and len(rivals) < KNOWN_PEERS:
        rivals.add((advert.source, rule))
        report(runtime, instance, events.RivalHeard, now, peer=advert.source, rule=rule)
    if rule == "worse":
        _look_at_deaf(runtime, instance, advert, now)


def _look_at_deaf(runtime: RuntimeState, instance: Instance, advert: Advert, now: int) -> None:
    """Should that rival have yielded by now?"""
    suspicion, reported = instance.suspicion, instance.reported
    slower = max(advert.interval, instance.machine.interval)
    if now - suspicion.rival_heard > 2 * slower:
        suspicion.rival_since, reported.deaf = now, False
    suspicion.rival_heard = now
    if reported.deaf or now - suspicion.rival_since < max(11 * slower // 4, DEAF_AT_LEAST):
        return
    reported.deaf = True
    mac = instance.plan.mac.hex(":") if instance.plan.host.mac == "virtual" else ""
    advice = events.deaf_advice(mac, advert.source)
    report(runtime, instance, events.RivalDeaf, now, peer=advert.source, advice=advice)


def look_at_watchdog(runtime: RuntimeState) -> None:
    """Is the program that embeds us still there? If not, another host shall serve in its place."""
    watchdog, now = runtime.watchdog, time.monotonic_ns()
    silence = now - watchdog.fed
    if (watchdog.limit > 0 and silence >= watchdog.limit) == watchdog.expired:
        return
    watchdog.expired = not watchdog.expired
    if not watchdog.expired:
        report(runtime, None, events.WatchdogFed, now)
        demote_others(runtime, -1, None)
    else:
        report(runtime, None, events.WatchdogExpired, now, silence=silence)
        for instance in active(runtime):
            carry_out(runtime, instance, instance.machine.retire(Reason.WATCHDOG, True, now), now)
        demote_others(runtime, 1, None)
    drain(runtime, now)
