"""A simulated host with what an engine asks of its runtime, `pycarp.protocol.abc.Runtime`, without a kernel.

Thread: any, with the LAN's lock
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import _impl, events
from ..config import VirtualHost
from ..engine import change
from ..engine.plan import Plan, make_plan
from ..engine.snapshot import Overview, Peer, Reading
from ..events import Event
from ..lab import hosts
from ..lab.network import Record
from ..protocol import BOWOUT, Advert, Reason, SendAdvert, State, abc
from ..protocol.timing import DEAF_AT_LEAST, TENURE_ENDS_BEFORE, TENURE_FOREVER
from ..stats import Histogram, Measures, Stats
from .network import SharedLan

KNOWN_PEERS = 32


@dataclass(slots=True)
class _Noted:
    """What is known of an instance, beside its machine. Moments are ns of the LAN."""

    since: int
    why: Reason | None = None
    cause: str | None = None
    aside: bool = False
    peers: dict[tuple[str, int], Peer] = field(default_factory=dict)
    rivals: set[tuple[str, str]] = field(default_factory=set)
    rival_heard: int = 0
    rival_since: int = 0
    deaf: bool = False
    tenure: int = 0
    """Of an owner: until when the program has the addresses here."""


def _nobody(_event: Event) -> None:
    pass


class EngineHost(hosts.Host):
    """A host on the LAN, for one engine at a time; an instance's number is its vhid.

    It does what a runtime does on a kernel that never fails: no frame is lost on the way into the program, no address
    is taken away, and no other program answers for one.
    """

    lan: SharedLan

    def __init__(self, lan: SharedLan, name: str, address: str | Iterable[str]) -> None:
        super().__init__(lan, name, address)
        self._emit: Callable[[Event], None] = _nobody
        self._forget()

    def _forget(self) -> None:
        self._notes: dict[int, _Noted] = {}
        self._shared = 0
        self._aside = False
        self._limit = self._fed = 0
        self._expired = False
        self._takeovers = Histogram()

    # From start to stop

    def begin(self, virtual_hosts: Iterable[VirtualHost], emit: Callable[[Event], None], allow: bool) -> None:
        """An engine starts: its events go to `emit`."""
        with self.lan.lock:
            self._forget()
            self._emit = emit
            self.virtual_hosts = tuple(virtual_hosts)
            self._allow = allow
            self.start()

    def start(self) -> None:
        """Start every virtual host, and put those into their states that are to have one."""
        with self.lan.lock:
            started = not self._instances
            super().start()
            self._input.allow = self._allow
            for host in self.virtual_hosts if started else ():
                if host.state is not None:
                    self.force(host.vhid, host.state)

    def end(self) -> None:
        """The engine stops: it bows out where it is MASTER."""
        with self.lan.lock:
            self.stop()
            self._emit = _nobody

    def die(self, *, bowout: bool) -> None:
        """The program dies, or, without a `bowout`, the host as well. Nothing more reaches the engine."""
        with self.lan.lock:
            self._emit = _nobody
            if bowout:
                self.stop()
            else:
                self.crash()

    def reconfigure(self, virtual_hosts: tuple[VirtualHost, ...]) -> None:
        """Go on with these. What has another name or kind of MAC is stopped and started anew."""
        with self.lan.lock:
            former = {vhid: one.plan.host for vhid, one in self._instances.items()}
            kept = {
                host.vhid: host
                for host in virtual_hosts
                if host.vhid in former and (former[host.vhid].name, former[host.vhid].mac) == (host.name, host.mac)
            }
            for vhid in former.keys() - kept.keys():
                self._remove(vhid)
            self.virtual_hosts = virtual_hosts
            for host in virtual_hosts:
                if host.vhid in kept:
                    self._change(self._instances[host.vhid], host)
                else:
                    self._add(host)

    def _add(self, host: VirtualHost) -> None:
        instance = self._instances[host.vhid] = self._make_instance(host)
        machine, now = instance.machine, self.lan.now
        machine.link(self.cable.carrier, now)
        machine.stand_aside(self._aside)
        self._do(instance, machine.demote(self._shared, now))
        self._begin(instance)

    def _remove(self, vhid: int) -> None:
        instance = self._instances[vhid]
        self._do(instance, instance.machine.stop(self.lan.now))
        del self._instances[vhid], self._notes[vhid]
        self._input.remove_instance(vhid)

    def _change(self, instance: hosts.Instance, host: VirtualHost) -> None:
        former = instance.plan
        instance.plan = self._plan(host, former)
        for event in change.of_reload(former.host, host, former.authenticator, self.lan.now):
            self._put(event)
        self._do(instance, instance.machine.reconfigure(host, self.lan.now))
        self._input.set_state(host.vhid, instance.machine.state)

    def _plan(self, config: VirtualHost, former: Plan | None) -> Plan:
        sources: dict[int, abc.IPAddress] = {address.version: address.ip for address in reversed(self.addresses)}
        plan = make_plan(_impl.current, config, self.mac, sources, former, own=self.addresses)
        self._input.set_instance(config.vhid, plan.authenticator, plan.mac, plan.packed, True, plan.hearing)
        return plan

    def _make_instance(self, config: VirtualHost) -> hosts.Instance:
        self._notes[config.vhid] = _Noted(self.lan.now)
        made = super()._make_instance(config)
        for event in change.of_start(config, made.plan.authenticator, self.lan.now):
            self._put(event)
        return made

    # Who has the addresses because the program says so

    def hold(self, vhid: int, until: int, again: bool = False) -> bool:
        """See `Runtime.hold`. Addresses that are taken are here `take_delay` later."""
        with self.lan.lock:
            noted = self._notes[vhid]
            if again and noted.tenure - self.lan.now <= TENURE_ENDS_BEFORE:
                return False
            noted.tenure = until
            self._follow(self._instances[vhid])
            return True

    def _begin(self, instance: hosts.Instance) -> None:
        if instance.plan.host.led:
            self._follow(instance)
        else:
            super()._begin(instance)

    def _link(self, up: bool) -> None:
        super()._link(up)
        for instance in tuple(self._instances.values()):
            self._follow(instance)

    def _follow(self, instance: hosts.Instance) -> None:
        """Do what the program has said of a led one: its machine runs for the time of the tenure."""
        noted, machine, now = self._notes[instance.vhid], instance.machine, self.lan.now
        if not instance.plan.host.led:
            return
        if noted.tenure - now <= TENURE_ENDS_BEFORE:
            if noted.tenure:
                self._tell(instance, events.TenureEnded)
            noted.tenure = 0
            self._do(instance, machine.stop(now))
            return
        if noted.tenure != TENURE_FOREVER:
            self.lan.at(noted.tenure - TENURE_ENDS_BEFORE, partial(self._tenure_is_due, instance))
        self._do(instance, machine.start(now))
        if machine.state is State.BACKUP:
            self._do(instance, machine.force(State.MASTER, now))

    def _tenure_is_due(self, instance: hosts.Instance) -> None:
        if self._runs(instance) and self._notes[instance.vhid].tenure - self.lan.now <= TENURE_ENDS_BEFORE:
            self._follow(instance)

    def _advertise(self, instance: hosts.Instance, order: SendAdvert) -> None:
        if instance.plan.host.led:
            self._do(instance, instance.machine.sent(self.sending, self.lan.now))
        else:
            super()._advertise(instance, order)

    # What an engine asks

    def plan(self, vhid: int) -> Plan:
        """What an instance says on the wire."""
        return self._instances[vhid].plan

    def stats(self, vhid: int) -> Stats:
        with self.lan.lock:
            return super().stats(vhid)

    def owns(self, vhid: int) -> bool:
        return self._instances[vhid].holding

    def demotion(self, vhid: int) -> int:
        return self._instances[vhid].machine.demotion

    def force(self, vhid: int, state: State) -> None:
        with self.lan.lock:
            super().force(vhid, state)

    def hand_over(self, vhid: int) -> None:
        with self.lan.lock:
            super().hand_over(vhid)

    def announce(self, vhid: int) -> None:
        with self.lan.lock:
            instance = self._instances[vhid]
            for frame in instance.plan.announce_frames if instance.holding and self.sending else ():
                self.send(frame)

    def demote(self, by: int = 1, index: int | None = None) -> int:
        """Change the demotion of the host, or of one instance, and return it."""
        with self.lan.lock:
            if index is None:
                self._demote_others(max(by, -self._shared), None)
                return self._shared
            instance = self._instances[index]
            self._do(instance, instance.machine.demote(by, self.lan.now))
            return instance.machine.demotion

    def _demote_others(self, by: int, cause: hosts.Instance | None) -> None:
        self._shared = max(0, self._shared + by)
        super()._demote_others(by, cause)

    def stand_aside(self, aside: bool, index: int | None = None) -> None:
        """See `Runtime.stand_aside`."""
        with self.lan.lock:
            if index is None:
                self._aside = aside
            else:
                self._notes[index].aside = aside
            for vhid, instance in self._instances.items():
                instance.machine.stand_aside(self._aside or self._notes[vhid].aside)

    def tell(self, event: Event) -> None:
        """Have the engine emit an event of somebody else's."""
        self._emit(event)

    def measures(self) -> Measures:
        """Nothing is late here; `takeover` is the time that this host needs to take addresses."""
        nothing = Histogram().counts
        return Measures(wakeup=nothing, sending=nothing, takeover=self._takeovers.counts)

    def overview(self) -> Overview:
        """As of a runtime; its guardian has no process, and is number 0."""
        values: dict[str, Any] = {"watchdog": self._limit, "fed": self._fed, "expired": self._expired}
        return Overview(guardian=0, demotion=self._shared, aside=self._aside, **values)

    def reading(self, vhid: int) -> Reading:
        """See `Runtime.reading`."""
        with self.lan.lock:
            instance, noted = self._instances[vhid], self._notes[vhid]
            machine = instance.machine
            return Reading(
                state=machine.state,
                since=noted.since,
                why=noted.why,
                cause=noted.cause,
                owns=instance.holding,
                lease=None,
                failing=not self.sending,
                demotion=machine.demotion,
                link_demotes=machine.link_demotes,
                sending_demotes=machine.sending_demotes,
                advskew=machine.advskew,
                due=machine.deadline,
                late=0,
                handed_over=machine.stands_back,
                leaving=machine.leaving,
                refused_until=0,
                peers=tuple(sorted(noted.peers.values(), key=lambda peer: peer.heard, reverse=True)),
                counters=super().stats(vhid),
            )

    # The watchdog

    def watch(self, limit: int) -> None:
        """See `Runtime.watch`."""
        with self.lan.lock:
            self._limit, self._fed = limit, self.lan.now
            self._watch_again()

    def alive(self) -> None:
        """See `Runtime.alive`."""
        with self.lan.lock:
            self._fed = self.lan.now
            if self._expired:
                self._expired = False
                self._report(events.WatchdogFed)
                self._demote_others(-1, None)
                self._watch_again()

    def _watch_again(self) -> None:
        self.lan.at(self._fed + self._limit, self._look_at_watchdog)

    def _look_at_watchdog(self) -> None:
        if not self._limit or self._expired or not self._instances:
            return
        silence = self.lan.now - self._fed
        if silence < self._limit:
            self._watch_again()
            return
        self._expired = True
        self._report(events.WatchdogExpired, silence=silence)
        for instance in tuple(self._instances.values()):
            self._do(instance, instance.machine.retire(Reason.WATCHDOG, True, self.lan.now))
        self._demote_others(1, None)

    def _wake(self, instance: hosts.Instance, due: int) -> None:
        if self._expired and self._runs(instance) and instance.machine.overdue(self.lan.now):
            instance.machine.delay_takeover(self.lan.now)
        super()._wake(instance, due)

    # What is heard and told

    def _heard(self, instance: hosts.Instance, verdict: abc.Verdict) -> bool:
        advert, machine = verdict.advert, instance.machine
        assert advert is not None
        self._note(self._notes[instance.vhid].peers, advert, verdict.dialect or "")
        if advert.vhid == instance.vhid and machine.state is State.MASTER and not machine.leaving:
            self._note_rival(instance, advert)
        # While the program is not heard from, nobody makes way for it.
        backup = machine.state is State.BACKUP
        return not (self._expired and backup and advert.interval > machine.interval)

    def _note(self, peers: dict[tuple[str, int], Peer], advert: Advert, dialect: str) -> None:
        key = (advert.source, advert.vhid)
        before = peers.get(key)
        if before is None and len(peers) >= KNOWN_PEERS:
            del peers[min(peers, key=lambda one: peers[one].heard)]
        peers[key] = Peer(
            source=advert.source,
            vhid=advert.vhid,
            mac=advert.source_mac.hex(":"),
            kind="bow-out" if advert.advbase == advert.advskew == BOWOUT else "advert",
            advbase=advert.advbase,
            advskew=advert.advskew,
            dialects=(dialect,) if before is None else tuple(sorted({*before.dialects, dialect})),
            heard=self.lan.now,
            count=1 if before is None else before.count + 1,
        )

    def _note_rival(self, instance: hosts.Instance, advert: Advert) -> None:
        noted, own, now = self._notes[instance.vhid], instance.machine.interval, self.lan.now
        if advert.bowout:
            return
        rule = "better" if advert.interval < own else "tie" if advert.interval == own else "worse"
        if (advert.source, rule) not in noted.rivals:
            noted.rivals.add((advert.source, rule))
            self._tell(instance, events.RivalHeard, peer=advert.source, rule=rule)
        if rule != "worse":
            return
        slower = max(advert.interval, own)
        if now - noted.rival_heard > 2 * slower:
            noted.rival_since, noted.deaf = now, False
        noted.rival_heard = now
        if not noted.deaf and now - noted.rival_since >= max(11 * slower // 4, DEAF_AT_LEAST):
            noted.deaf = True
            mac = instance.plan.mac.hex(":") if instance.plan.host.mac == "virtual" else ""
            self._tell(instance, events.RivalDeaf, peer=advert.source, advice=events.deaf_advice(mac, advert.source))

    def _tell(self, instance: hosts.Instance, kind: Callable[..., Event], **what: Any) -> None:
        super()._tell(instance, kind, **what)
        event, noted = self.lan.log[-1].event, self._notes[instance.vhid]
        if isinstance(event, events.StateChanged):
            noted.since, noted.why, noted.cause = event.at, event.reason, event.peer
            noted.rivals.clear()
            noted.deaf = False
        elif isinstance(event, events.AddressesTaken):
            self._takeovers.count(event.took)
        self._emit(event)

    def _report(self, kind: Callable[..., Event], **what: Any) -> None:
        self._put(kind(vhid=0, name="", at=self.lan.now, **what))

    def _put(self, event: Event) -> None:
        self.lan.log.append(Record(self.name, event))
        self._emit(event)
