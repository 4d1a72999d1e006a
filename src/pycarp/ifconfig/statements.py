"""Lines that begin with a word of ours, as ``check`` and ``hook``: the words up to the end of the line belong to it.

Each kind of statement is a row of `STATEMENTS`. Its words are read by a function `read` of the room that owns it, which
is imported when such a line is there. So a new kind of statement needs a row here and a `read` there.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NoReturn

from .._records import dataclass, field
from . import values
from .diagnostics import Diagnostic, Severity
from .lexer import Word, lex
from .vocabulary import WORDS

_OPERATOR = re.compile(r"[0-9]*(\|\|?|&&?|;|[<>]{1,2}|[<>]?&[0-9]?).*", re.DOTALL)
"""A word that a shell would act upon as a whole."""
_DECIMAL = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")
_PORT = re.compile(r"(\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)|(?P<host>localhost))?:(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of statement. `about` is the field of `VirtualHost` that it adds to, or "": it is the whole command's."""

    name: str
    about: Literal["checks", "hooks", "sync", ""]
    reader: str  # the module, in the package pycarp, with the function `read`
    usage: str
    sentence: str


STATEMENTS = {
    kind.name: kind
    for kind in (
        Kind(
            "check", "checks", "health.words", "check NAME KIND ... [interval S] [weight N | fault]",
            "watch the health of what the addresses carry",
        ),
        Kind(
            "hook", "hooks", "hooks.words", "hook WHEN [timeout S] COMMAND",
            "run a program when the state changes",
        ),
        Kind("sync", "sync", "ifconfig.sync", "sync NAME...", "virtual hosts that move together with this one"),
        Kind("metrics", "", "metrics.words", "metrics ADDRESS:PORT", "serve figures for Prometheus, and a page"),
        Kind("control", "", "control.words", "control PATH|off", "where 'pycarp ctl' and 'pycarp status' reach it"),
    )
}  # fmt: skip


class Misstated(Exception):
    """A mistake in a statement, as a sentence with its remedy. It repeats no word that may be a secret."""

    def __init__(self, word: Word | None, message: str) -> None:
        super().__init__(message)
        self.word = word


@dataclass(slots=True)
class Words:
    """The words of one statement, and how far they have been read. What is wrong raises `Misstated`.

    `first` is the word that begins the statement. A relative name of a file is meant beside `directory`.
    """

    first: Word
    words: Sequence[Word] = field(repr=False)
    directory: Path | None = None
    at: int = 0
    warnings: list[tuple[Word, str]] = field(default_factory=list, repr=False)

    def __bool__(self) -> bool:
        """Whether words are left."""
        return self.at < len(self.words)

    @property
    def next(self) -> str:
        """The text of the next word, or "" at the end."""
        return self.words[self.at].text if self else ""

    def take(self, what: str) -> Word:
        """The next word; `what` says what it has to be ("a name")."""
        if not self:
            self.wrong(self.words[-1] if self.words else self.first, f"'{self.first.text}' needs {what} at its end")
        self.at += 1
        return self.words[self.at - 1]

    def rest(self) -> list[Word]:
        """All words that are left."""
        left = list(self.words[self.at :])
        self.at = len(self.words)
        return left

    def end(self) -> None:
        """Nothing may follow."""
        if self:
            self.wrong(self.words[self.at], f"'{self.first.text}' takes no more words here: remove this one")

    def one_of(self, choices: Iterable[str], what: str) -> str:
        """The next word, one of `choices`."""
        names = tuple(choices)
        word = self.take(f"{what}, one of {', '.join(names)},")
        if word.text not in names:
            close = get_close_matches(word.text.lower(), names, n=1, cutoff=0.6)
            remedy = f"did you mean '{close[0]}'?" if close else f"give one of {', '.join(names)}"
            self.wrong(word, f"{what} of '{self.first.text}' is unknown: {remedy}")
        return word.text

    def number(self, what: str, low: int, high: int) -> int:
        """The next word, a whole number; `what` is the word before it."""
        word = self.take(f"a number after '{what}'")
        sign, digits = ("-", word.text[1:]) if word.text.startswith("-") else ("", word.text)
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and low <= int(sign + digits) <= high):
            self.wrong(word, f"{what} is no number in its range: give {low}-{high}")
        return int(sign + digits)

    def seconds(self, what: str, low: float, high: float) -> float:
        """The next word, a number of seconds that may have a fraction; `what` is the word before it."""
        word = self.take(f"seconds after '{what}'")
        text = word.text.removesuffix("s")
        if not _DECIMAL.fullmatch(text) or not low <= float(text) <= high:
            self.wrong(word, f"{what} is no number of seconds in its range: give {low:g}-{high:g}")
        return float(text)

    def name(self, what: str) -> str:
        """The next word, 1-64 letters, digits, ``_``, ``.`` or ``-``."""
        word = self.take(what)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", word.text):
            self.wrong(word, f"this is not {what}: give 1-64 letters, digits, '_', '.' or '-'")
        return word.text

    def address_and_port(self) -> tuple[str, int]:
        """The next word, ``127.0.0.1:9112``, ``[::1]:9112`` or ``:9112``, which is this machine's 127.0.0.1."""
        word = self.take("ADDRESS:PORT")
        match = _PORT.fullmatch(word.text)
        address = match and (match["v6"] or match["v4"] or "127.0.0.1")
        if match is None or not address or not _is_address(address) or not 1 <= int(match["port"]) <= 65535:
            self.wrong(word, f"'{self.first.text}' needs ADDRESS:PORT: give one like 127.0.0.1:9112 or [::1]:9112")
        return address, int(match["port"])

    def path(self, what: str) -> Path:
        """The next word as a path; a relative one is beside the file of words."""
        word = self.take(what)
        if not word.text or "\0" in word.text:
            self.wrong(word, f"this is not {what}: give the path of a file")
        return self.beside(word.text)

    def beside(self, text: str) -> Path:
        """A path that is meant from `directory`, or from the working directory."""
        return Path(text) if self.directory is None else self.directory / text

    def command(self, what: str) -> tuple[str, ...]:
        """All words that are left: a program and its arguments. A name with a slash is a path beside the file.

        Warns of words that only a shell would act upon.
        """
        program = self.take(what)
        arguments = self.rest()
        for word in (program, *arguments):
            if "\0" in word.text:
                self.wrong(word, "a program's words have no NUL character: remove it")
            if word.unquoted and _OPERATOR.fullmatch(word.text):
                self.warn(word, "no shell reads this command: quote the word, or write sh -c 'COMMANDS'")
        if not program.text:
            self.wrong(program, f"the name of the program is empty: give {what}")
        path = str(self.beside(program.text)) if "/" in program.text else program.text
        return (path, *(word.text for word in arguments))

    def warn(self, word: Word, message: str) -> None:
        """Advice that goes beside the mistakes."""
        self.warnings.append((word, message))

    def wrong(self, word: Word | None, message: str) -> NoReturn:
        raise Misstated(word, message)


def begins(words: Sequence[Word]) -> Kind | None:
    """The kind of statement that a line is, if it is one."""
    return STATEMENTS.get(words[0].text) if words else None


def meant(words: Sequence[Word]) -> str | None:
    """The statement that a line was meant to be, whose first word is mistyped: "hooks", "HOOK", "chek"."""
    if not words or words[0].text in WORDS:
        return None
    head = words[0].text.lower().rstrip(":=")
    if values.harmless(words[0].text):
        return None
    close = get_close_matches(head, STATEMENTS, n=1, cutoff=0.75)
    return close[0] if close else None


def read(kind: Kind, words: Words) -> Any:
    """The object that the owning room makes of the words. Raises `Misstated`."""
    package, name = kind.reader.rsplit(".", 1)
    try:
        module = importlib.import_module(f"...{package}.{name}", __name__)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("pycarp."):
            raise
        words.wrong(words.first, f"'{kind.name}' cannot be done by this version of pycarp: remove the line")
    made = module.read(words)
    words.end()
    return made


@dataclass(frozen=True, slots=True)
class Stated:
    """What one statement of the command line makes: the object, or None, and what was wrong."""

    kind: Kind
    made: Any = field(repr=False)
    diagnostics: tuple[Diagnostic, ...] = ()


def parse_statement(name: str, text: str, source: str, directory: Path | None = None) -> Stated:
    """The statement `name` with the words in `text`, which are quoted as in a file: the value of an option."""
    kind = STATEMENTS[name]
    lines = lex(f"{name} {text}")
    first = Word(name, None, None)
    words = [Word(word.text, None, None, word.unquoted) for word in lines[0].words[1:]]
    if len(lines) > 1:
        return Stated(kind, None, (Diagnostic(source, None, None, None, "a statement is one line: give one"),))
    if lines[0].open_quote is not None:
        message = f"the quotation that {lines[0].open_quote.text} begins does not end: close it"
        return Stated(kind, None, (Diagnostic(source, None, None, None, message),))
    cursor = Words(first, words, directory)
    found: list[tuple[Word | None, str, Severity]] = []
    made = None
    try:
        made = read(kind, cursor)
    except Misstated as error:
        found.append((error.word, str(error), "error"))
    found += [(word, message, "warning") for word, message in cursor.warnings]
    return Stated(kind, made, tuple(Diagnostic(source, None, None, None, text, how) for _, text, how in found))


def fields_of(made: Iterable[tuple[Kind, Any]]) -> dict[str, Any]:
    """What statements about a virtual host add to its fields. The object of `sync` is a tuple of names."""
    fields: dict[str, Any] = {}
    for kind, one in made:
        if kind.about:
            fields[kind.about] = fields.get(kind.about, ()) + (one if isinstance(one, tuple) else (one,))
    return fields


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
