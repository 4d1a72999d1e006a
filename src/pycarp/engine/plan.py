"""Everything about a virtual host's wire that can be prepared before the first packet, as bytes.

The runtime sends only what a plan holds. The other half of the plan, the netlink requests that take and drop the
addresses, is kept ready by `linux.device`.

Thread: any caller
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from .._records import dataclass, replace
from .._unpatched import time
from ..config import VirtualHost
from ..protocol import BOWOUT, Advert
from ..protocol.abc import EVERYTHING, AdvertTemplate, Authenticator, Hearing, Implementation, IPAddress
from ..protocol.frames import gratuitous_arp, gratuitous_arp_reply, neighbour_advertisement, virtual_mac
from . import change
from .destinations import HEADER_LENGTHS, Destination, aimed_families, destinations, hearing


@dataclass(frozen=True, slots=True)
class Plan:
    """What one virtual host says on its carpdev.

    `mac` is the source of every frame; `templates` pairs each family in use (4, 6) with its advert, and is empty for a
    led virtual host, which sends none; `announce_frames`
    are whole frames, one for each address; `packed` are the addresses as bytes. The authenticator learns from peers
    and is handed on from plan to plan while passphrase, vhid and addresses stay, and those to change to.
    `signed_bowouts` are the counters and digests of a bow-out, signed ahead under every dialect that is understood: the
    guardian sends them when nobody here can sign.
    `destinations` are those of the families in `aimed`; the others' adverts go to the group. `hearing` is for `Input`.
    """

    host: VirtualHost
    mac: bytes
    templates: tuple[tuple[int, AdvertTemplate], ...]
    announce_frames: tuple[bytes, ...]
    packed: tuple[bytes, ...]
    authenticator: Authenticator
    signed_bowouts: tuple[tuple[bytes, bytes], ...]
    aimed: tuple[int, ...] = ()
    destinations: tuple[Destination, ...] = ()
    hearing: Hearing = EVERYTHING

    @property
    def virtual(self) -> bool:
        """Whether the addresses have the group's MAC, not the carpdev's."""
        return self.mac == virtual_mac(self.host.vhid)

    @property
    def bowouts(self) -> tuple[bytes, ...]:
        """The frames of the bow-out that is signed already."""
        return tuple(
            frame
            for counter, digest in self.signed_bowouts
            for family, template in self.templates
            for frame in self.aim(family, template.frame(BOWOUT, BOWOUT, counter, digest))
        )

    def aim(self, family: int, frame: bytes) -> Iterator[bytes]:
        """A frame that is made for the group, once for each address that adverts of the family go to."""
        if family not in self.aimed:
            yield frame
            return
        for one in self.destinations:
            if one.address.version == family:
                yield one.header + frame[HEADER_LENGTHS[family] :]

    def is_to(self, family: int, frame: bytes, address: IPAddress | None) -> bool:
        """Whether a frame of `adverts` is for the host at this address, or for all of a group."""
        if family not in self.aimed:
            return True
        to = ip_address(frame[30:34] if family == 4 else frame[38:54])
        return to.is_multicast or to == address

    @property
    def says_demotion(self) -> bool:
        """Whether adverts bear their sender's demotion."""
        return self.host.demotion in ("auto", "obey")

    def obeyed(self, advert: Advert, dialect: str, own: int, same_for: int) -> int | None:
        """The demotion byte of an advert where that is to be obeyed. What is 0 there and here (`own`) decides nothing.

        `same_for` is for how many ns every advert of its sender has had this counter. For longer than an interval only
        OpenBSD's has: a frame that comes twice, or again and again, does so beside its sender's own next one.
        """
        whose, said = self.host.demotion, advert.demotion
        if whose == "obey":
            return said
        if whose != "auto" or said == own == 0:
            return None
        constant = 4 * same_for >= 5 * self.host.interval
        known = constant or self.authenticator.vouches(advert.counter, advert.advbase, advert.advskew, dialect, said)
        return said if known else None

    def pace(self, advert: Advert, dialect: str) -> int:
        """The code of the pace that an advert says, where it is vouched for."""
        return self.authenticator.pace(advert.counter, dialect)

    def adverts(
        self, advbase: int, advskew: int, nonce: int, demotion: int = 0, serial: int = 0, pace: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """The frames of one advert, with the family of each: one for each family, dialect and destination."""
        said = demotion if self.says_demotion else None
        for dialect in self.authenticator.dialects:
            counter = self.authenticator.counter(advbase, advskew, nonce, dialect, said, serial, pace)
            digest = self.authenticator.sign(counter, dialect)
            for family, template in self.templates:
                for frame in self.aim(family, template.frame(advbase, advskew, counter, digest, demotion)):
                    yield family, frame


def make_plan(
    implementation: Implementation,
    host: VirtualHost,
    carpdev_mac: bytes,
    sources: dict[int, IPAddress],
    former: Plan | None = None,
    router: bool = False,
    own: Iterable[IPv4Interface | IPv6Interface] = (),
) -> Plan:
    """Prepare a virtual host for its carpdev, with the templates and the authenticator of one implementation.

    `sources` has the carpdev's own address for each family that it has one in; where it has none the (first) virtual
    address speaks for itself, as seen on NetBSD. `former` is the plan that this one replaces; `router`
    says whether the carpdev forwards IPv6. `own` are its usable addresses, which peers are sent to from.
    """
    mac = virtual_mac(host.vhid) if host.mac == "virtual" else carpdev_mac
    addresses = [address.ip for address in host.addresses]
    templates = []
    for family in () if host.led else host.families:
        source = sources.get(family) or next(ip for ip in addresses if ip.version == family)
        templates.append((family, implementation.packet.AdvertTemplate(host.vhid, mac, source)))
    announce_frames = tuple(frame for ip in addresses for frame in _announcements(mac, ip, router))
    if former is not None and change.same(former.host, host):
        # A running runtime has this authenticator: nobody else signs with it.
        authenticator, signed_bowouts = former.authenticator, former.signed_bowouts
    else:
        authenticator = implementation.auth.Authenticator(
            host.passphrase, host.vhid, host.signed, host.dialect, host.replay, host.following
        )
        signed_bowouts = tuple(_signed_bowouts(authenticator))
        if former is not None:
            change.go_on(authenticator, host, former)
    packed = tuple(ip.packed for ip in addresses)
    plan = Plan(host, mac, tuple(templates), announce_frames, packed, authenticator, signed_bowouts)
    return _aimed(plan, sources, own, former) if aimed_families(host) else plan


def _announcements(mac: bytes, ip: IPAddress, router: bool) -> tuple[bytes, ...]:
    """What says where an address is. In both forms of ARP: BSDs send the request; some devices heed replies alone."""
    if ip.version == 6:
        return (neighbour_advertisement(mac, ip, router),)
    return gratuitous_arp(mac, ip), gratuitous_arp_reply(mac, ip)


def _aimed(
    plan: Plan,
    sources: dict[int, IPAddress],
    own: Iterable[IPv4Interface | IPv6Interface],
    former: Plan | None,
) -> Plan:
    known = former.destinations if former is not None else ()
    found = destinations(plan.host, plan.templates, sources, own, known)
    return replace(plan, aimed=aimed_families(plan.host), destinations=found, hearing=hearing(plan.host, found))


def _signed_bowouts(authenticator: Authenticator) -> Iterator[tuple[bytes, bytes]]:
    for dialect in authenticator.accepts:
        counter = authenticator.counter(BOWOUT, BOWOUT, os.urandom(1)[0], dialect, serial=int(time.time()))
        yield counter, authenticator.sign(counter, dialect)
