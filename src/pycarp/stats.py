"""Counters, with the names that `netstat -p carp` gives them."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Stats:
    """What the input and output paths counted (NetBSD `struct carpstats`); every value only grows.

    `badaddrs`, `ostates` and `preempt` exist in the kernel and are never raised there; they stay 0 here too.
    """

    ipackets: int = 0
    ipackets6: int = 0
    badif: int = 0
    badttl: int = 0
    hdrops: int = 0
    badsum: int = 0
    badver: int = 0
    badlen: int = 0
    badauth: int = 0
    badvhid: int = 0
    badaddrs: int = 0
    opackets: int = 0
    opackets6: int = 0
    onomem: int = 0
    ostates: int = 0
    preempt: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
