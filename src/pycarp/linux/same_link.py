"""Finds the other interfaces of this host on a carpdev's link: they would answer for its floating addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from ipaddress import IPv4Address

from .._unpatched import select, time
from .arp_probe import ArpProbe
from .interfaces import Interface
from .settings import answers_for_any

_ANSWERED_WITHIN = 0.02
"""Seconds. The question goes once through the switch, and this kernel answers it."""


def may_answer(interfaces: Iterable[Interface]) -> list[Interface]:
    """Those that would answer for a floating address if they were on its link."""
    plain = [one for one in interfaces if one.ethernet and one.running and not (one.loopback or one.ours or one.master)]
    return [one for one in plain if answers_for_any(one)]


def interfaces_beside(carpdev: Interface, interfaces: Iterable[Interface]) -> tuple[Interface, ...]:
    """Those that hear what the carpdev sends, and answer ARP requests for any address of this host.

    It asks on the carpdev for an address of this host, as a host without an address does (RFC 5227): this host's other
    interfaces answer that whatever their filters. Nothing is sent where no interface could answer. What may not be
    asked, or does not answer within 20 ms, is not found.
    """
    interfaces = tuple(interfaces)
    others = {one.mac: one for one in may_answer(interfaces) if one.mac not in (b"", carpdev.mac)}
    own = [address.ip for one in (carpdev, *interfaces) for address in one.own_addresses if not one.loopback]
    asked = next((ip for ip in own if isinstance(ip, IPv4Address)), None)
    if not others or asked is None or not carpdev.running:
        return ()
    found: dict[int, Interface] = {}
    with contextlib.suppress(OSError), contextlib.closing(ArpProbe(carpdev.index)) as probe:
        probe.ask(carpdev.replace(addresses=()), [asked])
        until = time.monotonic() + _ANSWERED_WITHIN
        poll = select.poll()
        poll.register(probe.fileno(), select.POLLIN)
        while len(found) < len(others) and (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
            for _address, mac in probe.read():
                if mac in others:
                    found[others[mac].index] = others[mac]
    return tuple(found.values())
