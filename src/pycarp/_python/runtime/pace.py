"""Paces: how many adverts one interface sends, and what is told of paces.

Thread: runtime.
"""

from __future__ import annotations

from ... import events
from ...protocol import NS_PER_SECOND, State
from ...protocol.timing import NO_PACE, NS_PER_MS, PACE_ADVERTS_A_SECOND, PACE_NEVER, PACES
from ...sentences import PACE_OBEYED, PACE_SAID, PACE_SENT, pace_kept, pace_slowed
from .addresses import beat
from .reports import report
from .state import Carpdev, Instance, RuntimeState
from .timers import schedule
from .transmit import send_advert


def share(runtime: RuntimeState, carpdev: Carpdev, now: int) -> None:
    """All MASTERs of a carpdev that have a pace send PACE_ADVERTS_A_SECOND frames together, at most."""
    masters = [one for one in carpdev.instances.values() if one.plan.host.pace and one.machine.state is State.MASTER]
    least = PACE_NEVER
    for pace in reversed(PACES):
        sent = sum(_frames(one) * NS_PER_SECOND // max(one.plan.host.pace * NS_PER_MS, pace) for one in masters)
        if sent > PACE_ADVERTS_A_SECOND:
            break
        least = pace
    for one in masters:
        one.paced_frames = _frames(one)
        if one.least_pace != least:
            one.least_pace = least
            one.machine.limit_pace(least, now)
            schedule(runtime, one)


def follow(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """An advert was sent or heard. Tell of a pace that is slower than it was to be, and when it is no longer."""
    machine, reported = instance.machine, instance.reported
    if machine.state is State.MASTER and instance.plan.host.pace:
        if instance.paced_frames != _frames(instance):
            share(runtime, instance.carpdev, now)
        wanted, pacing, said = instance.plan.host.pace * NS_PER_MS, machine.pacing, PACES[machine.said_pace]
        if wanted >= instance.plan.host.interval:
            return
        least = next((pace for pace in PACES if pace >= pacing), 0)
        if pacing != wanted:
            what, is_now = PACE_SENT, pacing
        else:
            what, is_now = PACE_SAID, said if said != least else wanted
    elif machine.state is State.BACKUP and machine.heard_pace:
        wanted, is_now, what = machine.usual_silence, machine.silence, PACE_OBEYED
        # A little is no news, nor is a little more.
        if 4 * is_now <= 5 * wanted:
            is_now = wanted
        elif what == reported.slow and is_now < 2 * reported.slow_pace:
            return
    else:
        return
    if is_now == wanted:
        # What it obeyed as BACKUP it obeys again when it is that again.
        if reported.slow and (reported.slow == PACE_OBEYED) == (what == PACE_OBEYED):
            reported.slow = 0
            report(runtime, instance, events.PaceChanged, now, what=pace_kept(what, wanted))
    elif what != reported.slow or is_now != reported.slow_pace:
        reported.slow, reported.slow_pace = what, is_now
        report(runtime, instance, events.PaceChanged, now, what=pace_slowed(what, is_now, wanted))


def pause(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """Another process is to go on: no pace is said or obeyed meanwhile."""
    machine = instance.machine
    if machine.state is State.MASTER and machine.pacing:
        send_advert(runtime, instance, machine.config.advbase, machine.advskew, NO_PACE, now)
        machine.pause_pace(now)
        beat(runtime, instance, now)  # the guardian is to expect the next one as late
    else:
        machine.pause_pace(now)
    schedule(runtime, instance)


def go_on(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """It goes on here."""
    instance.least_pace = instance.paced_frames = 0
    instance.machine.limit_pace(0, now)
    schedule(runtime, instance)


def _frames(instance: Instance) -> int:
    """Of one advert."""
    return len(instance.plan.templates) * len(instance.plan.authenticator.dialects)
