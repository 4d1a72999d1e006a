"""The input path: is this frame an advert for us, and is it to be believed? The kernel's checks in the kernel's order.

Source: NetBSD `carp_input`, `carp_proto_input`, `carp6_proto_input`, `carp_proto_input_c`, checked against recorded
behaviour (tests/vectors/netbsd-behaviour.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

from .._records import fields
from ..protocol import CARP_VERSION, Advert, State, abc
from ..protocol.abc import EVERYTHING, Datagram, Hearing, Verdict
from ..protocol.checks import HINTS, MAYBE_VRRP, first_fault, vrrp_router
from ..stats import Stats
from . import packet
from .auth import Authenticator
from .forgeries import Forgeries
from .serials import Serials
from .siblings import Search

IGNORED = "ignored"
"""The verdict on a frame that no IP layer would have handed to CARP: nothing is counted."""

_EVERYBODY = {IPv4Address("224.0.0.1").packed, IPv4Address("255.255.255.255").packed, IPv6Address("ff02::1").packed}


class _Instance:
    """What the input path knows of an instance."""

    __slots__ = ("addresses", "authenticator", "hearing", "mac", "serials", "siblings", "state", "stats")

    def __init__(
        self,
        authenticator: abc.Authenticator,
        mac: bytes,
        addresses: frozenset[bytes],
        siblings: bool,
        hearing: Hearing,
    ) -> None:
        self.authenticator = authenticator
        self.mac = mac
        self.addresses = addresses
        self.siblings = siblings
        self.hearing = hearing
        self.state = State.INIT
        self.stats = Stats()
        self.serials = Serials()


class Input:
    """The input path of one carpdev and the instances on it.

    `allow` is net.inet.carp.allow: while False every advert is counted and dropped. `wall` is what the wall clock is
    before the `now` of `receive`, in ns.
    """

    __slots__ = (
        "_addresses",
        "_broadcasts",
        "_forgeries",
        "_groups",
        "_instances",
        "_mac",
        "_search",
        "_unclaimed",
        "allow",
        "wall",
    )

    def __init__(self) -> None:
        self.allow = True
        self.wall = 0
        self._mac = b""
        self._addresses: frozenset[bytes] = frozenset()
        self._broadcasts: frozenset[bytes] = frozenset()
        self._groups = EVERYTHING.groups
        self._instances: dict[int, _Instance] = {}
        self._unclaimed = Stats()
        self._search = Search()
        self._forgeries = Forgeries()

    def set_carpdev(self, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev's MAC and addresses, which tell what came for the host itself and not for its group."""
        self._forgeries.forget()
        addresses = tuple(addresses)
        self._mac = mac
        self._addresses = frozenset(address.packed for address in addresses)
        self._broadcasts = frozenset(
            address.network.broadcast_address.packed
            for address in addresses
            if address.version == 4 and address.network.prefixlen < 31
        )

    def set_instance(
        self,
        vhid: int,
        authenticator: abc.Authenticator,
        mac: bytes,
        addresses: Iterable[bytes],
        siblings: bool = True,
        hearing: Hearing | None = None,
    ) -> None:
        """Add an instance, or change what is known of it; `addresses` are packed. Its counters and state stay.

        With `siblings`, and with this package's own authenticator, adverts of vhids that nobody here has are tried as
        well. `hearing`: where its adverts are sent to, carp(4)'s groups without it.
        """
        if vhid not in range(256):
            raise ValueError(f"vhid {vhid!r} is not a number of 0-255")
        instance = _Instance(authenticator, mac, frozenset(addresses), siblings, hearing or EVERYTHING)
        former = self._instances.get(vhid)
        if former is not None:
            instance.state, instance.stats, instance.serials = former.state, former.stats, former.serials
            if former.authenticator is not authenticator:
                self._search.forget(vhid)
        self._instances[vhid] = instance
        self._forgeries.forget()
        self._note_groups()

    def set_state(self, vhid: int, state: State) -> None:
        """In INIT an instance hears nothing (badvhid); as MASTER it also hears what comes for its own MAC."""
        self._instances[vhid].state = state
        self._forgeries.forget()

    def remove_instance(self, vhid: int) -> None:
        """Forget an instance and its counters."""
        del self._instances[vhid]
        self._search.forget(vhid)
        self._forgeries.forget()
        self._note_groups()

    def _note_groups(self) -> None:
        """All that somebody may send adverts to: who does not hear them counts them."""
        self._groups = EVERYTHING.groups.union(*(one.hearing.groups for one in self._instances.values()))

    def stats(self, vhid: int | None = None) -> Stats:
        """The counters of one instance, including what came to its carpdev for no instance at all.

        Without `vhid`, those of the carpdev. A copy: it does not change later.
        """
        instances = self._instances.values() if vhid is None else (self._instances[vhid],)
        parts = [self._unclaimed, *(instance.stats for instance in instances)]
        return Stats(*(sum(getattr(part, field.name) for part in parts) for field in fields(Stats)))

    def count_sent(self, vhid: int, family: int) -> None:
        """One advert of an instance went out in a family (4 or 6)."""
        _count(self._instances[vhid].stats, "opackets" if family == 4 else "opackets6")

    def receive(self, frame: bytes, now: int = 0) -> Verdict:
        """Take one Ethernet frame, which came at `now` (ns), through all checks, count it, and say what came of it.

        Never raises on hostile bytes.
        """
        datagram = packet.dissect(frame)
        if datagram is None:
            return Verdict(IGNORED)
        payload = datagram.payload
        instance = self._instances.get(payload[1]) if len(payload) > 1 else None
        for_carp, for_carpdev = (True, False) if self._of_peer(datagram, instance) else self._delivery(datagram)
        if not for_carp and not for_carpdev:
            return Verdict(IGNORED)
        stats = self._unclaimed if instance is None else instance.stats
        packets = "ipackets" if datagram.family == 4 else "ipackets6"
        advert = packet.advert(datagram)
        verdict = Verdict("allow", advert)
        if for_carpdev:
            # The kernel hands a frame for everybody to the carpdev as well, which is no carp interface.
            _count(stats, packets)
            if self.allow:
                verdict = Verdict("badif", advert, None if for_carp else self._signed(datagram, advert, instance))
                _count(stats, "badif")
        if for_carp:
            _count(stats, packets)
            if self.allow:
                verdict = self._check(datagram, advert, instance, now)
                if verdict.counter in HINTS:
                    _count(stats, verdict.counter)
        if verdict.counter in MAYBE_VRRP and (router := vrrp_router(payload)) is not None:
            return verdict._replace(vrrp=str(ip_address(datagram.source)), vrrp_router=router)
        if verdict.counter == "badauth" and not for_carpdev and instance is not None:
            # As in the compiled twin, not for subclasses: one may verify in its own way.
            if type(instance.authenticator) is Authenticator:
                self._forgeries.note(bytes(frame), datagram, stats, instance.authenticator._every_mac())
        return verdict

    def receive_many(self, frames: Sequence[bytes], now: int = 0) -> list[Verdict]:
        """Take frames that waited, one after the other: the verdicts of `receive`."""
        return [self.receive(frame, now) for frame in frames]

    def _signed(self, datagram: Datagram, advert: Advert | None, instance: _Instance | None) -> str | None:
        """The dialect of an advert that would be valid if it had been sent to the group."""
        known = instance is not None and instance.state is not State.INIT
        if advert is None or instance is None or first_fault(datagram, advert, packet.checksum_ok, known):
            return None
        # As in the compiled twin, not for subclasses: one may verify in its own way.
        own = type(instance.authenticator) is Authenticator
        return instance.authenticator.verify(advert.counter, advert.digest) if own else None

    def _check(self, datagram: Datagram, advert: Advert | None, instance: _Instance | None, now: int) -> Verdict:
        """What the carp interface makes of it."""
        known = instance is not None and instance.state is not State.INIT and self._heard(datagram, instance)
        any_ttl = instance is not None and datagram.source in instance.hearing.routed
        fault = first_fault(datagram, advert, packet.checksum_ok, known, any_ttl)
        if advert is not None and instance is None and fault == "badvhid":
            return self._seek(datagram, advert, now)
        if advert is None or instance is None or fault:
            return Verdict(fault, advert)
        dialect = instance.authenticator.verify(advert.counter, advert.digest)
        if dialect is None:
            return Verdict("badauth", advert)
        return self._guard(instance.authenticator, instance, datagram, advert, dialect, now)

    def _seek(self, datagram: Datagram, advert: Advert, now: int) -> Verdict:
        """What an advert is whose vhid nobody here has."""
        if advert.vhid == 0 or advert.version != CARP_VERSION:
            return Verdict("badvhid", advert)
        instances = {
            vhid: instance.authenticator
            for vhid, instance in sorted(self._instances.items())
            # As in the compiled twin, not for subclasses: one may verify in its own way.
            if instance.siblings and instance.state is not State.INIT and type(instance.authenticator) is Authenticator
        }
        found = self._search.find(instances, advert, now)
        if found is None:
            return Verdict("badvhid", advert)
        # A kernel counts it so, whatever else it is to us.
        _count(self._unclaimed, "badvhid")
        return self._guard(found[1], self._instances[found[0]], datagram, advert, found[2], now, found[0])

    def _guard(
        self,
        authenticator: abc.Authenticator,
        instance: _Instance,
        datagram: Datagram,
        advert: Advert,
        dialect: str,
        now: int,
        sibling_of: int | None = None,
    ) -> Verdict:
        """What an advert is whose digest is right under the authenticator."""
        counter, header = advert.counter, (advert.demotion, advert.advbase, advert.advskew)
        wrong = authenticator.check(counter, advert.advbase, advert.advskew, dialect, advert.demotion)
        # As in the compiled twin, not for subclasses: one may judge in its own way.
        ours = type(authenticator) is Authenticator
        same = (counter[3], counter[6], counter[7]) == header
        # All bow-outs of a second are much alike: one from another address is no echo.
        if wrong == "echo" and ours and same and advert.bowout:
            wrong = "echo" if datagram.source in self._addresses | instance.addresses else ""
        if wrong:
            return Verdict(wrong, advert)
        if ours and authenticator.guards and same:
            believed = instance.serials.judge(
                datagram.source,
                advert,
                now,
                self.wall,
                master=instance.state is State.MASTER,
                to_group=bool(datagram.destination_mac[0] & 1),
                authenticator=authenticator,
                dialect=dialect,
            )
            if not believed:
                return Verdict("replayed", advert)
        pace = counter[2] >> 4
        # Most counters without our tag show it by the header that they do not repeat.
        repeated = counter[6] == advert.advbase and counter[7] == advert.advskew
        if pace and not (repeated and authenticator.tagged(counter, dialect)):
            pace = 0
        return Verdict("" if sibling_of is None else "sibling", advert, dialect, sibling_of, pace=pace)

    def _of_peer(self, datagram: Datagram, instance: _Instance | None) -> bool:
        """Whether this was sent to the host by a peer of the instance, or, of another vhid, by that of any."""
        if datagram.destination not in self._addresses:
            return False
        among = self._instances.values() if instance is None else (instance,)
        if not any(datagram.source in one.hearing.peers for one in among):
            return False
        mac = datagram.destination_mac
        # A peer that does not know our MAC sends to those that look for it.
        return bool(mac[0] & 1) or mac == self._mac or any(mac == one.mac for one in self._instances.values())

    def _heard(self, datagram: Datagram, instance: _Instance) -> bool:
        """Whether the instance listens to the group that this was sent to, if it was sent to one."""
        return datagram.destination not in self._groups or datagram.destination in instance.hearing.groups

    def _delivery(self, datagram: Datagram) -> tuple[bool, bool]:
        """Which interfaces the kernel would hand this to: (a carp interface, the carpdev itself)."""
        destination = datagram.destination
        if datagram.destination_mac[0] & 1:
            if destination in self._groups:
                return True, False
            everybody = destination in _EVERYBODY or destination in self._broadcasts
            return everybody, everybody
        if destination in self._groups:
            # An access point or a bridge has turned the multicast into unicasts.
            mac = datagram.destination_mac
            return mac == self._mac or any(mac == instance.mac for instance in self._instances.values()), False
        # The carpdev's own MAC may also be the virtual host's (mac="interface"): then what comes for its address is
        # its.
        for instance in self._instances.values():
            if instance.state is State.MASTER and datagram.destination_mac == instance.mac:
                if destination in instance.addresses or destination in _EVERYBODY:
                    return True, False
        if datagram.destination_mac == self._mac:
            local = destination in self._addresses or any(destination in s.addresses for s in self._instances.values())
            return False, local
        return False, False


def _count(stats: Stats, counter: str) -> None:
    setattr(stats, counter, getattr(stats, counter) + 1)
