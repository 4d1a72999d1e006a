"""Files of words: which there are, what name they give, and what can be wrong with a file before its first word."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .diagnostics import Diagnostic
from .lexer import lex
from .parser import Defaults, Parsed, parse_lines
from .passphrase import exposed

DEFAULT_DIRECTORY = Path("/etc")
_PATTERN = "ifconfig.carp*"
_LONGEST = 1 << 20
# What editors and packagers leave beside a file.
_LEFTOVER = re.compile(r".*(~|\.(bak|orig|old|save|swp|rej|tmp|(dpkg|rpm|ucf|pac)[-a-z]*))", re.IGNORECASE)
_NAMED = re.compile(r"(?:ifconfig|hostname)\.(.+)", re.DOTALL)


def find_files(directory: str | os.PathLike[str] = DEFAULT_DIRECTORY) -> tuple[list[Path], list[Path]]:
    """The files ``ifconfig.carp*`` of a directory, sorted, and those left out because they are backup copies."""
    found = sorted(Path(directory).glob(_PATTERN), key=_order)
    leftovers = [path for path in found if _LEFTOVER.fullmatch(path.name)]
    return [path for path in found if path not in leftovers], leftovers


def _order(path: Path) -> list[int | str]:
    # carp2 before carp10; numbers and texts alternate, so that like is compared with like.
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", path.name))]


def interface_name(path: Path) -> str | None:
    """The interface that a file is about, by its name: ``ifconfig.carp0`` says carp0, another name says nothing."""
    match = _NAMED.fullmatch(path.name)
    return match[1] if match else None


def parse_file(path: str | os.PathLike[str], *, name: str | None = None, defaults: Defaults | None = None) -> Parsed:
    """The virtual host that a file describes. Never raises for a bad file: see `Parsed`.

    Its name is `name`, or what the file's name says after ``ifconfig.``, or by the vhid. A relative passfile stands
    beside the file.
    """
    file = Path(path)
    source = os.fspath(path)
    name = name if name is not None else interface_name(file)
    try:
        with open(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read(_LONGEST + 1)
    except FileNotFoundError:
        return _failed(source, name, "the file does not exist: give the name of a file of ifconfig words")
    except IsADirectoryError:
        return _failed(source, name, "this is a directory: give the files in it")
    except PermissionError:
        return _failed(source, name, "the file cannot be read (permission denied): run as a user who may, such as root")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        return _failed(source, name, f"the file cannot be read ({reason}): give a file of ifconfig words")
    if len(content) > _LONGEST or b"\0" in content:
        return _failed(source, name, "this is not a text file: give a file of ifconfig words")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = "the text is not UTF-8 from here on: save the file as UTF-8"
        return Parsed(source, name, None, (Diagnostic(source, line, column, None, message),))
    readers = exposed(status)
    return parse_text(
        text,
        name=name,
        source=source,
        defaults=defaults,
        directory=file.parent,
        pass_advice=None
        if readers is None
        else f"pass stands in a file that can be read by {readers}: chmod 600 the file",
    )


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
    return parse_lines(
        lex(text), name=name, source=source, defaults=defaults, directory=directory, pass_advice=pass_advice
    )


def _failed(source: str, name: str | None, message: str) -> Parsed:
    return Parsed(source, name, None, (Diagnostic(source, None, None, None, message),))
