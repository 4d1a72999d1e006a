"""The story of ``pycarp demo``, the same on every stage: what is done, what follows, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from .._records import dataclass, field
from ..config import VirtualHost
from ..errors import CarpError
from ..protocol import NS_PER_SECOND
from ..protocol.timing import TAKEOVER_JITTER, TAKEOVER_STEP, master_down

if TYPE_CHECKING:
    from ..lab.clients import Pings
    from ..lab.pinger import Pinger

PASSPHRASE = "motdepassehalakon"
ADDRESS = "10.13.37.42"
SUBNET = "10.13.37.0/24"
FIRST = 11
MAIN, SECOND, CLIENT = "main", "second", "client"
HOSTS = {
    name: VirtualHost(
        vhid=101, passphrase=PASSPHRASE, addresses=[f"{ADDRESS}/24"], advskew=advskew, name="carp0", preempt=True
    )
    for name, advskew in ((MAIN, 0), (SECOND, 100))
}
PING_INTERVAL = 10_000_000
NOTABLE = 3
"""This many pings lost in a row are worth a line in the timeline."""
_LOST_AFTER = 100_000_000
"""A ping is lost this many ns after it was sent; a later answer still counts."""
ALLOWANCE = 50_000_000
"""What a machine may add to the protocol's own time before it is called late."""
_START_LIMIT = 60.0
_BETWEEN_ACTS = 1.2
"""Seconds in which the pings show that all is well."""


class DemoError(CarpError):
    """The story did not go as it should. One sentence."""


class Happening(NamedTuple):
    """What a host told: `at` in ns since the stage began, `event` as `Event.as_dict`."""

    at: int
    host: str
    event: dict[str, Any]


class Gap(NamedTuple):
    """A run of `lost` pings that nobody answered: from the last answer before it to the first after it (or until now).

    `asked` is when the first of them was sent.
    """

    start: int
    asked: int
    end: int
    lost: int
    lasts: bool

    @property
    def duration(self) -> int:
        return self.end - self.start


def find_gaps(requests: Iterable[tuple[int, int | None]], now: int) -> list[Gap]:
    """Every run of lost pings, from when each was sent and when it was answered.

    Only requests without an answer count: a client that was too busy to ask proves nothing.
    """
    found: list[Gap] = []
    start = asked = lost = 0
    for sent, answered in requests:
        if answered is not None:
            if lost:
                found.append(Gap(start, asked, answered, lost, False))
            start, lost = answered, 0
        elif now - sent >= _LOST_AFTER:
            asked = asked if lost else sent
            start = start or sent
            lost += 1
    if lost:
        found.append(Gap(start, asked, now, lost, True))
    return found


Tell = Callable[[Happening], None]


class Stage:
    """Where the story is played. Times are ns since it began."""

    real = False
    """Whether there is anything to clean up."""

    def __init__(self, where: str, tell: Tell, idle: Callable[[], None]) -> None:
        self.where = where
        self._tell, self._idle = tell, idle
        self._pinging: Pinger | Pings | None = None
        self._zero = 0
        """When it began, by the clock of the pings."""

    def now(self) -> int:
        raise NotImplementedError

    def start(self) -> None:
        """Let both hosts start."""
        raise NotImplementedError

    def ping(self) -> None:
        """Let the client ping the address, from now on."""
        raise NotImplementedError

    def cable(self, host: str, plugged: bool) -> None:
        """Pull a host's cable out, or put it back."""
        raise NotImplementedError

    def stop(self, host: str) -> None:
        """Tell a host's carp to stop in good order."""
        raise NotImplementedError

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, or until the condition is met; returns whether it is. Meanwhile, tell what happens."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""

    def gaps(self) -> list[Gap]:
        """Every run of lost pings up to now."""
        requests = self._pinging.requests() if self._pinging is not None else []
        zero = self._zero
        return find_gaps(((sent - zero, None if at is None else at - zero) for sent, at in requests), self.now())

    def pings(self) -> tuple[int, int]:
        """How many were sent and answered."""
        return (0, 0) if self._pinging is None else (self._pinging.sent, self._pinging.received)


@dataclass(slots=True)
class Act:
    """One thing that was done, and what the client lost by it. `allowed` is the protocol's own maximum."""

    name: str
    allowed: int
    because: str
    start: int = 0
    moved_at: int = 0
    outage: int = 0
    """The longest time between two answers with a lost ping between them, in ns."""
    lost: int = 0

    @property
    def late(self) -> bool:
        return self.outage > self.allowed + PING_INTERVAL + ALLOWANCE

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pings_lost": self.lost,
            "outage_ns": self.outage,
            "moved_after_ns": self.moved_at - self.start,
            "allowed_ns": self.allowed,
            "late": self.late,
        }


@dataclass(slots=True)
class Story:
    """What has happened so far. `told` is called for each happening, `acted` for each thing that is done."""

    told: Callable[[Happening], None] = lambda happening: None
    acted: Callable[[int, str, str], None] = lambda at, what, host: None
    happenings: list[Happening] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HOSTS, ""))
    holder: str = ""
    held_since: int = 0

    def tell(self, happening: Happening) -> None:
        """Take in what a host told."""
        self.happenings.append(happening)
        event = happening.event
        if event["event"] == "StateChanged":
            self.states[happening.host] = event["after"]
        elif event["event"] == "AddressesTaken":
            self.holder, self.held_since = happening.host, happening.at
        elif event["event"] == "AddressesDropped" and self.holder == happening.host:
            self.holder = ""
        self.told(happening)

    def play(self, stage: Stage) -> None:
        """From the first start to the last bow-out. Raises `DemoError` when a host does not do its part."""
        self.acted(stage.now(), "start", "")
        stage.start()
        self._expect(stage, MAIN, _START_LIMIT, "at the start")
        # A client that asked before there was an owner would wait out its own ARP retries.
        stage.ping()
        stage.wait(_BETWEEN_ACTS)

        main, second = HOSTS[MAIN], HOSTS[SECOND]
        silence = master_down(second.advbase, second.advskew)
        handover = second.advskew * TAKEOVER_STEP + TAKEOVER_JITTER
        # The next advert of main comes within an interval of second, and one is there to be missed.
        preemption = 2 * second.interval + main.advbase * NS_PER_SECOND
        cut = Act(f"{MAIN}'s cable is pulled", silence, "3*advbase + advskew/256")
        back = Act(f"{MAIN}'s cable is back", 0, "both hosts can answer")
        end = Act(f"{MAIN} stops in good order", handover, "advskew*20 us + 0.5 ms")
        self._act(stage, cut, "unplug", SECOND, silence)
        self._act(stage, back, "plug", MAIN, preemption)
        self._act(stage, end, "stop", SECOND, handover)

    def _act(self, stage: Stage, act: Act, what: str, heir: str, limit: int) -> None:
        """Do something to the main host, and measure until the heir has the address, which may take `limit` ns."""
        act.start = stage.now()
        self.acted(act.start, what, MAIN)
        if what == "stop":
            stage.stop(MAIN)
        else:
            stage.cable(MAIN, what == "plug")
        self._expect(stage, heir, limit / NS_PER_SECOND + 3.0, act.name)
        act.moved_at = self.held_since
        stage.wait(_BETWEEN_ACTS)
        gaps = [gap for gap in stage.gaps() if gap.end > act.start]
        act.outage = max((gap.duration for gap in gaps), default=0)
        act.lost = sum(gap.lost for gap in gaps)
        self.acts.append(act)

    def _expect(self, stage: Stage, heir: str, limit: float, when: str) -> None:
        if not stage.wait(limit, lambda: self.holder == heir and self.states[heir] == "MASTER"):
            raise DemoError(f"{heir} did not take {ADDRESS} within {limit:.1f} s, {when}: the machine may be too busy")
