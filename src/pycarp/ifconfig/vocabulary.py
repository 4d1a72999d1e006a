"""The words of the table, the words that only ifconfig knows, and the word that a mistyped one was meant to be."""

from __future__ import annotations

import re
from difflib import get_close_matches

from ..protocol.options import OPTIONS, Flag

BY_WORD = {word: option for option in OPTIONS for word in option.words}
"""The words that set something, with their rows in the table."""

ARGUMENT = {word: takes for option in OPTIONS for word, takes in option.words.items() if takes}
"""Words that need another one after them, and what that has to be."""

SECRET_WORDS = {"pass": "passphrase", "passfile": "passphrase", "nextpass": "nextpass", "nextpassfile": "nextpass"}
"""Words that a secret stands after, or the file that has it, with the fields that they set."""

OPPOSITE = {option.name: option.opposite for option in OPTIONS if isinstance(option.kind, Flag)}
"""What takes back a word that stands alone."""

PHRASES = {option.phrase: option.name for option in OPTIONS if option.phrase}
"""Two words that stand for one: the form in which the table has it."""

FLAGS = ("create", "alias", *(word for word in BY_WORD if word not in ARGUMENT))
"""Words that stand alone. The first two change nothing: a virtual host is made when it runs, and addresses add up."""

KNOWN = (*ARGUMENT, *FLAGS)

_NO_ARGUMENT = """
    add link0 link1 link2 -link0 -link1 -link2 arp -arp staticarp -staticarp debug -debug promisc -promisc monitor
    -monitor autoconf -autoconf temporary -temporary soii -soii tentative -tentative anycast -anycast deprecated
    -deprecated detached no_dad -no_dad prefer_source -prefer_source no_prefer_iface -no_prefer_iface accept_rtadv
    -accept_rtadv auto_linklocal -auto_linklocal ifdisabled -ifdisabled nud -nud wol -wol polling -polling mcast mcast6
    -rtlabel -description -descr -inet -inet6 -mode rxcsum -rxcsum txcsum -txcsum rxcsum6 -rxcsum6 txcsum6
    -txcsum6 tso -tso tso4 -tso4 tso6 -tso6 lro -lro tcplro -tcplro vlanmtu -vlanmtu vlanhwtag -vlanhwtag vlanhwfilter
    -vlanhwfilter vlanhwcsum -vlanhwcsum vlanhwtso -vlanhwtso ip4csum -ip4csum tcp4csum -tcp4csum udp4csum -udp4csum
    tcp6csum -tcp6csum udp6csum -udp6csum
"""
_ONE_ARGUMENT = """
    broadcast description descr metric media mediaopt -mediaopt mode instance inst -group rtlabel priority llprio
    pltime vltime preference linkstr
"""
IGNORED = dict.fromkeys(_NO_ARGUMENT.split(), 0) | dict.fromkeys(_ONE_ARGUMENT.split(), 1)
"""Words of some BSD's ifconfig that change nothing here, with the number of their arguments."""

_BALANCING = "load balancing between hosts is OpenBSD's: give one vhid and one advskew"
_TABLE = "the addresses are in the network namespace that pycarp runs in: remove the word and what follows"
_MAC = "the MAC follows from the vhid, or is the carpdev's own with 'mac interface': remove the word and its MAC"
_VRRP = "this is CARP, and VRRP is another protocol: remove the word and its number, on every host of the group"

REFUSED = {
    "destroy": (0, "a virtual host is gone when pycarp ends: remove the word"),
    "delete": (0, "an address is removed by leaving it out: remove the word"),
    "remove": (0, "an address is removed by leaving it out: remove the word"),
    "-alias": (0, "an address is removed by leaving it out: remove the word"),
    "mtu": (1, "the addresses have the MTU of the carpdev: remove the word and its number"),
    "eui64": (0, "the address of a group does not depend on a host's MAC: write the whole address, without the word"),
    "dest": (1, "an address on a LAN has no other end: remove the word and its address"),
    "lladdr": (1, _MAC),
    "ether": (1, _MAC),
    "link": (1, _MAC),
    "rdomain": (1, _TABLE),
    "rtable": (1, _TABLE),
    "fib": (1, _TABLE),
    "vnet": (1, _TABLE),
    "carpnode": (1, _BALANCING),
    "carpnodes": (1, _BALANCING),
    "balancing": (1, _BALANCING),
    "carpver": (1, _VRRP),
    "vrrpprio": (1, _VRRP),
    "vrrpinterval": (1, _VRRP),
}
"""Words that some BSD's ifconfig knows and that would be a false promise here: number of arguments, and the remedy."""

AS_HERE = {
    ("balancing", "none"),
    ("carpver", "2"),
    ("rdomain", "0"),
    ("rtable", "0"),
    ("fib", "0"),
}
"""The arguments with which such a word says what holds here anyway."""

NOT_RUN = ("dhcp", "dhcpcd", "dhclient", "rtsol", "rtsold", "autoconf")
"""Words at the beginning of a line for which rc(8) or netstart(8) starts a program."""

WORDS = {*KNOWN, *IGNORED, *REFUSED, *NOT_RUN}
"""All words that have a meaning, if only that of being left out."""

FORMER = {option.former: option.name for option in OPTIONS if option.former}
"""Words that have another name now."""

_BEGIN = re.compile(r"(?P<dashes>-*)(?P<head>[^=:\s]*)[=:]?")
_SAME_AS = FORMER | {
    spelling: word for option in OPTIONS for word, similar in option.similar.items() for spelling in similar.split()
}

PUBLIC = {*WORDS, *_SAME_AS, *(word for phrase in PHRASES for word in phrase)}
"""Words that a message may repeat. Any other may be a passphrase, or have one in it."""


def field_of(word: str) -> str:
    """The field of `VirtualHost` that a word sets; the word itself where it sets none, or no whole one."""
    return word if word in (*FLAGS[:2], "netmask", "prefixlen") else BY_WORD[word].name


def suggestion(text: str) -> str:
    """What is wrong with an unknown word, and what to write instead. Of the word it repeats only what is public."""
    if not text:
        return "an empty word is unknown: remove it"
    near, head = nearest(text), _head(text)
    if any(letter.isspace() for letter in text):
        remedy = "it has blanks in it: write its words without quotes around all of them"
    elif near is None:
        remedy = f"the words are {', '.join(KNOWN)}, and addresses"
    elif near in ("pass", "nextpass") and head not in PUBLIC:
        remedy = f"write '{near}' and the passphrase as two words, or use '{near}file FILE'"
    elif near not in ARGUMENT and text.lower() != near:
        opposite = f", or '{OPPOSITE[near]}'" if "=" in text and near in OPPOSITE else ""
        remedy = f"write '{near}'{opposite}" if "=" in text else f"did you mean '{near}'?"
    elif "=" in text:
        remedy = f"write '{near}' and its value as two words"
    elif text.lower() == near:
        remedy = f"write it in small letters, '{near}'"
    elif text in FORMER:
        remedy = f"it is called '{near}' here"
    else:
        remedy = f"did you mean '{near}'?"
    return f"{_public_part(text)} is unknown: {remedy}"


def _public_part(text: str) -> str:
    """An unknown word as the subject of a sentence."""
    begin = _BEGIN.match(text)
    assert begin is not None
    if begin["head"].lower() in PUBLIC:
        return f"'{text}'" if begin[0] == text else f"a word that begins with '{begin[0]}'"
    return "a word that begins with 'pass'" if begin["head"].lower().startswith("pass") else "the word"


def surely(text: str, following: str) -> bool:
    """Whether a mistyped word and the one after it can only be a known word and its number."""
    near = nearest(text)
    number = near is not None and ARGUMENT.get(near, "").startswith("a number")
    return number and following.isascii() and following.isdigit() and not text.lower().startswith("pass")


def nearest(text: str) -> str | None:
    """The known word that was probably meant, or None."""
    head = _head(text)
    if head in KNOWN:
        return head
    if head in _SAME_AS:
        return _SAME_AS[head]
    close = get_close_matches(head, KNOWN, n=1, cutoff=0.6)
    # Whatever begins like "pass" is taken for it, so that what follows is taken for the passphrase.
    return (
        close[0]
        if close
        else "pass"
        if head.startswith("pass")
        else "nextpass"
        if head.startswith("nextpass")
        else None
    )


def _head(text: str) -> str:
    """What stands before "=", ":" or a blank, in small letters, and without the dashes of an option."""
    begin = _BEGIN.match(text)
    assert begin is not None
    dashes = "" if len(begin["dashes"]) > 1 else begin["dashes"]
    return (dashes + begin["head"]).lower()
