"""Types for type checkers. `pycarp.stats` and `pycarp.events` have them when they are asked for: typing takes long."""

from typing import Literal, TypedDict

Severity = Literal["news", "warning", "alarm"]


class EngineStats(TypedDict):
    """What `Engine.stats` gives: the fields of `Stats` and `Measures`."""

    ipackets: int
    ipackets6: int
    badif: int
    badttl: int
    hdrops: int
    badsum: int
    badver: int
    badlen: int
    badauth: int
    badvhid: int
    badaddrs: int
    opackets: int
    opackets6: int
    onomem: int
    ostates: int
    preempt: int
    altered: int
    echo: int
    replayed: int
    realtime: bool
    ring_losses: int
    wakeup: tuple[int, ...]
    sending: tuple[int, ...]
    takeover: tuple[int, ...]
