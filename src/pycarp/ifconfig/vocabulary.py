"""The words of the table, the words that only ifconfig knows, and the word that a mistyped one was meant to be."""

from __future__ import annotations

from difflib import get_close_matches

from ..protocol.options import OPTIONS

BY_WORD = {word: option for option in OPTIONS for word in option.words}
"""The words that set something, with their rows in the table."""

ARGUMENT = {word: takes for option in OPTIONS for word, takes in option.words.items() if takes}
"""Words that need another one after them, and what that has to be."""

FLAGS = ("create", "alias", *(word for word in BY_WORD if word not in ARGUMENT))
"""Words that stand alone. The first two change nothing: a virtual host is made when it runs, and addresses add up."""

KNOWN = (*ARGUMENT, *FLAGS)

IGNORED = dict.fromkeys(("broadcast", "description", "descr", "metric", "media", "mediaopt"), 1) | dict.fromkeys(
    ("link0", "link1", "link2", "-link0", "-link1", "-link2"), 0
)
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
"""Words at the beginning of a line for which rc(8) starts a program."""

FORMER = {option.former: option.name for option in OPTIONS if option.former}
"""Words that have another name now."""

_SAME_AS = FORMER | {
    spelling: word for option in OPTIONS for word, similar in option.similar.items() for spelling in similar.split()
}

_MEANT_PASS = ("pass", "passwd", "password", "passphrase", "pas", "pss", "psas", "apss", "key", "psk", "secret", "pw")
"""Words that are taken for `pass` and may be shown; any other may contain the passphrase."""


def field_of(word: str) -> str:
    """The field of `VirtualHost` that a word sets; the word itself where it sets none, or no whole one."""
    return word if word in (*FLAGS[:2], "netmask", "prefixlen") else BY_WORD[word].name


def suggestion(text: str, shown: str) -> tuple[str, bool]:
    """What to write instead of an unknown word, which may be shown as `shown`; and whether it may be a passphrase."""
    near = nearest(text)
    # The rest of a word that begins with "pass" may be the passphrase itself.
    secret = near == "pass" and text.lower() not in _MEANT_PASS
    if secret:
        shown = f"a word that begins with '{text[:4]}'" if text.lower().startswith("pass") else "a word (not shown)"
    if not text:
        return "an empty word is unknown: remove it", False
    if near is None:
        remedy = f"the words are {', '.join(KNOWN)}, and addresses"
    elif secret:
        remedy = "write 'pass' and the passphrase as two words, or use 'passfile FILE'"
    elif "=" in text:
        remedy = f"write '{near}' and its value as two words"
    elif text.lower() == near:
        remedy = f"write it in small letters, '{near}'"
    elif text in FORMER:
        remedy = f"it is called '{near}' here"
    else:
        remedy = f"did you mean '{near}'?"
    return f"{shown} is unknown: {remedy}", secret


def surely(text: str, following: str) -> bool:
    """Whether a mistyped word and the one after it can only be a known word and its number."""
    near = nearest(text)
    number = near is not None and ARGUMENT.get(near, "").startswith("a number")
    return number and following.isascii() and following.isdigit() and not text.lower().startswith("pass")


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
