"""Mistakes that show only when all virtual hosts of a machine are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

from ..config import VirtualHost
from .diagnostics import Diagnostic
from .parser import Parsed


def check_together(parsed: Sequence[Parsed], carpdevs: Mapping[int, str] | None = None) -> list[Diagnostic]:
    """One name, one address, or one vhid on one interface, given twice.

    `carpdevs` has the interface that a virtual host will speak on, by its index in `parsed`. Where it is not known, two
    virtual hosts are on one interface if they name the same one, or if their subnets overlap.
    """
    found: list[Diagnostic] = []
    known = carpdevs or {}
    hosts = [(p, p.host, known.get(index, p.host.carpdev)) for index, p in enumerate(parsed) if p.host is not None]
    for (first, a, device_a), (second, b, device_b) in combinations(hosts, 2):
        one_link = device_a == device_b if device_a and device_b else _overlap(a, b)
        if a.name == b.name:
            message = f"the name {b.name} is also that of {_called(first)}: rename one of the files"
            found.append(second.about("name", message))
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
    pairs = product(a.addresses, b.addresses)
    return any(x.version == y.version and (x.ip in y.network or y.ip in x.network) for x, y in pairs)


def _called(parsed: Parsed) -> str:
    assert parsed.host is not None
    return f"{parsed.host.name} ({parsed.source})"
