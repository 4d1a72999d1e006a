"""`VirtualHost`: one floating address group as its owner describes it. Frozen, validated, knows no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any, Literal

from .errors import ConfigError
from .protocol import NS_PER_SECOND, NS_PER_SKEW, State

Address = IPv4Interface | IPv6Interface
AddressLike = str | IPv4Address | IPv6Address | Address
Dialect = Literal["auto", "bsd", "netbsd"]
Siblings = Literal["arbitrate", "warn"]
Conflicts = Literal["warn", "refuse"]

_DIALECTS = ("auto", "bsd", "netbsd")
_MACS = ("virtual", "interface")
_REPLAYS = ("guard", "off")
_SIBLINGS = ("arbitrate", "warn")
_CONFLICTS = ("warn", "refuse")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """One virtual host: the group it belongs to, its addresses, and how eager it is to be master.

    vhid         1-255, the same on every host of the group and on no other group of the same LAN.
    addresses    the floating addresses, as text or `ipaddress` objects, with a prefix length ("10.13.37.42/24").
                 Without one, the prefix of the carpdev's subnet that holds the address is used.
    passphrase   the group's secret, text (UTF-8) or bytes. Only 19 bytes count on any BSD. None or "" is the zero key.
    advbase      0-254 seconds between adverts; 0 needs an advskew (OpenBSD's sub-second failover).
    advskew      0-254, in 1/256 s: the higher, the less eager.
    carpdev      the interface to speak on; None: the one whose subnet holds the addresses.
    name         the name of the interface that carries the addresses; default ``carp`` and the vhid.
    preempt      become master as soon as a slower master is heard.
    dialect      "auto", "bsd" or "netbsd": how the passphrase becomes a key (docs/protocol.md).
    mac          "virtual": the addresses have the MAC 00:00:5e:00:01:VHID; "interface": the carpdev's own.
    replay       "guard": one's own adverts that come back, and adverts of pycarp hosts whose priority was altered on
                 the way, are dropped and counted; "off": they are obeyed, as on any BSD.
    siblings     hosts that have these addresses and this secret under another vhid, so that two would hold them.
                 "arbitrate": the higher vhid is the owner, and the lower one stands by; where the other side does not
                 do the same, nobody here holds them. "warn": it is said, and nothing else is done, as on any BSD.
    announcements 1-10: how often the addresses are announced after a takeover, at once and with the next adverts.
    conflict    somebody answers for the addresses while no advert is heard. "warn": it is said, and the addresses are
                 taken all the same; "refuse": they are not taken as long as that host answers.
    state        a state to force once, right after the start (ifconfig's ``state`` word), or None.
    up           False keeps the virtual host in INIT.

    Raises `ConfigError` with the field's name in `.field`.
    """

    vhid: int
    addresses: tuple[Address, ...] = ()
    passphrase: str | bytes | None = field(default=None, repr=False)
    advbase: int = 1
    advskew: int = 0
    carpdev: str | None = None
    name: str = ""
    preempt: bool = False
    dialect: Dialect = "auto"
    mac: Literal["virtual", "interface"] = "virtual"
    replay: Literal["guard", "off"] = "guard"
    siblings: Siblings = "arbitrate"
    announcements: int = 3
    conflict: Conflicts = "warn"
    state: State | None = None
    up: bool = True

    def __init__(
        self,
        *,
        vhid: int,
        addresses: Iterable[AddressLike] = (),
        passphrase: str | bytes | None = None,
        advbase: int = 1,
        advskew: int = 0,
        carpdev: str | None = None,
        name: str | None = None,
        preempt: bool = False,
        dialect: Dialect = "auto",
        mac: Literal["virtual", "interface"] = "virtual",
        replay: Literal["guard", "off"] = "guard",
        siblings: Siblings = "arbitrate",
        announcements: int = 3,
        conflict: Conflicts = "warn",
        state: State | None = None,
        up: bool = True,
    ) -> None:
        put = object.__setattr__
        put(self, "vhid", _number("vhid", vhid, 1, 255))
        put(self, "addresses", _addresses(addresses))
        put(self, "passphrase", _passphrase(passphrase))
        put(self, "advbase", _number("advbase", advbase, 0, 254))
        put(self, "advskew", _number("advskew", advskew, 0, 254))
        put(self, "carpdev", None if carpdev is None else _interface_name("carpdev", carpdev))
        put(self, "name", f"carp{vhid}" if name is None else _interface_name("name", name))
        put(self, "preempt", bool(preempt))
        put(self, "dialect", _choice("dialect", dialect, _DIALECTS))
        put(self, "mac", _choice("mac", mac, _MACS))
        put(self, "replay", _choice("replay", replay, _REPLAYS))
        put(self, "siblings", _choice("siblings", siblings, _SIBLINGS))
        put(self, "announcements", _number("announcements", announcements, 1, 10))
        put(self, "conflict", _choice("conflict", conflict, _CONFLICTS))
        put(self, "state", None if state is None else _state(state))
        put(self, "up", bool(up))
        if advbase == 0 and advskew == 0:
            raise ConfigError(
                "advbase 0 with advskew 0 leaves no time between adverts: give advskew 1-254 or advbase 1-254",
                "advbase",
            )

    def replace(self, **changes: Any) -> VirtualHost:
        """A copy with the named fields changed, validated anew."""
        return replace(self, **changes)

    @property
    def interval(self) -> int:
        """Nanoseconds between adverts while not demoted."""
        return self.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW

    @property
    def families(self) -> tuple[int, ...]:
        """The address families in use: (4,), (6,), (4, 6), or () without addresses."""
        return tuple(sorted({address.version for address in self.addresses}))


def _number(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} {value!r} is not a whole number: give {low}-{high}", name)
    if not low <= value <= high:
        raise ConfigError(f"{name} {value} is out of range: give {low}-{high}", name)
    return value


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{name} {value!r} is unknown: give one of {', '.join(allowed)}", name)
    return value


def _state(value: State | int) -> State:
    try:
        return State(value)
    except ValueError:
        raise ConfigError(
            f"state {value!r} is unknown: give State.INIT, State.BACKUP or State.MASTER", "state"
        ) from None


def _interface_name(field_name: str, value: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in (".", ".."):
        raise ConfigError(
            f"{field_name} {value!r} is not an interface name: give 1-15 letters, digits, '_', '.' or '-'", field_name
        )
    return value


def _passphrase(value: str | bytes | None) -> str | bytes | None:
    # The message never repeats the value: it is a secret, also when it is wrong.
    if value is None:
        return None
    if not isinstance(value, str | bytes):
        raise ConfigError("the passphrase is neither text nor bytes", "passphrase")
    if isinstance(value, str):
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            # Not chained: the codec's error carries the whole passphrase.
            raise ConfigError("the passphrase has characters that no encoding knows", "passphrase") from None
    nul: Any = "\0" if isinstance(value, str) else b"\0"
    if nul in value:
        raise ConfigError("the passphrase has a NUL character, at which every BSD would cut it", "passphrase")
    return value


def _addresses(values: Iterable[AddressLike]) -> tuple[Address, ...]:
    if isinstance(values, str | bytes):
        raise ConfigError(f"addresses is one text, {values!r}: give a list of addresses", "addresses")
    seen: dict[IPv4Address | IPv6Address, Address] = {}
    for value in values:
        try:
            address = ip_interface(value)
        except ValueError:
            raise ConfigError(f"{value!r} is not an IP address: give one like 10.13.37.42/24", "addresses") from None
        ip = address.ip
        if isinstance(address, IPv6Interface) and address.scope_id is not None:
            raise ConfigError(f"{value} has a zone: give it without, the carpdev tells the link", "addresses")
        if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip == IPv4Address("255.255.255.255"):
            raise ConfigError(f"{ip} cannot be a floating address: give a unicast address of the LAN", "addresses")
        if (
            isinstance(address, IPv4Interface)
            and address.network.prefixlen < 31
            and ip
            in (
                address.network.network_address,
                address.network.broadcast_address,
            )
        ):
            raise ConfigError(
                f"{address} is the address of the subnet itself or its broadcast: give a host's", "addresses"
            )
        if ip in seen:
            raise ConfigError(f"{ip} is given twice", "addresses")
        seen[ip] = address
    return tuple(seen.values())
