"""A LAN in memory, on simulated time: a switch, hosts that run the real protocol core, and clients that ping.

Everything that goes over a cable is a whole Ethernet frame, built and judged by the same code as on a real wire; only
the switch, the clock and the address on an interface are pretended. No socket, no thread, no waiting: five minutes of a
group's life take a second, and the same seed gives the same run to the nanosecond. Works on every operating system.

    lan = Lan(seed=1)
    common = {"vhid": 101, "passphrase": "motdepassehalakon", "addresses": ["10.13.37.42/24"], "preempt": True}
    main = lan.host("main", "10.13.37.11/24", VirtualHost(**common))
    second = lan.host("second", "10.13.37.12/24", VirtualHost(**common, advskew=100))
    client = lan.client("client", "10.13.37.13/24")
    main.start(), second.start()
    pings = client.ping("10.13.37.42", interval=10 * MILLISECOND)
    lan.run(5 * SECOND)
    lan.unplug(main)
    lan.run(5 * SECOND)
    print(lan.masters(101), pings.outages())

All times are integer nanoseconds since the LAN came into being.
"""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from .. import events
from .._impl import current
from ..config import Address, VirtualHost
from ..engine.plan import Plan, make_plan
from ..events import Event
from ..protocol import (
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
from ..stats import Stats

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
LATENCY = 50_000
"""Default ns from one cable's end to another's, through the switch."""
TAKE_DELAY = 250_000
"""Default ns from the decision to take an address to its first answer (measured on Linux: 157-243 us)."""
_HINTS = {
    "allow": "adverts are not allowed here",
    "badif": "sent to the host itself, not to its group",
    "badttl": "the TTL is not 255: it came through a router, or is forged",
    "badlen": "shorter than an advert",
    "badsum": "damaged on its way, or built wrongly",
    "badvhid": "no virtual host with this vhid runs here",
    "badver": "another version of the protocol",
    "badauth": "another passphrase, other addresses, or another dialect",
    "ignored": "not for this host",
}
_ARP_RETRY = SECOND
_ARP_QUEUE = 3
"""Like Linux, a client that waits for an ARP reply keeps this many packets and drops older ones."""
_BROADCAST = b"\xff" * 6
_IPV4 = b"\x08\x00"
_IPV6 = b"\x86\xdd"
_ARP = b"\x08\x06"
_ICMP = 1
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a LAN's log: what happened on which host, in the words of `pycarp.events`."""

    host: str
    event: Event

    @property
    def at(self) -> int:
        return self.event.at


@dataclass(frozen=True, slots=True)
class Outage:
    """A run of `lost` pings without an answer: from the first of them until the next ping that was answered."""

    start: int
    end: int
    lost: int

    @property
    def duration(self) -> int:
        return self.end - self.start


@dataclass(slots=True, eq=False)
class Cable:
    """A station's cable to the switch. `carrier` is what the station sees, the others what the cable really does."""

    name: str
    deliver: Callable[[bytes], None]
    link: Callable[[bool], None]
    carrier: bool = True
    heard: bool = True
    hears: bool = True


class Switch:
    """A learning Ethernet switch: unicast goes where its address was last seen, everything else everywhere."""

    def __init__(self, lan: Lan, latency: int = LATENCY) -> None:
        self._lan = lan
        self.latency = latency
        self.cables: list[Cable] = []
        self.table: dict[bytes, Cable] = {}

    def transmit(self, cable: Cable, frame: bytes) -> None:
        """A station puts a frame on its cable; those it is for get it `latency` later, if their cables then carry."""
        if not cable.heard:
            return
        self._lan._saw(cable.name, frame)
        if not frame[6] & 1:
            self.table[frame[6:12]] = cable
        known = None if frame[0] & 1 else self.table.get(frame[0:6])
        for other in self.cables if known is None else [known]:
            if other is not cable:
                self._lan.after(self.latency, _Delivery(other, frame))

    def forget(self, cable: Cable) -> None:
        """The port lost its link: what was learned there is void, as in a real switch."""
        self.table = {mac: port for mac, port in self.table.items() if port is not cable}


@dataclass(frozen=True, slots=True)
class _Delivery:
    cable: Cable
    frame: bytes

    def __call__(self) -> None:
        if self.cable.hears:
            self.cable.deliver(self.frame)


class Lan:
    """A switch, what hangs on it, one clock and one queue of what is to happen.

    `seed` fixes every random choice; `latency` is the switch's, in ns. `log` holds every event of every host in order.
    """

    def __init__(self, *, seed: int = 0, latency: int = LATENCY) -> None:
        self.now = 0
        self.random = random.Random(seed)
        self.switch = Switch(self, latency)
        self.hosts: dict[str, Host] = {}
        self.clients: dict[str, Client] = {}
        self.log: list[Record] = []
        self._taps: list[Callable[[int, str, bytes], None]] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    # Time

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Call `what` at `when`. What is due at the same time is called in the order it was asked for."""
        if when < self.now:
            raise ValueError(f"{when} ns is in the past: it is {self.now} ns already")
        heapq.heappush(self._queue, (when, self._sequence, what))
        self._sequence += 1

    def after(self, delay: int, what: Callable[[], None]) -> None:
        """Call `what` in `delay` ns."""
        self.at(self.now + delay, what)

    def run(self, duration: int) -> None:
        """Let `duration` ns pass."""
        self.run_until(self.now + duration)

    def run_until(self, when: int) -> None:
        """Let time pass until it is `when`; what is due then has happened."""
        while self._queue and self._queue[0][0] <= when:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = max(self.now, when)

    # Stations

    def host(self, name: str, address: str | Iterable[str], *virtual_hosts: VirtualHost) -> Host:
        """Plug in a host with an address (or one for each family) of its own; it is not started yet."""
        host = Host(self, name, address, virtual_hosts)
        self.hosts[name] = host
        return host

    def client(self, name: str, address: str) -> Client:
        """Plug in a client."""
        client = Client(self, name, address)
        self.clients[name] = client
        return client

    def probe(self, name: str) -> Probe:
        """Plug in something that sends what it is told to and keeps what it hears: forged adverts come from here."""
        return Probe(self, name)

    def masters(self, vhid: int) -> list[str]:
        """The hosts that are MASTER of a group now."""
        return [host.name for host in self.hosts.values() if vhid in host.vhids and host.state(vhid) is State.MASTER]

    def holders(self, address: str) -> list[str]:
        """The hosts that hold an address now, and answer for it to whoever can reach them."""
        return [host.name for host in self.hosts.values() if host.holds(address)]

    # Cables

    def unplug(self, station: Station, *, seen: bool = True) -> None:
        """Pull a station's cable. `seen`: it loses carrier; otherwise the fault is out of its sight."""
        cable = station.cable
        cable.heard = cable.hears = False
        if seen and cable.carrier:
            cable.carrier = False
            self.switch.forget(cable)
            cable.link(False)

    def plug(self, station: Station) -> None:
        """Put the cable back, whatever was wrong with it."""
        cable = station.cable
        cable.heard = cable.hears = True
        if not cable.carrier:
            cable.carrier = True
            cable.link(True)

    def deafen(self, station: Station) -> None:
        """The station hears nothing any more, but is heard: the fault that makes two masters."""
        station.cable.hears = False

    def undeafen(self, station: Station) -> None:
        station.cable.hears = True

    # Watching

    def tap(self, watcher: Callable[[int, str, bytes], None]) -> None:
        """`watcher(at, sender, frame)` is called for every frame that reaches the switch."""
        self._taps.append(watcher)

    def transitions(self, host: str | None = None) -> Iterator[events.StateChanged]:
        """The changes of state so far, of one host or of all."""
        for record in self.log:
            if isinstance(record.event, events.StateChanged) and host in (None, record.host):
                yield record.event

    def _saw(self, sender: str, frame: bytes) -> None:
        for watcher in self._taps:
            watcher(self.now, sender, frame)


class Station:
    """Something with a cable, a MAC address and addresses of its own."""

    def __init__(self, lan: Lan, name: str, address: str | Iterable[str]) -> None:
        self.lan = lan
        self.name = name
        self.addresses: tuple[Address, ...] = tuple(
            ip_interface(text) for text in ([address] if isinstance(address, str) else address)
        )
        self.mac = b"\x02\0\0\0" + (len(lan.switch.cables) + 1).to_bytes(2, "big")
        self.cable = Cable(name, self._frame, self._link)
        lan.switch.cables.append(self.cable)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {', '.join(map(str, self.addresses))}>"

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable."""
        self.lan.switch.transmit(self.cable, frame)

    def _frame(self, frame: bytes) -> None:
        raise NotImplementedError

    def _link(self, up: bool) -> None:
        """The carrier came or went."""


@dataclass(slots=True, eq=False)
class _Seat:
    """One virtual host on a simulated host, from start to stop."""

    plan: Plan
    machine: abc.Machine
    wake: int | None = None
    demotion: int = 0
    orders: int = 0
    """Counts takes and drops, so that a take that is still on its way knows when it has been overruled."""
    holding: bool = False
    met: set[tuple[str, str]] = field(default_factory=set)

    @property
    def vhid(self) -> int:
        return self.plan.host.vhid

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self.plan.host.addresses


class Host(Station):
    """A host that runs virtual hosts: machine, input and authenticator as in an engine, on the LAN's clock.

    `take_delay` is the time from the decision to take an address to its first answer; `sending` can be set to False to
    make every send fail, as a full or broken interface does.
    """

    def __init__(
        self, lan: Lan, name: str, address: str | Iterable[str], virtual_hosts: Iterable[VirtualHost] = ()
    ) -> None:
        super().__init__(lan, name, address)
        self.virtual_hosts = tuple(virtual_hosts)
        self.take_delay = TAKE_DELAY
        self.sending = True
        self._powered = True
        self._input = current.input.Input()
        self._seats: dict[int, _Seat] = {}

    # What a user of an engine sees

    @property
    def vhids(self) -> tuple[int, ...]:
        """The groups it runs now; none before `start` and after `stop`."""
        return tuple(self._seats)

    def start(self) -> None:
        """Start every virtual host. Starting what runs changes nothing."""
        if self._seats:
            return
        self._powered = True
        self._input = current.input.Input()
        self._input.set_carpdev(self.mac, self.addresses)
        for config in self.virtual_hosts:
            self._seats[config.vhid] = self._seat(config)
        for seat in self._seats.values():
            if not self.cable.carrier:
                seat.machine.link(False, self.lan.now)
            self._do(seat, seat.machine.start(self.lan.now))

    def stop(self) -> None:
        """Stop in good order: a master drops its addresses and bows out."""
        for seat in self._seats.values():
            self._do(seat, seat.machine.stop(self.lan.now))
        self._forget()

    def crash(self) -> None:
        """The power fails: no word, no answer, and the switch sees the port go down. `start` ends it."""
        self._forget()
        self._powered = False
        self.lan.switch.forget(self.cable)

    def state(self, vhid: int) -> State:
        """The state of a virtual host; INIT when the host does not run it."""
        return self._seats[vhid].machine.state if vhid in self._seats else State.INIT

    def machine(self, vhid: int) -> abc.Machine:
        """The machine itself, to look at."""
        return self._seats[vhid].machine

    def stats(self, vhid: int) -> Stats:
        """The counters since the last start."""
        return self._input.stats(vhid)

    def demote(self, by: int = 1) -> None:
        """Change the demotion of all virtual hosts of this host."""
        for seat in self._seats.values():
            self._do(seat, seat.machine.demote(by, self.lan.now))

    def force(self, vhid: int, state: State) -> None:
        """As ``ifconfig carp0 state master``."""
        seat = self._seats[vhid]
        self._do(seat, seat.machine.force(state, self.lan.now))

    def holds(self, address: str) -> bool:
        """Whether a floating address is on this host now."""
        return self._floating_mac(ip_address(address)) is not None

    # Carrying out what the machine says

    def _seat(self, config: VirtualHost) -> _Seat:
        sources: dict[int, abc.IPAddress] = {address.version: address.ip for address in reversed(self.addresses)}
        plan = make_plan(config, self.mac, sources)
        self._input.set_instance(config.vhid, plan.authenticator, plan.mac, plan.packed)
        return _Seat(plan, current.machine.Machine(config, self.lan.random.randrange))

    def _forget(self) -> None:
        self._seats = {}

    def _do(self, seat: _Seat, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendAdvert():
                    self._advertise(seat, action)
                case Announce():
                    for frame in seat.plan.announcements if self.sending else ():
                        self.send(frame)
                case Take():
                    self._order(seat, self.take_delay, True)
                case Drop():
                    self._order(seat, 0, False)
                case Transition():
                    self._input.set_state(seat.vhid, action.after)
                    self._tell(
                        seat,
                        events.StateChanged,
                        before=action.before,
                        after=action.after,
                        reason=action.reason,
                        peer=action.peer,
                    )
                case Suppress():
                    for other in self._seats.values():
                        if other is not seat:
                            self._do(other, other.machine.demote(action.by, self.lan.now))
                case FamilySilent():
                    self._tell(seat, events.FamilySilent, family=action.family)
                case SiblingFound():
                    peer = action.peer or ""
                    advice = events.sibling_advice(action.standing, action.vhid, peer)
                    self._tell(
                        seat,
                        events.SiblingHeard,
                        sibling=action.vhid,
                        peer=peer,
                        standing=action.standing,
                        advice=advice,
                    )
        if seat.machine.demotion != seat.demotion:
            seat.demotion = seat.machine.demotion
            self._tell(seat, events.Demoted, demotion=seat.demotion)
        self._arm(seat)

    def _arm(self, seat: _Seat) -> None:
        due = seat.machine.deadline
        if due is None or (seat.wake is not None and seat.wake <= due):
            return
        seat.wake = due
        self.lan.at(max(due, self.lan.now), lambda: self._wake(seat, due))

    def _wake(self, seat: _Seat, due: int) -> None:
        if seat.wake != due or self._seats.get(seat.vhid) is not seat:
            return
        seat.wake = None
        # The deadline may have moved on since; the machine knows, and does nothing too early.
        self._do(seat, seat.machine.timeout(self.lan.now))

    def _advertise(self, seat: _Seat, order: SendAdvert) -> None:
        if self.sending:
            nonce = self.lan.random.getrandbits(24)
            for family, frame in seat.plan.adverts(order.advbase, order.advskew, nonce):
                self.send(frame)
                self._input.count_sent(seat.vhid, family)
        # Last, for it may make the machine send again.
        self._do(seat, seat.machine.sent(self.sending, self.lan.now))

    def _order(self, seat: _Seat, delay: int, hold: bool) -> None:
        seat.orders += 1
        order, decided = seat.orders, self.lan.now

        def carry_out() -> None:
            if seat.orders != order or self._seats.get(seat.vhid) is not seat:
                return
            changed, seat.holding = seat.holding != hold, hold
            if changed:
                kind = events.AddressesTaken if hold else events.AddressesDropped
                texts = tuple(str(address) for address in seat.addresses)
                self._tell(seat, kind, addresses=texts, took=self.lan.now - decided)

        if delay:
            self.lan.after(delay, carry_out)
        else:
            carry_out()

    def _tell(self, seat: _Seat, kind: Callable[..., Event], **what: object) -> None:
        event = kind(vhid=seat.vhid, name=seat.plan.host.name, at=self.lan.now, **what)
        self.lan.log.append(Record(self.name, event))

    # What comes in by the cable

    def _link(self, up: bool) -> None:
        for seat in tuple(self._seats.values()):
            self._do(seat, seat.machine.link(up, self.lan.now))

    def _frame(self, frame: bytes) -> None:
        if not self._powered:
            return
        kind = frame[12:14]
        # As the engine's socket filter: adverts and nothing else go to the input_.
        if (kind == _IPV4 and frame[23:24] == b"\x70") or (kind == _IPV6 and frame[20:21] == b"\x70"):
            self._advert(frame)
        elif kind == _ARP:
            self._arp(frame)
        elif kind == _IPV4:
            self._echo(frame)

    def _advert(self, frame: bytes) -> None:
        verdict = self._input.receive(frame, self.lan.now)
        advert = verdict.advert
        if advert is not None and verdict.sibling_of in self._seats:
            ours = self._seats[verdict.sibling_of]
            self._do(ours, ours.machine.sibling(advert.vhid, advert, advert.source, self.lan.now))
            return
        seat = None if advert is None else self._seats.get(advert.vhid)
        if advert is None or seat is None:
            return
        word = verdict.counter or verdict.dialect or ""
        if (advert.source, word) not in seat.met:
            seat.met.add((advert.source, word))
            if verdict.counter:
                self._tell(
                    seat,
                    events.AdvertRejected,
                    counter=verdict.counter,
                    peer=advert.source,
                    hint=_HINTS[verdict.counter],
                )
            else:
                self._tell(
                    seat,
                    events.PeerHeard,
                    peer=advert.source,
                    dialect=word,
                    advbase=advert.advbase,
                    advskew=advert.advskew,
                )
        if not verdict.counter:
            self._do(seat, seat.machine.receive(advert, advert.source, self.lan.now))

    def _arp(self, frame: bytes) -> None:
        asked = _dissect_arp(frame)
        if asked is None or asked.operation != 1 or asked.sender == asked.target:
            return
        mac = self._mac_of(asked.target)
        if mac is not None:
            self.send(current.packet.arp_reply(mac, asked.target, asked.sender_mac, asked.sender))

    def _echo(self, frame: bytes) -> None:
        asked = _dissect_echo(frame, _ECHO_REQUEST)
        if asked is None:
            return
        mac = self._mac_of(asked.destination)
        # Addressed to a MAC that this host does not own, a frame is none of its business.
        if mac is not None and mac == frame[0:6]:
            self.send(_build_echo(_ECHO_REPLY, frame[6:12], mac, asked.destination, asked.source, asked.body))

    def _mac_of(self, address: IPv4Address) -> bytes | None:
        """The MAC under which this host answers for an address now."""
        if any(own.ip == address for own in self.addresses):
            return self.mac
        return self._floating_mac(address)

    def _floating_mac(self, address: IPv4Address | IPv6Address) -> bytes | None:
        for seat in self._seats.values():
            if seat.holding and any(floating.ip == address for floating in seat.addresses):
                return seat.plan.mac
        return None


class Pings:
    """What came of pinging one address every `interval` ns. Goes on until `stop`."""

    def __init__(self, client: Client, address: IPv4Address, interval: int) -> None:
        self.address = address
        self.interval = interval
        self.sent_at: list[int] = []
        self.answered_at: list[int | None] = []
        self._client = client
        self._running = True

    def stop(self) -> None:
        self._running = False

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    @property
    def received(self) -> int:
        return sum(at is not None for at in self.answered_at)

    def outages(self, *, patience: int = 100 * MILLISECOND) -> list[Outage]:
        """Every run of unanswered pings. At the end of the list a ping counts as lost only `patience` ns after it."""
        found: list[Outage] = []
        start, lost = None, 0
        for sent, answered in zip(self.sent_at, self.answered_at, strict=True):
            if answered is None:
                start = sent if start is None else start
                lost += 1
            elif start is not None:
                found.append(Outage(start, sent, lost))
                start, lost = None, 0
        now = self._client.lan.now
        if start is not None and now - start >= patience:
            found.append(Outage(start, now, lost))
        return found

    def _next(self) -> None:
        if not self._running:
            return
        self.sent_at.append(self._client.lan.now)
        self.answered_at.append(None)
        self._client.lan.after(self.interval, self._next)
        self._client._ping(self.address, self.sent - 1)

    def _answered(self, number: int) -> None:
        if number < len(self.answered_at) and self.answered_at[number] is None:
            self.answered_at[number] = self._client.lan.now


class Client(Station):
    """Somebody who only wants the service: an ARP table and pings, nothing of CARP.

    `neighbours` is the ARP table. It learns from replies, and from every ARP packet of an address that it knows already
    (RFC 826), so a gratuitous ARP moves it to the new owner. Entries do not age.
    """

    def __init__(self, lan: Lan, name: str, address: str) -> None:
        super().__init__(lan, name, address)
        own = self.addresses[0].ip
        if not isinstance(own, IPv4Address):
            raise ValueError(f"{address} is not IPv4: a simulated client pings by ARP")
        self._own = own
        self.neighbours: dict[IPv4Address, bytes] = {}
        self._waiting: dict[IPv4Address, list[bytes]] = {}
        self._pings: list[Pings] = []

    def ping(self, address: str, *, interval: int = 10 * MILLISECOND) -> Pings:
        """Ping an address from now on, every `interval` ns."""
        pings = Pings(self, IPv4Address(address), interval)
        self._pings.append(pings)
        self.lan.after(0, pings._next)
        return pings

    def _ping(self, address: IPv4Address, number: int) -> None:
        stream = next(index for index, pings in enumerate(self._pings) if pings.address == address)
        body = struct.pack("!HHQ", stream, number & 0xFFFF, number)
        if address in self.neighbours:
            self.send(_build_echo(_ECHO_REQUEST, self.neighbours[address], self.mac, self._own, address, body))
            return
        waiting = self._waiting.setdefault(address, [])
        if not waiting:
            self._ask(address)
        waiting.append(body)
        del waiting[:-_ARP_QUEUE]

    def _ask(self, address: IPv4Address) -> None:
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.mac + self._own.packed + bytes(6) + address.packed
        self.send(_BROADCAST + self.mac + _ARP + body)
        self.lan.after(_ARP_RETRY, lambda: self._ask(address) if address in self._waiting else None)

    def _frame(self, frame: bytes) -> None:
        kind = frame[12:14]
        if kind == _ARP:
            self._learn(frame)
        elif kind == _IPV4 and frame[0:6] == self.mac:
            answer = _dissect_echo(frame, _ECHO_REPLY)
            if answer is not None and answer.destination == self._own and len(answer.body) == 12:
                stream, _, number = struct.unpack("!HHQ", answer.body)
                if stream < len(self._pings):
                    self._pings[stream]._answered(number)

    def _learn(self, frame: bytes) -> None:
        heard = _dissect_arp(frame)
        if heard is None:
            return
        if heard.operation == 1 and heard.target == self._own and heard.sender != self._own:
            self.send(current.packet.arp_reply(self.mac, self._own, heard.sender_mac, heard.sender))
        if heard.sender in self.neighbours or heard.sender in self._waiting:
            self.neighbours[heard.sender] = heard.sender_mac
            for body in self._waiting.pop(heard.sender, ()):
                self.send(_build_echo(_ECHO_REQUEST, heard.sender_mac, self.mac, self._own, heard.sender, body))


class Probe(Station):
    """A plain port on the switch: `send` puts any frame there, `received` has all that came, with their times."""

    def __init__(self, lan: Lan, name: str) -> None:
        super().__init__(lan, name, ())
        self.received: list[tuple[int, bytes]] = []

    def _frame(self, frame: bytes) -> None:
        self.received.append((self.lan.now, frame))


# Frames of the LAN that are not CARP's


@dataclass(frozen=True, slots=True)
class _Arp:
    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class _Echo:
    source: IPv4Address
    destination: IPv4Address
    body: bytes


def _dissect_arp(frame: bytes) -> _Arp | None:
    if len(frame) < 42 or frame[14:20] != b"\x00\x01\x08\x00\x06\x04":
        return None
    operation = int.from_bytes(frame[20:22], "big")
    return _Arp(operation, frame[22:28], IPv4Address(frame[28:32]), IPv4Address(frame[38:42]))


def _build_echo(
    kind: int, to_mac: bytes, mac: bytes, source: IPv4Address, destination: IPv4Address, body: bytes
) -> bytes:
    icmp = struct.pack("!BBH", kind, 0, 0) + body
    icmp = icmp[:2] + current.packet.checksum(icmp).to_bytes(2, "big") + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, _ICMP, 0, source.packed, destination.packed)
    ip = ip[:10] + current.packet.checksum(ip).to_bytes(2, "big") + ip[12:]
    return to_mac + mac + _IPV4 + ip + icmp


def _dissect_echo(frame: bytes, kind: int) -> _Echo | None:
    if len(frame) < 38 or frame[14] != 0x45 or frame[23] != _ICMP or frame[34] != kind:
        return None
    return _Echo(IPv4Address(frame[26:30]), IPv4Address(frame[30:34]), frame[38:])
