"""The words of ``check``: a name, a kind and its arguments, and at the end the options."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ..errors import ConfigError
from ..ifconfig.lexer import Word
from ..ifconfig.statements import Words
from .check import KINDS, SECONDS, TIMES, WEIGHTS, Check

_OPTIONS = ("interval", "timeout", "rise", "fall", "weight", "fault")


def read(words: Words) -> Check:
    """``NAME KIND ARGUMENT... [interval S] [timeout S] [rise N] [fall N] [weight N | fault]``."""
    name = words.name("the name of the check")
    kind = words.one_of(KINDS, "the kind")
    rest = words.rest()
    given: dict[str, Any] = {}
    end = len(rest)
    while end:
        # From the end: what stands before the options may be any program's words.
        if rest[end - 1].text == "fault":
            option, length = rest[end - 1], 1
        elif end > 1 and rest[end - 2].text in _OPTIONS:
            option, length = rest[end - 2], 2
        else:
            break
        end -= length
        if option.text in given:
            words.wrong(option, f"'{option.text}' is given twice: remove one of them")
        given[option.text] = _value(words, option, rest[end + 1 : end + length])
    if kind != "exec":
        for word in rest[:end]:
            if close := get_close_matches(word.text, _OPTIONS, n=1, cutoff=0.75):
                words.wrong(word, f"an option of 'check' is unknown: did you mean '{close[0]}'?")
    arguments = Words(words.first, rest[:end], words.directory, warnings=words.warnings)
    taken = arguments.command("a program") if kind == "exec" else tuple(word.text for word in rest[:end])
    try:
        return Check(name=name, kind=kind, words=taken, **given)
    except ConfigError as error:
        words.wrong(words.first, str(error))


def _value(words: Words, option: Word, argument: list[Word]) -> Any:
    cursor = Words(words.first, argument, words.directory)
    match option.text:
        case "fault":
            return True
        case "interval" | "timeout":
            return cursor.seconds(option.text, *SECONDS)
        case "weight":
            return cursor.number(option.text, *WEIGHTS)
        case _:
            return cursor.number(option.text, *TIMES)
