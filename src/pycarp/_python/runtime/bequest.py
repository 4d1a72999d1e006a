"""From process to process: an instance is frozen here, goes on in another process's runtime, and is handed on.

While it is frozen it sends nothing and hears nothing, and its guardian waits for its next sign of life as ever: if
nothing more comes of it, the addresses go.

Thread: runtime.
"""

from __future__ import annotations

from typing import Any

from ...linux.guardian_client import Kind
from ...protocol import Reason
from . import addresses, pace
from .state import Instance, RuntimeState, Source
from .suspicion import look_at_silence, stalled
from .timers import schedule


def freeze(runtime: RuntimeState, instance: Instance, now: int, margin: int) -> dict[str, Any] | None:
    """What the instance leaves; None where this is no moment for it: it is due in less than `margin` ns and a third of
    its interval, or an order or a hand-over to another host is under way."""
    ownership, timers = instance.ownership, instance.timers
    pace.pause(runtime, instance, now)
    margin = min(margin, instance.machine.interval // 3)
    waits = ownership.unanswered or ownership.unsent is not None or timers.take_due is not None
    waits = waits or instance.machine.leaving or ownership.inherits
    waits = waits or not instance.wanted or timers.retry_due is not None
    if waits or (timers.due is not None and timers.due - now < margin):
        pace.go_on(runtime, instance, now)
        return None
    instance.frozen = True
    instance.carpdev.instances.pop(instance.plan.host.vhid, None)
    instance.carpdev.input.remove_instance(instance.plan.host.vhid)
    timers.due = None
    suspicion, reported = instance.suspicion, instance.reported
    return {
        "machine": instance.machine.bequest(),
        "auth": instance.plan.authenticator.bequest(),
        "clock": runtime.ahead,
        "owned": ownership.owned,
        "lease": ownership.lease,
        "outlived": ownership.outlived,
        "least_advbase": ownership.least_advbase,
        "advertised": ownership.advertised,
        "announcements": ownership.announcements,
        "announced": ownership.announced,
        "announce_due": timers.announce_due,
        "failing": instance.failing,
        "heard": suspicion.heard,
        "refused_until": suspicion.refused_until,
        "rival_since": suspicion.rival_since,
        "rival_heard": suspicion.rival_heard,
        "deaf": reported.deaf,
        "unleased": reported.unleased,
        "since": reported.since,
        "why": None if reported.why is None else str(reported.why),
        "cause": reported.cause,
        "sources": [_of_source(*key, source) for key, source in instance.sources.items()],
    }


def thaw(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """Go on here after all."""
    pace.go_on(runtime, instance, now)
    instance.frozen = False
    if instance.released:
        stalled(runtime, instance, released=True)
    look_at_silence(runtime, instance)
    instance.released = False
    schedule(runtime, instance)


def inherit(runtime: RuntimeState, instance: Instance, now: int, values: dict[str, Any], until: int) -> bool:
    """Go on from what another process's instance left; false where it is later than `until`, and nothing is done."""
    if now >= until:
        return False
    instance.machine.inherit(values["machine"])
    pace.go_on(runtime, instance, now)
    instance.plan.authenticator.inherit(values["auth"])
    runtime.demotion = instance.reported.demotion = instance.machine.demotion
    runtime.ahead = max(runtime.ahead, values.get("clock", 0))
    instance.wanted, instance.failing = True, values["failing"]
    ownership = instance.ownership
    for name in ("lease", "outlived", "least_advbase", "advertised", "announcements", "announced", "owned"):
        setattr(ownership, name, values[name])
    instance.timers.announce_due = values["announce_due"]
    for name in ("heard", "refused_until", "rival_since", "rival_heard"):
        setattr(instance.suspicion, name, values[name])
    instance.suspicion.losses = instance.carpdev.count_losses()
    reported = instance.reported
    reported.deaf, reported.unleased = values["deaf"], values["unleased"]
    reported.since, reported.cause = values["since"], values["cause"]
    reported.why = None if values["why"] is None else Reason(values["why"])
    instance.sources = {(one[0], one[1]): _to_source(*one[2:]) for one in values["sources"]}
    reported.peers = sum(len(one.dialects) for one in instance.sources.values())
    instance.carpdev.input.set_state(instance.plan.host.vhid, instance.machine.state)
    if ownership.owned:
        # They are here already: no event follows.
        addresses.order(runtime, instance, Kind.TAKE, now, again=True)
    schedule(runtime, instance)
    return True


def _of_source(address: str, vhid: int, source: Source) -> list[Any]:
    mac, dialects = source.mac.hex(), sorted(source.dialects)
    return [address, vhid, source.heard, source.count, source.advbase, source.advskew, dialects, mac]


def _to_source(heard: int, count: int, advbase: int, advskew: int, dialects: list[str], mac: str) -> Source:
    return Source(heard, count, advbase, advskew, set(dialects), bytes.fromhex(mac))
