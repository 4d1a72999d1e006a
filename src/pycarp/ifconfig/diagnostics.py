"""A mistake in the words, or advice about them: one plain sentence, with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from .._records import asdict, dataclass
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
    word      the word, if it is one of ifconfig's or ours, an address, or a number of at most three digits; else None.
    message   one sentence with the remedy. Of what was written it repeats only such words: whatever else there is may
              be the passphrase, or a part of it, wherever it stands.
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


def show(what: str, text: str) -> str:
    """`what`, and the word if no passphrase can hide in it: a number of at most three digits."""
    return f"{what} {text}" if re.fullmatch(r"-?[0-9]{1,3}", text) else what
