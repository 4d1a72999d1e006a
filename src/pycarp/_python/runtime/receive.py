"""From a frame to the machine.

Thread: runtime.
"""

from __future__ import annotations

from ... import events
from ..._unpatched import time
from ...protocol import Advert, State
from ...protocol.abc import Verdict
from ...protocol.checks import DEAF_HINT, HINTS, LED_HINT, vrrp_advice
from ...protocol.timing import (
    ANNOUNCE_AFTER_RIVAL,
    ANNOUNCEMENTS_AFTER_RIVAL,
    MADE_WAY_WITHIN,
    VRRP_FORGOTTEN,
)
from ...sentences import heard_so
from .actions import carry_out
from .pace import follow as follow_pace
from .peers import note_source
from .reports import report
from .state import KNOWN_PEERS, Carpdev, Instance, RuntimeState, boottime
from .suspicion import makes_way_in_vain, note_rival
from .timers import schedule
from .transmit import leave_to, make_way


def receive(runtime: RuntimeState, carpdev: Carpdev, frame: bytes, now: int) -> None:
    """Check one frame, and show it to the machine that it is for."""
    carpdev.input.wall = time.time_ns() - now
    verdict = carpdev.input.receive(frame, now)
    advert = verdict.advert
    if verdict.vrrp is not None:
        _vrrp(runtime, carpdev.instances.get(verdict.vrrp_router), verdict.vrrp, now)
        return
    if advert is None:
        return
    instance = carpdev.instances.get(advert.vhid)
    if not verdict.counter and verdict.dialect is not None and instance is not None:
        if frame[0] & 1 or not _made_way(instance, advert):
            _valid(runtime, instance, advert, verdict.dialect, now)
    elif verdict.counter == "sibling" and verdict.sibling_of is not None:
        _sibling(runtime, carpdev.instances[verdict.sibling_of], advert, verdict.dialect, now)
    elif verdict.counter == "echo" and instance is not None and (actions := instance.machine.echo(now)):
        carry_out(runtime, instance, actions, now)
    elif verdict.counter in HINTS:
        _rejected(runtime, carpdev, instance, verdict, advert, now)


def _valid(runtime: RuntimeState, instance: Instance, advert: Advert, dialect: str, now: int) -> None:
    suspicion, machine = instance.suspicion, instance.machine
    _note_peer(runtime, instance, advert, dialect, now)
    instance.ownership.least_advbase = min(instance.ownership.least_advbase, advert.advbase)
    suspicion.heard = now
    suspicion.losses, suspicion.delays = instance.carpdev.count_losses(), 0
    was, leaving = machine.state, machine.leaving
    if leaving and _takes_over(runtime, instance, advert, now):
        return
    if was is State.MASTER and not leaving:
        note_rival(runtime, instance, advert, now)
    if makes_way_in_vain(runtime, instance, advert):
        return
    same_for = now - instance.sources[advert.source, advert.vhid].counter_since
    demotion = instance.plan.obeyed(advert, dialect, machine.sent_demotion, same_for)
    pace = instance.plan.pace(advert, dialect)
    arrived = now - instance.carpdev.sockets.age() if pace else now
    actions = machine.receive(advert, advert.source, now, demotion, pace, arrived)
    if was is machine.state is State.MASTER and not leaving:
        _announce_soon(instance, now)
        # It yields to our next advert, and may do so in silence.
        instance.ownership.announcements = max(instance.ownership.announcements, ANNOUNCEMENTS_AFTER_RIVAL)
    carry_out(runtime, instance, actions, now)
    follow_pace(runtime, instance, now)
    if was is State.MASTER and machine.state is State.BACKUP:
        if leaving:
            leave_to(runtime, instance, advert.source_mac)
        else:
            make_way(runtime, instance, advert.source_mac)


def _takes_over(runtime: RuntimeState, instance: Instance, advert: Advert, now: int) -> bool:
    """Whether this is the first advert of one that takes over while we leave: it has not got the addresses yet."""
    if advert.bowout or not instance.plan.virtual or advert.source_mac == instance.plan.mac:
        return False
    instance.ownership.heir = advert.source_mac
    instance.machine.heir(advert.family, advert.source, now)
    schedule(runtime, instance)
    return True


def _made_way(instance: Instance, advert: Advert) -> bool:
    """Whether this is the bow-out of one that yielded to us, while we have yielded to a third."""
    since = boottime() - instance.ownership.advertised
    # What peers send comes by unicast, also the bow-out of the one that we have yielded to.
    from_master = bool(instance.plan.aimed) and advert.source == instance.reported.cause
    return advert.bowout and instance.machine.state is State.BACKUP and since < MADE_WAY_WITHIN and not from_master


def _sibling(runtime: RuntimeState, instance: Instance, advert: Advert, dialect: str | None, now: int) -> None:
    note_source(instance, advert, now).dialects.add(dialect or "")
    if advert.bowout and makes_way_in_vain(runtime, instance, advert):
        return
    owned = instance.ownership.owned
    actions = instance.machine.sibling(advert.vhid, advert, advert.source, now)
    if owned and instance.machine.state is State.MASTER:
        _announce_soon(instance, now)  # its MAC is another: clients may have learned that
    carry_out(runtime, instance, actions, now)


def _announce_soon(instance: Instance, now: int) -> None:
    """The last frames of whoever has to yield may mislead switches and clients."""
    if instance.timers.announce_due is None:
        instance.timers.announce_due = now + ANNOUNCE_AFTER_RIVAL


def _note_peer(runtime: RuntimeState, instance: Instance, advert: Advert, dialect: str, now: int) -> None:
    source, peer = note_source(instance, advert, now), advert.source
    if speaks := instance.plan.authenticator.follow(dialect, now, instance.plan.host.interval):
        report(runtime, instance, events.ChangeStep, now, speaks=speaks, why=heard_so(peer))
    if dialect in source.dialects:
        return
    source.dialects.add(dialect)
    if instance.reported.peers < KNOWN_PEERS:
        instance.reported.peers += 1
        advbase, advskew = advert.advbase, advert.advskew
        report(runtime, instance, events.PeerHeard, now, peer=peer, dialect=dialect, advbase=advbase, advskew=advskew)


def _vrrp(runtime: RuntimeState, instance: Instance | None, peer: str, now: int) -> None:
    """A VRRP router was heard; `instance` is the one that has its number."""
    if instance is None:
        return
    reported = instance.reported
    if now - reported.vrrp_heard > VRRP_FORGOTTEN:
        reported.vrrp.clear()
    reported.vrrp_heard = now
    if peer not in reported.vrrp and len(reported.vrrp) < KNOWN_PEERS:
        reported.vrrp.add(peer)
        advice = vrrp_advice(instance.plan.host.vhid, peer)
        report(runtime, instance, events.VrrpHeard, now, peer=peer, advice=advice)


def _rejected(
    runtime: RuntimeState, carpdev: Carpdev, instance: Instance | None, verdict: Verdict, advert: Advert, now: int
) -> None:
    counter, peer, vhid = verdict.counter, advert.source, advert.vhid
    deaf = instance is not None and bool(instance.plan.aimed) and instance.machine.state is not State.INIT
    if counter == "badvhid" and not deaf and (instance is not None or vhid in runtime.expected):
        return  # the kernel counts so too, but it is ours, and only in INIT; or it comes soon, or has just gone
    if counter == "badif" and verdict.dialect is None:
        return  # not of the group
    if instance is None and any(one.plan.host.led for one in carpdev.instances.values()):
        return  # none here is of a group
    if (counter, peer, vhid) in carpdev.rejected or len(carpdev.rejected) >= KNOWN_PEERS:
        return
    carpdev.rejected.add((counter, peer, vhid))
    name = instance.plan.host.name if instance is not None else ""
    hint = LED_HINT if instance is not None and instance.plan.host.led else HINTS[counter]
    if counter == "badvhid" and deaf:
        hint = DEAF_HINT
    runtime.emit(events.AdvertRejected(vhid=vhid, name=name, at=now, counter=counter, peer=peer, hint=hint))
