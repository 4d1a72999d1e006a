"""What an engine tells its owner: frozen dataclasses that say what happened, when, why, and which peer caused it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from .protocol import Reason, State

HINTS = {
    "badauth": "another passphrase, another form of it, or other addresses: compare pass and addresses on both hosts",
    "badvhid": "nobody here has this vhid: if that host belongs to the group, give both the same vhid",
    "badttl": "the advert has crossed a router or is forged: the hosts of a group share one link",
    "badsum": "the advert was damaged on its way or its sender computes the checksum otherwise",
    "badver": "the sender speaks another version, or VRRP: protocol 112 is both's",
    "altered": "its priority was changed on the way: somebody on this link forges adverts of the group",
    "echo": "this is our own advert: a loop or a mirror on the way sends it back",
}
"""What an `AdvertRejected` advises, by the counter of the check that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`vhid` and `name` (the interface of the virtual host, "carp0") say whom it concerns; `at` is CLOCK_MONOTONIC in
    ns.

    Every `peer` is the source address that an advert claimed; nothing proves it.
    """

    vhid: int
    name: str
    at: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the event's name first."""
        values: dict[str, Any] = {"event": type(self).__name__}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, State):
                value = value.name
            elif isinstance(value, Enum):
                value = value.value
            elif isinstance(value, tuple):
                value = list(value)
            values[field.name] = value
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """The virtual host moved from one state to another."""

    before: State
    after: State
    reason: Reason
    peer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressesTaken(Event):
    """The kernel confirmed that the addresses are on this host; `took` is ns from the decision to the confirmation."""

    addresses: tuple[str, ...]
    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressesDropped(Event):
    """The kernel confirmed that the addresses are no longer on this host; `took` as in `AddressesTaken`."""

    addresses: tuple[str, ...]
    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHeard(Event):
    """A valid advert came from an address, or under a dialect, that had not been heard before."""

    peer: str
    dialect: str
    advbase: int
    advskew: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertRejected(Event):
    """An advert was not obeyed: `counter` is the kernel's name for the check it failed, `hint` says what to look at.

    Reported when first seen from a peer, not for every frame.
    """

    counter: str
    peer: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySilent(Event):
    """The master is heard in one address family only; `family` (4 or 6) is the one that fell silent."""

    family: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demoted(Event):
    """The demotion counter changed: above 0 the advskew sent and compared is at least 240."""

    demotion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CarpdevChanged(Event):
    """The interface that the virtual host speaks on came, went, or changed; `present` and `up` say how it is now."""

    carpdev: str
    present: bool
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """Something the engine tried on the machine did not work; `what` is one sentence, and the engine goes on."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """The consumer was too slow: `count` events were dropped here. `vhid` is 0 and `name` empty."""

    count: int
