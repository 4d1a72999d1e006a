"""What the loop works on: a class for each room that owns something.

Thread: runtime. Other threads read single values: state, demotion, whether addresses are owned, when a peer was heard,
`watchdog.expired`. Any caller writes `watchdog.fed`. Times are CLOCK_MONOTONIC, ns, where nothing else is said.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator

from ... import events
from ..._records import dataclass, field
from ..._unpatched import selectors, time
from ...engine.mailbox import Mailbox, Outcome
from ...engine.plan import Plan
from ...linux.device import Device
from ...linux.guardian_client import Guardian, Kind, Reply
from ...linux.lock import VirtualHostLock
from ...linux.sockets import Sockets
from ...protocol import Action, Reason
from ...protocol.abc import Input, Machine
from ...protocol.timing import LEASE_FOREVER
from ...stats import Histogram
from .. import spawn

KNOWN_PEERS = 32
"""Peers and rivals remembered for each instance, rejected ones for each carpdev: a liar with many addresses costs no
memory."""


@dataclass(slots=True)
class Carpdev:
    sockets: Sockets
    input: Input
    mac: bytes = b""
    instances: dict[int, Instance] = field(default_factory=dict)  # by vhid
    rejected: set[tuple[str, str, int]] = field(default_factory=set)
    losses: int = 0
    behind: bool = False  # its socket has frames that came before now

    def count_losses(self) -> int:
        """How many frames found no room so far."""
        self.losses += self.sockets.losses()
        return self.losses


@dataclass(slots=True)
class Timers:
    """Of timers: when an instance is due, and its deadlines beside the machine's. None: never."""

    due: int | None = None
    announce_due: int | None = None
    take_due: int | None = None
    retry_due: int | None = None
    tenure_due: int | None = None


@dataclass(slots=True)
class Ownership:
    """Of addresses: what the guardian was told of an instance."""

    least_advbase: int  # heard in the group
    owned: bool = False  # its addresses were ordered here, and the guardian expects beats
    lease: int = LEASE_FOREVER  # as the guardian is told: seconds that the addresses live, or ms that the gate is open
    outlived: bool = False  # others may take over before its end
    unanswered: int = 0  # orders
    unsent: Kind | None = None  # an order that found no room
    decided: int | None = None  # when the take or drop under way was
    beaten: int = 0  # when the guardian heard that we live
    advertised: int = 0  # CLOCK_BOOTTIME of the last advert as MASTER
    announcements: int = 0  # still to be repeated after a takeover, or after a rival was heard
    announced: int = 0  # when last
    inherits: bool = False  # they come from one that has bowed out, and keeps them until they are announced here
    heir: bytes = b""  # the MAC of one that is taking them from us
    retry_delay: int = 0


@dataclass(slots=True)
class Suspicion:
    """Of suspicion."""

    heard: int = 0  # when a valid advert was heard last, 0: never
    losses: int = 0  # of the carpdev, then
    delays: int = 0  # intervals that a takeover has waited since
    refused_until: int = 0  # until then silence is no reason to take over
    rival_since: int = 0  # when a worse rival was heard first, without a pause since
    rival_heard: int = 0  # when last, 0: not as MASTER


@dataclass(slots=True)
class Reported:
    """Of reports: what was reported and is not repeated."""

    peers: int = 0  # how many, under how many dialects
    since: int = 0  # when its state changed last, or it was added
    why: Reason | None = None
    cause: str | None = None
    rivals: set[tuple[str, str]] = field(default_factory=set)
    deaf: bool = False  # that rival
    vrrp: set[str] = field(default_factory=set)
    vrrp_heard: int = 0
    demotion: int = 0
    unleased: bool = False
    slow: int = 0  # which pace is slower than it was to be, 0: none
    slow_pace: int = 0  # and what it is


@dataclass(slots=True)
class Source:
    """Of peers: who was heard."""

    heard: int = 0  # when last
    count: int = 0
    advbase: int = 0
    advskew: int = 0
    dialects: set[str] = field(default_factory=set)
    mac: bytes = b""
    counter: bytes = b""  # of its last advert
    counter_since: int = 0  # and of all since then: only OpenBSD's stays


@dataclass(slots=True, eq=False)
class Instance:
    """One virtual host at run time."""

    index: int
    plan: Plan
    machine: Machine
    carpdev: Carpdev
    device: Device
    lock: VirtualHostLock | None
    ownership: Ownership
    wanted: bool = False  # it was started, and not stopped since
    aside: bool = False  # it does not become MASTER by another's advert; the runtime's `aside` is about all
    tenure: int = 0  # led: until when (CLOCK_BOOTTIME) the program has the addresses here, 0: not
    frozen: bool = False  # another process is to go on with it: nothing happens here meanwhile
    released: bool = False  # the guardian has let go of it while it was frozen
    failing: bool = False  # the last advert could not be sent
    paced_frames: int = 0  # of one advert, when the pace was shared out
    least_pace: int = 0  # that the machine was told, ns
    left: int = -1  # the serial of the last bow-out to the group
    speaks: bool = False  # it has advertised as MASTER
    late: int = 0  # ns that the last advert of a MASTER was sent after its deadline
    timers: Timers = field(default_factory=Timers)
    suspicion: Suspicion = field(default_factory=Suspicion)
    reported: Reported = field(default_factory=Reported)
    sources: dict[tuple[str, int], Source] = field(default_factory=dict)  # by address and vhid


@dataclass(slots=True)
class Item:
    instance: Instance
    action: Action
    after_drop: bool  # an advert that waits until the addresses have gone
    last: bool = False  # of what the machine asked for in one step


@dataclass(slots=True)
class Demotion:
    """All instances but its cause are demoted."""

    by: int
    cause: Instance | None
    others: Iterator[Instance] | None = None  # those that have not been yet


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
    """Of addresses and guardian."""

    process: Guardian | None = None
    lost: bool = False  # another one is to be started
    unsent: bool = False  # some instance's order found no room
    asked: int = 0  # when it was asked whether it hangs, 0: it has answered
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of questions
    answers: dict[int, Outcome[Reply]] = field(default_factory=dict)


@dataclass(slots=True)
class Watchdog:
    """Of suspicion."""

    limit: int = 0  # the program is to be heard from every this many ns, 0: not at all
    fed: int = 0  # when it was last
    expired: bool = False


@dataclass(slots=True)
class RuntimeState:
    emit: Callable[[events.Event], None]
    realtime: bool
    lifeline: spawn.Lifeline
    mailbox: Mailbox
    selector: selectors.BaseSelector
    closing: bool = False
    carpdevs: dict[int, Carpdev] = field(default_factory=dict)
    instances: dict[int, Instance] = field(default_factory=dict)
    expected: set[int] = field(default_factory=set)  # the vhids that are, were or will be here
    heap: list[tuple[int, int]] = field(default_factory=list)  # of deadlines, with the index of the instance
    agenda: Agenda = field(default_factory=Agenda)
    guardian: GuardianLink = field(default_factory=GuardianLink)
    watchdog: Watchdog = field(default_factory=Watchdog)
    suspended: int = field(default_factory=lambda: boottime() - time.monotonic_ns())  # ns, when looked at last
    ahead: int = field(
        default_factory=lambda: time.time_ns() - boottime()
    )  # ns, of the clock that serials are read from
    demotion: int = 0
    aside: bool = False  # no instance becomes MASTER by another's advert
    demotions_due: int | None = None  # then changed demotions are reported
    wakeup: Histogram = field(default_factory=Histogram)
    sending: Histogram = field(default_factory=Histogram)
    takeover: Histogram = field(default_factory=Histogram)


def active(runtime: RuntimeState) -> list[Instance]:
    """The instances that are not frozen."""
    return [one for one in runtime.instances.values() if not one.frozen]


def boottime() -> int:
    """As the monotonic clock, but it counts on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
