"""Digests over adverts, and the counter that vouches for the header.

Sources: NetBSD `carp_hmac_prepare`, `carp_hmac_generate`, `carp_hmac_verify`; RFC 2104.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..protocol import CARP_TYPE_ADVERTISEMENT, CARP_VERSION, DIALECT_BSD, NEXT
from ..protocol.keys import counter_bytes, counter_fields, not_in_use, prepare, tags
from .change import Change
from .forgeries import Mac

if TYPE_CHECKING:
    from ..config import AddressLike
    from ..protocol.keys import Following

REMEMBERED = 64
"""This many of one's own adverts are known again when they come back."""


class Authenticator:
    """Signs and verifies the adverts of one virtual host.

    `passphrase` is text (UTF-8) or bytes, "" or None for the zero key; `addresses` those of the virtual host, with or
    without prefix length, in any order; `dialect` is "bsd", "netbsd", or "auto": both are understood, and the
    signature follows what was heard. Passphrases under 8 bytes are "bsd" under "auto". From 20 bytes on both dialects
    are one, called "bsd". Where an address is link-local IPv6 there is "openbsd" beside "bsd": OpenBSD's digest leaves
    it out. `replay` is "guard" or "off": whether `check` looks. `following` is the passphrase and the addresses
    to which the group changes: both are understood, each under dialects of its own, "next-bsd" and so on.

    Raises `ConfigError`. Not safe to share between threads: `verify` remembers which dialects it met.
    """

    __slots__ = ("_change", "_guard", "_heard", "_issued", "_macs", "_vhid", "_ways")

    def __init__(
        self,
        passphrase: str | bytes | None,
        vhid: int,
        addresses: Iterable[AddressLike],
        dialect: str = "auto",
        replay: str = "guard",
        following: Following | None = None,
    ) -> None:
        self._ways, self._guard = prepare(passphrase, vhid, addresses, dialect, replay, following)
        self._change = Change(following is not None)
        self._vhid = vhid
        self._heard: tuple[str, ...] = ()
        # Each advert goes out under each key, with a counter of its own.
        self._issued: deque[bytes] = deque(maxlen=2 * REMEMBERED)
        self._macs = self._prepared()

    def __repr__(self) -> str:
        return f"<Authenticator vhid {self._vhid} {'+'.join(self._ways)}>"

    @property
    def guards(self) -> bool:
        """Whether `replay` is "guard"."""
        return self._guard

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects under which the next advert is to be sent, one frame each.

        All that are known until a peer is heard, and again once peers of both were; the one last heard otherwise.
        During a change this holds for the old ones and the next ones, as far as they are spoken.
        """
        found: list[str] = []
        for following in self._change.spoken:
            heard = [name for name in self._heard if name.startswith(NEXT) == following]
            found += heard if len(heard) == 1 else [name for name in self._ways if name.startswith(NEXT) == following]
        return tuple(found)

    @property
    def accepts(self) -> tuple[str, ...]:
        """The dialects that are understood."""
        return tuple(self._ways)

    @property
    def speaks(self) -> str:
        """During a change what is signed with: "old", "both" or "new". Otherwise ""."""
        return self._change.speaks

    def speak(self, which: str) -> None:
        """Sign with "old", "both" or "new" from now on, whatever is heard; "auto": with what the group speaks.

        Raises `ConfigError` where there is no change. From any thread.
        """
        self._change.speak(which)

    def follow(self, dialect: str, now: int, interval: int) -> str:
        """An advert that is right under `dialect` was heard at `now` (ns); `interval` is our own.

        Returns what is spoken from now on, if that has changed by it: see `Change`.
        """
        return self._change.follow(dialect.startswith(NEXT), now, interval)

    def sign(self, counter: bytes | int, dialect: str | None = None) -> bytes:
        """The 20-byte digest for an advert with this counter (8 bytes, or an integer below 2**64).

        Without `dialect`: the one last heard, "bsd" when nobody was (or the fixed one).
        """
        return self._macs[self._choose(dialect)][0].digest(counter_bytes(counter))

    def verify(self, counter: bytes | int, digest: bytes) -> str | None:
        """The dialect under which `digest` is right for `counter`, or None. Compares in constant time."""
        octets = counter_bytes(counter)
        found = None
        for name, macs in self._macs.items():
            for mac in macs:
                if hmac.compare_digest(mac.digest(octets), digest) and found is None:
                    found = name
        if found is not None:
            self._heard = (*(name for name in self._heard if name != found), found)
        return found

    def counter(
        self,
        advbase: int,
        advskew: int,
        nonce: int,
        dialect: str | None = None,
        demotion: int | None = None,
        serial: int = 0,
        pace: int = 0,
    ) -> bytes:
        """The 8-byte counter of an advert of ours: `tag 16 | pace 4 | part 1 | nonce 3 | demotion 8 | serial 16 |
        advbase 8 | advskew 8`.

        With a `demotion`, which the advert's byte 4 has to bear, part is 1: the sender takes part in demotion. Whoever
        has the key sees from the tag whether the header was altered, which the digest alone does not cover.
        """
        first, vouched = counter_fields(advbase, advskew, nonce, demotion, serial, pace)
        counter = self._tags(vouched, dialect)[1] + first + vouched
        self._issued.append(counter)
        return counter

    def check(self, counter: bytes | int, advbase: int, advskew: int, dialect: str, demotion: int = 0) -> str:
        """What is wrong with an advert whose digest is right under `dialect`: "echo", "altered", or "" for nothing.

        An echo has the counter of one of our own last 64 adverts. Altered is one of a pycarp host whose counter
        vouches for another advbase, advskew or demotion than it bears. Every other counter is a BSD's, and says
        nothing. With replay="off": "".
        """
        octets = counter_bytes(counter)
        if not self._guard:
            return ""
        if octets in self._issued:
            return "echo"
        same = octets[6:] == bytes((advbase, advskew))
        said = same and octets[3] == demotion
        if said and not demotion:
            return ""
        first, tag = self._tags(octets[3:], dialect)
        if octets[:2] == tag:
            return "" if said else "altered"
        # In the first layout a nonce stands there, which may be any demotion.
        return "altered" if octets[:3] == first and (not same or demotion) else ""

    def vouches(self, counter: bytes | int, advbase: int, advskew: int, dialect: str, demotion: int) -> bool:
        """Whether an advert whose digest is right under `dialect` is a pycarp host's that says its demotion."""
        octets = counter_bytes(counter)
        said = octets[2] & 8 and octets[3] == demotion and octets[6:] == bytes((advbase, advskew))
        return bool(said) and self.tagged(octets, dialect)

    def tagged(self, counter: bytes | int, dialect: str) -> bool:
        """Whether a counter whose digest is right under `dialect` has our tag: then it has a pace and a serial."""
        octets = counter_bytes(counter)
        return self._tags(octets[3:], dialect)[1] == octets[:2]

    def pace(self, counter: bytes | int, dialect: str) -> int:
        """The code of the pace that a counter says whose digest is right under `dialect`, or 0."""
        octets = counter_bytes(counter)
        code = octets[2] >> 4
        return code if code and self.tagged(octets, dialect) else 0

    def sibling(self, vhid: int) -> Authenticator:
        """One for another vhid, with the same passphrase, addresses, dialect and replay; it has heard nobody yet.

        Raises `ConfigError`.
        """
        made = Authenticator(None, vhid, (), DIALECT_BSD)
        # What OpenBSD believes and does not send holds its own address, which has the vhid in it.
        made._ways = {name: (key, forms[:1]) for name, (key, forms) in self._ways.items()}
        made._guard = self._guard
        made._macs = made._prepared()
        return made

    def bequest(self) -> dict[str, Any]:
        """What it has learned and issued, for another one with the same arguments, as plain values; no secret."""
        return {
            "heard": list(self._heard),
            "issued": [one.hex() for one in self._issued],
            "change": self._change.bequest(),
        }

    def inherit(self, values: dict[str, Any]) -> None:
        """Go on from what another one's `bequest` says."""
        self._heard = tuple(name for name in values["heard"] if name in self._ways)
        self._issued.extend(bytes.fromhex(one) for one in values["issued"])
        self._change.inherit(values.get("change"))

    def _every_mac(self) -> list[Mac]:
        """What makes the digests of which one may be right."""
        return [mac for macs in self._macs.values() for mac in macs]

    def _prepared(self) -> dict[str, list[Mac]]:
        head = bytes((CARP_VERSION, CARP_TYPE_ADVERTISEMENT, self._vhid))
        return {name: [Mac(key, head + body) for body in forms] for name, (key, forms) in self._ways.items()}

    def _tags(self, vouched: bytes, dialect: str | None) -> tuple[bytes, bytes]:
        return tags(self._ways[self._choose(dialect)][0], self._vhid, vouched)

    def _choose(self, dialect: str | None) -> str:
        if dialect is None:
            spoken = self.dialects
            return self._heard[-1] if self._heard and self._heard[-1] in spoken else spoken[0]
        if dialect not in self._ways:
            raise not_in_use(dialect, self._ways)
        return dialect
