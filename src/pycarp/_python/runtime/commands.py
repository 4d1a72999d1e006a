"""What other threads ask of the loop, by the methods of `Runtime`: one function for each.

Thread: runtime. `handle` posts them; the loop calls them between two frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from ... import _impl
from ..._unpatched import selectors
from ...config import Address
from ...engine.mailbox import Outcome
from ...engine.plan import Plan
from ...engine.snapshot import Reading
from ...errors import NO_GUARDIAN, EngineError
from ...linux.device import Device
from ...linux.guardian_client import Kind, Reply
from ...linux.lock import VirtualHostLock
from ...linux.sockets import Sockets, no_sockets
from ...protocol import NS_PER_SECOND, State
from ...protocol.timing import ANNOUNCE_AFTER_DEFENCE, ANNOUNCEMENTS_AFTER_RIVAL, LEASE_FOREVER
from ...stats import Measures, Stats
from . import bequest, guardian, pace, tenure
from .actions import carry_out, demote_others, drain
from .addresses import retry_now, send_order, take
from .peers import peer_objects
from .reports import report_demotions
from .state import Carpdev, Instance, Ownership, RuntimeState, active
from .transmit import announce

# Carpdevs


def add_carpdev(
    runtime: RuntimeState,
    now: int,
    number: int,
    sockets: Sockets,
    mac: bytes,
    addresses: Iterable[Address],
    allow: bool,
) -> None:
    checks = _impl.current.input.Input()
    checks.allow = allow
    checks.set_carpdev(mac, addresses)
    runtime.carpdevs[number] = carpdev = Carpdev(sockets, checks, mac)
    runtime.selector.register(sockets.receive, selectors.EVENT_READ, carpdev)


def update_carpdev(runtime: RuntimeState, now: int, number: int, mac: bytes, addresses: Iterable[Address]) -> None:
    carpdev = runtime.carpdevs[number]
    carpdev.mac = mac
    carpdev.input.set_carpdev(mac, addresses)


def remove_carpdev(runtime: RuntimeState, now: int, number: int) -> None:
    gone = runtime.carpdevs.pop(number)
    with contextlib.suppress(KeyError, ValueError):
        runtime.selector.unregister(gone.sockets.receive)
    gone.sockets.close()


# Instances


def add_instance(
    runtime: RuntimeState, now: int, index: int, carpdev: int, plan: Plan, device: Device, lock: VirtualHostLock | None
) -> None:
    machine = _impl.current.machine.Machine(plan.host)
    machine.demote(runtime.demotion, now)
    machine.stand_aside(runtime.aside)
    ownership = Ownership(plan.host.advbase)
    place = runtime.carpdevs.get(carpdev) if lock is not None else Carpdev(no_sockets(), _impl.current.input.Input())
    if place is None:
        raise KeyError(carpdev)
    instance = Instance(index, plan, machine, place, device, lock, ownership)
    instance.reported.demotion = runtime.demotion
    instance.reported.since = now
    guardian.entrust(runtime, instance)
    runtime.instances[index] = instance
    _join(instance)


def move_instance(
    runtime: RuntimeState, instance: Instance, now: int, carpdev: int, plan: Plan, device: Device, lock: VirtualHostLock
) -> None:
    _leave(instance)
    instance.carpdev, instance.plan, instance.device, instance.lock = runtime.carpdevs[carpdev], plan, device, lock
    guardian.entrust(runtime, instance)
    _join(instance)


def remove_instance(runtime: RuntimeState, instance: Instance, now: int) -> None:
    _leave(instance)
    del runtime.instances[instance.index]


def replan(
    runtime: RuntimeState,
    instance: Instance,
    now: int,
    plan: Plan,
    device: Device,
    lock: VirtualHostLock | None,
    entrust: bool,
) -> None:
    changed = plan.host != instance.plan.host
    former = instance.plan, instance.device, instance.lock
    instance.plan, instance.device, instance.lock = plan, device, lock or instance.lock
    try:
        if entrust:
            guardian.entrust(runtime, instance)
    except BaseException:
        instance.plan, instance.device, instance.lock = former
        raise
    _join(instance)
    if changed:
        retry_now(runtime, instance, now)
        carry_out(runtime, instance, instance.machine.reconfigure(plan.host, now), now)
        pace.share(runtime, instance.carpdev, now)


def freeze(runtime: RuntimeState, instance: Instance, now: int, margin: int) -> dict[str, Any] | None:
    return bequest.freeze(runtime, instance, now, margin)


def thaw(runtime: RuntimeState, instance: Instance, now: int) -> None:
    _join(instance)
    bequest.thaw(runtime, instance, now)


def inherit(runtime: RuntimeState, instance: Instance, now: int, values: dict[str, Any], until: int) -> bool:
    return bequest.inherit(runtime, instance, now, values, until)


def start_instance(runtime: RuntimeState, instance: Instance, now: int) -> None:
    instance.timers.retry_due = None
    instance.wanted = True
    tenure.begin(runtime, instance, now)
    if instance.plan.host.state is not None:
        carry_out(runtime, instance, instance.machine.force(instance.plan.host.state, now), now)


def stop_instance(runtime: RuntimeState, instance: Instance, now: int) -> None:
    instance.timers.retry_due = None
    instance.wanted = False
    instance.tenure, instance.timers.tenure_due = 0, None
    carry_out(runtime, instance, instance.machine.stop(now), now)


def stop_all(runtime: RuntimeState, now: int) -> None:
    for instance in active(runtime):
        stop_instance(runtime, instance, now)


def link(runtime: RuntimeState, instance: Instance, now: int, up: bool) -> None:
    carry_out(runtime, instance, instance.machine.link(up, now), now)
    tenure.follow(runtime, instance, now)


def hold(runtime: RuntimeState, instance: Instance, now: int, until: int) -> None:
    tenure.hold(runtime, instance, now, until)


def extend(runtime: RuntimeState, instance: Instance, now: int, until: int) -> bool:
    return tenure.extend(runtime, instance, now, until)


def force(runtime: RuntimeState, instance: Instance, now: int, state: State) -> None:
    carry_out(runtime, instance, instance.machine.force(state, now), now)


def give_way(runtime: RuntimeState, instance: Instance, now: int) -> None:
    if not instance.machine.leaving:  # else one may be taking them already
        instance.ownership.heir = b""
    carry_out(runtime, instance, instance.machine.leave(now), now)


def retake(runtime: RuntimeState, instance: Instance, now: int, quiet: bool) -> None:
    retry_now(runtime, instance, now)
    # Without adverts that are sent, a lease ends as it should.
    if announce_again(runtime, instance, now) and not instance.failing:
        take(runtime, instance, now, quiet)


def announce_again(runtime: RuntimeState, instance: Instance, now: int) -> bool:
    if instance.ownership.owned:
        announce(instance)
    return instance.ownership.owned


def defend(runtime: RuntimeState, instance: Instance, now: int) -> None:
    ownership, timers = instance.ownership, instance.timers
    if not ownership.owned or timers.take_due is not None:
        return
    # Who yields to that advert removes the addresses some ms later, and answers until then.
    timers.announce_due = now + ANNOUNCE_AFTER_DEFENCE
    ownership.announcements = max(ownership.announcements, ANNOUNCEMENTS_AFTER_RIVAL)
    carry_out(runtime, instance, instance.machine.defend(now), now)


def refuse(runtime: RuntimeState, instance: Instance, now: int, until: int) -> None:
    instance.suspicion.refused_until = until


def stats(runtime: RuntimeState, instance: Instance, now: int) -> Stats:
    return instance.carpdev.input.stats(instance.plan.host.vhid)


def look(runtime: RuntimeState, instance: Instance, now: int) -> Reading:
    """A copy of all that is known of it."""
    machine, ownership, reported = instance.machine, instance.ownership, instance.reported
    unit = NS_PER_SECOND if instance.device.gate is None else 1_000_000
    return Reading(
        state=machine.state,
        since=reported.since,
        why=reported.why,
        cause=reported.cause,
        owns=ownership.owned,
        lease=None if ownership.lease == LEASE_FOREVER else ownership.lease * unit,
        failing=instance.failing,
        demotion=machine.demotion,
        link_demotes=machine.link_demotes,
        sending_demotes=machine.sending_demotes,
        advskew=machine.advskew,
        due=machine.deadline,
        late=instance.late,
        handed_over=machine.stands_back,
        leaving=machine.leaving,
        refused_until=instance.suspicion.refused_until,
        peers=peer_objects(instance),
        counters=stats(runtime, instance, now),
    )


def _join(instance: Instance) -> None:
    """Show the input path of its carpdev what the instance is."""
    plan, carpdev = instance.plan, instance.carpdev
    carpdev.instances[plan.host.vhid] = instance
    vhid, siblings = plan.host.vhid, not plan.host.led
    carpdev.input.set_instance(vhid, plan.authenticator, plan.mac, plan.packed, siblings, plan.hearing)
    carpdev.input.set_state(plan.host.vhid, instance.machine.state)


def _leave(instance: Instance) -> None:
    vhid = instance.plan.host.vhid
    if instance.carpdev.instances.pop(vhid, None) is not None:
        instance.carpdev.input.remove_instance(vhid)


# All of it


def demote(runtime: RuntimeState, now: int, by: int) -> int:
    if not -(1 << 31) <= by < 1 << 31:
        raise OverflowError(f"demotion by {by} does not fit 32 bits")
    applied = max(by, -runtime.demotion)
    demote_others(runtime, applied, None)
    drain(runtime, now)
    if applied and runtime.demotions_due is not None:
        # Whoever asked for it is told at once.
        runtime.demotions_due = now
        report_demotions(runtime)
    return runtime.demotion


def demote_one(runtime: RuntimeState, instance: Instance, now: int, by: int) -> int:
    carry_out(runtime, instance, instance.machine.demote(by, now), now)
    runtime.demotions_due = now
    report_demotions(runtime)
    return instance.machine.demotion


def stand_aside(runtime: RuntimeState, now: int, aside: bool) -> None:
    runtime.aside = aside
    for instance in runtime.instances.values():
        instance.machine.stand_aside(aside or instance.aside)


def stand_one_aside(runtime: RuntimeState, instance: Instance, now: int, aside: bool) -> None:
    instance.aside = aside
    instance.machine.stand_aside(aside or runtime.aside)


def watch(runtime: RuntimeState, now: int, limit: int) -> None:
    runtime.watchdog.limit, runtime.watchdog.fed = limit, now


def measures(runtime: RuntimeState, now: int) -> Measures:
    losses = sum(carpdev.count_losses() for carpdev in runtime.carpdevs.values())
    return Measures(False, losses, runtime.wakeup.counts, runtime.sending.counts, runtime.takeover.counts)


def close(runtime: RuntimeState, now: int) -> None:
    runtime.closing = True


# The guardian


def orders_done(runtime: RuntimeState, now: int, index: int | None) -> bool:
    """Whether the orders of one instance, or of all, are carried out, or nobody is there to do so."""
    instances = runtime.instances.values() if index is None else [runtime.instances[index]]
    open_orders = any(one.ownership.unanswered or one.ownership.unsent is not None for one in instances)
    nobody = runtime.guardian.process is None and not runtime.guardian.lost
    return nobody or not open_orders


def ask(runtime: RuntimeState, now: int, kind: Kind, index: int, answer: Outcome[Reply]) -> None:
    """Send an order that the guardian answers in its own time."""
    number = next(runtime.guardian.numbers)
    if not send_order(runtime, kind, index, number=number):
        raise EngineError(NO_GUARDIAN)
    runtime.guardian.answers[number] = answer
