"""What of this host keeps virtual hosts from working, or will: each finding with its sentence and its remedy.

Nothing is changed, and nothing is sent on a link. What may not be looked at is a finding of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...config import VirtualHost
from . import addresses, firewall, links, others, peers, settings, system
from .kinds import KINDS, Finding, Kind, Severity, finding
from .machine import Machine, Place

__all__ = ["KINDS", "Finding", "Kind", "Severity", "carpdevs", "finding", "look", "look_at_start"]

_SEVERITIES = ("alarm", "warning", "note")
_MOST_RULES = 1 << 20
_MOST_RULES_AT_START = 1000
"""So many rules of a firewall are read when an engine starts: some ms. Hosts with more have them by the thousands."""


def look(hosts: Sequence[VirtualHost] = (), root: Path = Path("/")) -> list[Finding]:
    """All findings, the worst first; without virtual hosts those that concern any on the interfaces of this host.

    `root` is where files (not settings) are looked for. `OSError` where not even the interfaces can be read.
    """
    machine = Machine(root)
    places, lost = machine.places(hosts)
    found = [
        *addresses.of_hosts(machine, hosts, places, lost),
        *_of_hosts(machine, places, _MOST_RULES),
        *system.look(),
        *system.units(machine),
    ]
    return sorted(dict.fromkeys(found), key=lambda one: _SEVERITIES.index(one.severity))


def carpdevs(hosts: Sequence[VirtualHost]) -> list[tuple[str, VirtualHost | None]]:
    """The virtual hosts with their carpdevs; without any, each interface that one may be put on."""
    return [(place.carpdev.name, place.host) for place in Machine().places(hosts)[0]]


def look_at_start(hosts: Sequence[VirtualHost]) -> list[Finding]:
    """Those that an engine tells when it starts, a few milliseconds after it was asked."""
    machine = Machine()
    places, _lost = machine.places(hosts)
    return [one for one in dict.fromkeys(_of_hosts(machine, places, _MOST_RULES_AT_START)) if one.at_start]


def _of_hosts(machine: Machine, places: Sequence[Place], most_rules: int) -> Iterator[Finding]:
    for place in places:
        yield from links.of_place(machine, place)
        yield from addresses.of_place(machine, place)
        yield from settings.of_place(machine, place)
        yield from peers.of_place(machine, place)
    yield from links.of_machine(places)
    yield from settings.of_machine(machine, places)
    yield from firewall.look(machine, places, most_rules)
    yield from others.look(machine, places)
