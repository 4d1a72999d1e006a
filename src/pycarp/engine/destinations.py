"""Where adverts go when they do not go to carp(4)'s multicast groups: to each peer alone, or to a group of another
address.

The frames differ in their Ethernet and IP headers only. A plan has these ready, and the runtimes put them before what
they have signed. Source: OpenBSD `carp_send_ad` (carppeer), FreeBSD `carp_send_ad_locked` (peer, peer6).

Thread: any caller
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface

from .._records import dataclass, replace
from ..config import VirtualHost
from ..linux.sockets import multicast_mac
from ..protocol import GROUPS
from ..protocol.abc import AdvertTemplate, Hearing, IPAddress
from ..protocol.frames import checksum

HEADER_LENGTHS = {4: 14 + 20, 6: 14 + 40}
_BROADCAST = b"\xff" * 6


@dataclass(frozen=True, slots=True)
class Destination:
    """One address that adverts go to, and what stands before them; `routed`: it is in no subnet of the carpdev.

    While nobody has told a peer's MAC, `header` has `finding_mac` of its address.
    """

    address: IPAddress
    header: bytes
    routed: bool = False

    @property
    def mac(self) -> bytes:
        return self.header[:6]

    @property
    def peer(self) -> bool:
        return not self.address.is_multicast

    @property
    def found(self) -> bool:
        """Whether the MAC is that of one host."""
        return not self.header[0] & 1

    def at(self, mac: bytes) -> Destination:
        """The same with another MAC; without one, that by which the peer is looked for."""
        return replace(self, header=(mac or finding_mac(self.address)) + self.header[6:])


def finding_mac(address: IPAddress) -> bytes:
    """Where the frames go that ask for the MAC of an address: a switch passes them, or nobody finds anybody.

    Broadcast for IPv4, the multicast of the solicited-node address (RFC 4291) for IPv6; a group has its own.
    """
    packed = address.packed
    if address.is_multicast:
        return multicast_mac(address)
    return _BROADCAST if address.version == 4 else b"\x33\x33\xff" + packed[13:]


def aimed_families(host: VirtualHost) -> tuple[int, ...]:
    """The families whose adverts do not go to carp(4)'s group."""
    return tuple(sorted({one.version for one in (*host.peers, *host.groups)} & set(host.families)))


def destinations(
    host: VirtualHost,
    templates: Iterable[tuple[int, AdvertTemplate]],
    sources: Mapping[int, IPAddress],
    own: Iterable[IPv4Interface | IPv6Interface],
    known: Iterable[Destination] = (),
) -> tuple[Destination, ...]:
    """All of a virtual host. `own` are the carpdev's usable addresses, `known` the destinations of its former plan.

    A peer is sent to from the carpdev's address in its subnet, and from that of `sources` where there is none. The
    host's own addresses are no peers of it, so that all hosts of a group can have one list.
    """
    own = tuple(own)
    macs = {one.address: one.mac for one in known if one.peer and one.found}
    found = []
    for family, template in templates:
        header = template.frame(1, 0, bytes(8), bytes(20))[: HEADER_LENGTHS[family]]
        peers = [one for one in host.peers if one.version == family]
        for address in peers or [one for one in host.groups if one.version == family]:
            if any(address == one.ip for one in own):
                continue
            near = [one.ip for one in own if one.version == family and address in one.network]
            source = near[0] if near else None if address.is_multicast else _with_scope(address, own)
            source = source or sources.get(family)
            aimed = Destination(address, _aim(header, source, address), not (near or address.is_link_local))
            found.append(aimed.at(macs.get(address, b"")))
    return tuple(found)


def hearing(host: VirtualHost, aims: Iterable[Destination]) -> Hearing:
    """What the input path has to know of it."""
    groups = dict(GROUPS) | {one.version: one.packed for one in host.groups}
    peers = [one for one in aims if one.peer]
    silent = set() if host.multicast else {one.version for one in host.peers}
    return Hearing(
        frozenset(packed for family, packed in groups.items() if family not in silent),
        frozenset(one.address.packed for one in peers),
        frozenset(one.address.packed for one in peers if one.routed),
    )


def _with_scope(address: IPAddress, own: Iterable[IPv4Interface | IPv6Interface]) -> IPAddress | None:
    """A host beyond a router does not answer to a link-local address."""
    return next(
        (one.ip for one in own if one.version == address.version and one.is_link_local == address.is_link_local), None
    )


def _aim(header: bytes, source: IPAddress | None, destination: IPAddress) -> bytes:
    """The headers with other addresses, from the one that they have where `source` is None."""
    if destination.version == 6:
        return header[:22] + (source.packed if source else header[22:38]) + destination.packed
    ip = bytearray(header[14:34])
    ip[12:16] = source.packed if source else ip[12:16]
    ip[16:20] = destination.packed
    ip[10:12] = bytes(2)
    ip[10:12] = checksum(bytes(ip)).to_bytes(2, "big")
    return header[:14] + bytes(ip)
