"""A mistake in the words, or advice about them: one plain sentence, with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import ConfigError

Severity = Literal["error", "warning"]

COMMAND_LINE = "command line"
"""The `source` of words that stand in no file."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A mistake (``error``) or a piece of advice (``warning``) about one word.

    source    the file's path, or `COMMAND_LINE`.
    line      counted from 1; None when the words stand on the command line, or when no line is to blame.
    column    the character in the line, from 1; on the command line the number of the word after the interface's name.
    word      the word as it was written; None when there is none, or when it is or may be part of a passphrase.
    message   one sentence that names the word and the remedy. Never repeats a passphrase.
    """

    source: str
    line: int | None
    column: int | None
    word: str | None
    message: str
    severity: Severity = "error"

    @property
    def place(self) -> str:
        """``file:line:column``, or ``command line, word 2``; shorter where less is known."""
        if self.line is not None:
            return f"{self.source}:{self.line}" + (f":{self.column}" if self.column is not None else "")
        return self.source if self.column is None else f"{self.source}, word {self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the message last."""
        values = asdict(self)
        values["message"] = values.pop("message")
        return values


class WordsError(ConfigError):
    """Words that make no virtual host; `.diagnostics` holds every mistake that was found."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))


def why(error: OSError | ValueError) -> str:
    """Why a file cannot be read, in a few words."""
    return error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"


def show(text: str) -> str:
    """A word as it may stand in a message: quoted unless it is a number, printable, and not endless."""
    if text.isascii() and text.isdigit() and len(text) < 12:
        return text
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return f"'{printable}'" if len(printable) <= 40 else f"'{printable[:37]}...'"
