"""What only shows when the virtual hosts of one machine are looked at together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ..config import VirtualHost
from .diagnostics import Diagnostic
from .parser import Parsed


def check_together(parsed: Sequence[Parsed], carpdevs: Mapping[int, str] | None = None) -> list[Diagnostic]:
    """Mistakes between virtual hosts that are each right: one name, one address, or one vhid on one interface, twice.

    `carpdevs` tells for indexes of `parsed` which interface the virtual host will speak on, where that is known. Where
    it is not, two virtual hosts are on one interface if they name the same one, or if their subnets overlap.
    """
    found: list[Diagnostic] = []
    known = carpdevs or {}
    hosts = [(index, p, p.host) for index, p in enumerate(parsed) if p.host is not None]
    for (i, first, a), (j, second, b) in combinations(hosts, 2):
        device_a, device_b = known.get(i, a.carpdev), known.get(j, b.carpdev)
        one_link = device_a == device_b if device_a and device_b else _overlap(a, b)
        if a.name == b.name:
            found.append(
                second.about("name", f"the name {b.name} is also that of {_called(first)}: rename one of the files")
            )
        if a.vhid == b.vhid and one_link:
            link = f"on {device_b}" if device_b and device_a else "on the same subnet"
            message = f"vhid {b.vhid} {link} is also that of {_called(first)}: give one of them another number"
            found.append(second.about("vhid", message))
        for address in sorted({str(x.ip) for x in a.addresses} & {str(x.ip) for x in b.addresses}):
            if one_link or not address.startswith("fe80:"):
                message = f"{address} is also an address of {_called(first)}: remove it from one of them"
                found.append(second.about(address, message))
    return found


def _overlap(a: VirtualHost, b: VirtualHost) -> bool:
    return any(
        x.version == y.version and (x.ip in y.network or y.ip in x.network) for x in a.addresses for y in b.addresses
    )


def _called(parsed: Parsed) -> str:
    assert parsed.host is not None
    return f"{parsed.host.name} ({parsed.source})"
