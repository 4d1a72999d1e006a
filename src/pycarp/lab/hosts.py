"""A host on a simulated LAN: machine, input and authenticator as in an engine, on the LAN's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from .. import _impl, events
from .._records import dataclass, field
from ..config import Address, VirtualHost
from ..engine.plan import Plan, make_plan
from ..events import Event
from ..protocol import (
    BOWOUT,
    NS_PER_SECOND,
    Action,
    Announce,
    Drop,
    FamilySilent,
    SendAdvert,
    SiblingFound,
    State,
    Suppress,
    Take,
    Transition,
    abc,
)
from ..protocol.checks import HINTS
from ..protocol.frames import arp_reply
from ..sentences import heard_so
from ..stats import Stats
from .frames import ARP, ECHO_REPLY, ECHO_REQUEST, IPV4, IPV6, build_echo, dissect_arp, dissect_echo
from .network import Network, Record, Station

TAKE_DELAY = 250_000
"""Default ns from the decision to take an address to its first answer (measured on Linux: 157-243 us)."""


@dataclass(slots=True, eq=False)
class Instance:
    """One virtual host at run time, from start to stop."""

    plan: Plan
    machine: abc.Machine
    wake: int | None = None
    demotion: int = 0
    orders: int = 0
    """Counts takes and drops: a take that is still on its way is void when a later order has come."""
    holding: bool = False
    counters: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Of the last advert from each source, and since when."""
    left: int = -1
    """The serial of the last bow-out."""
    told: set[tuple[str, str]] = field(default_factory=set)
    """The sources of adverts, with their dialect or failed check, that an event was made of."""

    @property
    def vhid(self) -> int:
        return self.plan.host.vhid

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self.plan.host.addresses


class Host(Station):
    """A host that runs virtual hosts: machine, input and authenticator as in an engine, on the LAN's clock.

    `take_delay` is the time from the decision to take an address to its first answer; `sending` can be set to False to
    make every send fail, as a full or broken interface does. `clock` is what its wall clock is before the LAN's, in ns.
    """

    def __init__(
        self, lan: Network, name: str, address: str | Iterable[str], virtual_hosts: Iterable[VirtualHost] = ()
    ) -> None:
        super().__init__(lan, name, address)
        self.virtual_hosts = tuple(virtual_hosts)
        self.take_delay = TAKE_DELAY
        self.clock = 0
        self.sending = True
        self._powered = True
        self._input = _impl.current.input.Input()
        self._instances: dict[int, Instance] = {}

    # What an engine offers

    @property
    def vhids(self) -> tuple[int, ...]:
        """The groups it runs now; none before `start` and after `stop`."""
        return tuple(self._instances)

    def start(self) -> None:
        """Start every virtual host. Starting what runs changes nothing."""
        if self._instances:
            return
        self._powered = True
        self._input = _impl.current.input.Input()
        self._input.set_carpdev(self.mac, self.addresses)
        for config in self.virtual_hosts:
            self._instances[config.vhid] = self._make_instance(config)
        for instance in self._instances.values():
            if not self.cable.carrier:
                instance.machine.link(False, self.lan.now)
            self._begin(instance)

    def _begin(self, instance: Instance) -> None:
        self._do(instance, instance.machine.start(self.lan.now))

    def stop(self) -> None:
        """Stop in good order: a master drops its addresses and bows out."""
        for instance in self._instances.values():
            self._do(instance, instance.machine.stop(self.lan.now))
        self._instances = {}

    def crash(self) -> None:
        """The power fails: no word, no answer, and the switch sees the port go down. `start` ends it."""
        self._instances = {}
        self._powered = False
        self.lan.switch.forget(self.cable)

    def state(self, vhid: int) -> State:
        """The state of a virtual host; INIT when the host does not run it."""
        return self._instances[vhid].machine.state if vhid in self._instances else State.INIT

    def machine(self, vhid: int) -> abc.Machine:
        """The machine itself, to look at."""
        return self._instances[vhid].machine

    def stats(self, vhid: int) -> Stats:
        """The counters since the last start."""
        return self._input.stats(vhid)

    def demote(self, by: int = 1) -> int | None:
        """Change the demotion of all virtual hosts of this host."""
        self._demote_others(by, None)
        return None

    def force(self, vhid: int, state: State) -> None:
        """As ``ifconfig carp0 state master``."""
        instance = self._instances[vhid]
        self._do(instance, instance.machine.force(state, self.lan.now))

    def hand_over(self, vhid: int) -> None:
        """As `pycarp.Engine.hand_over`."""
        instance = self._instances[vhid]
        self._do(instance, instance.machine.leave(self.lan.now))

    def holds(self, address: str) -> bool:
        """Whether a floating address is on this host now."""
        return self._floating_mac(ip_address(address)) is not None

    # What the machine orders

    def _make_instance(self, config: VirtualHost) -> Instance:
        sources: dict[int, abc.IPAddress] = {address.version: address.ip for address in reversed(self.addresses)}
        plan = make_plan(_impl.current, config, self.mac, sources, own=self.addresses)
        self._input.set_instance(config.vhid, plan.authenticator, plan.mac, plan.packed, True, plan.hearing)
        return Instance(plan, _impl.current.machine.Machine(config, self.lan.random.randrange))

    def _do(self, instance: Instance, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendAdvert():
                    self._advertise(instance, action)
                case Announce():
                    for frame in instance.plan.announce_frames if self.sending else ():
                        self.send(frame)
                case Take():
                    self._order(instance, take=True)
                case Drop():
                    self._order(instance, take=False)
                case Transition(before, after, reason, peer):
                    self._input.set_state(instance.vhid, after)
                    self._tell(instance, events.StateChanged, before=before, after=after, reason=reason, peer=peer)
                case Suppress(by):
                    self._demote_others(by, instance)
                case FamilySilent(family):
                    self._tell(instance, events.FamilySilent, family=family)
                case SiblingFound(vhid, standing, peer):
                    heard = {"sibling": vhid, "peer": peer or "", "standing": standing}
                    advice = events.sibling_advice(standing, vhid, peer or "")
                    self._tell(instance, events.SiblingHeard, **heard, advice=advice)
        if instance.machine.demotion != instance.demotion:
            instance.demotion = instance.machine.demotion
            self._tell(instance, events.Demoted, demotion=instance.demotion)
        self._arm(instance)

    def _demote_others(self, by: int, cause: Instance | None) -> None:
        """All but the one that has counted it for itself."""
        for instance in tuple(self._instances.values()):
            if instance is not cause:
                self._do(instance, instance.machine.demote(by, self.lan.now))

    def _arm(self, instance: Instance) -> None:
        due = instance.machine.deadline
        if due is None or (instance.wake is not None and instance.wake <= due):
            return
        instance.wake = due
        self.lan.at(max(due, self.lan.now), lambda: self._wake(instance, due))

    def _wake(self, instance: Instance, due: int) -> None:
        if instance.wake == due and self._runs(instance):
            instance.wake = None
            # The deadline may have moved on since; the machine knows, and does nothing too early.
            self._do(instance, instance.machine.timeout(self.lan.now))

    def _runs(self, instance: Instance) -> bool:
        return self._instances.get(instance.vhid) is instance

    def _advertise(self, instance: Instance, order: SendAdvert) -> None:
        if self.sending:
            nonce, serial = self.lan.random.getrandbits(3), (self.lan.now + self.clock) // NS_PER_SECOND
            bowout = order.advbase == order.advskew == BOWOUT
            if not bowout and serial == instance.left:
                self.clock += NS_PER_SECOND - (self.lan.now + self.clock) % NS_PER_SECOND
                serial += 1
            instance.left = serial if bowout else instance.left
            for family, frame in instance.plan.adverts(
                order.advbase, order.advskew, nonce, instance.machine.sent_demotion, serial, order.pace
            ):
                self.send(frame)
                self._input.count_sent(instance.vhid, family)
        # Last, for it may make the machine send again.
        if not order.between:
            self._do(instance, instance.machine.sent(self.sending, self.lan.now))

    def _order(self, instance: Instance, *, take: bool) -> None:
        instance.orders += 1
        order, decided = instance.orders, self.lan.now

        def carry_out() -> None:
            if instance.orders != order or not self._runs(instance) or instance.holding == take:
                return
            instance.holding = take
            kind = events.AddressesTaken if take else events.AddressesDropped
            texts = instance.plan.host.address_texts
            self._tell(instance, kind, addresses=texts, took=self.lan.now - decided)

        if take and self.take_delay:
            self.lan.after(self.take_delay, carry_out)
        else:
            carry_out()

    def _tell(self, instance: Instance, kind: Callable[..., Event], **what: object) -> None:
        event = kind(vhid=instance.vhid, name=instance.plan.host.name, at=self.lan.now, **what)
        self.lan.log.append(Record(self.name, event))

    # What comes over the cable

    def _link(self, up: bool) -> None:
        for instance in tuple(self._instances.values()):
            self._do(instance, instance.machine.link(up, self.lan.now))

    def _frame(self, frame: bytes) -> None:
        if not self._powered:
            return
        kind = frame[12:14]
        # As in the engine's socket filter, only adverts go to the input.
        if (kind == IPV4 and frame[23:24] == b"\x70") or (kind == IPV6 and frame[20:21] == b"\x70"):
            self._receive(frame)
        elif kind == ARP:
            self._answer_arp(frame)
        elif kind == IPV4:
            self._answer_echo(frame)

    def _receive(self, frame: bytes) -> None:
        self._input.wall = self.clock
        verdict = self._input.receive(frame, self.lan.now)
        advert = verdict.advert
        if advert is None or verdict.vrrp is not None or (verdict.counter == "badif" and verdict.dialect is None):
            return
        ours = self._instances.get(verdict.sibling_of or 0)
        if ours is not None:
            self._heard(ours, verdict)
            self._do(ours, ours.machine.sibling(advert.vhid, advert, advert.source, self.lan.now))
            return
        instance = self._instances.get(advert.vhid)
        if instance is not None and verdict.counter == "echo" and (answer := instance.machine.echo(self.lan.now)):
            self._do(instance, answer)
            return
        if instance is None or (verdict.counter and verdict.counter not in HINTS):
            return
        counter, dialect = verdict.counter, verdict.dialect or ""
        if (advert.source, counter or dialect) not in instance.told:
            instance.told.add((advert.source, counter or dialect))
            if counter:
                self._tell(instance, events.AdvertRejected, counter=counter, peer=advert.source, hint=HINTS[counter])
            else:
                values = {"dialect": dialect, "advbase": advert.advbase, "advskew": advert.advskew}
                self._tell(instance, events.PeerHeard, peer=advert.source, **values)
        if not counter and (
            speaks := instance.plan.authenticator.follow(dialect, self.lan.now, instance.plan.host.interval)
        ):
            self._tell(instance, events.ChangeStep, speaks=speaks, why=heard_so(advert.source))
        if not counter and self._heard(instance, verdict):
            heard, since = instance.counters.get(advert.source, (b"", 0))
            if heard != advert.counter:
                instance.counters[advert.source] = advert.counter, (since := self.lan.now)
            same_for = self.lan.now - since
            demotion = instance.plan.obeyed(advert, dialect, instance.machine.sent_demotion, same_for)
            pace = instance.plan.pace(advert, dialect)
            self._do(instance, instance.machine.receive(advert, advert.source, self.lan.now, demotion, pace))

    def _heard(self, instance: Instance, verdict: abc.Verdict) -> bool:
        """A valid advert came for it. Returns whether its machine is to see it."""
        return True

    def _answer_arp(self, frame: bytes) -> None:
        asked = dissect_arp(frame)
        if asked is None or asked.operation != 1 or asked.sender == asked.target:
            return
        mac = self._mac_of(asked.target)
        if mac is not None:
            self.send(arp_reply(mac, asked.target, asked.sender_mac, asked.sender))

    def _answer_echo(self, frame: bytes) -> None:
        asked = dissect_echo(frame, ECHO_REQUEST)
        if asked is None:
            return
        mac = self._mac_of(asked.destination)
        # A frame for a MAC that this host does not own is for another host.
        if mac is not None and mac == frame[0:6]:
            self.send(build_echo(ECHO_REPLY, frame[6:12], mac, asked.destination, asked.source, asked.body))

    def _mac_of(self, address: IPv4Address) -> bytes | None:
        """The MAC under which this host answers for an address now."""
        if any(own.ip == address for own in self.addresses):
            return self.mac
        return self._floating_mac(address)

    def _floating_mac(self, address: IPv4Address | IPv6Address) -> bytes | None:
        for instance in self._instances.values():
            if instance.holding and any(floating.ip == address for floating in instance.addresses):
                return instance.plan.mac
        return None
