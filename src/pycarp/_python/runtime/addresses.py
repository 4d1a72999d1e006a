"""Take, renew and drop: the orders to the guardian, and how long addresses live.

Thread: runtime.
"""

from __future__ import annotations

import contextlib

from ... import events
from ..._unpatched import time
from ...errors import NO_GUARDIAN, EngineError
from ...linux.guardian_client import GuardianGone, Kind
from ...protocol import NS_PER_SECOND, timing
from ..guardian.protocol import ORDER_NOBODY
from .reports import report
from .state import Instance, RuntimeState, boottime
from .timers import schedule


def order(runtime: RuntimeState, instance: Instance, kind: Kind, now: int, again: bool = False) -> None:
    """Order a take, a renewal, a drop or a beat.

    A take or drop that finds no room is sent later: an order that got lost could leave an address behind.
    """
    ownership = instance.ownership
    advbase = instance.plan.host.advbase
    late_allowance = max(advbase * NS_PER_SECOND // 2, timing.LATE_ALLOWANCE_PYTHON)
    pacing = instance.machine.pacing
    if pacing:
        late_allowance = timing.LATE_ALLOWANCE_ORDINARY
    next_beat = timing.beats(instance.machine.interval, pacing) + late_allowance
    if instance.tenure and instance.tenure != timing.TENURE_FOREVER:
        next_beat = max(0, instance.tenure - boottime() - timing.GATE_SHUTS_BEFORE)
        choose_lease(instance)
    sent = send_order(
        runtime,
        kind,
        instance.index,
        at=now,
        boot=boottime(),
        lease=ownership.lease,
        next_beat_ms=-(-next_beat // 1_000_000),
        takeover_after_ms=takeover_after(instance) // 1_000_000,
        number=int(again),
    )
    if kind in (Kind.TAKE, Kind.DROP):
        ownership.unanswered += sent
        ownership.unsent = None if sent else kind
        runtime.guardian.unsent = runtime.guardian.unsent or not sent


def send_unsent_orders(runtime: RuntimeState) -> None:
    """Once more, those that found no room."""
    runtime.guardian.unsent = False
    for instance in list(runtime.instances.values()):
        if instance.ownership.unsent is not None:
            order(runtime, instance, instance.ownership.unsent, time.monotonic_ns())


def take(runtime: RuntimeState, instance: Instance, now: int, quiet: bool = False) -> None:
    """The addresses are to be here. `quiet`: they are, and no event follows, unless one is still to come."""
    ownership = instance.ownership
    if quiet and ownership.owned and not ownership.unanswered and ownership.unsent is None:
        order(runtime, instance, Kind.TAKE, now, again=True)
        return
    if not ownership.owned:
        ownership.announcements = instance.plan.host.announcements - 1
    ownership.owned = True
    ownership.decided = now
    choose_lease(instance)
    order(runtime, instance, Kind.TAKE, now)


def drop(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """The addresses are to go."""
    instance.timers.take_due = None
    instance.ownership.inherits = False
    instance.ownership.owned = False
    instance.ownership.decided = now
    order(runtime, instance, Kind.DROP, now)


def beat(runtime: RuntimeState, instance: Instance, now: int, between: bool = False) -> None:
    """An advert was due: the guardian hears that we live; if the advert was sent, the lease goes on. Of those between
    those of the interval, it hears now and then."""
    ownership = instance.ownership
    ownership.advertised = boottime()
    if not ownership.owned or (between and now - ownership.beaten < timing.PACE_BEAT):
        return
    ownership.beaten = now
    ask_whether_it_hangs(runtime, now)
    choose_lease(instance)
    report_unleased(runtime, instance, now)
    # A lifetime lasts until the next advert of the interval; to renew it keeps RTNL.
    only_beat = instance.failing or (between and instance.device.gate is None)
    order(runtime, instance, Kind.BEAT if only_beat else Kind.RENEW, now)


def least_advbase(instance: Instance) -> int:
    """The smallest advbase of the group, as far as it was heard."""
    return min(instance.ownership.least_advbase, instance.plan.host.advbase)


def takeover_after(instance: Instance) -> int:
    """After this many ns of our silence another host of the group may have taken over."""
    return timing.takeover_after(least_advbase(instance), instance.plan.host.advskew, instance.plan.host.missed)


def choose_lease(instance: Instance) -> None:
    """How long the addresses live, or the gate is open, without a renewal."""
    ownership, interval = instance.ownership, instance.machine.interval
    lease: int | None
    if instance.tenure and instance.tenure != timing.TENURE_FOREVER:
        lease, otherwise = timing.tenure_lease(instance.tenure - boottime(), instance.device.gate is not None), 0
    elif instance.device.gate is None:
        lease, otherwise = (
            timing.lease(interval, least_advbase(instance), instance.plan.host.missed),
            timing.LEASE_FOREVER,
        )
    else:
        lease, otherwise = timing.gate(interval, takeover_after(instance)), timing.gate_without_room(interval)
    ownership.outlived = lease is None
    ownership.lease = otherwise if lease is None else lease
    if instance.machine.pacing and not instance.tenure:
        ownership.outlived = True
        if instance.device.gate is not None:
            beats = timing.beats(interval, instance.machine.pacing)
            ownership.lease = min(ownership.lease, timing.gate_without_room(beats))


def lease_ends_after(instance: Instance) -> int:
    """After this many ns of our silence the lease is over."""
    return instance.ownership.lease * (NS_PER_SECOND if instance.device.gate is None else 1_000_000)


def report_unleased(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """A lease that does not end in time is reported, once."""
    if instance.ownership.outlived and not instance.reported.unleased:
        instance.reported.unleased = True
        interval = instance.machine.interval
        if instance.machine.pacing:
            ends = min(lease_ends_after(instance), timing.TENURE_FOREVER)
            why = timing.paced_lease(instance.machine.pacing, min(instance.plan.host.missed, 3), ends)
        elif instance.device.gate is None:
            why = timing.no_lease(interval, least_advbase(instance))
        else:
            why = timing.no_gate(interval, takeover_after(instance))
        report(runtime, instance, events.LeaseUnavailable, now, why=why)


def retry_later(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """The instance, which is in INIT, stands by again after a while."""
    ownership = instance.ownership
    ownership.retry_delay = min(max(2 * ownership.retry_delay, timing.RETRY_FIRST), timing.RETRY_LAST)
    instance.timers.retry_due = now + ownership.retry_delay
    schedule(runtime, instance)


def retry_now(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """Something has changed: a take that failed may succeed."""
    if instance.timers.retry_due is not None:
        instance.timers.retry_due = now
        schedule(runtime, instance)


# The socket


def send_order(runtime: RuntimeState, kind: Kind, index: int, **fields: int) -> bool:
    """Send an order, without waiting; False if there was no room, or no guardian."""
    guardian = runtime.guardian.process
    if guardian is None:
        return False
    try:
        return guardian.order(kind, index, **fields)
    except GuardianGone:
        lose_guardian(runtime)
        return False


def ask_whether_it_hangs(runtime: RuntimeState, now: int) -> None:
    """Ask what is answered at once: a guardian that hangs renews nothing, and says nothing."""
    link = runtime.guardian
    if link.asked and now - link.asked > timing.GUARDIAN_ANSWERS_WITHIN and link.process is not None:
        link.process.kill()
        lose_guardian(runtime)
    elif not link.asked and send_order(runtime, Kind.FORGET, ORDER_NOBODY, number=ORDER_NOBODY):
        link.asked = now


def lose_guardian(runtime: RuntimeState) -> None:
    """It has ended: another one is to be started."""
    link = runtime.guardian
    guardian, link.process = link.process, None
    link.asked = 0
    if guardian is None:
        return
    link.lost = True
    with contextlib.suppress(KeyError, ValueError):
        runtime.selector.unregister(guardian)
    guardian.close(0)
    for answer in link.answers.values():
        answer.set_exception(EngineError(NO_GUARDIAN))
    link.answers.clear()
    report(runtime, None, events.GuardianLost, time.monotonic_ns(), what=events.GUARDIAN_DIED)
