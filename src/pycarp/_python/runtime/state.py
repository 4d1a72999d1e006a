"""What the loop works on: a class for each room that owns something.

Thread: runtime. Other threads read single values: state, demotion, whether addresses are owned, when a peer was heard.
"""

from __future__ import annotations

import itertools
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from ... import events
from ...engine.mailbox import Mailbox
from ...engine.plan import Plan
from ...linux.device import Device
from ...linux.guardian_client import Guardian, Kind, Reply
from ...linux.lock import VirtualHostLock
from ...linux.sockets import Sockets
from ...protocol import Action
from ...protocol.abc import Input, Machine
from ...stats import Histogram
from .. import spawn

KNOWN_PEERS = 32
"""Peers and rivals remembered for each instance, rejected ones for each carpdev: a liar with many addresses costs no
memory."""


@dataclass(slots=True)
class Carpdev:
    """One carpdev. `instances` is by vhid; `behind`: its socket has frames that came before now."""

    sockets: Sockets
    input: Input
    instances: dict[int, Instance] = field(default_factory=dict)
    rejected: set[tuple[str, str, int]] = field(default_factory=set)
    losses: int = 0
    behind: bool = False

    def count_losses(self) -> int:
        """How many frames found no room so far."""
        self.losses += self.sockets.losses()
        return self.losses


@dataclass(slots=True)
class Transmit:
    """Of transmit. `failing`: the last advert could not be sent."""

    failing: bool = False


@dataclass(slots=True)
class Timers:
    """Of timers: when an instance is due, and its deadlines beside the machine's (CLOCK_MONOTONIC, ns; None: never)."""

    due: int | None = None
    announce_due: int | None = None
    take_due: int | None = None
    retry_due: int | None = None


@dataclass(slots=True)
class Ownership:
    """Of addresses: what the guardian was told of an instance.

    `owned`: its addresses were ordered here, and the guardian expects beats. `lease` is their lifetime in seconds
    (None: for ever), `lease_told` the one that the guardian was told last. `unanswered` counts orders; `unsent` is one
    that found no room. `decided` is when the take or drop under way was decided. `advertised` is CLOCK_BOOTTIME of the
    last advert as MASTER. `announcements` are still to be repeated after a takeover.
    """

    least_advbase: int
    owned: bool = False
    lease: int | None = None
    lease_told: int | None = None
    unanswered: int = 0
    unsent: Kind | None = None
    decided: int | None = None
    advertised: int = 0
    announcements: int = 0
    retry_delay: int = 0


@dataclass(slots=True)
class Suspicion:
    """Of suspicion. `heard` is when the last valid advert was (0: never), `losses` what the carpdev had lost then,
    `delays` how often a takeover has waited since. Until `refused_until` silence is no reason to take over."""

    heard: int = 0
    losses: int = 0
    delays: int = 0
    refused_until: int = 0


@dataclass(slots=True)
class Reported:
    """Of reports: what was reported and is not repeated."""

    peers: set[tuple[str, str]] = field(default_factory=set)
    rivals: set[tuple[str, str]] = field(default_factory=set)
    demotion: int = 0
    unleased: bool = False


@dataclass(slots=True, eq=False)
class Instance:
    """One virtual host at run time. `wanted`: it was started, and not stopped since."""

    index: int
    plan: Plan
    machine: Machine
    carpdev: Carpdev
    device: Device
    lock: VirtualHostLock
    ownership: Ownership
    wanted: bool = False
    transmit: Transmit = field(default_factory=Transmit)
    timers: Timers = field(default_factory=Timers)
    suspicion: Suspicion = field(default_factory=Suspicion)
    reported: Reported = field(default_factory=Reported)


@dataclass(slots=True)
class Item:
    """One action on the agenda. `after_drop`: an advert that waits until the addresses have gone; `last`: of what its
    machine asked for in one step."""

    instance: Instance
    action: Action
    after_drop: bool
    last: bool = False


@dataclass(slots=True)
class Demotion:
    """All instances but its cause are demoted; `others` are those that have not been yet."""

    by: int
    cause: Instance | None
    others: Iterator[Instance] | None = None


@dataclass(slots=True)
class Agenda:
    """Of actions: a stack of actions, and demotions in the order in which they came; the first one is under way.

    What lies below `floor` was on the stack when that began, and waits until all demotions are done.
    """

    items: list[Item] = field(default_factory=list)
    demotions: deque[Demotion] = field(default_factory=deque)
    floor: int = 0


@dataclass(slots=True)
class GuardianLink:
    """Of addresses and guardian. `lost`: another one is to be started. `asked` is when it was asked whether it hangs
    (0: it has answered). `unsent`: some instance's order found no room. `answers` are awaited by other threads."""

    process: Guardian | None = None
    lost: bool = False
    asked: int = 0
    unsent: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    answers: dict[int, Future[Reply]] = field(default_factory=dict)


@dataclass(slots=True)
class Watchdog:
    """Of suspicion. The program is to be heard from every `limit` ns (0: not at all); `fed` is when it was last."""

    limit: int = 0
    fed: int = 0
    expired: bool = False


@dataclass(slots=True)
class Histograms:
    """What the loop measures of itself; see `stats.Measures`."""

    wakeup: Histogram = field(default_factory=Histogram)
    sending: Histogram = field(default_factory=Histogram)
    takeover: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class RuntimeState:
    """All of it. `timers` is a heap of (due, index), `suspended` the ns that this machine was suspended when the loop
    looked last; at `demotions_due` changed demotions are reported."""

    emit: Callable[[events.Event], None]
    realtime: bool
    lifeline: spawn.Lifeline
    mailbox: Mailbox
    selector: selectors.BaseSelector
    carpdevs: dict[int, Carpdev] = field(default_factory=dict)
    instances: dict[int, Instance] = field(default_factory=dict)
    timers: list[tuple[int, int]] = field(default_factory=list)
    agenda: Agenda = field(default_factory=Agenda)
    guardian: GuardianLink = field(default_factory=GuardianLink)
    watchdog: Watchdog = field(default_factory=Watchdog)
    measures: Histograms = field(default_factory=Histograms)
    demotion: int = 0
    demotions_due: int | None = None
    suspended: int = field(default_factory=lambda: boottime() - time.monotonic_ns())
    closing: bool = False


def boottime() -> int:
    """As the monotonic clock, but it counts on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
