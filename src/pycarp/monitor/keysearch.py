"""Which form of the passphrase and which addresses an advert was signed with, where the digest does not fit.

A kernel says only "badauth". With the secret, this module tries the mistakes that people and systems make until one
explains the advert. Sources for the forms: docs/protocol.md, keys.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from itertools import combinations
from typing import Any

from .._records import dataclass, field
from ..config import AddressLike
from ..protocol import CARP_TYPE_ADVERTISEMENT, CARP_VERSION, Advert
from ..protocol.abc import IPAddress
from ..protocol.keys import KEY_LENGTH, bsd_key, covered, is_link_local, netbsd_key, passphrase_bytes, tags

FORMS = {
    "bsd": "the passphrase as OpenBSD, FreeBSD and UCarp read it",
    "netbsd": "the passphrase as NetBSD's ifconfig reads it, its last character lost",
    "twice-shortened": "the passphrase without its last two characters",
    "twenty": "all of the passphrase's first 20 bytes, where every BSD takes 19",
    "line-end": "the passphrase with a line end after it",
    "stripped": "the passphrase without the blanks or quotes around it",
    "latin-1": "the passphrase encoded in Latin-1, not in UTF-8",
    "none": "no passphrase at all",
}
"""How a passphrase may have become a key, the likely ways first, each as it stands in a sentence."""

_MOST_SUBSETS = 1024
_FEW = 6
"""Of up to this many addresses that may belong to the group all subsets are tried, of more only pairs."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What an advert was signed with: a form of the passphrase (of `FORMS`), a vhid, and addresses in their order."""

    form: str
    vhid: int
    addresses: tuple[IPAddress, ...]
    key: bytes = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"form": self.form, "vhid": self.vhid, "addresses": [str(address) for address in self.addresses]}

    def fits(self, advert: Advert) -> bool:
        """Whether the advert's digest is right under this signature."""
        return hmac.compare_digest(_digest(self.key, self.vhid, self.addresses, advert.counter), advert.digest)

    def vouches(self, advert: Advert) -> bool | None:
        """Whether the header is the one that the sender's tagged counter covers; None without a tag, as from a BSD.

        A tag that fits, with a header that does not, is an advert altered on its way (docs/protocol.md, the counter).
        """
        vouched, said = advert.counter[3:], advert.counter[:3]
        first, tag = tags(self.key, self.vhid, vouched)
        same = vouched[3:] == bytes((advert.advbase, advert.advskew))
        if hmac.compare_digest(tag, said[:2]):
            return same and vouched[0] == advert.demotion
        return same and advert.demotion == 0 if hmac.compare_digest(first, said) else None


class KeySearch:
    """Finds what adverts were signed with, given a passphrase (None: only "no passphrase" is tried) and addresses."""

    def __init__(self, passphrase: str | bytes | None, addresses: Iterable[AddressLike] = ()) -> None:
        self.addresses: tuple[IPAddress, ...] = _ordered(ip_interface(value).ip for value in addresses)
        self._keys = tuple(_keys(passphrase))

    def __repr__(self) -> str:
        return f"<KeySearch {', '.join(map(str, self.addresses))}>"

    def forms(self, advert: Advert, addresses: tuple[IPAddress, ...]) -> Signature | None:
        """The form of the passphrase that explains an advert over these addresses. Costs a few digests."""
        for form, key in self._keys:
            if _right(key, advert.vhid, addresses, advert):
                return Signature(form, advert.vhid, addresses, key)
        return None

    def search(self, advert: Advert, also: Iterable[IPAddress] = ()) -> Signature | None:
        """The signature that explains an advert, the likeliest first; `also` are addresses that may belong to it.

        Tries up to some ten thousand digests, a few tens of milliseconds: remember the answer.
        """
        extra = _ordered(set(also) - set(self.addresses))
        for addresses in _address_sets(self.addresses, extra):
            found = self.forms(advert, addresses)
            if found is not None:
                return found
        everything = self.addresses or extra
        for vhid in range(1, 256):
            for form, key in self._keys[:2]:
                if vhid != advert.vhid and _right(key, vhid, everything, advert):
                    return Signature(form, vhid, everything, key)
        return None


def without_link_local(addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    """The addresses that OpenBSD's digest covers."""
    return tuple(address for address in addresses if not is_link_local(address))


def _keys(passphrase: str | bytes | None) -> Iterator[tuple[str, bytes]]:
    """Every form of the passphrase that makes another key, by name."""
    seen: set[bytes] = set()
    for form, key in _forms(passphrase):
        if key is not None and key not in seen:
            seen.add(key)
            yield form, key


def _forms(passphrase: str | bytes | None) -> Iterator[tuple[str, bytes | None]]:
    if passphrase:
        secret = passphrase_bytes(passphrase)
        yield "bsd", bsd_key(secret)
        yield "netbsd", netbsd_key(secret)
        yield "twice-shortened", bsd_key(secret[: max(0, min(len(secret), KEY_LENGTH) - 2)])
        yield "twenty", secret[:KEY_LENGTH].ljust(KEY_LENGTH, b"\0")
        yield "line-end", bsd_key(secret + b"\n")
        yield "line-end", bsd_key(secret + b"\r\n")
        yield "stripped", bsd_key(secret.strip(b" \t\r\n\"'"))
        yield "stripped", netbsd_key(secret.strip(b" \t\r\n\"'"))
        with contextlib.suppress(UnicodeError):
            yield "latin-1", bsd_key(secret.decode().encode("latin-1"))
    yield "none", bytes(KEY_LENGTH)


def _address_sets(given: tuple[IPAddress, ...], extra: tuple[IPAddress, ...]) -> Iterator[tuple[IPAddress, ...]]:
    """Sets of addresses in the order of the digest, the likeliest first, not endlessly many."""
    seen: set[tuple[IPAddress, ...]] = set()
    for candidate in _candidates(given, extra):
        if candidate not in seen:
            seen.add(candidate)
            yield candidate
            if len(seen) >= _MOST_SUBSETS:
                return


def _candidates(given: tuple[IPAddress, ...], extra: tuple[IPAddress, ...]) -> Iterator[tuple[IPAddress, ...]]:
    yield given
    yield without_link_local(given)
    sizes = range(len(extra), 0, -1) if len(extra) <= _FEW else (len(extra), 2, 1)
    for size in sizes:
        for some in combinations(extra, size):
            yield _ordered((*given, *some))
            yield some
    # Most likely one is missing, then two; or there is one alone, as with UCarp.
    for address in given:
        yield (address,)
    for size in range(len(given) - 1, 0, -1):
        yield from combinations(given, size)
    yield ()


def _ordered(addresses: Iterable[IPAddress]) -> tuple[IPAddress, ...]:
    """IPv4 ascending, then IPv6 ascending, each once."""
    return tuple(sorted(set(addresses), key=lambda address: (address.version, address.packed)))


def _right(key: bytes, vhid: int, addresses: tuple[IPAddress, ...], advert: Advert) -> bool:
    return hmac.compare_digest(_digest(key, vhid, addresses, advert.counter), advert.digest)


def _digest(key: bytes, vhid: int, addresses: tuple[IPAddress, ...], counter: bytes) -> bytes:
    body = b"".join(covered(address) for address in addresses)
    return hmac.digest(key, bytes((CARP_VERSION, CARP_TYPE_ADVERTISEMENT, vhid)) + body + counter, "sha1")
