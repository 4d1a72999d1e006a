"""What stands after the kind of a check: its arguments, read and validated, without I/O."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .._records import dataclass, field
from ..errors import ConfigError

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s\[\]:]*)):(?P<port>[0-9]{1,5})")
_TYPE = re.compile(r"[A-Z0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Exec:
    """A program that has to end with 0."""

    command: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tcp:
    """A port that has to accept a connection."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Udp:
    """A port: with a payload it has to answer, without one it must not be refused."""

    host: str
    port: int
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Http:
    """A URL that has to answer with one of these states, and to hold the text. No redirect is followed."""

    url: str = field(repr=False)
    status: range = range(200, 400)
    expect: str = field(default="", repr=False)
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Dns:
    """A name server that has to answer a question, with the text in one of the answers."""

    host: str
    port: int
    name: str
    type: str = "A"
    expect: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that has to be there; a number in it, other than 0, demotes by that much."""

    path: str


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has to run: by its name, or by the number in a file."""

    name: str = ""
    pidfile: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface that has to be up, with a carrier."""

    name: str


Arguments = Exec | Tcp | Udp | Http | Dns | File | Process | Link

USAGE = {
    "exec": "exec PROGRAM ARGUMENT...",
    "tcp": "tcp HOST:PORT",
    "udp": "udp HOST:PORT [PAYLOAD]",
    "http": "http URL [status N] [expect TEXT] [insecure]",
    "dns": "dns SERVER[:PORT] NAME [TYPE] [expect TEXT]",
    "file": "file PATH",
    "process": "process NAME|/PIDFILE",
    "interface": "interface NAME",
}


def read(kind: str, words: tuple[str, ...]) -> Arguments:
    """The arguments of a kind. Raises `ConfigError`, which repeats none of the words."""
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ConfigError("the arguments of a check are texts without NUL", "checks")
    made = _READERS[kind](list(words))
    if made is None:
        raise ConfigError(f"the arguments of a check are not in order: give {USAGE[kind]}", "checks")
    return made


def _exec(words: list[str]) -> Arguments | None:
    return Exec(tuple(words)) if words and words[0] else None


def _host_port(text: str, default: int | None = None) -> tuple[str, int] | None:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        bare = text.strip("[]")
        return None if default is None or not bare else (bare, default)
    port = int(match["port"])
    return (match["six"] or match["host"] or "127.0.0.1", port) if 1 <= port <= 65535 else None


def _tcp(words: list[str]) -> Arguments | None:
    place = _host_port(words[0]) if len(words) == 1 else None
    return None if place is None else Tcp(*place)


def _udp(words: list[str]) -> Arguments | None:
    place = _host_port(words[0]) if len(words) in (1, 2) else None
    return None if place is None else Udp(*place, "".join(words[1:]).encode())


def _http(words: list[str]) -> Arguments | None:
    if not words:
        return None
    url, rest = words[0], words[1:]
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return None
    status, expect, verify = range(200, 400), "", True
    while rest:
        word = rest.pop(0)
        if word == "insecure":
            verify = False
        elif word == "status" and rest and re.fullmatch(r"[1-5][0-9][0-9]", rest[0]):
            wanted = int(rest.pop(0))
            status = range(wanted, wanted + 1)
        elif word == "expect" and rest:
            expect = rest.pop(0)
        else:
            return None
    return Http(url, status, expect, verify)


def _dns(words: list[str]) -> Arguments | None:
    if len(words) < 2:
        return None
    place = _host_port(words[0], 53)
    rest = words[2:]
    kind = rest.pop(0).upper() if rest and rest[0] != "expect" else "A"
    expect = rest[1] if len(rest) == 2 and rest[0] == "expect" else ""
    if place is None or not words[1] or not _TYPE.fullmatch(kind) or (rest and not expect):
        return None
    return Dns(*place, words[1], kind, expect)


def _file(words: list[str]) -> Arguments | None:
    return File(words[0]) if len(words) == 1 and words[0] else None


def _process(words: list[str]) -> Arguments | None:
    if len(words) != 1 or not words[0]:
        return None
    return Process(pidfile=words[0]) if words[0].startswith("/") else Process(name=words[0])


def _link(words: list[str]) -> Arguments | None:
    return Link(words[0]) if len(words) == 1 and 0 < len(words[0]) < 16 else None


_READERS = {
    "exec": _exec,
    "tcp": _tcp,
    "udp": _udp,
    "http": _http,
    "dns": _dns,
    "file": _file,
    "process": _process,
    "interface": _link,
}
