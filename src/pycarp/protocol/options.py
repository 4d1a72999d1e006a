"""The words that describe a virtual host, in one table: what each takes, its default, and a sentence about it.

`VirtualHost` checks its fields by this table, ifconfig's parser knows its words from it, and ``pycarp up`` has its help
and some of its options from it. ``python tools/word_table.py`` writes it into README and `VirtualHost`'s docstring.
To add a word: a row here, a field of `VirtualHost` with ``DEFAULT[...]``, the tool, and its use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, ip_address, ip_interface

from .._records import dataclass, field
from ..errors import ConfigError
from . import State
from .keys import passphrase_bytes

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from typing import Any

_NAME_LENGTH = 15
_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


class Kind:
    """What stands after a word: as its usage shows it (`argument`), and in a sentence (`takes`). Both may be empty."""

    def __init__(self, argument: str = "", takes: str = "") -> None:
        self.argument = argument
        self.takes = takes

    def check(self, name: str, value: Any) -> Any:
        """The value as `VirtualHost` keeps it. Raises `ConfigError`, which calls the value `name`.

        The error repeats nothing that may be a passphrase in the wrong place: no text that is not an address, and no
        number of more than three digits.
        """
        return value


class Number(Kind):
    def __init__(self, low: int, high: int) -> None:
        super().__init__("N", f"a number {low}-{high}")
        self.low = low
        self.high = high

    def check(self, name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{_of_type(name, value)}, not a whole number: give {self.low}-{self.high}", name)
        if not self.low <= value <= self.high:
            shown = f"{name} {value}" if abs(value) < 1000 else name
            raise ConfigError(f"{shown} is out of range: give {self.low}-{self.high}", name)
        return int(value)  # also of an enum


class Milliseconds(Number):
    """As a number, or as text with its unit: "3ms"."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.argument = "Nms"
        self.takes = f"milliseconds, {low}-{high}, as 3ms"

    def check(self, name: str, value: Any) -> int:
        text = value.strip().removesuffix("ms").rstrip() if isinstance(value, str) else ""
        return super().check(name, int(text) if text.isascii() and text.isdigit() and len(text) < 5 else value)


class Choice(Kind):
    """One of some values: those of the `Literal` of that name in `choices`."""

    def __init__(self, *values: str) -> None:
        self.values = values
        super().__init__("|".join(values), f"{', '.join(values[:-1])} or {values[-1]}")

    def check(self, name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.values:
            raise ConfigError(f"{name} has an unknown value: give {self.takes}", name)
        return value


class Flag(Kind):
    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{_of_type(name, value)}, not a bool: give True or False", name)
        return value


class StateName(Kind):
    def check(self, name: str, value: Any) -> State:
        if not isinstance(value, int) or isinstance(value, bool) or value not in tuple(State):
            raise ConfigError(f"{name} has an unknown value: give State.INIT, State.BACKUP or State.MASTER", name)
        return State(value)


class InterfaceName(Kind):
    def check(self, name: str, value: Any) -> Any:
        if not _may_be_name(value) or value in (".", ".."):
            rule = "give 1-15 letters, digits, '_', '.' or '-'"
            raise ConfigError(f"{name} is not an interface name: {rule}", name)
        return value


class Secret(Kind):
    """Text or bytes; "" is the zero key, which carp(4) allows. It has to be given, so that nobody forgets it."""

    def check(self, name: str, value: Any) -> str | bytes:
        if value is None:
            missing = 'a passphrase is missing: give the group\'s, or passphrase="" if anybody may take the addresses'
            raise ConfigError(missing, name)
        if b"\0" in passphrase_bytes(value):
            raise ConfigError("the passphrase has a NUL character, at which every BSD would cut it", name)
        return value  # type: ignore[no-any-return]


class Addresses(Kind):
    """Texts or `ipaddress` objects, each with or without the prefix of its subnet."""

    def check(self, name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | bytes):
            raise ConfigError(f"{name} is one text: give a list of addresses", name)
        if not isinstance(value, Iterable):
            raise ConfigError(f"{_of_type(name, value)}: give a list of addresses", name)
        found: dict[Any, Any] = {}
        for index, one in enumerate(value):
            address = self._address(f"{name}[{index}]", one, name)
            if address.ip in found:
                raise ConfigError(f"{address.ip} is given twice", name)
            found[address.ip] = address
        return tuple(found.values())

    def _address(self, what: str, value: Any, field: str) -> Any:
        if not isinstance(value, str | IPv4Address | IPv6Address):
            raise ConfigError(f"{_of_type(what, value)}: give text or an ipaddress object", field)
        address = _interface(value)
        if address is None:
            raise ConfigError(f"{what} is not an IP address: give one like 10.13.37.42/24", field)
        ip = address.ip
        if isinstance(address, IPv6Interface) and address.scope_id is not None:
            raise ConfigError(f"{what} has a zone: give it without, the carpdev tells the link", field)
        if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip == IPv4Address("255.255.255.255"):
            raise ConfigError(f"{ip} cannot be a floating address: give a unicast address of the LAN", field)
        subnet = address.network
        if ip.version == 4 and subnet.prefixlen < 31 and ip in (subnet.network_address, subnet.broadcast_address):
            message = f"{address} is the address of the subnet itself or its broadcast: give a host's"
            raise ConfigError(message, field)
        return address


class Hosts(Kind):
    """Addresses of hosts, or of groups of them (`multicast`): texts or `ipaddress` objects without a prefix."""

    def __init__(self, argument: str, takes: str, multicast: bool) -> None:
        super().__init__(argument, takes)
        self.multicast = multicast

    def check(self, name: str, value: Any) -> tuple[Any, ...]:
        found: dict[Any, None] = {}
        for at, one in enumerate(_listed(name, value, "a list of addresses")):
            what = f"{name}[{at}]"
            if not isinstance(one, str | IPv4Address | IPv6Address):
                raise ConfigError(f"{_of_type(what, one)}: give text or an ipaddress object", name)
            address = _address(one)
            if address is None:
                raise ConfigError(f"{what} is not an IP address without a length: give {self.takes}", name)
            if isinstance(address, IPv6Address) and address.scope_id is not None:
                raise ConfigError(f"{what} has a zone: give it without, the carpdev tells the link", name)
            if address.is_multicast is not self.multicast or (not self.multicast and _nobodys(address)):
                raise ConfigError(f"{name} cannot have {address}: give {self.takes}", name)
            found[address] = None
        if len(found) > MOST_PEERS:
            raise ConfigError(f"{name} has more than {MOST_PEERS} addresses: a group of so many needs multicast", name)
        return tuple(found)


def check_destinations(peers: Iterable[Any], groups: Iterable[Any], addresses: Iterable[Any]) -> None:
    """What shows of these fields only together; raises `ConfigError`."""
    floating = {address.ip for address in addresses}
    for peer in peers:
        if peer in floating:
            raise ConfigError(f"peers has the floating address {peer}: give the peers' own addresses", "peers")
    for name, given in (("peers", peers), ("groups", groups)):
        for family in sorted({one.version for one in given} - {one.version for one in floating}):
            lacking = f"{name} has an IPv{family} address, and no IPv{family} address floats: no such advert is sent"
            raise ConfigError(f"{lacking}; remove it, or give an address of that family", name)
    if len({one.version for one in groups}) < len(tuple(groups)):
        raise ConfigError("groups has two groups of one family: give one", "groups")


def _nobodys(address: IPv4Address | IPv6Address) -> bool:
    return address.is_unspecified or address.is_loopback or address == IPv4Address("255.255.255.255")


class Names(Kind):
    """A list of names of virtual hosts."""

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        names = _listed(name, value, "a list of names")
        for at, one in enumerate(names):
            if not _may_be_name(one):
                rule = "give 1-15 letters, digits, '_', '.' or '-'"
                raise ConfigError(f"{name}[{at}] is not the name of a virtual host: {rule}", name)
        return tuple(dict.fromkeys(names))


class Objects(Kind):
    """A list of objects of one class, which is imported when there is one: `place` is its module in this package."""

    def __init__(self, place: str, kind: str) -> None:
        super().__init__("", f"a list of {kind}")
        self.place = place
        self.kind = kind

    def check(self, name: str, value: Any) -> tuple[Any, ...]:
        objects = _listed(name, value, self.takes)
        if objects:
            kind = getattr(import_module(f"..{self.place}", __package__), self.kind)
            for at, one in enumerate(objects):
                if not isinstance(one, kind):
                    raise ConfigError(f"{_of_type(f'{name}[{at}]', one)}: give {self.takes}", name)
        return objects


def _listed(name: str, value: Any, takes: str) -> tuple[Any, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"{_of_type(name, value)}: give {takes}", name)
    return tuple(value)


def _address(value: Any) -> Any:
    try:
        return ip_address(value)
    except ValueError:
        return None  # The error is not chained: it repeats the value.


def _interface(value: Any) -> Any:
    try:
        return ip_interface(value)
    except ValueError:
        return None  # The error is not chained: it repeats the value.


def _of_type(name: str, value: object) -> str:
    return f"{name} is of type {type(value).__name__}"


def _may_be_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and _NAME_LETTERS.issuperset(value)


MOST_PEERS = 16
"""Each advert is sent once for each of them."""
REQUIRED: Any = ...  # the default of a field that has none


@dataclass(frozen=True, slots=True)
class Option:
    """One field of `VirtualHost`, and the words that set it."""

    name: str
    kind: Kind
    default: Any
    about: str
    ours: bool = False  # NetBSD's ifconfig does not know the word, or one of the words
    opposite: str = ""  # the word that sets a flag to False, or takes back what was given
    own_words: Mapping[str, str] = field(default_factory=dict)  # with what each takes, if not the field's name
    similar: Mapping[str, str] = field(default_factory=dict)  # for a word, the spellings that are taken for it
    former: str = ""  # what the word was called before
    phrase: tuple[str, str] | None = None  # two words that stand for the word

    @property
    def words(self) -> dict[str, str]:
        """Every word, with what it takes, or "" for nothing."""
        words = dict(self.own_words) or {self.name: self.kind.takes}
        return words | {self.opposite: ""} if self.opposite else words

    @property
    def usage(self) -> str:
        """The words as a user writes them."""
        if self.own_words:
            return self.kind.argument
        return f"{' '.join(self.phrase or (self.name,))} {self.kind.argument}".rstrip() + (
            f", {self.opposite}" if self.opposite else ""
        )

    @property
    def sentence(self) -> str:
        return f"{self.kind.low}-{self.kind.high}, {self.about}" if isinstance(self.kind, Number) else self.about

    @property
    def default_word(self) -> str:
        """What holds where nothing is given, as a user would write it; "" where the sentence tells."""
        if isinstance(self.kind, Flag):
            return self.name if self.default else self.opposite
        return "" if self.default in (REQUIRED, None, ()) else str(self.default)

    def check(self, value: Any) -> Any:
        """The value as `VirtualHost` keeps it; raises `ConfigError`."""
        return None if value is None and self.default is None else self.kind.check(self.name, value)


# fmt: off
OPTIONS = (
    Option("vhid", Number(1, 255), REQUIRED,
           "the group's number: all of its hosts have it, and no other group of this LAN",
           similar={"vhid": "id"}),
    Option("passphrase", Secret("pass PHRASE, passfile FILE"), REQUIRED,
           "the group's secret, of which 19 bytes count; in FILE it is no part of the process list",
           ours=True, own_words={"pass": "a passphrase", "passfile": "the name of a file"},
           similar={"pass": "auth authkey auth_pass carppass key passphrase passwd password phrase psk pw pwd secret"}),
    Option("addresses", Addresses("[inet|inet6] ADDRESS [MASK]"), (),
           "an address that the group shares; MASK is /24, prefixlen 24 or netmask 255.255.255.0, or left out: then it "
           "is that of the carpdev's subnet",
           own_words={"inet": "an IPv4 address", "inet6": "an IPv6 address",
                      "netmask": "a mask like 255.255.255.0", "prefixlen": "a number like 24"},
           similar={"inet": "address addr ip ipv4", "inet6": "ipv6", "netmask": "mask", "prefixlen": "prefix"}),
    Option("nextpass", Secret("nextpass PHRASE, nextpassfile FILE"), None,
           "the secret to which the group changes: both are understood, and 'pycarp ctl speak' says with which to sign",
           ours=True, own_words={"nextpass": "a passphrase", "nextpassfile": "the name of a file"},
           similar={"nextpass": "next-pass newpass next_pass", "nextpassfile": "next-passfile newpassfile"}),
    Option("joining", Addresses("joining ADDRESS"), (),
           "one of the addresses that the group's adverts do not cover yet: they do once the change is made",
           ours=True, own_words={"joining": "an address"}),
    Option("leaving", Addresses("leaving ADDRESS"), (),
           "one of the addresses that the group's adverts do not cover any more once the change is made",
           ours=True, own_words={"leaving": "an address"}),
    Option("advbase", Number(0, 254), 1, "seconds between adverts; 0 needs an advskew", similar={"advbase": "base"}),
    Option("advskew", Number(0, 254), 0, "1/256 seconds more between adverts: the lower, the more eager to be master",
           similar={"advskew": "skew"}),
    Option("carpdev", InterfaceName("NAME", "the name of an interface"), None,
           "the interface to speak on; without it, the one whose subnet has the addresses",
           opposite="-carpdev", similar={"carpdev": "interface dev"}),
    Option("peers", Hosts("peer ADDRESS...", "the address of another host of the group, like 10.13.37.2", False), (),
           "adverts go to these hosts of the group alone, by unicast, and are heard from them; on every host",
           ours=True, opposite="-carppeer",
           own_words={"peer": "the address of a host", "peer6": "the IPv6 address of a host",
                      "carppeer": "the address of a host"}, similar={"peer": "peers unicast_peer"}),
    Option("groups", Hosts("group ADDRESS", "a multicast address, like 224.0.0.18 or ff02::12", True), (),
           "the multicast group that adverts go to, if not carp(4)'s own; one for each family, on every host",
           ours=True, own_words={"group": "a multicast address"}),
    Option("multicast", Flag(), False, "with peers: hear adverts to the multicast group as well", ours=True,
           opposite="-multicast"),
    Option("state", StateName("INIT|BACKUP|MASTER", "INIT, BACKUP or MASTER"), None,
           "a state to force once, right after the start"),
    Option("up", Flag(), True, "take part in the group, or only be configured", opposite="down"),
    Option("preempt", Flag(), False, "become master as soon as a slower master is heard",
           ours=True, opposite="-preempt", similar={"preempt": "preemption carp.preempt net.inet.carp.preempt"}),
    Option("dialect", Choice("auto", "bsd", "netbsd"), "auto",
           "how the passphrase becomes a key: as the peers do, or as one kind of BSD does", ours=True),
    Option("mac", Choice("virtual", "interface"), "virtual",
           "whose MAC the addresses have: the group's, 00:00:5e:00:01:VHID, or the carpdev's own", ours=True),
    Option("replay", Choice("guard", "off"), "guard",
           "our own adverts that come back, and adverts altered on the way, are dropped, or obeyed as on a BSD",
           ours=True),
    Option("siblings", Choice("arbitrate", "warn"), "arbitrate",
           "other hosts have these addresses under another vhid: the higher vhid holds them (and nobody here, if the "
           "lower one does not let go), or both hold them, as on a BSD", ours=True),
    Option("announcements", Number(1, 10), 3, "how often the addresses are announced after a takeover", ours=True),
    Option("announce", Number(0, 900), 3,
           "seconds after which a master announces the addresses again, with the advert nearest to then; 0 for never",
           ours=True, phrase=("announce", "every")),
    Option("conflict", Choice("warn", "refuse"), "warn",
           "somebody answers for the addresses though no master is heard: take them all the same, or do not",
           ours=True, former="strangers"),
    Option("timing", Choice("bsd", "openbsd"), "bsd",
           "how long silence lasts before others take over: advskew once, or as often as advbase as OpenBSD has it; "
           "all hosts of a group with OpenBSD should have its way", ours=True),
    Option("missed", Number(2, 10), 3,
           "of a master's adverts, so many are missed before it is gone; the same on all hosts", ours=True),
    Option("demotion", Choice("auto", "obey", "ignore", "add"), "auto",
           "whose demotion byte counts as OpenBSD's does: of pycarp and OpenBSD hosts, of all, or of nobody; or each "
           "demotion is added to advskew, as on FreeBSD", ours=True),
    Option("preempt_delay", Number(0, 900), 0, "seconds for which a slower master is heard before it is preempted",
           ours=True, similar={"preempt_delay": "preempt-delay preemptdelay"}, phrase=("preempt", "delay")),
    Option("start_delay", Number(0, 900), 0, "seconds after the start in which nothing is taken over", ours=True,
           similar={"start_delay": "start-delay startdelay startup_delay"}, phrase=("start", "delay")),
    Option("pace", Milliseconds(0, 500), 0,
           "milliseconds between a master's adverts with those that it sends in between, 0 for none; pycarp backups "
           "miss it after three of those, other hosts as ever", ours=True, similar={"pace": "beat fast"}),
)
# fmt: on

NAME = Option("name", InterfaceName(), None, "the interface that carries the addresses")
"""A field without a word: the name stands before the words, or in the name of their file."""

CHECKS = Option("checks", Objects("health.check", "Check"), (), "what is watched, and what follows when it is ill")
HOOKS = Option("hooks", Objects("hooks.hook", "Hook"), (), "programs that run when the state changes")
SYNC = Option("sync", Names(), (), "the names of virtual hosts that move together with this one")
STATED = (CHECKS, HOOKS, SYNC)
"""Fields that have no words of ifconfig, but statements (`ifconfig.statements`)."""

BY_NAME = {option.name: option for option in OPTIONS}
DEFAULT = {option.name: option.default for option in OPTIONS}
