"""From the text of a file to words with places, cut as NetBSD's rc(8) and sh(1) cut it (ifconfig.if(5))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_BLANK = " \t\r\v\f"
# Characters that sh(1), which reads these files on NetBSD, would not leave alone.
_SHELL = "$`;&|<>()"
_SHELL_IN_DOUBLE_QUOTES = "$`"


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it begins. `text` stays out of the repr: it may be a passphrase."""

    text: str = field(repr=False)
    line: int | None
    column: int | None
    unquoted: str = ""
    """A character in it that sh(1) would have acted upon, or nothing."""


@dataclass(slots=True)
class Line:
    """One logical line: its words, or the reason why it has none."""

    number: int
    words: list[Word] = field(default_factory=list)
    shell_at: int | None = None
    """The column of the ``!`` that makes it a command for the shell."""
    comment_at: int | None = None
    """The column where a comment begins that follows words."""
    open_quote: Word | None = None
    """Where a quotation begins that the line does not end; the words after it are lost."""


@dataclass(frozen=True, slots=True)
class _Char:
    char: str
    line: int
    column: int


def lex(text: str) -> list[Line]:
    """The logical lines of `text` that are neither empty nor comments."""
    lines = [_cut(line) for line in _logical_lines(text)]
    return [line for line in lines if line.words or line.shell_at is not None or line.open_quote is not None]


def _logical_lines(text: str) -> Iterator[list[_Char]]:
    """Characters with their places, line by line; a backslash at the end of a line joins the next one to it."""
    joined: list[_Char] = []
    physical = text.split("\n")
    for number, content in enumerate(physical, 1):
        content = content.removesuffix("\r")
        last = number == len(physical)
        continued = content.endswith("\\") and not last
        if continued:
            content = content[:-1]
        joined.extend(_Char(char, number, column) for column, char in enumerate(content, 1))
        if not continued:
            yield joined
            joined = []


def _cut(chars: list[_Char]) -> Line:
    line = Line(chars[0].line if chars else 0)
    at = 0
    while at < len(chars):
        if chars[at].char in _BLANK:
            at += 1
        elif chars[at].char == "#":
            line.comment_at = chars[at].column
            break
        elif chars[at].char == "!" and not line.words:
            line.shell_at = chars[at].column
            break
        else:
            at = _word(chars, at, line)
    return line


def _word(chars: list[_Char], at: int, line: Line) -> int:
    """Append the word that begins at `at` and return where the next may begin."""
    start = chars[at]
    text: list[str] = []
    acted_upon = ""
    while at < len(chars) and chars[at].char not in _BLANK:
        char = chars[at].char
        at += 1
        if char == "\\" and at < len(chars):
            text.append(chars[at].char)
            at += 1
        elif char in "'\"":
            opened = chars[at - 1]
            while at < len(chars) and chars[at].char != char:
                inner = chars[at].char
                if char == '"' and inner == "\\" and at + 1 < len(chars) and chars[at + 1].char in '$`"\\':
                    at += 1
                    inner = chars[at].char
                elif char == '"' and inner in _SHELL_IN_DOUBLE_QUOTES:
                    acted_upon = acted_upon or inner
                text.append(inner)
                at += 1
            if at >= len(chars):
                line.open_quote = Word(char, opened.line, opened.column)
                return at
            at += 1
        else:
            if char in _SHELL:
                acted_upon = acted_upon or char
            text.append(char)
    line.words.append(Word("".join(text), start.line, start.column, acted_upon))
    return at


def command_line(words: list[str]) -> Line:
    """The words of a command line, which the shell has cut already; their column is their number."""
    return Line(0, [Word(text, None, number) for number, text in enumerate(words, 1)])
