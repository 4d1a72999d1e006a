"""Which words of a line of rc.conf(5) describe a virtual host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .lexer import VARIABLE, Line, Word

_CARP = re.compile(r"carp[0-9]+")


def about_virtual_host(line: Line) -> tuple[str, list[Word]]:
    """The interface that a line's variable is about, and those of its words that are about a virtual host.

    NetBSD, and FreeBSD before its version 10, have an interface carp0. Since then the words stand before an address of
    the interface itself, and those without a vhid are about the host's own address.
    """
    assert line.variable is not None
    begin = VARIABLE.match(f"{line.variable.text}=")
    assert begin is not None
    interface = begin["interface"] or begin["made"]
    if interface is None or begin["kind"] in ("_descr", "_name"):
        return "", []
    if _CARP.fullmatch(interface):
        return interface, line.words
    calls = _calls(line.words) if begin["kind"] == "_aliases" else [line.words]
    return interface, [word for call in calls if any(one.text == "vhid" for one in call) for word in call]


def _calls(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The words of each call of ifconfig that a list of aliases stands for: each begins with its family."""
    starts = [0, *(at for at, word in enumerate(words) if at and word.text in ("inet", "inet6")), len(words)]
    for start, end in pairwise(starts):
        yield words[start:end]
