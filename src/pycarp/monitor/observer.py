"""Who speaks CARP here: the logic behind ``pycarp monitor``. Frames and their times come in, changes come out. No I/O.

An `Observer` watches as nobody's instance: it judges adverts as the kernel would, but for the vhid, measures how
regularly they come, notices who falls silent and who is master beside another. When it is given the secret and the
addresses it also says why hosts do not understand each other. Everything it remembers is bounded, whatever it is fed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .._impl import current
from ..config import AddressLike
from ..protocol import CARP_AUTHLEN, CARP_HEADER_LENGTH, CARP_TTL, CARP_VERSION, NS_PER_SECOND, Advert
from ..protocol.abc import Datagram, IPAddress
from ..protocol.frames import virtual_mac
from . import findings as explanation
from .keysearch import KeySearch, Signature
from .speakers import FAULTS, Condition, Key, Speaker, mac_text, seconds

MOST_SPEAKERS = 1024
MOST_GROUP_ADDRESSES = 32
MOST_SIGNATURES = 4
MOST_INVESTIGATIONS = 128
"""Each costs some tens of milliseconds: a liar with many addresses must not buy hours of them."""
INVESTIGATIONS_A_SPEAKER = 3
MOST_SETS = 16
MOST_TRIES = 100
"""Adverts of one speaker that nothing explained, after which the easy explanations are not tried any more."""
MOST_CHANGES_A_SECOND = 50
_BURST = 400
_TWIN = 5_000_000
"""An advert this many ns after another, with the same header, is its twin under the other key and no new beat."""
_VIRTUAL_MAC = b"\x00\x00\x5e\x00\x01"
_UCARP_MAC = b"\x00\x00\x5e\x00\x00"
_FREEBSD_TOS = 0xE0


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a person who watches wants to know, once. `text` is one sentence; `details` are plain values."""

    at: int
    kind: str
    text: str
    vhid: int | None = None
    family: int | None = None
    source: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "event": self.kind,
            "at": self.at,
            "vhid": self.vhid,
            "family": self.family,
            "source": self.source,
            "text": self.text,
            **self.details,
        }


class Observer:
    """Give it every frame with its time, in order, and look at `speakers`; `tick` when `deadline` has come.

    `passphrase` and `addresses` are the group's, when they are known; with `vhid` no other group is judged by them.
    Addresses are also learned from gratuitous ARP and neighbour advertisements of virtual MACs, where the frames
    include them.
    """

    def __init__(
        self, passphrase: str | bytes | None = None, addresses: Iterable[AddressLike] = (), *, vhid: int | None = None
    ) -> None:
        self.speakers: dict[Key, Speaker] = {}
        self.learned: dict[int, set[IPAddress]] = {}
        self.frames = 0
        self.adverts = 0
        """Datagrams of protocol 112 that are CARP's, right or wrong."""
        self.overlooked: Counter[str] = Counter()
        """What there was no room or no place for, by reason."""
        self._detective = KeySearch(passphrase, addresses)
        self._vhid = vhid
        self._has_passphrase = passphrase is not None
        self._knows_secret = passphrase is not None or bool(self._detective.addresses)
        self._investigations = 0
        self._current: dict[tuple[int, int], Key] = {}
        """By vhid and family: who became master last."""
        self._sets: dict[tuple[IPAddress, ...], None] = {}
        """Address sets that explained an advert: the next one is likely of the same."""
        self._rivals: dict[tuple[int, int], frozenset[Key]] = {}
        self._said: set[str] = set()
        self._tokens = float(_BURST)
        self._refilled = 0
        self._changes: list[Change] = []
        self.deadline: int | None = None

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
        elif kind == b"\x81\x00" and _is_tagged_advert(frame):
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

    @property
    def rivals(self) -> frozenset[Key]:
        """Those that are master of a group beside another."""
        return frozenset().union(*self._rivals.values())

    def findings(self) -> list[str]:
        """What is wrong here and what to do about it, one sentence each."""
        found = explanation.findings(
            self.groups(), self._given, self._rivals.values(), knows=self._knows_secret, judged=self._vhid
        )
        return list(dict.fromkeys(found))

    # Adverts

    def _datagram(self, frame: bytes, datagram: Datagram, at: int) -> None:
        router = _vrrp_router(datagram.payload)
        if router is not None:
            source = str(_address(datagram.source))
            self._say_once(
                at,
                "vrrp",
                f"{source} speaks VRRP, router {router}, not CARP: both are protocol 112 and use the MAC"
                f" {mac_text(virtual_mac(router))}, so vhid {router} must not be used here",
                source=source,
            )
            self.overlooked["VRRP"] += 1
            return
        self.adverts += 1
        advert = current.packet.advert(datagram)
        if advert is None:
            self._too_short(datagram, at)
            return
        fault = _fault(datagram, advert)
        speaker = self._speaker(Key(advert.vhid, advert.family, advert.source, advert.source_mac), advert, at)
        if speaker is None:
            return
        if not fault and self._knows_secret:
            fault = self._authenticate(speaker, advert)
        if fault:
            self._blame(speaker, fault, at)
            # An advert that is signed otherwise is still some host's that believes itself master.
            if fault != "badauth":
                return
        self._obey(speaker, advert, at)
        _recognise(speaker, frame, advert)

    def _too_short(self, datagram: Datagram, at: int) -> None:
        source = str(_address(datagram.source))
        self.overlooked["badlen"] += 1
        self._say_once(at, "fault", f"an advert of {source} counts as badlen: {FAULTS['badlen']}", source=source)

    def _speaker(self, key: Key, advert: Advert, at: int) -> Speaker | None:
        speaker = self.speakers.get(key)
        if speaker is None:
            if len(self.speakers) >= MOST_SPEAKERS and not self._make_room():
                self.overlooked[f"of more than {MOST_SPEAKERS} speakers"] += 1
                return None
            speaker = Speaker(key, advert.advbase, advert.advskew, advert.demotion, at, at)
            self.speakers[key] = speaker
        return speaker

    def _make_room(self) -> bool:
        """Forget who has been silent longest, if anybody is: those who speak are never pushed out by newcomers."""
        idle = [one for one in self.speakers.values() if one.condition is not Condition.ADVERTISING]
        if not idle:
            return False
        del self.speakers[min(idle, key=lambda one: one.last).key]
        return True

    def _blame(self, speaker: Speaker, fault: str, at: int) -> None:
        speaker.faults[fault] += 1
        if speaker.condition is Condition.FAULTY:
            speaker.last = at
        if speaker.faults[fault] == 1:
            text = f"an advert of {speaker.key.source} counts as {fault}: {FAULTS[fault]}"
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
        values = (speaker.advbase, speaker.advskew, speaker.demotion)
        speaker.advbase, speaker.advskew, speaker.demotion = advert.advbase, advert.advskew, advert.demotion
        if before is not Condition.ADVERTISING or self._returned(speaker):
            self._arrived(speaker, at)
        elif values != (advert.advbase, advert.advskew, advert.demotion):
            demoted = f", demotion {advert.demotion}" if advert.demotion or values[2] else ""
            self._say(
                at,
                "changed",
                speaker,
                f"now says advbase {advert.advbase}, advskew {advert.advskew}{demoted}"
                f" (was {values[0]}, {values[1]}{f', {values[2]}' if demoted else ''})",
                advbase=advert.advbase,
                advskew=advert.advskew,
                demotion=advert.demotion,
            )
        due = at + speaker.patience
        self.deadline = due if self.deadline is None else min(self.deadline, due)
        self._watch_rivals(speaker, at)

    def _beat(self, speaker: Speaker, advert: Advert, at: int) -> None:
        """Measure the interval, unless this is the first advert after a silence or the twin of the one before."""
        gap = at - speaker.last
        if speaker.beats == 0 or speaker.condition is not Condition.ADVERTISING:
            speaker.beats, speaker.beat_at = 1, at
            return
        # Under its two keys a pycarp sends one advert twice, with one nonce: on a busy machine some ms apart.
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

    def _arrived(self, speaker: Speaker, at: int) -> None:
        if speaker.adverts == 1:
            # A fault may have made the speaker known before; heard it is only now.
            speaker.first = at
        self._current[speaker.key[:2]] = speaker.key
        for other in self._others(speaker):
            # If it speaks on nonetheless, what lies between is no interval.
            other.beats = 0
        text = f"advertises every {seconds(speaker.interval)} (advbase {speaker.advbase}, advskew {speaker.advskew})"
        if speaker.adverts > 1:
            text += ", again"
        former = self._former(speaker, at)
        details: dict[str, Any] = {"advbase": speaker.advbase, "advskew": speaker.advskew}
        if former is not None:
            gap = at - former.last
            text += f", {seconds(gap)} after the last advert of {former.key.source}"
            details |= {"after": former.key.source, "gap_ns": gap}
        self._say(at, "master", speaker, text, **details)

    def _returned(self, speaker: Speaker) -> bool:
        """Whether it is master again because the one that had displaced it is gone."""
        current = self.speakers.get(self._current.get(speaker.key[:2], speaker.key))
        return current is not None and current is not speaker and current.condition is not Condition.ADVERTISING

    def _former(self, speaker: Speaker, at: int) -> Speaker | None:
        """Who was master before, if that is not long ago."""
        others = [one for one in self._others(speaker) if one.adverts and 0 <= at - one.last <= 2 * one.patience]
        return max(others, key=lambda one: one.last, default=None)

    def _others(self, speaker: Speaker) -> Iterator[Speaker]:
        vhid, family = speaker.key[:2]
        return (one for key, one in self.speakers.items() if key[0] == vhid and key[1] == family and one is not speaker)

    # Two masters, and none

    def _watch_rivals(self, speaker: Speaker, at: int) -> None:
        group = speaker.key[:2]
        known = self._rivals.get(group, frozenset())
        if speaker.key in known:
            return
        for other in self._others(speaker):
            # Each has spoken twice since the other began: no takeover looks like that, one of them would have yielded.
            both = other.condition is Condition.ADVERTISING and min(speaker.beats, other.beats) >= 2
            if both and other.beat_before < speaker.beat_before < other.beat_at:
                self._rivals[group] = known | {speaker.key, other.key}
                pair = sorted((other, speaker), key=lambda one: one.key.rank)
                why = explanation.why_both(pair[0], pair[1], self._given, self._knows_secret)
                self._say(
                    at,
                    "two masters",
                    speaker,
                    f"{pair[0].key.source} and {pair[1].key.source} are master of the same group at once: {why}",
                    sources=[one.key.source for one in pair],
                    prefix=False,
                )
                return

    def _tick(self, at: int) -> None:
        due: list[int] = []
        for speaker in self.speakers.values():
            if speaker.condition is not Condition.ADVERTISING:
                continue
            if at >= speaker.last + speaker.patience:
                speaker.condition, speaker.beats = Condition.SILENT, 0
                self._fell_silent(speaker, at)
            else:
                due.append(speaker.last + speaker.patience)
        self.deadline = min(due, default=None)
        for group, keys in list(self._rivals.items()):
            left = [key for key in keys if key in self.speakers]
            left = [key for key in left if self.speakers[key].condition is Condition.ADVERTISING]
            if len(left) < 2:
                del self._rivals[group]
                if left:
                    self._say(at, "one master", self.speakers[left[0]], "is the only master again")

    def _fell_silent(self, speaker: Speaker, at: int) -> None:
        current = self._current.get(speaker.key[:2], speaker.key)
        if current == speaker.key:
            self._say(
                at,
                "silent",
                speaker,
                f"is silent, its last advert came {seconds(at - speaker.last)} ago",
                last=speaker.last,
            )
        else:
            self._say(
                at,
                "silent",
                speaker,
                f"is silent since {current.source} is master",
                last=speaker.last,
                master=current.source,
            )

    # Signatures

    @property
    def _given(self) -> tuple[IPAddress, ...]:
        return self._detective.addresses

    def _authenticate(self, speaker: Speaker, advert: Advert) -> str:
        """Find what the advert was signed with, remember it, and return the fault that a group's instance would see."""
        found = next((one for one in speaker.signatures if one.fits(advert)), None)
        if found is None and speaker.unexplained < MOST_TRIES:
            found = next(filter(None, (self._detective.forms(advert, one) for one in self._sets)), None)
        if found is None and self._may_investigate(speaker, self._also(advert)):
            found = self._detective.investigate(advert, self._also(advert))
        if found is None:
            speaker.unexplained += 1
            return "badauth" if self._can_judge(advert.vhid) else ""
        if len(self._sets) < MOST_SETS:
            self._sets[found.addresses] = None
        if found in speaker.signatures or len(speaker.signatures) < MOST_SIGNATURES:
            speaker.signatures[found] = speaker.signatures.get(found, 0) + 1
        vouched = found.vouches(advert)
        speaker.tagged |= vouched is not None
        if vouched is False:
            return "tampered"
        if self._vhid not in (None, advert.vhid):
            return ""
        return "" if self._proper(found, advert.vhid) else "badauth"

    def _may_investigate(self, speaker: Speaker, also: set[IPAddress]) -> bool:
        if len(also) > speaker.known_addresses:
            speaker.known_addresses, speaker.investigations = len(also), 0
        if speaker.investigations >= INVESTIGATIONS_A_SPEAKER or self._investigations >= MOST_INVESTIGATIONS:
            return False
        speaker.investigations += 1
        self._investigations += 1
        return True

    def _also(self, advert: Advert) -> set[IPAddress]:
        source = IPv4Address(advert.source) if advert.family == 4 else IPv6Address(advert.source)
        return {source, *self.learned.get(advert.vhid, ())}

    def _can_judge(self, vhid: int) -> bool:
        """Whether a digest that nothing explains is the speaker's fault: not while too little is known."""
        if self._vhid not in (None, vhid):
            return False
        return self._has_passphrase and bool(self._given or self.learned.get(vhid))

    def _proper(self, signature: Signature, vhid: int) -> bool:
        """Whether a instance of the group with the given passphrase and addresses would accept it."""
        expected = self._given or signature.addresses
        if not self._has_passphrase:
            return True
        return (
            signature.vhid == vhid
            and signature.form in explanation.PROPER_FORMS
            and signature.addresses in explanation.proper_sets(expected)
        )

    # Addresses that are announced

    def _learn_arp(self, frame: bytes) -> None:
        if len(frame) >= 42 and frame[14:20] == b"\x00\x01\x08\x00\x06\x04" and frame[22:27] == _VIRTUAL_MAC:
            self._learn(frame[27], IPv4Address(frame[28:32]))

    def _learn_neighbour(self, frame: bytes) -> None:
        if len(frame) >= 86 and frame[20] == 58 and frame[54] == 136 and frame[78:85] == b"\x02\x01" + _VIRTUAL_MAC:
            self._learn(frame[85], IPv6Address(frame[62:78]))

    def _learn(self, vhid: int, address: IPAddress) -> None:
        known = self.learned.setdefault(vhid, set())
        if len(known) < MOST_GROUP_ADDRESSES:
            known.add(address)

    # Saying so

    def _say(self, at: int, kind: str, speaker: Speaker, text: str, *, prefix: bool = True, **details: Any) -> None:
        key = speaker.key
        sentence = f"{key.source} {text}" if prefix else text
        self._emit(Change(at, kind, sentence, key.vhid, key.family, key.source, details))

    def _say_once(self, at: int, kind: str, text: str, source: str) -> None:
        if text not in self._said and len(self._said) < MOST_SPEAKERS:
            self._said.add(text)
            self._emit(Change(at, kind, text, source=source))

    def _emit(self, change: Change) -> None:
        # A flood of changes is somebody's attack or breakage; the table still shows what it comes to.
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


def _fault(datagram: Datagram, advert: Advert) -> str:
    """The first of the kernel's checks that the advert fails; those that need a secret or a vhid come elsewhere."""
    if datagram.ttl != CARP_TTL:
        return "badttl"
    if not current.packet.checksum_ok(datagram):
        return "badsum"
    return "" if advert.version == CARP_VERSION else "badver"


def _recognise(speaker: Speaker, frame: bytes, advert: Advert) -> None:
    """Guess whose implementation this is, by its habits on the wire (docs/protocol.md)."""
    speaker.same_counter = speaker.same_counter + 1 if advert.counter == speaker.counter else 0
    speaker.counter = advert.counter
    if speaker.tagged:
        speaker.looks_like = "pycarp"
    elif advert.demotion or speaker.same_counter >= 2:
        speaker.looks_like = "OpenBSD"
    elif speaker.key.mac[:5] == _UCARP_MAC:
        speaker.looks_like = "UCarp"
    elif advert.family == 4 and frame[15] == _FREEBSD_TOS:
        speaker.looks_like = "FreeBSD"


def _vrrp_router(payload: bytes) -> int | None:
    """The router's number when the payload is VRRP's (RFC 5798, RFC 3768), which shares protocol, group and MACs."""
    if len(payload) < 8 or payload[0] & 15 != 1:
        return None
    version, count = payload[0] >> 4, payload[3]
    # Where both could be meant it is CARP: 36 bytes, and 7 in the place where VRRP counts addresses.
    if not count or (count == CARP_AUTHLEN and len(payload) == CARP_HEADER_LENGTH):
        return None
    lengths = {2: (16 + 4 * count,), 3: (8 + 4 * count, 8 + 16 * count)}
    return payload[1] if len(payload) in lengths.get(version, ()) else None


def _is_tagged_advert(frame: bytes) -> bool:
    ethertype = struct.unpack("!H", frame[16:18])[0] if len(frame) >= 18 else 0
    return (ethertype == 0x0800 and frame[27:28] == b"\x70") or (ethertype == 0x86DD and frame[24:25] == b"\x70")


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
