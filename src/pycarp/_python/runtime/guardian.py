"""The guardian's replies, and what to do without a guardian.

Thread: runtime. Starting another guardian takes some milliseconds, in which the loop does nothing else.
"""

from __future__ import annotations

import contextlib

from ... import events
from ..._unpatched import selectors, time
from ...errors import CarpError, EngineError
from ...linux import netlink
from ...linux.guardian_client import Guardian, GuardianGone, Kind, Reply
from ...protocol import Reason, State
from ...protocol.timing import HEIR_ANNOUNCES_AGAIN
from .. import spawn
from ..guardian.protocol import ORDER_NOBODY, REPLY_SUPERSEDED
from .actions import carry_out
from .addresses import lose_guardian, order, report_unleased, retry_later, retry_now
from .reports import report
from .state import Instance, RuntimeState, active
from .suspicion import stalled
from .tenure import begin
from .timers import schedule
from .transmit import announce, send_advert


def meet_guardian(runtime: RuntimeState, guardian: Guardian) -> None:
    """From now on this one gets the orders."""
    runtime.guardian.process = guardian
    runtime.selector.register(guardian, selectors.EVENT_READ, guardian)


def entrust(runtime: RuntimeState, instance: Instance) -> None:
    """Give the guardian what it needs to take, renew and drop, and the bow-outs that it sends if we no longer can."""
    guardian, send = runtime.guardian.process, instance.carpdev.sockets.send
    if guardian is None or instance.lock is None or send.fileno() < 0:
        return  # done when there is a guardian, or a carpdev, again
    try:
        guardian.add(instance.index, instance.device, instance.plan.bowouts, send, instance.lock)
    except GuardianGone:
        lose_guardian(runtime)


def collect(runtime: RuntimeState) -> None:
    """Take up what the guardian has done, or could not do."""
    link = runtime.guardian
    if link.process is None:
        return
    try:
        replies = link.process.replies()
    except GuardianGone:
        lose_guardian(runtime)
        return
    for reply in replies:
        if reply.number == ORDER_NOBODY:
            link.asked = 0
            continue
        instance = runtime.instances.get(reply.index)
        if reply.kind in (Kind.TAKE, Kind.DROP):
            if instance is not None:
                instance.ownership.unanswered = max(0, instance.ownership.unanswered - 1)
                if not reply.flags & REPLY_SUPERSEDED:
                    _carried_out(runtime, instance, reply)
        elif reply.kind is Kind.RELEASED:
            if instance is not None:
                instance.released = instance.frozen
                stalled(runtime, instance, released=True)
        elif reply.number in link.answers:
            link.answers.pop(reply.number).set_result(reply)
        elif reply.error and instance is not None:
            what = "entrusted to the guardian" if reply.kind is Kind.ADD else "renewed"
            _report_failed_order(runtime, instance, what, reply)


def _carried_out(runtime: RuntimeState, instance: Instance, reply: Reply) -> None:
    ownership = instance.ownership
    take = reply.kind is Kind.TAKE
    if take and ownership.inherits and not reply.error:
        _inherited(runtime, instance)
    if reply.error:
        _report_failed_order(runtime, instance, "taken" if take else "dropped", reply)
        if take and instance.machine.state is State.MASTER:
            # Bow out, so that another host may take them.
            now = time.monotonic_ns()
            carry_out(runtime, instance, instance.machine.stop(now), now)
            retry_later(runtime, instance, now)
        return
    # A reply to an order before the latest one says nothing about what was decided since.
    latest = not ownership.unanswered and ownership.unsent is None
    decided = ownership.decided if latest and ownership.decided is not None else reply.started
    if take:
        ownership.retry_delay = 0
        if latest and ownership.decided is not None:
            runtime.takeover.count(reply.finished - decided)
    if latest:
        ownership.decided = None
    if reply.number:
        return  # another guardian has taken once more what was here already
    if take:
        report_unleased(runtime, instance, reply.finished)
    kind = events.AddressesTaken if take else events.AddressesDropped
    texts = instance.plan.host.address_texts
    report(runtime, instance, kind, reply.finished, addresses=texts, took=reply.finished - decided)


def _inherited(runtime: RuntimeState, instance: Instance) -> None:
    """What came from one that bowed out is here: only now switches and clients learn of it, and the other one drops."""
    machine, now = instance.machine, time.monotonic_ns()
    instance.ownership.inherits = False
    announce(instance)
    send_advert(runtime, instance, instance.plan.host.advbase, machine.advskew, machine.said_pace, now)
    instance.timers.announce_due = now + HEIR_ANNOUNCES_AGAIN
    schedule(runtime, instance)


def _report_failed_order(runtime: RuntimeState, instance: Instance, what: str, reply: Reply) -> None:
    text = events.order_failed(instance.plan.host.addresses, what, reply.error)
    report(runtime, instance, events.Failed, reply.finished or time.monotonic_ns(), what=text)


def replace_guardian(runtime: RuntimeState) -> bool:
    """Start another guardian. It knows what is to be taken, renewed and dropped, but not what is here."""
    link = runtime.guardian
    link.lost = False
    try:
        meet_guardian(runtime, Guardian(runtime.lifeline, runtime.realtime, spawn))
        for instance in list(runtime.instances.values()):
            entrust(runtime, instance)
        if link.process is None:
            raise EngineError("the new one died at once")
    except (CarpError, OSError) as error:
        lose_guardian(runtime)
        link.lost = False
        hand_over(runtime, str(error), time.monotonic_ns())
        return False
    now = time.monotonic_ns()
    for instance in list(runtime.instances.values()):
        ownership = instance.ownership
        dropping = bool(ownership.unanswered) or ownership.unsent is Kind.DROP
        ownership.unanswered = 0
        if ownership.owned:
            order(runtime, instance, Kind.TAKE, now, again=ownership.decided is None)
        elif dropping:
            order(runtime, instance, Kind.DROP, now)
        retry_now(runtime, instance, now)
    report(runtime, None, events.GuardianReplaced, now)
    return True


def hand_over(runtime: RuntimeState, why: str, now: int) -> None:
    """No guardian can be had: no address may stay that nobody could drop.

    Without a bow-out: the addresses stay until their lease ends, and other hosts wait longer than that.
    """
    report(runtime, None, events.GuardianLost, now, what=events.no_other_guardian(why))
    for instance in active(runtime):
        carry_out(runtime, instance, instance.machine.retire(Reason.HANDED_OVER, False, now), now)
        carry_out(runtime, instance, instance.machine.stop(now), now)
        # The next guardian drops first. Where this process still may, it drops them itself.
        instance.ownership.unanswered, instance.ownership.unsent = 0, Kind.DROP
        if instance.wanted:
            retry_later(runtime, instance, now)
        with contextlib.suppress(OSError), netlink.RouteSocket() as route:
            route.execute(instance.device.drop)
    runtime.guardian.unsent = False


def retry(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """An instance that could not take its addresses stands by again, if there is a guardian."""
    instance.timers.retry_due = None
    if runtime.guardian.process is not None or replace_guardian(runtime):
        begin(runtime, instance, now)
