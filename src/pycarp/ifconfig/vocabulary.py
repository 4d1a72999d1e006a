"""The words that are known, those that only ifconfig knows, and the one that a mistyped word was meant to be."""

from __future__ import annotations

from difflib import get_close_matches

ARGUMENT = {
    "vhid": "a number 1-255",
    "pass": "a passphrase",
    "passfile": "the name of a file",
    "advbase": "a number 0-254",
    "advskew": "a number 0-254",
    "carpdev": "the name of an interface",
    "state": "INIT, BACKUP or MASTER",
    "inet": "an IPv4 address",
    "inet6": "an IPv6 address",
    "netmask": "a mask like 255.255.255.0",
    "prefixlen": "a number like 24",
    "dialect": "auto, bsd or netbsd",
    "mac": "virtual or interface",
    "replay": "guard or off",
    "siblings": "arbitrate or warn",
    "announcements": "a number 1-10",
    "conflict": "warn or refuse",
}
"""Words that need another one after them, and what that has to be."""

FLAGS = ("create", "up", "down", "-carpdev", "alias", "preempt", "-preempt")
"""Words that stand alone."""

KNOWN = (*ARGUMENT, *FLAGS)

IGNORED = {
    "broadcast": 1,
    "description": 1,
    "descr": 1,
    "metric": 1,
    "media": 1,
    "mediaopt": 1,
    "link0": 0,
    "link1": 0,
    "link2": 0,
    "-link0": 0,
    "-link1": 0,
    "-link2": 0,
}
"""Words of ifconfig that change nothing here, with the number of their arguments."""

REFUSED = {
    "destroy": (0, "a virtual host is gone when pycarp ends: remove the word"),
    "delete": (0, "an address is removed by leaving it out: remove the word"),
    "-alias": (0, "an address is removed by leaving it out: remove the word"),
    "mtu": (1, "the addresses have the MTU of the carpdev: remove the word and its number"),
    "carpnode": (1, "load balancing between hosts is OpenBSD's: give one vhid and advskew"),
    "balancing": (1, "load balancing between hosts is OpenBSD's: remove the word and its mode"),
    "carppeer": (1, "adverts go to the multicast group only: remove the word and its address"),
    "peer": (1, "adverts go to the multicast group only: remove the word and its address"),
    "peer6": (1, "adverts go to the multicast group only: remove the word and its address"),
    "mcast": (0, "adverts always go to the multicast group: remove the word"),
    "mcast6": (0, "adverts always go to the multicast group: remove the word"),
}
"""Words that some BSD's ifconfig knows and that would be a false promise here: number of arguments, and the remedy."""

NOT_RUN = ("dhcp", "dhcpcd", "dhclient", "rtsol", "rtsold", "autoconf")
"""Words that make rc(8) start a program, when they begin a line."""

_SAME_AS = {
    "key": "pass",
    "psk": "pass",
    "secret": "pass",
    "pw": "pass",
    "mask": "netmask",
    "prefix": "prefixlen",
    "interface": "carpdev",
    "dev": "carpdev",
    "address": "inet",
    "addr": "inet",
    "ip": "inet",
    "skew": "advskew",
    "base": "advbase",
    "id": "vhid",
    "ipv4": "inet",
    "ipv6": "inet6",
}


MEANT_PASS = ("pass", "passwd", "password", "passphrase", "pas", "pss", "psas", "apss", "key", "psk", "secret", "pw")
"""Words that may be shown when they are taken for `pass`: any other may have the passphrase in it."""

_NUMBERS = ("vhid", "advbase", "advskew", "prefixlen", "announcements")


def surely(text: str, following: str) -> bool:
    """Whether a mistyped word and the one after it can only be a known word and its number."""
    near = nearest(text)
    return near in _NUMBERS and following.isascii() and following.isdigit() and not text.lower().startswith("pass")


def nearest(text: str) -> str | None:
    """The known word that was probably meant, or None."""
    lower = text.lower().lstrip("-") if text.startswith("--") else text.lower()
    if lower in KNOWN:
        return lower
    head = lower.split("=", 1)[0].split(":", 1)[0]
    if head in KNOWN:
        return head
    if head in _SAME_AS:
        return _SAME_AS[head]
    close = get_close_matches(head, KNOWN, n=1, cutoff=0.6)
    # Whatever begins like "pass" is taken for it, so that what follows is not shown.
    return close[0] if close else "pass" if head.startswith("pass") else None
