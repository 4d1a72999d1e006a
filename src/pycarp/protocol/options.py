"""The words that describe a virtual host, in one table: what each takes, its default, and a sentence about it.

`VirtualHost` checks its fields by this table, ifconfig's parser knows its words from it, and ``pycarp up`` has its help
and some of its options from it. ``python tools/word_table.py`` writes it into README and `VirtualHost`'s docstring.
To add a word: a row here, a field of `VirtualHost` with ``DEFAULT[...]``, the tool, and its use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from ..errors import ConfigError
from . import State

Dialect = Literal["auto", "bsd", "netbsd"]
Mac = Literal["virtual", "interface"]
Replay = Literal["guard", "off"]
Siblings = Literal["arbitrate", "warn"]
Conflict = Literal["warn", "refuse"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Kind:
    """What stands after a word: as its usage shows it (`argument`), and in a sentence (`takes`). Both may be empty."""

    def __init__(self, argument: str = "", takes: str = "") -> None:
        self.argument = argument
        self.takes = takes

    def check(self, name: str, value: Any) -> Any:
        """The value as `VirtualHost` keeps it. Raises `ConfigError`, which calls the value `name`."""
        return value


class Number(Kind):
    def __init__(self, low: int, high: int) -> None:
        super().__init__("N", f"a number {low}-{high}")
        self.low = low
        self.high = high

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return value
        wrong = "out of range" if type(value) is int else "not a whole number"
        raise ConfigError(f"{name} {value!r} is {wrong}: give {self.low}-{self.high}", name)


class Choice(Kind):
    """One of the values of a `Literal`."""

    def __init__(self, literal: Any) -> None:
        self.values: tuple[str, ...] = get_args(literal)
        super().__init__("|".join(self.values), f"{', '.join(self.values[:-1])} or {self.values[-1]}")

    def check(self, name: str, value: Any) -> Any:
        if value not in self.values:
            raise ConfigError(f"{name} {value!r} is unknown: give one of {', '.join(self.values)}", name)
        return value


class Flag(Kind):
    def check(self, name: str, value: Any) -> bool:
        return bool(value)


class StateName(Kind):
    def check(self, name: str, value: Any) -> State:
        try:
            return State(value)
        except ValueError:
            choices = "State.INIT, State.BACKUP or State.MASTER"
            raise ConfigError(f"{name} {value!r} is unknown: give {choices}", name) from None


class InterfaceName(Kind):
    def check(self, name: str, value: Any) -> Any:
        if not isinstance(value, str) or not _NAME.fullmatch(value) or value in (".", ".."):
            rule = "give 1-15 letters, digits, '_', '.' or '-'"
            raise ConfigError(f"{name} {value!r} is not an interface name: {rule}", name)
        return value


REQUIRED: Any = ...  # the default of a field that has none


class Option(NamedTuple):
    """One field of `VirtualHost`, and the words that set it."""

    name: str
    kind: Kind
    default: Any
    about: str
    ours: bool = False  # NetBSD's ifconfig does not know the word, or one of the words
    opposite: str = ""  # the word that sets a flag to False, or takes back what was given
    own_words: Mapping[str, str] = {}  # with what each takes, if not the field's name
    similar: Mapping[str, str] = {}  # for a word, the spellings that are taken for it
    former: str = ""  # what the word was called before

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
        return f"{self.name} {self.kind.argument}".rstrip() + (f", {self.opposite}" if self.opposite else "")

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
    Option("passphrase", Kind("pass PHRASE, passfile FILE"), None,
           "the group's secret, of which 19 bytes count; in FILE it is no part of the process list",
           ours=True, own_words={"pass": "a passphrase", "passfile": "the name of a file"},
           similar={"pass": "key psk secret pw"}),
    Option("addresses", Kind("[inet|inet6] ADDRESS [MASK]"), (),
           "an address that the group shares; MASK is /24, prefixlen 24 or netmask 255.255.255.0, or left out: then it "
           "is that of the carpdev's subnet",
           own_words={"inet": "an IPv4 address", "inet6": "an IPv6 address",
                      "netmask": "a mask like 255.255.255.0", "prefixlen": "a number like 24"},
           similar={"inet": "address addr ip ipv4", "inet6": "ipv6", "netmask": "mask", "prefixlen": "prefix"}),
    Option("advbase", Number(0, 254), 1, "seconds between adverts; 0 needs an advskew", similar={"advbase": "base"}),
    Option("advskew", Number(0, 254), 0, "1/256 seconds more between adverts: the lower, the more eager to be master",
           similar={"advskew": "skew"}),
    Option("carpdev", InterfaceName("NAME", "the name of an interface"), None,
           "the interface to speak on; without it, the one whose subnet has the addresses",
           opposite="-carpdev", similar={"carpdev": "interface dev"}),
    Option("state", StateName("INIT|BACKUP|MASTER", "INIT, BACKUP or MASTER"), None,
           "a state to force once, right after the start"),
    Option("up", Flag(), True, "take part in the group, or only be configured", opposite="down"),
    Option("preempt", Flag(), False, "become master as soon as a slower master is heard",
           ours=True, opposite="-preempt"),
    Option("dialect", Choice(Dialect), "auto",
           "how the passphrase becomes a key: as the peers do, or as one kind of BSD does", ours=True),
    Option("mac", Choice(Mac), "virtual",
           "whose MAC the addresses have: the group's, 00:00:5e:00:01:VHID, or the carpdev's own", ours=True),
    Option("replay", Choice(Replay), "guard",
           "our own adverts that come back, and adverts altered on the way, are dropped, or obeyed as on a BSD",
           ours=True),
    Option("siblings", Choice(Siblings), "arbitrate",
           "other hosts have these addresses under another vhid: the higher vhid holds them (and nobody here, if the "
           "lower one does not let go), or both hold them, as on a BSD", ours=True),
    Option("announcements", Number(1, 10), 3, "how often the addresses are announced after a takeover", ours=True),
    Option("conflict", Choice(Conflict), "warn",
           "somebody answers for the addresses though no master is heard: take them all the same, or do not",
           ours=True, former="strangers"),
)
# fmt: on


BY_NAME = {option.name: option for option in OPTIONS}
DEFAULT = {option.name: option.default for option in OPTIONS}
