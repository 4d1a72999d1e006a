"""What the group's secret and addresses tell about the signatures of speakers. Bounded in time and memory."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from ..config import AddressLike
from ..protocol import Advert
from ..protocol.abc import IPAddress
from .keysearch import KeySearch, Signature, without_link_local
from .speakers import Speaker

MOST_GROUP_ADDRESSES = 32
MOST_SIGNATURES = 4
MOST_SEARCHES = 128
"""Each costs some tens of milliseconds: a liar with many addresses must not buy hours of them."""
SEARCHES_A_SPEAKER = 3
MOST_SETS = 16
MOST_TRIES = 100
"""After this many adverts of one speaker that nothing matched, the easy explanations are no longer tried."""
PROPER_FORMS = ("bsd", "netbsd")
"""Forms of the passphrase that some system makes on purpose; the others are mistakes."""


def proper_sets(addresses: tuple[IPAddress, ...]) -> tuple[tuple[IPAddress, ...], ...]:
    """What a digest over these addresses may cover: all (NetBSD, FreeBSD), or all but link-locals (OpenBSD)."""
    return addresses, without_link_local(addresses)


class SignatureCheck:
    """Checks adverts with a passphrase and addresses, as far as they are known; with `vhid` only that group's.

    `learned` has the addresses that virtual hosts announced, by vhid.
    """

    def __init__(self, passphrase: str | bytes | None, addresses: Iterable[AddressLike], vhid: int | None) -> None:
        self.learned: dict[int, set[IPAddress]] = {}
        self._search = KeySearch(passphrase, addresses)
        self.vhid = vhid
        self.has_passphrase = passphrase is not None
        self.knows = self.has_passphrase or bool(self.given)
        """Whether there is anything to check with."""
        self._searches = 0
        self._sets: dict[tuple[IPAddress, ...], None] = {}
        """Address sets that matched an advert: the next one is likely of the same."""

    @property
    def given(self) -> tuple[IPAddress, ...]:
        """The group's addresses, where they were given."""
        return self._search.addresses

    def learn(self, vhid: int, address: IPAddress) -> None:
        """An address that a virtual host announced."""
        known = self.learned.setdefault(vhid, set())
        if len(known) < MOST_GROUP_ADDRESSES:
            known.add(address)

    def fault(self, speaker: Speaker, advert: Advert) -> str:
        """Find what the advert was signed with and remember it; returns the counter that the group's hosts count."""
        found = self._match(speaker, advert)
        if found is None:
            speaker.unmatched += 1
            return "badauth" if self._can_tell(advert.vhid) else ""
        if len(self._sets) < MOST_SETS:
            self._sets[found.addresses] = None
        if found in speaker.signatures or len(speaker.signatures) < MOST_SIGNATURES:
            speaker.signatures[found] = speaker.signatures.get(found, 0) + 1
        vouched = found.vouches(advert)
        speaker.tagged |= vouched is not None
        if vouched is False:
            return "altered"
        return "" if self.vhid not in (None, advert.vhid) or self._proper(found, advert.vhid) else "badauth"

    def _match(self, speaker: Speaker, advert: Advert) -> Signature | None:
        found = next((one for one in speaker.signatures if one.fits(advert)), None)
        if found is None and speaker.unmatched < MOST_TRIES:
            found = next(filter(None, (self._search.forms(advert, one) for one in self._sets)), None)
        if found is None:
            also = {ip_address(advert.source), *self.learned.get(advert.vhid, ())}
            if self._may_search(speaker, len(also)):
                found = self._search.search(advert, also)
        return found

    def _may_search(self, speaker: Speaker, addresses: int) -> bool:
        if addresses > speaker.addresses_tried:
            speaker.addresses_tried, speaker.searches = addresses, 0
        if speaker.searches >= SEARCHES_A_SPEAKER or self._searches >= MOST_SEARCHES:
            return False
        speaker.searches += 1
        self._searches += 1
        return True

    def _can_tell(self, vhid: int) -> bool:
        """Whether a digest that nothing explains is the speaker's fault: not while too little is known."""
        if self.vhid not in (None, vhid):
            return False
        return self.has_passphrase and bool(self.given or self.learned.get(vhid))

    def _proper(self, signature: Signature, vhid: int) -> bool:
        """Whether a host of the group with the given passphrase and addresses would accept it."""
        if not self.has_passphrase:
            return True
        sets = proper_sets(self.given or signature.addresses)
        return signature.vhid == vhid and signature.form in PROPER_FORMS and signature.addresses in sets
