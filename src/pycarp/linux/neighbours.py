"""Whom the kernel knows on its links: RTM_GETNEIGH.

Thread: supervisor
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from . import netlink
from .messages import Address

_NDA_DST, _NDA_LLADDR = 1, 2
_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""NUD_REACHABLE, STALE, DELAY, PROBE, PERMANENT: they have a MAC."""


def neighbours(indexes: Collection[int]) -> list[Address]:
    """The unicast addresses that have a MAC on one of these interfaces, each once. Raises `OSError`."""
    found: dict[Address, None] = {}
    with netlink.RouteSocket() as route:
        for payload in route.dump(netlink.RTM_GETNEIGH):
            _family, index, state, _flags, _type = netlink.NEIGHBOUR.unpack_from(payload)
            values = netlink.attributes(payload, netlink.NEIGHBOUR.size)
            known = index in indexes and state & _KNOWN and _NDA_LLADDR in values
            if known and len(values.get(_NDA_DST, b"")) in (4, 16):
                address = ip_address(values[_NDA_DST])
                if not address.is_multicast:
                    found[address] = None
    return list(found)
