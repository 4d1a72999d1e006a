"""The agenda: what machines want done, and in what order.

A machine asks for actions, and an action can cause more: an advert that cannot be sent demotes all instances, and each
that is demoted advertises. What an action causes is done next, before the rest of its list. Demotions wait for each
other: each reaches every instance before the next one begins. Nothing here calls itself, however many instances there
are.

Thread: runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

from ... import events, protocol
from ..._unpatched import time
from ...protocol import Action, Drop, Reason, SiblingFound, State, Take, Transition
from ...protocol.timing import BOWOUT_AFTER_DROP, DEMOTION_REPORTED_AFTER, TAKE_AFTER_DEPOSING
from . import addresses
from .pace import follow as follow_pace
from .pace import share
from .reports import report
from .state import Demotion, Instance, Item, RuntimeState, active, boottime
from .timers import schedule
from .transmit import announce, send_advert


def carry_out(runtime: RuntimeState, instance: Instance, actions: Sequence[Action], now: int) -> None:
    """Do what a machine wants done, and what comes of it."""
    put(runtime, instance, actions, now)
    drain(runtime, now)


def put(runtime: RuntimeState, instance: Instance, actions: Sequence[Action], now: int) -> None:
    """Put a list of actions on the agenda: its first one is the next to be done."""
    if not actions:
        schedule(runtime, instance)
        return
    if any(isinstance(action, Take) for action in actions):
        if any(_deposes(action) for action in actions):
            instance.timers.take_due = now + TAKE_AFTER_DEPOSING
        instance.ownership.inherits = instance.plan.virtual and any(_inherits(action) for action in actions)
    items = []
    dropped = False
    for action in actions:
        items.append(Item(instance, action, dropped))
        dropped = dropped or isinstance(action, Drop)
    items[-1].last = True
    runtime.agenda.items.extend(reversed(items))


def drain(runtime: RuntimeState, now: int) -> None:
    """Do what is on the agenda, until it is empty."""
    agenda = runtime.agenda
    while True:
        if len(agenda.items) > agenda.floor:
            item = agenda.items.pop()
            _do(runtime, item, now)
            if item.last:
                schedule(runtime, item.instance)
        elif agenda.demotions:
            _demote_next(runtime, now)
        else:
            return


def demote_others(runtime: RuntimeState, by: int, cause: Instance | None) -> None:
    """Put on the agenda: demote all instances but the one that has counted it for itself."""
    agenda = runtime.agenda
    if by == 0:
        return
    if not agenda.demotions:
        agenda.floor = len(agenda.items)
    waiting = next((one for one in list(agenda.demotions)[1:] if one.cause is cause), None)
    if waiting is None:
        agenda.demotions.append(Demotion(by, cause))
    else:
        waiting.by += by


def _demote_next(runtime: RuntimeState, now: int) -> None:
    """Demote one instance more, or end this demotion."""
    agenda = runtime.agenda
    demotion = agenda.demotions[0]
    if demotion.others is None:
        runtime.demotion = max(0, runtime.demotion + demotion.by)
        demotion.others = iter([one for one in active(runtime) if one is not demotion.cause])
    instance = next(demotion.others, None)
    if instance is not None:
        put(runtime, instance, instance.machine.demote(demotion.by, now), now)
        return
    agenda.demotions.popleft()
    if not agenda.demotions:
        agenda.floor = 0
        if runtime.demotions_due is None:
            runtime.demotions_due = now + DEMOTION_REPORTED_AFTER


def _do(runtime: RuntimeState, item: Item, now: int) -> None:
    instance = item.instance
    match item.action:
        case protocol.SendAdvert(advbase=advbase, advskew=advskew, pace=pace, between=between):
            if item.after_drop:
                time.sleep(BOWOUT_AFTER_DROP / 1e9)
            sent = send_advert(runtime, instance, advbase, advskew, pace, now)
            # One that bows out as MASTER goes on until another has the addresses.
            if instance.machine.state is State.MASTER:
                addresses.beat(runtime, instance, now, between)
            if between:
                return
            follow_pace(runtime, instance, now)
            if instance.machine.state is not State.INIT:
                put(runtime, instance, instance.machine.sent(sent, now), now)
        case protocol.Announce() | Take() if instance.timers.take_due is not None:
            pass
        case protocol.Announce() if instance.ownership.inherits:
            pass
        case protocol.Announce():
            announce(instance)
        case Take():
            addresses.take(runtime, instance, now)
        case Drop():
            addresses.drop(runtime, instance, now)
        case Transition() as transition:
            _transition(runtime, instance, transition)
        case protocol.Suppress() if instance.plan.host.led:
            pass
        case protocol.Suppress(by=by):
            demote_others(runtime, by, instance)
        case protocol.FamilySilent(family=family):
            report(runtime, instance, events.FamilySilent, now, family=family)
        case SiblingFound() as found:
            _report_sibling(runtime, instance, found, now)


def _transition(runtime: RuntimeState, instance: Instance, transition: Transition) -> None:
    instance.carpdev.input.set_state(instance.plan.host.vhid, transition.after)
    instance.reported.rivals.clear()
    instance.suspicion.rival_heard = 0
    if transition.after is State.MASTER:
        instance.ownership.advertised = boottime()
    if instance.plan.host.pace:
        share(runtime, instance.carpdev, transition.at)
    before = transition.before
    if instance.plan.host.led:
        # It is MASTER or INIT, and BACKUP only on its way.
        if transition.after is State.BACKUP:
            return
        before = State.INIT if transition.after is State.MASTER else State.MASTER
    reported = instance.reported
    reported.since, reported.why, reported.cause = transition.at, transition.reason, transition.peer
    report(
        runtime,
        instance,
        events.StateChanged,
        transition.at,
        before=before,
        after=transition.after,
        reason=transition.reason,
        peer=transition.peer,
    )


def _report_sibling(runtime: RuntimeState, instance: Instance, found: SiblingFound, now: int) -> None:
    peer = found.peer or ""
    report(
        runtime,
        instance,
        events.SiblingHeard,
        now,
        sibling=found.vhid,
        peer=peer,
        standing=found.standing,
        advice=events.sibling_advice(found.standing, found.vhid, peer),
    )


def _inherits(action: Action) -> bool:
    """Whether it makes us MASTER in the place of one that made way."""
    return isinstance(action, Transition) and action.after is State.MASTER and action.reason is Reason.BOWOUT


def _deposes(action: Action) -> bool:
    """Whether it makes us MASTER in the place of one that lives."""
    return (
        isinstance(action, Transition)
        and action.after is State.MASTER
        and action.reason in (Reason.PREEMPT, Reason.TOO_SLOW, Reason.DEMOTED)
    )
