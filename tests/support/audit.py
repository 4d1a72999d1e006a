"""Checks the record of a switch: who spoke for a floating address, and whether that was the master.

The rule for every frame that a host sent: the virtual MAC as source, or the address as sender, is the MASTER's alone.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pycarp import State, VirtualHost
from pycarp.lab.namespaces import Frame

if TYPE_CHECKING:
    from .lan import Node

FRAMES_END_WITHIN = 60_000_000
"""Nanoseconds after the end of a mastership in which frames may still leave: the order to drop crosses two threads of a
test process that has many. How fast it is alone, the figures say."""
CLOCKS = 2_000_000
"""Nanoseconds by which CLOCK_REALTIME and CLOCK_MONOTONIC may be converted wrongly, and a clock set in between."""

_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_CARP, _ICMPV6, _NEIGHBOUR_ADVERTISEMENT = 112, 58, 136


@dataclass(frozen=True)
class Speaker:
    """What one frame says about its sender."""

    mac: bytes
    address: str = ""
    claimed: bytes = b""
    bowout: bool = False
    advert: bool = False


def speaker(frame: bytes) -> Speaker:
    """Source MAC; the address that is spoken for and the MAC it is said to be at; whether it is a bow-out."""
    source, kind, body = frame[6:12], int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == _ARP and len(body) >= 28:
        return Speaker(source, str(ip_address(body[14:18])), body[8:14])
    if kind == _IPV4 and len(body) >= 20:
        payload = body[(body[0] & 15) * 4 :]
        return _datagram(source, str(ip_address(body[12:16])), body[9], payload)
    if kind == _IPV6 and len(body) >= 40:
        payload, address = body[40:], str(ip_address(body[8:24]))
        if body[6] == _ICMPV6 and len(payload) >= 24 and payload[0] == _NEIGHBOUR_ADVERTISEMENT:
            claimed = payload[26:32] if payload[24:26] == b"\x02\x01" else source
            return Speaker(source, str(ip_address(payload[8:24])), claimed)
        return _datagram(source, address, body[6], payload)
    return Speaker(source)


def _datagram(source: bytes, address: str, protocol: int, payload: bytes) -> Speaker:
    if protocol != _CARP:
        return Speaker(source, address, source)
    # An advert's source is the carpdev's address; the virtual one only where it has none.
    return Speaker(source, "", source, len(payload) >= 6 and payload[2] == 255 and payload[5] == 255, True)


def masterships(node: Node, host: VirtualHost) -> list[tuple[int, int]]:
    """(from, to) of every time as MASTER, in ns of CLOCK_REALTIME; one that lasts ends far in the future."""
    offset = time.time_ns() - time.monotonic_ns()
    spans: list[tuple[int, int]] = []
    began: int | None = None
    for change in node.transitions(host.vhid, host.name):
        if change.after is State.MASTER:
            began = change.at + offset
        elif change.before is State.MASTER and began is not None:
            spans.append((began, change.at + offset))
            began = None
    if began is not None:
        spans.append((began, 1 << 63))
    return spans


def audit(frames: Iterable[Frame], nodes: Sequence[Node]) -> int:
    """Fails the test at the first frame that only a MASTER may send and another sent; returns how many were checked."""
    checked = 0
    groups: dict[tuple[str, int], list[tuple[Node, VirtualHost]]] = {}
    for node in nodes:
        for host in node.ever:
            groups.setdefault((node.host.name, host.vhid), []).append((node, host))
    spans: dict[tuple[str, int], list[tuple[int, int]]] = {key: [] for key in groups}
    for key, instances in groups.items():
        for node, host in {(node, host.name): (node, host) for node, host in instances}.values():
            spans[key] += masterships(node, host)
    for frame in frames:
        if not frame.outgoing:
            spoken = speaker(frame.data)
            for (name, vhid), instances in groups.items():
                if name == frame.port:
                    node, host = instances[-1]
                    floating = {str(one.ip) for _node, other in instances for one in other.addresses}
                    checked += _check(frame, spoken, host, floating, spans[name, vhid], node.host.mac)
    return checked


def _check(
    frame: Frame, spoken: Speaker, host: VirtualHost, floating: set[str], spans: list[tuple[int, int]], own: bytes
) -> int:
    virtual = bytes((0, 0, 0x5E, 0, 1, host.vhid))
    mac = virtual if host.mac == "virtual" else own
    if spoken.address not in floating and spoken.mac != virtual:
        return 0
    assert spoken.mac == mac, f"{frame.port} spoke for {host.name} from {spoken.mac.hex(':')}: {frame.data.hex()}"
    if spoken.address in floating:
        assert spoken.claimed == mac, f"{frame.port} says {spoken.address} is at {spoken.claimed.hex(':')}"
    if any(start - CLOCKS <= frame.at_ns <= end for start, end in spans):
        return 1
    # How long after, for the message.
    late = min((frame.at_ns - end for _start, end in spans if frame.at_ns > end), default=None)
    assert late is not None and late < FRAMES_END_WITHIN, (
        f"{frame.port} was not MASTER of {host.name} and sent ({late} ns after): {frame.data.hex()}"
    )
    return 1


def adverts(frames: Iterable[Frame], vhid: int) -> list[Frame]:
    """The IPv4 adverts of a group that hosts sent, in their order."""
    wanted = struct.pack("!BB", 0x21, vhid)
    return [
        frame
        for frame in frames
        if not frame.outgoing and frame.ethertype == _IPV4 and frame.data[23] == _CARP and frame.data[34:36] == wanted
    ]
