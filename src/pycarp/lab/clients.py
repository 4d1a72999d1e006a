"""A client on a simulated LAN: it has an ARP table, pings an address, and knows afterwards when nobody answered."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from .._records import dataclass
from ..protocol.frames import arp_reply
from .frames import ARP, ECHO_REPLY, ECHO_REQUEST, IPV4, build_arp_request, build_echo, dissect_arp, dissect_echo
from .network import MILLISECOND, SECOND, Network, Station

_ARP_RETRY = SECOND
_ARP_QUEUE = 3
"""Like Linux, a client that waits for an ARP reply keeps this many packets and drops older ones."""
_BODY = struct.Struct("!HHQ")


@dataclass(frozen=True, slots=True)
class Outage:
    """A run of `lost` pings without an answer: from the first of them until the next ping that was answered."""

    start: int
    end: int
    lost: int

    @property
    def duration(self) -> int:
        return self.end - self.start


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

    def requests(self) -> list[tuple[int, int | None]]:
        """When each ping was sent, and when it was answered, if it was."""
        return list(zip(self.sent_at, self.answered_at, strict=True))

    def outages(self, *, lost_after: int = 100 * MILLISECOND) -> list[Outage]:
        """Every run of unanswered pings. At the end of the list a ping counts as lost only `lost_after` ns after it."""
        found: list[Outage] = []
        start, lost = None, 0
        for sent, answered in self.requests():
            if answered is None:
                start = sent if start is None else start
                lost += 1
            elif start is not None:
                found.append(Outage(start, sent, lost))
                start, lost = None, 0
        now = self._client.lan.now
        if start is not None and now - start >= lost_after:
            found.append(Outage(start, now, lost))
        return found

    def next(self) -> None:
        """Send one ping now, and the next one after `interval`."""
        if not self._running:
            return
        lan = self._client.lan
        self.sent_at.append(lan.now)
        self.answered_at.append(None)
        lan.after(self.interval, self.next)
        self._client.ask(self, self.sent - 1)

    def answer(self, number: int) -> None:
        """The ping of this number is answered now."""
        if number < len(self.answered_at) and self.answered_at[number] is None:
            self.answered_at[number] = self._client.lan.now


class Client(Station):
    """A user of the service: an ARP table and pings, nothing of CARP.

    `neighbours` is the ARP table. It learns from replies, and from every ARP packet of an address that it knows already
    (RFC 826): a gratuitous ARP moves an entry to the new owner. Entries do not age.
    """

    def __init__(self, lan: Network, name: str, address: str) -> None:
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
        self.lan.after(0, pings.next)
        return pings

    def ask(self, pings: Pings, number: int) -> None:
        """Send one ping, or keep it until the address is known."""
        address = pings.address
        body = _BODY.pack(self._pings.index(pings), number & 0xFFFF, number)
        if address in self.neighbours:
            self.send(build_echo(ECHO_REQUEST, self.neighbours[address], self.mac, self._own, address, body))
            return
        waiting = self._waiting.setdefault(address, [])
        if not waiting:
            self._resolve(address)
        waiting.append(body)
        del waiting[:-_ARP_QUEUE]

    def _resolve(self, address: IPv4Address) -> None:
        self.send(build_arp_request(self.mac, self._own, address))
        self.lan.after(_ARP_RETRY, lambda: self._resolve(address) if address in self._waiting else None)

    def _frame(self, frame: bytes) -> None:
        kind = frame[12:14]
        if kind == ARP:
            self._learn(frame)
        elif kind == IPV4 and frame[0:6] == self.mac:
            answer = dissect_echo(frame, ECHO_REPLY)
            if answer is not None and answer.destination == self._own and len(answer.body) == _BODY.size:
                stream, _, number = _BODY.unpack(answer.body)
                if stream < len(self._pings):
                    self._pings[stream].answer(number)

    def _learn(self, frame: bytes) -> None:
        heard = dissect_arp(frame)
        if heard is None:
            return
        if heard.operation == 1 and heard.target == self._own and heard.sender != self._own:
            self.send(arp_reply(self.mac, self._own, heard.sender_mac, heard.sender))
        if heard.sender in self.neighbours or heard.sender in self._waiting:
            self.neighbours[heard.sender] = heard.sender_mac
            for body in self._waiting.pop(heard.sender, ()):
                self.send(build_echo(ECHO_REQUEST, heard.sender_mac, self.mac, self._own, heard.sender, body))
