"""Who speaks CARP here: the logic behind ``pycarp monitor``. Frames and their times come in, changes come out. No I/O.

An `Observer` belongs to no group. It checks adverts as the kernel does, but for the vhid. It measures how regularly
they come, and notices who falls silent and who is master beside another. With the secret and the addresses it also
says why hosts do not understand each other. All that it remembers is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from .._impl import current
from .._records import dataclass, field
from ..config import AddressLike
from ..protocol import GROUPS, NS_PER_SECOND, Advert
from ..protocol.abc import Datagram
from ..protocol.checks import HINTS, first_fault, vrrp_advice, vrrp_router
from ..protocol.frames import VLAN_TAGS, vlans
from . import findings
from .signatures import SignatureCheck
from .speakers import KEPT_DESTINATIONS, Condition, Key, Speaker
from .text import seconds

MOST_SPEAKERS = 1024
MOST_CHANGES_A_SECOND = 50
_BURST = 400
_TWIN = 5_000_000
"""An advert this many ns after another, with the same header, is its twin under the other key and no new beat."""
_VIRTUAL_MAC = b"\x00\x00\x5e\x00\x01"
_UCARP_MAC = b"\x00\x00\x5e\x00\x00"
_FREEBSD_TOS = 0xE0


@dataclass(frozen=True, slots=True)
class Change:
    """News for a person who watches, told once. `text` is one sentence; `details` are plain values."""

    at: int
    kind: str
    text: str
    vhid: int | None = None
    family: int | None = None
    source: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    vlan: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        vlan = {"vlan": ".".join(map(str, self.vlan))} if self.vlan else {}
        group = {**vlan, "vhid": self.vhid, "family": self.family, "source": self.source}
        return {"event": self.kind, "at": self.at, **group, "text": self.text, **self.details}


class Observer:
    """Give it every frame with its time, in order, and look at `speakers`; call `tick` when `deadline` has come.

    `passphrase` and `addresses` are the group's, when they are known; with `vhid` no other group is checked with them.
    It also learns addresses from gratuitous ARP and neighbour advertisements of virtual MACs.
    """

    def __init__(
        self,
        passphrase: str | bytes | None = None,
        addresses: Iterable[AddressLike] = (),
        *,
        vhid: int | None = None,
        vlan: tuple[int, ...] = (),
    ) -> None:
        self.speakers: dict[Key, Speaker] = {}
        self.frames = 0
        self.adverts = 0
        """Datagrams of protocol 112 that are CARP's, right or wrong."""
        self.overlooked: Counter[str] = Counter()
        """What is not shown, by reason."""
        self.deadline: int | None = None
        self._vlan = vlan
        self._check = SignatureCheck(passphrase, addresses, vhid)
        self.learned = self._check.learned
        self._masters: dict[tuple[int, int], Key] = {}
        """By group: who became master last."""
        self._contenders: dict[tuple[int, int], frozenset[Key]] = {}
        """By group: those that are master at once."""
        self._said: set[str] = set()
        self._tokens = float(_BURST)
        self._refilled = 0
        self._changes: list[Change] = []

    def frame(self, frame: bytes, at: int) -> list[Change]:
        """Take in one Ethernet frame; returns what changed, including what the time that passed has changed."""
        if self.deadline is not None and at >= self.deadline:
            self._tick(at)
        self.frames += 1
        kind = frame[12:14]
        if kind == b"\x08\x06":
            self._learn_arp(frame)
        elif kind in (b"\x08\x00", b"\x86\xdd"):
            datagram = current.packet.dissect(frame)
            if datagram is not None:
                self._datagram(frame, datagram, at)
            elif kind == b"\x86\xdd":
                self._learn_neighbour(frame)
            elif frame[23:24] == b"\x70":
                self.overlooked["not an intact IP datagram"] += 1
        elif kind in VLAN_TAGS and may_be_advert(vlans(frame)[1]):
            self.overlooked["of another VLAN"] += 1
        return self._taken()

    def tick(self, at: int) -> list[Change]:
        """Notice who has fallen silent by now."""
        self._tick(at)
        return self._taken()

    def groups(self) -> dict[int, list[Speaker]]:
        """The speakers by vhid, both in order."""
        groups: dict[int, list[Speaker]] = {}
        for key in sorted(self.speakers, key=lambda key: key.rank):
            groups.setdefault(key.vhid, []).append(self.speakers[key])
        return groups

    def by_group(self) -> list[list[Speaker]]:
        """The speakers of each group, both in order; none is empty."""
        return list(self.groups().values())

    @property
    def contenders(self) -> frozenset[Key]:
        """Those that are master of a group beside another."""
        return frozenset().union(*self._contenders.values())

    def findings(self) -> list[str]:
        """What is wrong here and what to do about it, one sentence each."""
        check = self._check
        found = findings.findings(
            self.groups(), check.given, self.contenders, knows=check.has_passphrase, vhid=check.vhid
        )
        return list(dict.fromkeys(found))

    # Adverts

    def _datagram(self, frame: bytes, datagram: Datagram, at: int) -> None:
        source = str(ip_address(datagram.source))
        router = vrrp_router(datagram.payload)
        if router is not None:
            self._say_once(at, "vrrp", vrrp_advice(router, source), source)
            self.overlooked["VRRP"] += 1
            return
        self.adverts += 1
        advert = current.packet.advert(datagram)
        if advert is None:
            self.overlooked["badlen"] += 1
            self._say_once(at, "fault", f"an advert of {source} counts as badlen: {HINTS['badlen']}", source)
            return
        fault = first_fault(datagram, advert, current.packet.checksum_ok)
        speaker = self._speaker(
            Key(advert.vhid, advert.family, advert.source, advert.source_mac, self._vlan), advert, at
        )
        if speaker is None:
            return
        if datagram.destination != GROUPS[datagram.family] and len(speaker.destinations) < KEPT_DESTINATIONS:
            speaker.destinations[str(ip_address(datagram.destination))] = None
        if not fault and self._check.knows:
            fault = self._check.fault(speaker, advert)
        if fault:
            self._count_fault(speaker, fault, at)
            # A host that signs otherwise is still MASTER in its own view.
            if fault != "badauth":
                return
        self._obey(speaker, advert, at)
        _recognise(speaker, frame, advert, at)

    def _speaker(self, key: Key, advert: Advert, at: int) -> Speaker | None:
        speaker = self.speakers.get(key)
        if speaker is None:
            if len(self.speakers) >= MOST_SPEAKERS and not self._make_room():
                self.overlooked[f"of more than {MOST_SPEAKERS} speakers"] += 1
                return None
            speaker = Speaker(key, advert.advbase, advert.advskew, at, at, demotion=advert.demotion)
            self.speakers[key] = speaker
        return speaker

    def _make_room(self) -> bool:
        """Forget the speaker that has been silent longest, if one is: newcomers never displace those that speak."""
        idle = [one for one in self.speakers.values() if one.condition is not Condition.ADVERTISING]
        if not idle:
            return False
        del self.speakers[min(idle, key=lambda one: one.last).key]
        return True

    def _count_fault(self, speaker: Speaker, fault: str, at: int) -> None:
        speaker.faults[fault] += 1
        if speaker.condition is Condition.FAULTY:
            speaker.last = at
        if speaker.faults[fault] == 1:
            text = f"an advert of {speaker.key.source} counts as {fault}: {HINTS[fault]}"
            self._say(at, "fault", speaker, text, prefix=False, counter=fault)

    def _obey(self, speaker: Speaker, advert: Advert, at: int) -> None:
        speaker.adverts += 1
        self._beat(speaker, advert, at)
        speaker.last = at
        if advert.bowout:
            if speaker.condition is not Condition.BOWED_OUT:
                speaker.condition = Condition.BOWED_OUT
                self._say(at, "bowed out", speaker, "bows out")
            speaker.beats = 0
            return
        before, speaker.condition = speaker.condition, Condition.ADVERTISING
        former = (speaker.advbase, speaker.advskew, speaker.demotion)
        speaker.advbase, speaker.advskew, speaker.demotion = advert.advbase, advert.advskew, advert.demotion
        if before is not Condition.ADVERTISING or self._returned(speaker):
            self._arrived(speaker, at)
        elif former != (advert.advbase, advert.advskew, advert.demotion):
            self._changed(speaker, former, at)
        due = at + speaker.master_down
        self.deadline = due if self.deadline is None else min(self.deadline, due)
        self._watch_contenders(speaker, at)

    def _beat(self, speaker: Speaker, advert: Advert, at: int) -> None:
        """Measure the interval, unless this is the first advert after a silence or the twin of the one before."""
        gap = at - speaker.last
        if speaker.beats == 0 or speaker.condition is not Condition.ADVERTISING:
            speaker.beats, speaker.beat_at = 1, at
            return
        # pycarp sends one advert under each of its two keys, with one nonce: on a busy machine some ms apart.
        paired = advert.counter[3:] == speaker.counter[3:] and advert.counter != speaker.counter
        twin = gap < min(_TWIN, speaker.interval // 4) or (paired and gap < speaker.interval // 2)
        same = (advert.advbase, advert.advskew) == (speaker.advbase, speaker.advskew)
        if (twin and same) or advert.bowout or at <= speaker.beat_at:
            return
        gap = at - speaker.beat_at
        speaker.beats += 1
        speaker.shortest = gap if not speaker.intervals else min(speaker.shortest, gap)
        speaker.longest = max(speaker.longest, gap)
        speaker.intervals.append(gap)
        speaker.beat_at = at

    # Masters: one, two, none

    def _arrived(self, speaker: Speaker, at: int) -> None:
        if speaker.adverts == 1:
            # A fault may have made the speaker known earlier; it is heard only now.
            speaker.first = at
        self._masters[speaker.key.group] = speaker.key
        for other in self._others(speaker):
            # If it advertises again, the time between is no interval.
            other.beats = 0
        text = f"advertises every {seconds(speaker.interval)} (advbase {speaker.advbase}, advskew {speaker.advskew})"
        if speaker.destinations:
            text += f", to {' and '.join(speaker.destinations)}"
        if speaker.adverts > 1:
            text += ", again"
        former = self._former(speaker, at)
        details: dict[str, Any] = {"advbase": speaker.advbase, "advskew": speaker.advskew}
        if former is not None:
            gap = at - former.last
            text += f", {seconds(gap)} after the last advert of {former.key.source}"
            details |= {"after": former.key.source, "gap_ns": gap}
        self._say(at, "master", speaker, text, **details)

    def _changed(self, speaker: Speaker, former: tuple[int, int, int], at: int) -> None:
        demoted = f", demotion {speaker.demotion}" if speaker.demotion or former[2] else ""
        before = ", ".join(map(str, former if demoted else former[:2]))
        self._say(
            at,
            "changed",
            speaker,
            f"now says advbase {speaker.advbase}, advskew {speaker.advskew}{demoted} (was {before})",
            advbase=speaker.advbase,
            advskew=speaker.advskew,
            demotion=speaker.demotion,
        )

    def _returned(self, speaker: Speaker) -> bool:
        """Whether it is master again because the one that had displaced it is gone."""
        master = self.speakers.get(self._masters.get(speaker.key.group, speaker.key))
        return master is not None and master is not speaker and master.condition is not Condition.ADVERTISING

    def _former(self, speaker: Speaker, at: int) -> Speaker | None:
        """Who was master before, if that is not long ago."""
        others = [one for one in self._others(speaker) if one.adverts and 0 <= at - one.last <= 2 * one.master_down]
        return max(others, key=lambda one: one.last, default=None)

    def _others(self, speaker: Speaker) -> Iterator[Speaker]:
        group = speaker.key.group
        return (one for key, one in self.speakers.items() if key.group == group and one is not speaker)

    def _watch_contenders(self, speaker: Speaker, at: int) -> None:
        known = self._contenders.get(speaker.key.group, frozenset())
        if speaker.key in known:
            return
        for other in self._others(speaker):
            # Each has spoken twice since the other began: in a takeover one of them would have yielded by then.
            both = other.condition is Condition.ADVERTISING and min(speaker.beats, other.beats) >= 2
            if both and other.beat_before < speaker.beat_before < other.beat_at:
                self._contenders[speaker.key.group] = known | {speaker.key, other.key}
                one, two = sorted((other, speaker), key=lambda one: one.key.rank)
                why = findings.why_both(one, two, self._check.given, self._check.has_passphrase)
                self._say(
                    at,
                    "two masters",
                    speaker,
                    f"{one.key.source} and {two.key.source} are master of the same group at once: {why}",
                    sources=[one.key.source, two.key.source],
                    prefix=False,
                )
                return

    def _tick(self, at: int) -> None:
        due: list[int] = []
        for speaker in self.speakers.values():
            if speaker.condition is not Condition.ADVERTISING:
                continue
            if at >= speaker.last + speaker.master_down:
                speaker.condition, speaker.beats = Condition.SILENT, 0
                self._fell_silent(speaker, at)
            else:
                due.append(speaker.last + speaker.master_down)
        self.deadline = min(due, default=None)
        for group, keys in list(self._contenders.items()):
            left = [self.speakers[key] for key in keys if key in self.speakers]
            left = [speaker for speaker in left if speaker.condition is Condition.ADVERTISING]
            if len(left) < 2:
                del self._contenders[group]
                if left:
                    self._say(at, "one master", left[0], "is the only master again")

    def _fell_silent(self, speaker: Speaker, at: int) -> None:
        master = self._masters.get(speaker.key.group, speaker.key)
        text = f"is silent, its last advert came {seconds(at - speaker.last)} ago"
        details: dict[str, Any] = {"last": speaker.last}
        if master != speaker.key:
            text = f"is silent now that {master.source} is master"
            details["master"] = master.source
        self._say(at, "silent", speaker, text, **details)

    # Addresses that are announced

    def _learn_arp(self, frame: bytes) -> None:
        if len(frame) >= 42 and frame[14:20] == b"\x00\x01\x08\x00\x06\x04" and frame[22:27] == _VIRTUAL_MAC:
            self._check.learn(frame[27], IPv4Address(frame[28:32]))

    def _learn_neighbour(self, frame: bytes) -> None:
        if len(frame) >= 86 and frame[20] == 58 and frame[54] == 136 and frame[78:85] == b"\x02\x01" + _VIRTUAL_MAC:
            self._check.learn(frame[85], IPv6Address(frame[62:78]))

    # Changes

    def _say(self, at: int, kind: str, speaker: Speaker, text: str, *, prefix: bool = True, **details: Any) -> None:
        key = speaker.key
        sentence = f"{key.source} {text}" if prefix else text
        self._emit(Change(at, kind, sentence, key.vhid, key.family, key.source, details, key.vlan))

    def _say_once(self, at: int, kind: str, text: str, source: str) -> None:
        if text not in self._said and len(self._said) < MOST_SPEAKERS:
            self._said.add(text)
            self._emit(Change(at, kind, text, source=source, vlan=self._vlan))

    def _emit(self, change: Change) -> None:
        # A flood of changes comes from an attack or a fault; the table still shows the outcome.
        elapsed = max(0, change.at - self._refilled)
        self._refilled = max(self._refilled, change.at)
        self._tokens = min(_BURST, self._tokens + elapsed / NS_PER_SECOND * MOST_CHANGES_A_SECOND)
        if self._tokens < 1:
            self.overlooked["changes, too many at once"] += 1
            return
        self._tokens -= 1
        self._changes.append(change)

    def _taken(self) -> list[Change]:
        taken, self._changes = self._changes, []
        return taken


def _recognise(speaker: Speaker, frame: bytes, advert: Advert, at: int) -> None:
    """Guess whose implementation this is, by its habits on the wire (docs/protocol.md)."""
    speaker.count(advert.counter, at)
    if speaker.tagged:
        speaker.looks_like = "pycarp"
    elif advert.demotion or speaker.as_openbsd:
        speaker.looks_like = "OpenBSD"
    elif speaker.key.mac[:5] == _UCARP_MAC:
        speaker.looks_like = "UCarp"
    elif advert.family == 4 and frame[15] == _FREEBSD_TOS:
        speaker.looks_like = "FreeBSD"


def may_be_advert(frame: bytes) -> bool:
    """Whether a frame without tags has CARP's protocol number."""
    return (frame[12:14] == b"\x08\x00" and frame[23:24] == b"\x70") or (
        frame[12:14] == b"\x86\xdd" and frame[20:21] == b"\x70"
    )
