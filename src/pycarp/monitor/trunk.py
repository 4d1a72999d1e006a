"""Several LANs in one stream of frames: a capture from a trunk or a mirror port, whose frames have VLAN tags.

A `Trunk` has an `Observer` for each VLAN in which somebody speaks CARP, and is used as one. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..config import AddressLike
from ..protocol.frames import vlans
from .observer import Change, Observer, may_be_advert
from .speakers import Key, Speaker
from .text import vlan_text

MOST_VLANS = 256
"""For more VLANs nothing is remembered; their adverts are only counted."""


class Trunk:
    """As `Observer`, which says what the arguments are; passphrase, addresses and vhid are those of every VLAN."""

    def __init__(
        self, passphrase: str | bytes | None = None, addresses: Iterable[AddressLike] = (), *, vhid: int | None = None
    ) -> None:
        self._passphrase, self._addresses, self._vhid = passphrase, tuple(addresses), vhid
        self._lans: dict[tuple[int, ...], Observer] = {(): self._observer(())}
        self._overlooked: Counter[str] = Counter()
        self.frames = 0

    def _observer(self, vlan: tuple[int, ...]) -> Observer:
        return Observer(self._passphrase, self._addresses, vhid=self._vhid, vlan=vlan)

    def frame(self, frame: bytes, at: int) -> list[Change]:
        """Take in one Ethernet frame; returns what changed, including what the time that passed has changed."""
        changes = self.tick(at) if self.deadline is not None and at >= self.deadline else []
        self.frames += 1
        vlan, bare = vlans(frame)
        lan = self._lans.get(vlan)
        if lan is None:
            if not may_be_advert(bare):
                return changes
            if len(self._lans) >= MOST_VLANS:
                self._overlooked[f"of more than {MOST_VLANS} VLANs"] += 1
                return changes
            lan = self._lans[vlan] = self._observer(vlan)
        return changes + lan.frame(bare, at)

    def tick(self, at: int) -> list[Change]:
        """Notice who has fallen silent by now."""
        return [change for lan in self._lans.values() for change in lan.tick(at)]

    @property
    def deadline(self) -> int | None:
        """When `tick` is to be called."""
        return min((lan.deadline for lan in self._lans.values() if lan.deadline is not None), default=None)

    @property
    def adverts(self) -> int:
        """Datagrams of protocol 112 that are CARP's, right or wrong."""
        return sum(lan.adverts for lan in self._lans.values())

    @property
    def overlooked(self) -> Counter[str]:
        """What is not shown, by reason."""
        total = Counter(self._overlooked)
        for lan in self._lans.values():
            total.update(lan.overlooked)
        return total

    @property
    def contenders(self) -> frozenset[Key]:
        """Those that are master of a group beside another."""
        return frozenset().union(*(lan.contenders for lan in self._lans.values()))

    def by_group(self) -> list[list[Speaker]]:
        """The speakers of each group, by VLAN and vhid; none is empty."""
        return [group for vlan in sorted(self._lans) for group in self._lans[vlan].groups().values()]

    def findings(self) -> list[str]:
        """What is wrong here and what to do about it, one sentence each."""
        found: list[str] = []
        for vlan in sorted(self._lans):
            for sentence in self._lans[vlan].findings():
                name = vlan_text(vlan)
                found.append(
                    name + sentence if sentence.startswith("vhid ") or not vlan else f"{name[:-1]}: {sentence}"
                )
        return found
