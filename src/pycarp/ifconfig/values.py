"""Reads numbers, addresses and masks as ifconfig(8) writes them; a mistake is raised as a sentence."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ..errors import ConfigError
from ..protocol import State
from ..protocol.options import BY_NAME, Milliseconds, Number, Option, StateName
from .diagnostics import show

IP = IPv4Address | IPv6Address

_DIGITS = re.compile(r"[0-9]+")
_NEGATIVE = re.compile(r"-[0-9]+")
_DOTTED = re.compile(r"[0-9]+(\.[0-9]+){3}")
_HEX_MASK = re.compile(r"0x[0-9a-fA-F]{1,8}")
_PORT = re.compile(r"[0-9]+(\.[0-9]+){3}:[0-9]+|\[[0-9a-fA-F:.]+\](:[0-9]+)?")
_ADDRESS_LIKE = re.compile(r"[0-9]+(\.[0-9]*)+(/.*)?|[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%[^/]*)?(/.*)?")


class Wrong(Exception):
    """A mistake in a word, as a sentence. It repeats the word only if it cannot be a passphrase: see `Diagnostic`."""


def number(what: str, text: str, low: int, high: int) -> int:
    """A decimal number from `low` to `high`."""
    if _NEGATIVE.fullmatch(text):
        raise Wrong(f"{show(what, text)} is out of range: give {low}-{high}")
    if not _DIGITS.fullmatch(text):
        raise Wrong(f"{what} is not a number: give {low}-{high}")
    if len(text) > 1 and text[0] == "0":
        raise Wrong(f"{show(what, text)} begins with 0, which ifconfig takes for octal: write it without")
    if len(text) > 9 or not low <= int(text) <= high:
        bowout = what in ("advskew", "advbase") and text == "255"
        why = " (255 stands only in a bow-out, the advert that says goodbye)" if bowout else ""
        raise Wrong(f"{show(what, text)} is out of range: give {low}-{high}{why}")
    return int(text)


def value(option: Option, text: str) -> Any:
    """What the word of `option` sets if `text` stands after it."""
    kind = option.kind
    if not text:
        raise Wrong(f"{option.name} is empty: give {kind.takes}")
    if isinstance(kind, Milliseconds):
        return number(option.name, text.removesuffix("ms"), kind.low, kind.high)
    if isinstance(kind, Number):
        return number(option.name, text, kind.low, kind.high)
    if isinstance(kind, StateName):
        if text.upper() not in State.__members__:
            raise Wrong(f"{option.name} has an unknown value: give {kind.takes}")
        return State[text.upper()]
    try:
        return option.check(text)
    except ConfigError as error:
        raise Wrong(str(error)) from None


def looks_like_address(text: str) -> bool:
    """Whether the word is meant to be an address, right or wrong."""
    return bool(_ADDRESS_LIKE.fullmatch(text) or _PORT.fullmatch(text))


def looks_like_mask(text: str) -> bool:
    """Whether a bare word after an address is meant to be its mask (255.255.255.0, 0xffffff00)."""
    return bool(_HEX_MASK.fullmatch(text)) or bool(_DOTTED.fullmatch(text) and text.startswith("255."))


def looks_like_length(text: str) -> bool:
    """Whether a bare word after an address is meant to be the length of its prefix (64)."""
    return bool(_DIGITS.fullmatch(text)) and len(text) < 4


def address(text: str, version: int | None) -> tuple[IP, int | None]:
    """An address with the length after its ``/``, if any; `version` is the family that was announced, if any."""
    bare, slash, length = text.partition("/")
    if _PORT.fullmatch(text):
        raise Wrong(f"an address has no port here: give one like {_example(version, bare)}")
    if "%" in bare:
        raise Wrong("the address has a zone: give it without, and 'carpdev NAME' for the link")
    ip = _ip(bare)
    if ip is None:
        family = f"IPv{version}" if version else "IP"
        raise Wrong(f"this is not an {family} address: give one like {_example(version, bare)}")
    if version is not None and ip.version != version:
        right = "inet6" if ip.version == 6 else "inet"
        raise Wrong(f"{ip} is an IPv{ip.version} address: write '{right}' before it")
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise Wrong(f"{ip.ipv4_mapped} is an IPv4 address written as an IPv6 one: give it as such")
    prefix = prefixlen(length, ip.version, f"the length after '/' of {ip}") if slash else None
    check_fit(ip, prefix)
    return ip, prefix


def _ip(text: str) -> IP | None:
    try:
        return ip_address(text)
    except ValueError:
        return None  # The error is not chained: it repeats the word.


def _example(version: int | None, bare: str) -> str:
    ipv6 = version == 6 or (version is None and ":" in bare and "." not in bare)
    return "2001:db8::42/64" if ipv6 else "10.13.37.42/24"


def prefixlen(text: str, version: int, what: str | None = None) -> int:
    """The length of a subnet's prefix, after the word ``prefixlen`` or after a ``/`` (then `what` names it)."""
    high = 32 if version == 4 else 128
    if what is None:
        return number("prefixlen", text, 1, high)
    if not text:
        raise Wrong(f"{what} is missing: give 1-{high}")
    if _DOTTED.fullmatch(text) and version == 4:
        return netmask(text)
    if not _DIGITS.fullmatch(text) or len(text) > 3 or not 1 <= int(text) <= high:
        raise Wrong(f"{what} is not a number 1-{high}")
    return int(text)


def netmask(text: str) -> int:
    """The number of one bits in a mask, dotted or hexadecimal."""
    if _HEX_MASK.fullmatch(text):
        bits = int(text, 16)
    else:
        mask = _ip(text)
        if mask is None or mask.version != 4:
            remedy = "give one like 255.255.255.0 or 0xffffff00"
            if looks_like_length(text):
                remedy = f"write 'prefixlen {text}', or a mask like 255.255.255.0"
            raise Wrong(f"{show('netmask', text)} is not a mask: {remedy}")
        bits = int(mask)
    shown = f"netmask {IPv4Address(bits)}"
    zeros = bits ^ 0xFFFFFFFF
    if zeros & (zeros + 1):
        raise Wrong(f"{shown} has holes: its one bits have to stand together, as in 255.255.255.0")
    if bits == 0:
        raise Wrong(f"{shown} covers the whole Internet: give that of the LAN, like 255.255.255.0")
    return 32 - zeros.bit_length()


def harmless(text: str) -> bool:
    """Whether a word is an address, or a number of at most three digits: no passphrase can hide in it."""
    bare, slash, length = text.partition("/")
    if not slash and looks_like_length(text.removeprefix("-")):
        return True
    return "%" not in bare and _ip(bare) is not None and (not slash or looks_like_length(length))


def check_fit(ip: IP, prefix: int | None) -> None:
    """Raise `Wrong` for an address that no virtual host can have in a subnet of this length."""
    try:
        BY_NAME["addresses"].check([str(ip) if prefix is None else f"{ip}/{prefix}"])
    except ConfigError as error:
        raise Wrong(str(error)) from None
