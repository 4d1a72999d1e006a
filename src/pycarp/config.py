"""`VirtualHost`: one floating address group as its owner describes it. Frozen, validated, knows no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from ._records import dataclass, field, replace
from .errors import ConfigError
from .protocol import NS_PER_SECOND, NS_PER_SKEW, State
from .protocol.keys import bsd_key, passphrase_bytes
from .protocol.options import DEFAULT, NAME, OPTIONS, STATED, check_destinations
from .protocol.timing import master_down

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from .health.check import Check
    from .hooks.hook import Hook
    from .protocol.choices import Conflict, Demotion, Dialect, Mac, Replay, Siblings, Timing

Address = IPv4Interface | IPv6Interface
AddressLike = str | IPv4Address | IPv6Address | Address


@dataclass(frozen=True, slots=True, kw_only=True)
class _VirtualHost:
    """The fields as they may be given; `VirtualHost` has the types of some of them as they are kept."""

    vhid: int
    addresses: Iterable[AddressLike] = ()
    passphrase: str | bytes | None = field(default=None, repr=False)
    nextpass: str | bytes | None = field(default=None, repr=False)
    joining: Iterable[AddressLike] = ()
    leaving: Iterable[AddressLike] = ()
    advbase: int = DEFAULT["advbase"]
    advskew: int = DEFAULT["advskew"]
    carpdev: str | None = None
    name: str | None = None
    preempt: bool = DEFAULT["preempt"]
    dialect: Dialect = DEFAULT["dialect"]
    mac: Mac = DEFAULT["mac"]
    replay: Replay = DEFAULT["replay"]
    siblings: Siblings = DEFAULT["siblings"]
    announcements: int = DEFAULT["announcements"]
    announce: int = DEFAULT["announce"]
    conflict: Conflict = DEFAULT["conflict"]
    timing: Timing = DEFAULT["timing"]
    missed: int = DEFAULT["missed"]
    demotion: Demotion = DEFAULT["demotion"]
    preempt_delay: int = DEFAULT["preempt_delay"]
    start_delay: int = DEFAULT["start_delay"]
    pace: int = DEFAULT["pace"]
    peers: Iterable[str | IPv4Address | IPv6Address] = ()
    groups: Iterable[str | IPv4Address | IPv6Address] = ()
    multicast: bool = DEFAULT["multicast"]
    state: State | None = None
    up: bool = DEFAULT["up"]
    checks: Iterable[Check] = ()
    hooks: Iterable[Hook] = ()
    sync: Iterable[str] = ()

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(getattr(self, name)))
        if self.name is None:
            object.__setattr__(self, "name", f"carp{self.vhid}")
        if self.pace and self.peers:
            no_pace = "a pace is for a LAN: adverts to peers alone go further, leave pace out, or peers"
            raise ConfigError(no_pace, "pace")
        if self.advbase == 0 and self.advskew == 0 and self.timing != "openbsd":
            no_time = "advbase 0 with advskew 0 leaves no time between adverts: give advskew 1-254 or advbase 1-254"
            raise ConfigError(no_time, "advbase")
        check_destinations(self.peers, self.groups, self.addresses)
        _check_change(self)  # type: ignore[arg-type]


# Python names the constructor when an argument is unknown.
_VirtualHost.__init__.__qualname__ = "VirtualHost.__init__"


class VirtualHost(_VirtualHost):
    """One virtual host: the group it belongs to, its addresses, and how eager it is to be master.

    addresses      the floating addresses, as text or `ipaddress` objects, with a prefix length ("10.13.37.42/24").
                   Without one, the prefix of the carpdev's subnet that holds the address is used.
    passphrase     the group's secret, text (UTF-8) or bytes; only 19 bytes count on any BSD. It has to be given: "" is
                   the zero key, with which anybody on the LAN can take the addresses.
    nextpass       during a change, the secret that holds after it, as `passphrase`; None: the same.
    joining, leaving   during a change, those of the addresses that adverts do not cover before it, or after it.
    name           the name of the interface that carries the addresses; default ``carp`` and the vhid.

    checks         what is watched: `pycarp.health.check.Check`.
    hooks          programs that run when the state changes: `pycarp.hooks.hook.Hook`.
    sync           the names of virtual hosts of this engine that move together with this one.

    The other fields, as `protocol.options` has them:
    vhid           1-255, the group's number: all of its hosts have it, and no other group of this LAN
    advbase        0-254, seconds between adverts; 0 needs an advskew (1)
    advskew        0-254, 1/256 seconds more between adverts: the lower, the more eager to be master (0)
    carpdev        the interface to speak on; without it, the one whose subnet has the addresses
    multicast      with peers: hear adverts to the multicast group as well (False)
    state          a state to force once, right after the start
    up             take part in the group, or only be configured (True)
    preempt        become master as soon as a slower master is heard (False)
    dialect        auto|bsd|netbsd: how the passphrase becomes a key: as the peers do, or as one kind of BSD does (auto)
    mac            virtual|interface: whose MAC the addresses have: the group's, 00:00:5e:00:01:VHID, or the carpdev's
                   own (virtual)
    replay         guard|off: our own adverts that come back, and adverts altered on the way, are dropped, or obeyed as
                   on a BSD (guard)
    siblings       arbitrate|warn: other hosts have these addresses under another vhid: the higher vhid holds them (and
                   nobody here, if the lower one does not let go), or both hold them, as on a BSD (arbitrate)
    announcements  1-10, how often the addresses are announced after a takeover (3)
    announce       0-900, seconds after which a master announces the addresses again, with the advert nearest to then; 0
                   for never (3)
    conflict       warn|refuse: somebody answers for the addresses though no master is heard: take them all the same, or
                   do not (warn)
    timing         bsd|openbsd: how long silence lasts before others take over: advskew once, or as often as advbase as
                   OpenBSD has it; all hosts of a group with OpenBSD should have its way (bsd)
    missed         2-10, of a master's adverts, so many are missed before it is gone; the same on all hosts (3)
    demotion       auto|obey|ignore|add: whose demotion byte counts as OpenBSD's does: of pycarp and OpenBSD hosts, of
                   all, or of nobody; or each demotion is added to advskew, as on FreeBSD (auto)
    preempt_delay  0-900, seconds for which a slower master is heard before it is preempted (0)
    start_delay    0-900, seconds after the start in which nothing is taken over (0)
    pace           0-500, milliseconds between a master's adverts with those that it sends in between, 0 for none;
                   pycarp backups miss it after three of those, other hosts as ever (0)

    Raises `ConfigError` with the field's name in `.field`. Its message repeats no value that may be the passphrase, in
    whichever field it stands.
    """

    __slots__ = ()

    led: ClassVar[bool] = False
    """Whether the program decides who has the addresses (`Led`)."""

    if TYPE_CHECKING:
        addresses: tuple[Address, ...]
        peers: tuple[IPv4Address | IPv6Address, ...]
        groups: tuple[IPv4Address | IPv6Address, ...]
        passphrase: str | bytes
        nextpass: str | bytes | None
        joining: tuple[Address, ...]
        leaving: tuple[Address, ...]
        name: str
        checks: tuple[Check, ...]
        hooks: tuple[Hook, ...]
        sync: tuple[str, ...]

    def replace(self, **changes: Any) -> VirtualHost:
        """A copy with the named fields changed, validated anew."""
        return replace(self, **changes)

    @property
    def signed(self) -> tuple[Address, ...]:
        """The addresses that adverts cover: before a change, if one is under way."""
        return _without(self.addresses, self.joining)

    @property
    def following(self) -> tuple[str | bytes, tuple[Address, ...]] | None:
        """The secret, and the addresses that adverts cover, after the change that is under way; None: there is none."""
        if self.nextpass is None and not self.joining and not self.leaving:
            return None
        secret = self.passphrase if self.nextpass is None else self.nextpass
        return secret, _without(self.addresses, self.leaving)

    @property
    def interval(self) -> int:
        """Nanoseconds between adverts while not demoted; 0/0 is OpenBSD's fastest."""
        return self.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW or NS_PER_SKEW

    @property
    def master_down(self) -> int:
        """Nanoseconds of silence after which this host takes over."""
        return master_down(self.advbase, self.advskew, self.missed, self.timing)

    @property
    def address_texts(self) -> tuple[str, ...]:
        """The addresses as events and commands show them: without a prefix length where none was given."""
        return tuple(str(a.ip) if a.network.prefixlen == a.max_prefixlen else str(a) for a in self.addresses)

    @property
    def families(self) -> tuple[int, ...]:
        """The address families in use: (4,), (6,), (4, 6), or () without addresses."""
        return tuple(sorted({address.version for address in self.addresses}))


class Led(VirtualHost):
    """What `pycarp.Owner` runs: the program decides who has the addresses. No advert is sent, and none is obeyed."""

    __slots__ = ()

    led = True


def _without(addresses: tuple[Address, ...], others: tuple[Address, ...]) -> tuple[Address, ...]:
    left = {one.ip for one in others}
    return tuple(one for one in addresses if one.ip not in left)


def _check_change(host: VirtualHost) -> None:
    known = {one.ip for one in host.addresses}
    for name, others in (("joining", host.joining), ("leaving", host.leaving)):
        for one in others:
            if one.ip not in known:
                raise ConfigError(f"{name} names {one.ip}, which is none of the addresses: give it there, too", name)
        if others and not _without(host.addresses, others):
            raise ConfigError(f"{name} names all addresses: one has to be the same before and after", name)
    if both := {one.ip for one in host.joining} & {one.ip for one in host.leaving}:
        raise ConfigError(f"{min(map(str, both))} is joining and leaving: give one of the two", "leaving")
    if host.nextpass is not None and bsd_key(passphrase_bytes(host.nextpass)) == bsd_key(
        passphrase_bytes(host.passphrase)
    ):
        same = "nextpass is the same secret as the passphrase, of which 19 bytes count: give another, or leave it out"
        raise ConfigError(same, "nextpass")


_CHECKS: dict[str, Callable[[Any], Any]] = {option.name: option.check for option in (*OPTIONS, NAME, *STATED)}
