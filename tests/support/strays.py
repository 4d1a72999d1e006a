"""Frames from the virtual MAC, by the witness's account of who held the address when they left."""

from __future__ import annotations

from collections.abc import Iterable

from pycarp.lab.namespaces import Frame

from .chaos import Timeline
from .wire import VHID

VIRTUAL_MAC = bytes((0, 0, 0x5E, 0, 1, VHID))
BEFORE = 60_000_000
"""ns: adverts and announcements leave before the address is there, which waits while another host's link goes down."""
AFTER = 60_000_000
"""ns: a link on its way down."""


def strays(frames: Iterable[Frame], timeline: Timeline) -> list[str]:
    """Each frame that a host sent from the virtual MAC while it did not hold the address, described."""
    held: dict[str, list[list[int]]] = {}
    for change in timeline.changes:
        if change.kind == "holds":
            spans = held.setdefault(change.host, [])
            if change.value:
                spans.append([change.at, 1 << 63])
            elif spans:
                spans[-1][1] = change.at
    return [
        f"{frame.port}, {_nearest(frame.at_ns, held.get(frame.port, []))}: {frame.data[:64].hex()}"
        for frame in frames
        if not frame.outgoing and frame.source == VIRTUAL_MAC and not _allowed(frame.at_ns, held.get(frame.port, []))
    ]


def _nearest(at: int, spans: list[list[int]]) -> str:
    """When that was, for the message."""
    early = min((start - at for start, _end in spans if start > at), default=None)
    late = min((at - end for _start, end in spans if end < at), default=None)
    return f"{early} ns before, {late} ns after it held the address"


def _allowed(at: int, spans: list[list[int]]) -> bool:
    return any(start - BEFORE <= at <= end + AFTER for start, end in spans)
