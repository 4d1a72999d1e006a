"""Findings: what is wrong on a LAN and what to do about it, in plain sentences, from what an observer knows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

from ..protocol.abc import IPAddress
from ..protocol.checks import HINTS
from ..protocol.frames import is_virtual
from .keysearch import FORMS, Signature
from .signatures import PROPER_FORMS, proper_sets
from .speakers import Condition, Key, Speaker
from .text import mac_text, plural, seconds

_REMEDIES = {
    "twice-shortened": "it was shortened by hand for NetBSD's sake, and NetBSD shortened it again",
    "twenty": "only 19 bytes count on every BSD, so take a passphrase of at most 19",
    "line-end": "remove the line end from the passphrase's file, or what reads it",
    "stripped": "blanks or quotes around it count where they are given",
    "latin-1": "take a passphrase of ASCII characters",
    "none": "its passphrase was never set",
}
_MOST_MATCHED = 16
"""Speakers of one group that are matched; more than these are a flood, not a group."""


def findings(
    groups: Mapping[int, Sequence[Speaker]],
    given: tuple[IPAddress, ...],
    contenders: Collection[Key],
    *,
    knows: bool,
    vhid: int | None = None,
) -> Iterator[str]:
    """All findings. `given` are the addresses, `contenders` the masters at once, `knows`: a passphrase was given, and
    without one none is blamed.

    `vhid` is the group that secret and addresses belong to; None: they are every group's.
    """
    matched = {number: list(speakers[:_MOST_MATCHED]) for number, speakers in groups.items()}
    for number, speakers in matched.items():
        mine = vhid in (None, number)
        for speaker in speakers:
            contends = speaker.key in contenders
            for sentence in _alone(speaker, given if mine else (), knows=knows, unmatched=mine and not contends):
                yield f"vhid {number}: {sentence}"
        for one, other in combinations(speakers, 2):
            if one.key.family != other.key.family:
                continue
            if one.key in contenders and other.key in contenders:
                names = _names(one, other)
                why = why_both(one, other, given, knows)
                yield f"vhid {number}: {names[0]} and {names[1]} are master at once: {why}"
            elif (difference := _misunderstanding(one, other)) is not None:
                yield f"vhid {number}: {difference}"
    split = list(_split_groups(matched))
    yield from split
    if knows and vhid is not None and not split:
        yield from _wrong_vhid(matched, given, vhid)


def why_both(one: Speaker, other: Speaker, given: tuple[IPAddress, ...], knows: bool) -> str:
    """Why two hosts of one group are master at the same time, as the end of a sentence."""
    if not knows:
        return "they do not hear or do not understand each other; --passfile and --address help to say why"
    for speaker in (one, other):
        if not speaker.signatures:
            return _unmatched(speaker, given)
    sentence = _misunderstanding(one, other)
    if sentence is not None:
        return sentence
    names = _names(one, other)
    for speaker, name in zip((one, other), names, strict=True):
        if "badttl" in speaker.faults:
            return f"the adverts of {name} do not arrive with TTL 255, so nobody obeys them"
    causes = "a switch that filters multicast (IGMP snooping), a firewall that drops protocol 112,"
    causes += " or a cable that works one way"
    if is_virtual(one.key.mac) or is_virtual(other.key.mac):
        causes = f"port security or a hypervisor that filters the virtual MAC (then use mac interface), {causes}"
    return f"they sign alike, so one does not hear the other: look for {causes}"


def _alone(speaker: Speaker, given: tuple[IPAddress, ...], *, knows: bool, unmatched: bool) -> Iterator[str]:
    """What can be said about a speaker without looking at others; `unmatched`: also that nothing fits its digest."""
    name = speaker.key.source
    for fault, count in sorted(speaker.faults.items()):
        if fault != "badauth":
            yield f"{name}: {plural(count, 'advert')} counted as {fault}: {HINTS[fault]}"
    for signature in speaker.signatures:
        if knows and signature.form not in PROPER_FORMS:
            yield f"{name} signs with {FORMS[signature.form]}: {_REMEDIES[signature.form]}"
        yield from _wrongly_signed(name, signature, speaker, given)
    if knows and unmatched and speaker.unmatched and not speaker.signatures:
        yield _unmatched(speaker, given)
    if speaker.intervals and speaker.longest > 2 * speaker.interval:
        yield (
            f"{name} promises an advert every {seconds(speaker.interval)}, and once {seconds(speaker.longest)} passed"
            " between two: adverts are lost, or its machine is too busy"
        )


def _wrongly_signed(name: str, signature: Signature, speaker: Speaker, given: tuple[IPAddress, ...]) -> Iterator[str]:
    if signature.vhid != speaker.key.vhid:
        yield f"{name} signs as vhid {signature.vhid}: its header says another group than it was configured for"
    if given and signature.addresses not in proper_sets(given):
        yield (
            f"{name} signs over {_addresses(signature.addresses)}{_difference(signature, given)}:"
            " all hosts of a group need the same addresses"
        )
    elif given and signature.addresses != given:
        yield (
            f"{name} leaves link-local addresses out of its digest, as OpenBSD does: NetBSD and FreeBSD will not"
            " understand it, pycarp will"
        )


def _unmatched(speaker: Speaker, given: tuple[IPAddress, ...]) -> str:
    name = speaker.key.source
    if not given:
        return f"the signature of {name} cannot be checked: give the group's addresses with --address"
    return (
        f"the signature of {name} fits no form of this passphrase over any of these addresses:"
        " another passphrase is set there, or an address that was not given"
    )


def _misunderstanding(one: Speaker, other: Speaker) -> str | None:
    """How two speakers' signatures differ, if they never agree; None also when one of them is not known."""
    if not one.signatures or not other.signatures or set(one.signatures) & set(other.signatures):
        return None
    name, name2 = _names(one, other)
    mine, theirs = next(iter(one.signatures)), next(iter(other.signatures))
    form, over = FORMS[mine.form], _addresses(mine.addresses)
    form2, over2 = FORMS[theirs.form], _addresses(theirs.addresses)
    if mine.addresses == theirs.addresses and mine.vhid == theirs.vhid:
        proper = all(signature.form in PROPER_FORMS for signature in (*one.signatures, *other.signatures))
        remedy = "give both the same passphrase"
        if proper:
            remedy = "give the host that reads it whole the passphrase without its last character"
            remedy += ", or 'dialect auto' if it is pycarp"
        return f"{name} signs with {form}, {name2} with {form2}: {remedy}"
    if mine.form == theirs.form:
        return f"{name} signs over {over}, {name2} over {over2}: give both the same addresses"
    return f"{name} signs with {form}, over {over}, {name2} with {form2}, over {over2}: give both the same of each"


def _split_groups(groups: Mapping[int, Sequence[Speaker]]) -> Iterator[str]:
    """The same secret and addresses under several vhids: hosts that were meant to be one group."""
    by_addresses: dict[tuple[IPAddress, ...], dict[int, Speaker]] = {}
    for vhid, speakers in groups.items():
        for speaker in speakers:
            if speaker.condition is not Condition.ADVERTISING:
                continue
            for signature in speaker.signatures:
                by_addresses.setdefault(signature.addresses, {}).setdefault(vhid, speaker)
    for addresses, found in by_addresses.items():
        if len(found) > 1 and addresses:
            hosts = ", ".join(f"{speaker.key.source} under vhid {vhid}" for vhid, speaker in sorted(found.items()))
            yield (
                f"{_addresses(addresses)} {'is' if len(addresses) == 1 else 'are'} spoken for by {hosts}:"
                " they do not hear each other (badvhid), each is master of its own; give all the same vhid"
            )


def _wrong_vhid(groups: Mapping[int, Sequence[Speaker]], given: tuple[IPAddress, ...], vhid: int) -> Iterator[str]:
    """Hosts of the group that `vhid` is, under another one."""
    for number, speakers in groups.items():
        for speaker in speakers:
            if number != vhid and any(
                one.form in PROPER_FORMS and (not given or one.addresses in proper_sets(given))
                for one in speaker.signatures
            ):
                yield (
                    f"{speaker.key.source} has this passphrase and these addresses under vhid {number}, not {vhid}:"
                    f" the others do not hear it (badvhid); give it vhid {vhid}"
                )


def _difference(signature: Signature, given: tuple[IPAddress, ...]) -> str:
    if not given:
        return ""
    missing = [address for address in given if address not in signature.addresses]
    added = [address for address in signature.addresses if address not in given]
    parts = []
    if missing and len(signature.addresses) + len(missing) > 1:
        parts.append(f"without {_addresses(missing)}")
    if added:
        parts.append(f"with {_addresses(added)} in addition")
    return f", {' and '.join(parts)}" if parts else ""


def _addresses(addresses: Sequence[IPAddress]) -> str:
    texts = [str(address) for address in addresses]
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:]))) or "no address"


def _names(one: Speaker, other: Speaker) -> tuple[str, str]:
    """How to call the two: by address, and by MAC too where the address is the same."""
    if one.key.source != other.key.source:
        return one.key.source, other.key.source
    return tuple(f"{each.key.source} ({mac_text(each.key.mac)})" for each in (one, other))  # type: ignore[return-value]
