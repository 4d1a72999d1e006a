"""Sentences that events have, and the runtimes make.

Thread: any caller
"""

from __future__ import annotations

import os
from collections.abc import Iterable

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from .config import Address

_NOT_ONE_GROUP = (
    "{peer} (claimed) holds the same addresses under vhid {sibling}: these hosts are not in one group; "
    "use one vhid, and advskew 100 on the second"
)
SIBLINGS = {
    "yield": f"{_NOT_ONE_GROUP}. The higher vhid is the owner: this host stands by while it hears vhid {{sibling}}",
    "prefer": f"{_NOT_ONE_GROUP}. The higher vhid is the owner: this host holds them once vhid {{sibling}} lets go",
    "stalemate": f"{_NOT_ONE_GROUP}. It gives way to no other vhid: this host holds none of them while it hears "
    "vhid {sibling}",
    "warn": f"{_NOT_ONE_GROUP}. Nothing is done about it here: siblings is set to warn",
    "several": "{peer} (claimed) holds the same addresses under vhid {sibling}, and others do under yet another vhid: "
    "if this is no ARP balancing, use one vhid. Nothing is done about it here",
}
"""What a `SiblingHeard` advises, by the standing of this host; see `sibling_advice`."""
RULES = {
    "better": "it is the better one, this host yields",
    "tie": "it is as good, this host yields",
    "worse": "this host is the better one and stays",
}
UNITS = {"took": (1e6, "ms"), "pause": (1e9, "s"), "silence": (1e9, "s")}
"""Fields that are ns, and the unit in which a sentence has them."""


def deaf_advice(mac: str, peer: str) -> str:
    """The sentence for a worse rival at `peer` that does not yield; `mac` is the virtual MAC, or "" without one."""
    causes = "a firewall there that drops protocol 112, a switch that filters multicast, a cable that works one way"
    if mac:
        causes = (
            f"a switch or hypervisor that filters the virtual MAC {mac} (port security, forged transmits; "
            f"use mac interface on all hosts), {causes}"
        )
    return f"{peer} stays master beside this host, the better one: it does not hear these adverts; look for {causes}"


def sibling_advice(standing: str, sibling: int, peer: str) -> str:
    """The sentence for a sibling's vhid, and for the address that its advert claimed."""
    return SIBLINGS[standing].format(sibling=sibling, peer=peer)


def order_failed(addresses: Iterable[Address], done: str, error: int) -> str:
    """The `what` of a `Failed`: the guardian could not carry out an order. `done` is a participle."""
    return f"{', '.join(str(one.ip) for one in addresses)} could not be {done}: {os.strerror(error)}"


def not_sent(error: int) -> str:
    """The `what` of a `Failed`: an advert could not be sent."""
    return f"an advert could not be sent: {os.strerror(error)}"


PACE_SENT, PACE_SAID, PACE_OBEYED = 1, 2, 3


def _ms(ns: int) -> str:
    return f"{ns / 1_000_000:.3g} ms" if ns < 10_000_000_000 else "no pace"


def pace_slowed(what: int, now: int, wanted: int) -> str:
    """The `what` of a `PaceChanged`: `now` and `wanted` are ns."""
    if what == PACE_SENT:
        slower = f"sends adverts every {_ms(now)}" if now else "sends none in between"
        return f"its pace of {_ms(wanted)} is too fast for so many virtual hosts on one interface: it {slower}"
    if what == PACE_SAID:
        slower = f"a pace of {_ms(now)}" if now else "none"
        return f"this machine does not keep a pace of {_ms(wanted)}: it says {slower}"
    return f"the master's adverts come irregularly: it takes over after {_ms(now)} of silence, not {_ms(wanted)}"


def pace_kept(what: int, wanted: int) -> str:
    """The `what` of a `PaceChanged` when it is as it was to be."""
    if what == PACE_OBEYED:
        return f"it takes over after {_ms(wanted)} of silence"
    return f"it keeps its pace of {_ms(wanted)}"


NO_GATE = (
    "no gate can be made ({why}): when engine and guardian die at once, the addresses stay until their lifetime ends, "
    "a whole number of seconds and up to 2 s more; a gate needs Linux 5.16 with nf_tables"
)
"""What a `GateUnavailable` says."""

GUARDIAN_DIED = "it died; another is started"
"""The `what` of a `GuardianLost`."""


def no_other_guardian(why: object) -> str:
    """The `what` of a `GuardianLost`."""
    return f"no other can be started ({why}): this host stands back, its addresses go when their lease ends"


def heard_so(peer: str | None) -> str:
    """Why a host signs with another secret, or for another set of addresses, from now on."""
    return f"it follows {peer}"


def changed_at_once(what: str) -> str:
    """What follows where the secret or the addresses changed without a second set."""
    words = "'nextpass'" if what == "secret" else "'joining' and 'leaving'"
    return (
        f"the {what} changed at once: a host with the former {what} does not understand this one, and both are MASTER "
        f"until it has the new {what}, too; {words} would have kept one MASTER"
    )


def shown(name: str, value: object) -> object:
    """A field of an event, as its sentence has it."""
    if name in UNITS and isinstance(value, int):
        divisor, unit = UNITS[name]
        return f"{value / divisor:.1f} {unit}"
    return (", ".join(value) or "no address") if isinstance(value, tuple) else value
