"""What an engine is now: frozen dataclasses, and how they are filled.

Everybody who shows an engine reads this: status, metrics, pages. Times are ns, moments are of CLOCK_MONOTONIC where
nothing else is said. A field that is added does not change `SCHEMA`; one that goes, or means something else, does.

Thread: any caller. Nothing here keeps the runtime from its work: it copies what it knows between two frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from .._records import dataclass, field, fields, is_dataclass, replace
from .._unpatched import time
from ..protocol import NS_PER_SECOND, NS_PER_SKEW, Reason, State
from ..stats import Measures, Stats

if TYPE_CHECKING:
    from .._unpatched import Clock
    from ..health.runner import CheckStatus
    from .instances import Instance
    from .supervisor import Supervisor

SCHEMA = 1
"""Of what `as_dict` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A source address, and the vhid under which it was heard with the right digest. Nothing proves the address.

    `vhid` is another than the instance's for a sibling. `kind` is that of its last advert, `heard` when that came,
    `mac` what it came from; `dialects` are those of all adverts, `count` is how many there were.
    """

    source: str
    vhid: int
    mac: str
    kind: Literal["advert", "bow-out"]
    advbase: int
    advskew: int
    dialects: tuple[str, ...]
    heard: int
    count: int

    @property
    def interval(self) -> int:
        """Between its adverts, ns."""
        return self.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the runtime knows of one instance; `InstanceSnapshot` says what the fields mean."""

    state: State
    since: int
    why: Reason | None
    cause: str | None
    owns: bool
    lease: int | None
    failing: bool
    demotion: int
    link_demotes: bool
    sending_demotes: bool
    advskew: int
    due: int | None
    late: int
    handed_over: bool
    leaving: bool
    refused_until: int
    peers: tuple[Peer, ...]
    counters: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the runtime knows of itself. `guardian` is its process number; `watchdog` is its time, 0 for none."""

    guardian: int | None
    demotion: int
    aside: bool
    watchdog: int
    fed: int
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DemotedBy:
    """A reason for demotion, and how much it counts; a `fault` also keeps it from MASTER while another is heard."""

    reason: str
    by: int
    fault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingBack:
    """Why a BACKUP does not become MASTER though it could; `until` when, None: until something else happens."""

    why: Literal["handed over", "fault", "conflict", "back-off", "watchdog", "maintenance"]
    until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictFound:
    """Somebody answers for an address although no master is heard."""

    address: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """`limit` is how much time may pass between two calls of `alive`, `fed` when the last one came."""

    limit: int
    fed: int
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSnapshot:
    """One virtual host now.

    carpdev       the interface it speaks on; None where it waits for one
    mac           of its addresses
    since, why    when its state changed last, and the reason; `cause` is the peer that the reason names
    owns          whether the addresses are ordered here: a MASTER may have to wait for them
    leaving       it hands over, and keeps the addresses until another host has them
    master        the peer that is MASTER, None where this host is, or nobody is heard
    peers         all that were heard since the start, 32 at most, the one that was heard last first
    advskew, effective_advskew    as configured, and as it is sent and compared now
    demotions     the reasons whose sum `demotion` is
    waiting       what is missing; empty where nothing is
    hindrance     why the carpdev cannot be used although it is up; empty where it can
    gated, lease  whether a gate keeps the lease, and how long it is after each advert; None: without end
    failing       the last advert could not be sent
    due           when it does something by itself: a MASTER its next advert, a BACKUP the takeover
    late          how much later than due the last advert of a MASTER was sent
    checks        of its health
    unicast       the peers that adverts go to alone, and the MAC of each: its own or a router's, "" while it is unknown
    speaks        with which secret or addresses it signs during a change: "old", "both", "new"; "": there is no change
    led           the program decides who has the addresses (`pycarp.Owner`): INIT is as good as MASTER
    """

    name: str
    vhid: int
    carpdev: str | None
    mac: str
    addresses: tuple[str, ...]
    state: State
    since: int
    why: Reason | None
    cause: str | None
    owns: bool
    leaving: bool
    master: Peer | None
    peers: tuple[Peer, ...]
    advbase: int
    advskew: int
    effective_advskew: int
    preempt: bool
    demotion: int
    demotions: tuple[DemotedBy, ...]
    standing_back: StandingBack | None
    conflicts: tuple[ConflictFound, ...]
    waiting: str
    hindrance: str
    gated: bool
    lease: int | None
    failing: bool
    due: int | None
    late: int
    counters: Stats
    checks: tuple[CheckStatus, ...] = ()
    speaks: str = ""
    led: bool = False
    unicast: Mapping[str, str] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether it takes part in its group, and nothing is wrong that it knows of."""
        running = (self.led or self.state is not State.INIT) and not self.waiting and not self.hindrance
        # With advbase 0 a fault demotes by nothing.
        demoted = self.demotion or any(one.fault for one in self.demotions)
        return running and not self.failing and not self.conflicts and not demoted

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**_plain(self), "well": self.well}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An engine now.

    taken, time   when this was read: CLOCK_MONOTONIC, and ns since 1970
    since         when the engine started
    guardian      the number of its process, None where there is none
    demotion      of the host: what all its virtual hosts have; `demotions` are its reasons
    """

    implementation: str
    version: str
    pid: int
    taken: int
    time: int
    since: int
    realtime: bool
    guardian: int | None
    watchdog: Watchdog | None
    maintenance: bool
    demotion: int
    demotions: tuple[DemotedBy, ...]
    waiting: Mapping[str, str]
    measures: Measures
    instances: tuple[InstanceSnapshot, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is wrong that the engine knows of."""
        expired = self.watchdog is not None and self.watchdog.expired
        return self.guardian is not None and not expired and all(one.well for one in self.instances)

    def find(self, which: int | str) -> InstanceSnapshot | None:
        """The first with this vhid or name."""
        return next((one for one in self.instances if which in (one.vhid, one.name)), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the number of the schema first."""
        instances = [one.as_dict() for one in self.instances]
        return {"schema": SCHEMA, **_plain(self), "well": self.well, "instances": instances}


def take_snapshot(
    supervisor: Supervisor,
    since: int,
    maintenance: bool,
    checks: Mapping[str, tuple[CheckStatus, ...]],
    clock: Clock = time,
) -> Snapshot:
    """Of a running engine that was started `since`, in maintenance or not; `checks` are those of each virtual host by
    its name, and under "" those of all. Raises `EngineError` where it has ended."""
    # Imported here: they are there already where an engine runs, and nobody else needs them.
    from .. import __version__
    from .._impl import current

    runtime = supervisor.runtime
    overview, readings = runtime.overview(), {}
    for instance in supervisor.instances:
        try:
            readings[instance] = runtime.reading(instance.index)
        except KeyError:  # it has just been removed
            continue
    demotions = _demotions(overview, readings, supervisor.demotions.of(None))
    measures = runtime.measures()
    now = clock.monotonic_ns()
    watchdog = Watchdog(limit=overview.watchdog, fed=overview.fed, expired=overview.expired)
    return Snapshot(
        implementation=current.name,
        version=__version__,
        pid=os.getpid(),
        taken=now,
        time=time.time_ns(),
        since=since,
        realtime=measures.realtime,
        guardian=overview.guardian,
        watchdog=watchdog if overview.watchdog else None,
        maintenance=maintenance,
        demotion=overview.demotion,
        demotions=demotions,
        waiting=supervisor.waiting(),
        measures=measures,
        instances=tuple(
            replace(
                _instance(instance, reading, overview, demotions, supervisor.demotions.of(instance), now),
                checks=(*checks.get("", ()), *checks.get(instance.host.name, ())),
            )
            for instance, reading in readings.items()
        ),
    )


def _instance(
    instance: Instance,
    reading: Reading,
    overview: Overview,
    shared: tuple[DemotedBy, ...],
    own: tuple[DemotedBy, ...],
    now: int,
) -> InstanceSnapshot:
    host, demotions = instance.host, (*shared, *own)
    return InstanceSnapshot(
        name=host.name,
        vhid=host.vhid,
        carpdev=instance.carpdev.name if instance.present else None,
        mac=instance.plan.mac.hex(":"),
        addresses=host.address_texts,
        state=reading.state,
        since=reading.since,
        why=reading.why,
        cause=reading.cause,
        owns=reading.owns,
        leaving=reading.leaving,
        master=_master(reading, host.vhid, host.master_down, now),
        peers=reading.peers,
        advbase=host.advbase,
        advskew=host.advskew,
        effective_advskew=reading.advskew,
        preempt=host.preempt,
        demotion=reading.demotion,
        demotions=demotions,
        standing_back=_standing_back(instance, reading, overview, any(one.fault for one in demotions), now),
        conflicts=_conflicts(instance),
        waiting=instance.missing if not instance.present else "",
        hindrance=instance.hindrance if instance.present else "",
        gated=instance.device.gate is not None,
        lease=reading.lease,
        failing=reading.failing,
        due=reading.due,
        late=reading.late,
        counters=reading.counters,
        speaks=instance.plan.authenticator.speaks,
        led=host.led,
        unicast={
            str(one.address): one.mac.hex(":") if one.found else "" for one in instance.plan.destinations if one.peer
        },
    )


def _master(reading: Reading, vhid: int, silence: int, now: int) -> Peer | None:
    """The peer that is MASTER, as far as a BACKUP can tell: where several advertise, the best one whose adverts go on;
    `silence` is how long one that says nothing still counts."""
    if reading.state is not State.BACKUP:
        return None
    masters = [
        peer
        for peer in reading.peers
        if peer.vhid == vhid and peer.kind == "advert" and now - peer.heard <= max(silence, 3 * peer.interval)
    ]
    return min(
        masters,
        key=lambda peer: (2 * (now - peer.heard) > 3 * peer.interval, peer.interval, ":" in peer.source),
        default=None,
    )


def _standing_back(
    instance: Instance, reading: Reading, overview: Overview, fault: bool, now: int
) -> StandingBack | None:
    until = instance.stopped_until
    if until is not None:
        return StandingBack(why="back-off", until=int(until * NS_PER_SECOND))
    if reading.state is not State.BACKUP:
        return None
    if overview.expired:
        return StandingBack(why="watchdog", until=None)
    if overview.aside:
        return StandingBack(why="maintenance", until=None)
    if fault:
        return StandingBack(why="fault", until=None)
    if reading.handed_over:
        return StandingBack(why="handed over", until=None)
    if reading.refused_until > now:
        return StandingBack(why="conflict", until=reading.refused_until)
    return None


def _conflicts(instance: Instance) -> tuple[ConflictFound, ...]:
    silence = instance.silence
    if silence is None:
        return ()
    # Copied at once: the supervisor may add to it meanwhile.
    return tuple(ConflictFound(address=str(address), mac=mac.hex(":")) for address, mac in tuple(silence.reported))


def _demotions(
    overview: Overview, readings: Mapping[Instance, Reading], stated: tuple[DemotedBy, ...]
) -> tuple[DemotedBy, ...]:
    """The reasons of the host's demotion; `stated` are those of the ledger."""
    found = [DemotedBy(reason="the watchdog is not fed", by=1)] if overview.expired else []
    for instance, reading in readings.items():
        if reading.link_demotes:
            found.append(DemotedBy(reason=f"{instance.host.name} has no link", by=1))
        if reading.sending_demotes:
            found.append(DemotedBy(reason=f"{instance.host.name} cannot send adverts", by=1))
    found += stated
    rest = overview.demotion - sum(one.by - one.fault for one in found)  # a fault is each instance's
    return (*found, DemotedBy(reason="", by=rest)) if rest > 0 else tuple(found)


def _plain(value: Any) -> Any:
    """What JSON has a word for."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, State):
        return value.name
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
