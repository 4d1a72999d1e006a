"""Finds files of words, reads them, and reports what is wrong with a file before its first word."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .diagnostics import Diagnostic, why
from .lexer import lex
from .parser import Defaults, Parsed, Parser
from .passphrase import exposed
from .reading import read

DEFAULT_DIRECTORY = Path("/etc")
_BEGINNING = "ifconfig.carp"
_LONGEST = 1 << 20
# What editors and packagers leave beside a file.
LEFTOVER = re.compile(r".*(~|\.(bak|orig|old|save|swp|rej|tmp|(dpkg|rpm|ucf|pac)[-a-z]*))", re.IGNORECASE)
_UNREADABLE: dict[type[Exception], str] = {
    FileNotFoundError: "the file does not exist: give the name of a file of ifconfig words",
    IsADirectoryError: "this is a directory: give the files in it",
    PermissionError: "the file cannot be read (permission denied): run as a user who may, such as root, or "
    "chgrp it to that user's group and chmod 640 it",
}
_NAMED = re.compile(r"(?:ifconfig|hostname)\.(.+)", re.DOTALL)


def find_files(directory: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> tuple[list[Path], list[Path]]:
    """The files ``ifconfig.carp*`` of a directory, sorted, and those left out because they are backup copies.

    There are none in a directory that does not exist; one that cannot be read raises `OSError`.
    """
    try:
        names = [name for name in os.listdir(directory) if name.startswith(_BEGINNING)]
    except FileNotFoundError:
        names = []
    found = sorted((Path(directory) / name for name in names), key=_order)
    leftovers = [path for path in found if LEFTOVER.fullmatch(path.name)]
    return [path for path in found if path not in leftovers], leftovers


def _order(path: Path) -> list[int | str]:
    # carp2 before carp10; numbers and texts alternate, so that like is compared with like.
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", path.name))]


def interface_name(path: Path) -> str | None:
    """The interface that a file is about, by its name: ``ifconfig.carp0`` says carp0, another name says nothing."""
    match = _NAMED.fullmatch(path.name)
    return match[1] if match else None


def parse_file(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    defaults: Defaults | None = None,
    source: str | None = None,
) -> Parsed:
    """The virtual host that a file describes. Never raises for a bad file: see `Parsed`.

    Its name is `name`, or what the file's name says after ``ifconfig.``, or by the vhid. A relative passfile stands
    beside the file. `source` is what diagnostics call the file, if not by its path.
    """
    file = Path(path)
    source = source if source is not None else os.fspath(path)
    name = name if name is not None else interface_name(file)
    try:
        content, status = read(file, _LONGEST)
    except (OSError, ValueError) as error:
        unreadable = f"the file cannot be read ({why(error)}): give a file of ifconfig words"
        return _failed(source, name, _UNREADABLE.get(type(error), unreadable))
    if len(content) > _LONGEST or b"\0" in content:
        return _failed(source, name, "this is not a text file: give a file of ifconfig words")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = "the text is not UTF-8 from here on: save the file as UTF-8"
        return _failed(source, name, message, before.count(b"\n") + 1, column)
    readers = exposed(status)
    advice = f"pass stands in a file that can be read by {readers}: chmod 600 the file" if readers else None
    return parse_text(text, name=name, source=source, defaults=defaults, directory=file.parent, pass_advice=advice)


def parse_text(
    text: str,
    *,
    name: str | None = None,
    source: str = "text",
    defaults: Defaults | None = None,
    directory: Path | None = None,
    pass_advice: str | None = None,
) -> Parsed:
    """As `parse_file`, for text that is in memory already; `pass_advice` is a warning for wherever `pass` stands."""
    return Parser(lex(text), name, source, defaults, directory, pass_advice).parse()


def _failed(source: str, name: str | None, message: str, line: int | None = None, column: int | None = None) -> Parsed:
    return Parsed(source, name, None, (Diagnostic(source, line, column, None, message),))
