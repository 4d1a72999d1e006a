"""The checks of an advert: what a failed one is called and what it tells an operator, and those that need no key.

Source: NetBSD `carp_proto_input`, `carp6_proto_input`, `carp_proto_input_c`. A new check takes a counter in
`stats.Stats`, a line in `HINTS`, and the check in both `Input`s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import CARP_TTL, CARP_VERSION

if TYPE_CHECKING:
    from . import Advert
    from .abc import Datagram

HINTS = {
    "badttl": "the TTL is not 255: it has crossed a router or is forged; the hosts of a group share one link",
    "badlen": "it is shorter than an advert",
    "badsum": "its checksum is wrong: it was damaged on its way, or its sender computes the checksum otherwise",
    "badvhid": "nobody here has this vhid: if that host belongs to the group, give both the same vhid",
    "badver": "it is of another version of CARP, or of VRRP: both are protocol 112",
    "badauth": "another passphrase, another form of it, or other addresses: compare pass and addresses on both hosts",
    "altered": "its priority was changed on the way: somebody on this link forges adverts of the group",
    "echo": "this is our own advert: a loop or a mirror on the way sends it back",
}
"""What a failed check says, by its counter: the kernel's name for it, but for altered and echo, which are ours.

What failed another counter's check is reported to nobody.
"""


def first_fault(
    datagram: Datagram, advert: Advert | None, checksum_ok: Callable[[Datagram], bool], known: bool = True
) -> str:
    """The counter of the first check that fails before the digest is looked at, in the kernel's order; "" for none.

    `known`: whether the vhid is one of ours. A bystander leaves that check out.
    """
    if datagram.ttl != CARP_TTL:
        return "badttl"
    if advert is None:
        return "badlen"
    if not checksum_ok(datagram):
        return "badsum"
    if not known:
        return "badvhid"
    return "" if advert.version == CARP_VERSION else "badver"
