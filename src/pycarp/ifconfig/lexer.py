"""Cuts the text of a file into words with places, as NetBSD's rc(8) and sh(1) do (ifconfig.if(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .._records import dataclass, field

_Place = tuple[int, int]  # a line and a column, from 1
_Text = tuple[str, list[_Place]]
_BLANK = " \t\r\v\f"
# Characters that sh(1), which reads these files on NetBSD, would not leave alone.
_SHELL = re.compile(r"[$`;&|<>()]")
_SHELL_IN_DOUBLE_QUOTES = re.compile(r"[$`]")
_ESCAPED = re.compile(r'\\([$`"\\])')
_PIECE = re.compile(
    r"""\\(?P<escaped>.) | '(?P<single>[^']*)' | "(?P<double>(?:\\[$`"\\] | [^"])*+)" """
    r"""| (?P<open>['"]) | (?P<plain>[^ \t\r\v\f])""",
    re.DOTALL | re.VERBOSE,
)

VARIABLE = re.compile(
    r"[ \t]*(?:(?:export|sysrc)[ \t]+)?(?P<name>"
    r"(?:ipv6_)?ifconfig_(?P<interface>\w+?)(?P<kind>_alias\d+|_aliases|_ipv6|_descr|_name)?|create_args_(?P<made>\w+)"
    r"|ipv4_addrs_\w+|(?:cloned|network)_interfaces|hostname|(?:ipv6_)?defaultrouter|(?:ipv6_)?gateway\w*|kld_list"
    r"|vlans_\w+|static_routes|route_\w+|\w+_(?:enable|load|flags)"
    r")=(?P<quote>[\"']?)",
    re.ASCII,
)
"""The beginning of a line of rc.conf(5) that may be about interfaces."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it begins. `text` stays out of the repr: it may be a passphrase."""

    text: str = field(repr=False)
    line: int | None
    column: int | None
    unquoted: str = ""  # a character in it that sh(1) would have acted upon, or nothing


@dataclass(slots=True)
class Line:
    """One logical line: its words, or why it has none."""

    number: int
    words: list[Word] = field(default_factory=list)
    variable: Word | None = None  # the variable of rc.conf(5) that has the words as its value
    shell_at: int | None = None  # the column of the ``!`` that makes it a command for the shell
    comment_at: int | None = None  # the column where a comment begins that follows words
    open_quote: Word | None = None  # where a quotation begins that the line does not end: the words after it are lost


def lex(text: str) -> list[Line]:
    """The logical lines of `text` that are neither empty nor comments."""
    lines = [_cut(*line) for line in _values_joined(_logical_lines(text))]
    return [line for line in lines if line.words or line.variable or line.shell_at is not None or line.open_quote]


def _logical_lines(text: str) -> Iterator[_Text]:
    """Lines, and for each character its place; a backslash at the end of a line joins the next one to it."""
    joined, places = "", []
    physical = [content.removesuffix("\r") for content in text.split("\n")]
    for number, content in enumerate(physical, 1):
        continued = content.endswith("\\") and number < len(physical)
        content = content[:-1] if continued else content
        joined += content
        places += [(number, column) for column in range(1, len(content) + 1)]
        if not continued:
            yield joined, places
            joined, places = "", []


def _values_joined(lines: Iterable[_Text]) -> Iterator[_Text]:
    """Joins to a line of rc.conf(5) those over which its quoted value goes on."""
    waiting = list(lines)[::-1]
    while waiting:
        text, places = waiting.pop()
        begin = VARIABLE.match(text)
        if begin and begin["quote"] and _end(text, begin.end(), begin["quote"]) is None:
            ends = (at for at, (more, _) in enumerate(reversed(waiting)) if _end(more, 0, begin["quote"]) is not None)
            end = next(ends, None)
            for _ in range(0 if end is None else end + 1):
                more, theirs = waiting.pop()
                text, places = f"{text} {more}", [*places, (theirs or places[-1:])[0], *theirs]
        yield text, places


def _end(text: str, at: int, quote: str) -> int | None:
    """Where a quotation ends that is open at `at`."""
    found = re.compile(r'(?<!\\)"' if quote == '"' else "'").search(text, at)
    return None if found is None else found.start()


def _cut(text: str, places: list[_Place]) -> Line:
    line = Line(places[0][0] if places else 0)
    at = 0
    if begin := VARIABLE.match(text):
        line.variable = Word(begin["name"], *places[begin.start("name")])
        at = begin.end()
        if quote := begin["quote"]:
            # No comment begins within the value. A quotation may: for the words that have spaces.
            end = _end(text, at, quote)
            _words(text[:end], places, at, line, comments=False)
            if end is None:
                line.open_quote = line.open_quote or Word(quote, *places[begin.start("quote")])
                return line
            at = end + 1
    _words(text, places, at, line)
    return line


def _words(text: str, places: list[_Place], at: int, line: Line, *, comments: bool = True) -> None:
    """Append the words from `at` on."""
    while at < len(text) and line.open_quote is None:
        if text[at] in _BLANK:
            at += 1
        elif text[at] == "#" and comments:
            line.comment_at = places[at][1]
            break
        elif text[at] == "!" and not line.words and line.variable is None:
            line.shell_at = places[at][1]
            break
        else:
            at = _word(text, places, at, line)


def _word(text: str, places: list[_Place], start: int, line: Line) -> int:
    """Append the word that begins at `start` and return where the next may begin."""
    word = unquoted = ""
    at = start
    while piece := _PIECE.match(text, at):
        at = piece.end()
        if piece["open"]:
            line.open_quote = Word(piece["open"], *places[piece.start()])
            return at
        double = piece["double"]
        word += piece["escaped"] or piece["single"] or piece["plain"] or ""
        word += _ESCAPED.sub(r"\1", double) if double else ""
        acted_upon = _SHELL_IN_DOUBLE_QUOTES.search(_ESCAPED.sub("", double or "")) or _SHELL.match(
            piece["plain"] or ""
        )
        unquoted = unquoted or (acted_upon[0] if acted_upon else "")
    line.words.append(Word(word, *places[start], unquoted))
    return at


def command_line(words: list[str]) -> Line:
    """The words of a command line, which the shell has cut already; their column is their number."""
    return Line(0, [Word(text, None, number) for number, text in enumerate(words, 1)])
