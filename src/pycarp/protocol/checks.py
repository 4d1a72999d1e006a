"""The checks of an advert: what a failed one is called and what it tells an operator, and those that need no key.

Source: NetBSD `carp_proto_input`, `carp6_proto_input`, `carp_proto_input_c`. A new check takes a counter in
`stats.Stats`, a line in `HINTS`, and the check in both `Input`s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import CARP_TTL, CARP_VERSION
from .frames import virtual_mac

if TYPE_CHECKING:
    from . import Advert
    from .abc import Datagram

HINTS = {
    "badif": "it was sent to this host alone, and its sender is none of this host's peers: give 'peer' with its "
    "address here, or remove that host's carppeer (OpenBSD) or peer (FreeBSD), so that it sends to the group",
    "badttl": "the TTL is not 255: it has crossed a router or is forged; the hosts of a group share one link",
    "badlen": "it is shorter than an advert",
    "badsum": "its checksum is wrong: it was damaged on its way, or its sender computes the checksum otherwise",
    "badvhid": "nobody here has this vhid: if that host belongs to the group, give both the same vhid",
    "badver": "it is of another version of CARP, or of VRRP: both are protocol 112",
    "badauth": "another passphrase, another form of it, or other addresses: compare pass and addresses on both hosts",
    "altered": "its priority was changed on the way: somebody on this link forges adverts of the group",
    "echo": "this is our own advert: a loop or a mirror on the way sends it back",
    "replayed": "it is no advert of now: somebody on this link sends old ones again, or that host's clock was set, and "
    "it is believed after two of its intervals",
}
"""What a failed check says, by its counter: the kernel's name for it; altered, echo and replayed are ours.

What failed another counter's check is reported to nobody; of badif only what is signed and sent by IP unicast.
"""
LED_HINT = (
    "a group on this LAN has the vhid of this owner, and so the same virtual MAC, and clients lose frames: give one of "
    "them another vhid"
)
"""The same where the vhid is that of a led virtual host, which has no adverts of its own."""
DEAF_HINT = (
    "it was sent to a multicast group, and this host hears its peers only, or another group: give all hosts of the "
    "group 'peer', or the same 'group', or give 'multicast' here"
)
"""The same where the vhid is ours (badvhid) but adverts go elsewhere."""
MAYBE_VRRP = frozenset(("badif", "badlen", "badsum", "badvhid", "badver", "badauth"))
"""How CARP counts what VRRP sends, whose packets have the same protocol, groups, TTL and MACs."""


def first_fault(
    datagram: Datagram,
    advert: Advert | None,
    checksum_ok: Callable[[Datagram], bool],
    known: bool = True,
    any_ttl: bool = False,
) -> str:
    """The counter of the first check that fails before the digest is looked at, in the kernel's order; "" for none.

    `known`: whether the vhid is one of ours. A bystander leaves that check out. `any_ttl`: of a peer beyond a router.
    """
    if datagram.ttl != CARP_TTL and not any_ttl:
        return "badttl"
    if advert is None:
        return "badlen"
    if not checksum_ok(datagram):
        return "badsum"
    if not known:
        return "badvhid"
    return "" if advert.version == CARP_VERSION else "badver"


def vrrp_router(payload: bytes) -> int | None:
    """The router's number when this is a packet of VRRP version 2 or 3 (RFC 3768, RFC 5798); None for CARP's."""
    if len(payload) < 8 or payload[0] & 15 != 1:
        return None
    version, count = payload[0] >> 4, payload[3]
    if not count:
        return None
    # CARP's own 36 bytes, with 7 in the place where VRRP counts addresses, fit version 3 alone, which CARP never has.
    lengths = {2: (16 + 4 * count,), 3: (8 + 4 * count, 8 + 16 * count)}
    return payload[1] if len(payload) in lengths.get(version, ()) else None


def vrrp_advice(router: int, peer: str) -> str:
    """What to do about a VRRP router that has the number of a group; `peer` is its address."""
    return (
        f"{peer} speaks VRRP, router {router}, not CARP: both are protocol 112 and use the MAC "
        f"{virtual_mac(router).hex(':')}, so clients lose frames where both have one number: give that router another "
        f"virtual_router_id, or take another vhid than {router}"
    )
