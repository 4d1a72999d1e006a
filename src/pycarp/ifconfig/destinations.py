"""The words of where adverts go: pycarp's, OpenBSD's carppeer and FreeBSD's peer and peer6, which also take a group."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from . import values
from .lexer import Word
from .values import Wrong

DESTINATIONS = ("peer", "peer6", "carppeer", "group")


def wanted(name: str, word: Word, following: Sequence[Word]) -> list[Word]:
    """The words with the addresses of `name`, of which `word` is the first. After `peer` several may stand, but a
    floating address, which has a mask, is none of them. `group` of OpenBSD's and FreeBSD's, a name, gives none."""
    if name == "group" and not values.looks_like_address(word.text):
        return []
    found = [word]
    for at, one in enumerate(following if name == "peer" else ()):
        after = following[at + 1].text if at + 1 < len(following) else ""
        if _host(one.text) is None or values.looks_like_mask(one.text) or _is_mask(after):
            break
        found.append(one)
    return found


def destination(name: str, text: str) -> tuple[str, IPv4Address | IPv6Address]:
    """The field that an address is of, and the address."""
    address = _host(text)
    if address is None:
        raise Wrong(f"what stands after '{name}' is not an address without a length: give one like {_EXAMPLES[name]}")
    if name == "peer6" and address.version == 4:
        raise Wrong("peer6 takes an IPv6 address: write 'peer' for an IPv4 one")
    if name == "group" and not address.is_multicast:
        raise Wrong(f"group takes a multicast address: write 'peer {address}' for one host")
    return "groups" if address.is_multicast else "peers", address


_EXAMPLES = {"peer": "10.13.37.2", "peer6": "2001:db8::2", "carppeer": "10.13.37.2", "group": "224.0.0.18"}


def _is_mask(text: str) -> bool:
    known = text in ("netmask", "prefixlen")
    return known or values.looks_like_mask(text) or values.looks_like_length(text)


def _host(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
