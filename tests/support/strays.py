"""Frames from the virtual MAC, by the witness's account of who held the address when they left."""

from __future__ import annotations

from collections.abc import Iterable

from pycarp.lab.namespaces import Frame

from .chaos import Timeline
from .wire import VHID

VIRTUAL_MAC = bytes((0, 0, 0x5E, 0, 1, VHID))
BEFORE = 20_000_000
"""ns: adverts and announcements leave before the address is there, and notices are read later than they are made."""
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
        f"{frame.port} at {frame.at_ns}: {frame.data[:64].hex()}"
        for frame in frames
        if not frame.outgoing and frame.source == VIRTUAL_MAC and not _allowed(frame.at_ns, held.get(frame.port, []))
    ]


def _allowed(at: int, spans: list[list[int]]) -> bool:
    return any(start - BEFORE <= at <= end + AFTER for start, end in spans)
