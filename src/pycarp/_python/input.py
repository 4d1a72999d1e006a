"""The input path: is this frame an advert for us, and is it to be believed? The kernel's checks in the kernel's order.

Source: NetBSD `carp_input`, `carp_proto_input`, `carp6_proto_input`, `carp_proto_input_c`, checked against recorded
behaviour (tests/vectors/netbsd-behaviour.json).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from ..protocol import CARP_HEADER_LENGTH, CARP_TTL, CARP_VERSION, GROUP_IPV4, GROUP_IPV6, Advert, State
from ..protocol.abc import Authenticator, Datagram, Verdict
from ..stats import Stats
from . import auth, packet
from .siblings import Search

IGNORED = "ignored"
"""The verdict on a frame that no IP layer would have handed to CARP: nothing is counted."""

_GROUPS = {IPv4Address(GROUP_IPV4).packed, IPv6Address(GROUP_IPV6).packed}
_EVERYBODY = {IPv4Address("224.0.0.1").packed, IPv4Address("255.255.255.255").packed, IPv6Address("ff02::1").packed}


class _Instance:
    """What the input path knows of an instance."""

    __slots__ = ("addresses", "authenticator", "mac", "siblings", "state", "stats")

    def __init__(self, authenticator: Authenticator, mac: bytes, addresses: frozenset[bytes], siblings: bool) -> None:
        self.authenticator = authenticator
        self.mac = mac
        self.addresses = addresses
        self.siblings = siblings
        self.state = State.INIT
        self.stats = Stats()


class Input:
    """The input path of one carpdev and the instances on it.

    `allow` is net.inet.carp.allow: while False every advert is counted and dropped.
    """

    __slots__ = ("_addresses", "_broadcasts", "_instances", "_mac", "_search", "_unclaimed", "allow")

    def __init__(self) -> None:
        self.allow = True
        self._mac = b""
        self._addresses: frozenset[bytes] = frozenset()
        self._broadcasts: frozenset[bytes] = frozenset()
        self._instances: dict[int, _Instance] = {}
        self._unclaimed = Stats()
        self._search = Search()

    def set_carpdev(self, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev's MAC and addresses, which tell what came for the host itself and not for its group."""
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
        authenticator: Authenticator,
        mac: bytes,
        addresses: Iterable[bytes],
        siblings: bool = True,
    ) -> None:
        """Add an instance, or change what is known of it; `addresses` are packed. Its counters and state stay.

        With `siblings`, and with this package's own authenticator, adverts of vhids that nobody here has are tried as
        well.
        """
        if vhid not in range(256):
            raise ValueError(f"vhid {vhid!r} is not a number of 0-255")
        instance = _Instance(authenticator, mac, frozenset(addresses), siblings)
        former = self._instances.get(vhid)
        if former is not None:
            instance.state, instance.stats = former.state, former.stats
            if former.authenticator is not authenticator:
                self._search.forget(vhid)
        self._instances[vhid] = instance

    def set_state(self, vhid: int, state: State) -> None:
        """In INIT an instance hears nothing (badvhid); as MASTER it also hears what comes for its own MAC."""
        self._instances[vhid].state = state

    def remove_instance(self, vhid: int) -> None:
        """Forget an instance and its counters."""
        del self._instances[vhid]
        self._search.forget(vhid)

    def stats(self, vhid: int | None = None) -> Stats:
        """The counters of one instance, including what came to its carpdev for no instance at all.

        Without `vhid`, those of the carpdev. A copy: it does not change later.
        """
        parts = [self._unclaimed]
        parts += (
            [instance.stats for instance in self._instances.values()] if vhid is None else [self._instances[vhid].stats]
        )
        return Stats(*(sum(getattr(part, field.name) for part in parts) for field in fields(Stats)))

    def count_sent(self, vhid: int, family: int) -> None:
        """One advert of an instance went out in a family (4 or 6)."""
        stats = self._instances[vhid].stats
        if family == 4:
            stats.opackets += 1
        else:
            stats.opackets6 += 1

    def receive(self, frame: bytes, now: int = 0) -> Verdict:
        """Take one Ethernet frame, which came at `now` (ns), through all checks, count it, and say what came of it.

        Never raises on hostile bytes.
        """
        datagram = packet.dissect(frame)
        if datagram is None:
            return Verdict(IGNORED)
        for_carp, for_carpdev = self._delivery(datagram)
        if not for_carp and not for_carpdev:
            return Verdict(IGNORED)
        payload = datagram.payload
        instance = self._instances.get(payload[1]) if len(payload) > 1 else None
        stats = self._unclaimed if instance is None else instance.stats
        if for_carpdev:
            # The kernel hands a frame for everybody to the carpdev as well, which is no carp interface.
            _count(stats, datagram.family)
            if self.allow:
                stats.badif += 1
        advert = packet.advert(datagram)
        if not for_carp:
            return Verdict("badif" if self.allow else "allow", advert)
        _count(stats, datagram.family)
        if not self.allow:
            return Verdict("allow", advert)
        if datagram.ttl != CARP_TTL:
            stats.badttl += 1
            return Verdict("badttl", advert)
        if len(payload) < CARP_HEADER_LENGTH or advert is None:
            stats.badlen += 1
            return Verdict("badlen")
        if not packet.checksum_ok(datagram):
            stats.badsum += 1
            return Verdict("badsum", advert)
        if instance is None or instance.state is State.INIT:
            stats.badvhid += 1
            return Verdict("badvhid", advert) if instance is not None else self._seek(advert, now)
        if advert.version != CARP_VERSION:
            stats.badver += 1
            return Verdict("badver", advert)
        dialect = instance.authenticator.verify(advert.counter, advert.digest)
        if dialect is None:
            stats.badauth += 1
            return Verdict("badauth", advert)
        wrong = _guard(instance.authenticator, advert, dialect, stats)
        return Verdict(wrong, advert) if wrong else Verdict("", advert, dialect)

    def _seek(self, advert: Advert, now: int) -> Verdict:
        """What an advert is whose vhid nobody here has."""
        if advert.vhid == 0 or advert.version != CARP_VERSION:
            return Verdict("badvhid", advert)
        instances = {
            vhid: instance.authenticator
            for vhid, instance in sorted(self._instances.items())
            # As in the compiled twin, not for subclasses: one may verify in its own way.
            if instance.siblings
            and instance.state is not State.INIT
            and type(instance.authenticator) is auth.Authenticator
        }
        found = self._search.find(instances, advert, now)
        if found is None:
            return Verdict("badvhid", advert)
        vhid, authenticator, dialect = found
        wrong = _guard(authenticator, advert, dialect, self._unclaimed)
        return Verdict(wrong, advert) if wrong else Verdict("sibling", advert, dialect, vhid)

    def _delivery(self, datagram: Datagram) -> tuple[bool, bool]:
        """Which interfaces the kernel would hand this to: (a carp interface, the carpdev itself)."""
        destination = datagram.destination
        if datagram.destination_mac[0] & 1:
            if destination in _GROUPS:
                return True, False
            everybody = destination in _EVERYBODY or destination in self._broadcasts
            return everybody, everybody
        # The carpdev's own MAC may also be the virtual host's (mac="interface"): then what comes for its address is
        # its.
        for instance in self._instances.values():
            if instance.state is State.MASTER and datagram.destination_mac == instance.mac:
                if destination in instance.addresses or destination in _GROUPS or destination in _EVERYBODY:
                    return True, False
        if datagram.destination_mac == self._mac:
            local = destination in self._addresses or any(destination in s.addresses for s in self._instances.values())
            return False, local
        return False, False


def _guard(authenticator: Authenticator, advert: Advert, dialect: str, stats: Stats) -> str:
    """What is wrong with an advert whose digest is right, counted; "" for nothing."""
    wrong = authenticator.check(advert.counter, advert.advbase, advert.advskew, dialect)
    if wrong == "echo":
        stats.echo += 1
    elif wrong:
        stats.altered += 1
    return wrong


def _count(stats: Stats, family: int) -> None:
    if family == 4:
        stats.ipackets += 1
    else:
        stats.ipackets6 += 1
