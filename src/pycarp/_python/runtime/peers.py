"""Who was heard of a group, and of its siblings: for whoever asks what there is.

Thread: runtime.
"""

from __future__ import annotations

from ipaddress import ip_address

from ...engine.snapshot import Peer
from ...protocol import BOWOUT, Advert
from ...protocol.abc import IPAddress
from .state import KNOWN_PEERS, Instance, Source


def note_source(instance: Instance, advert: Advert, now: int) -> Source:
    """An advert with the right digest came. In a full table it takes the place of the one that was silent longest: a
    liar with many addresses costs no memory, and the master is found again by its next advert."""
    sources, key = instance.sources, (advert.source, advert.vhid)
    source = sources.get(key)
    if source is None:
        if len(sources) >= KNOWN_PEERS:
            del sources[min(sources, key=lambda one: sources[one].heard)]
        sources[key] = source = Source()
    if source.counter != advert.counter:
        source.counter, source.counter_since = advert.counter, now
    source.heard = now
    source.count += 1
    source.advbase, source.advskew, source.mac = advert.advbase, advert.advskew, advert.source_mac
    return source


def heard_last(instance: Instance, mac: bytes) -> IPAddress | None:
    """The address of the host with this MAC; of several, which had the group's one after another, the last one's."""
    found = [(one.heard, address) for (address, _vhid), one in instance.sources.items() if one.mac == mac]
    return ip_address(max(found)[1]) if found else None


def peer_objects(instance: Instance) -> tuple[Peer, ...]:
    """The one that was heard last first."""
    found = [
        Peer(
            source=address,
            vhid=vhid,
            mac=source.mac.hex(":"),
            kind="bow-out" if source.advbase == source.advskew == BOWOUT else "advert",
            advbase=source.advbase,
            advskew=source.advskew,
            dialects=tuple(sorted(source.dialects)),
            heard=source.heard,
            count=source.count,
        )
        for (address, vhid), source in instance.sources.items()
    ]
    return tuple(sorted(found, key=lambda peer: peer.heard, reverse=True))
