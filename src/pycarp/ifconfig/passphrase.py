"""Reads passfiles and warns of unwise passphrases. No message repeats one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..protocol import DIALECT_NETBSD
from ..protocol.keys import AUTO_MINIMUM
from .diagnostics import why
from .reading import read
from .values import Wrong

SHORT = 12
"""A graphics card guesses a passphrase with fewer characters from one recorded advert."""
COUNTED_BYTES = 19
"""The kernels keep 20 bytes, and every ifconfig puts a NUL into the last one (docs/protocol.md, keys)."""
_LONGEST_FILE = 4096
SECRETS = Path("/etc/pycarp/secrets")
"""Where a passfile without a path may stand, too; only root reads it."""
_GROUP = "pycarp"
"""The group of the service, which has to read its files."""


def advice(passphrase: str | bytes) -> Iterator[str]:
    """Warnings about a passphrase that is not empty."""
    raw = passphrase.encode("utf-8", "surrogateescape") if isinstance(passphrase, str) else passphrase
    text = raw.decode("utf-8", "replace")
    if len(raw) < AUTO_MINIMUM:
        yield (
            f"the passphrase has under {AUTO_MINIMUM} bytes: one recorded advert is enough to guess it, and a NetBSD "
            "host that has it is not understood, so that both stay master; take more"
        )
    elif len(text) < SHORT:
        yield f"the passphrase has under {SHORT} characters, and one recorded advert is enough to guess it: take more"
    if len(raw) > COUNTED_BYTES and text[:2].lower() != "0x":
        yield f"the passphrase is longer than {COUNTED_BYTES} bytes: only the first {COUNTED_BYTES} count, on every BSD"
    if text[:2].lower() == "0x":
        yield "the passphrase begins with 0x, which NetBSD's ifconfig takes for hexadecimal: choose another"
    if text != text.strip():
        yield "the passphrase begins or ends with a blank, which counts: leave it out if it was not meant"


def zero_key(passphrase: str | bytes, dialect: str) -> bool:
    """Whether the dialect, which drops the last character, makes the zero key of a passphrase."""
    return dialect == DIALECT_NETBSD and len(passphrase) == 1


def exposed(status: os.stat_result) -> str | None:
    """Who else may read a file: "its group", "everybody", or None."""
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_mode & stat.S_IROTH:
        return "everybody"
    return "its group" if status.st_mode & stat.S_IRGRP and not _of_service(status.st_gid) else None


def _of_service(group: int) -> bool:
    """Whether a group is that of the service, or of this process where that is an ordinary user's."""
    import grp

    try:
        return group == (os.getegid() or -1) or grp.getgrgid(group).gr_name == _GROUP
    except KeyError:
        return False


def _place(name: str, directory: Path | None) -> Path:
    """Where a passfile is: one without a path stands in `directory`, among the credentials of a unit, or in `SECRETS`.

    systemd.exec(5), LoadCredential=: the files of a folder are there under its identifier, ``_`` and their names.
    """
    beside = Path(name) if directory is None else directory / name
    if "/" in name or os.path.lexists(beside):
        return beside
    places = [SECRETS / name]
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        places[:0] = [Path(credentials, name), Path(credentials, f"pycarp_{name}")]
    try:
        return next((place for place in places if os.path.lexists(place)), beside)
    except ValueError:
        return beside


def read_passfile(name: str, directory: Path | None) -> tuple[bytes, str | None]:
    """The passphrase in a file, its only line, and who else may read that file.

    A relative name is looked up in `directory`, or in the working directory; one without a path also among systemd's
    credentials, and in /etc/pycarp/secrets. Raises `Wrong`, which does not repeat the
    name: the passphrase itself may stand where the name belongs.
    """
    if not name:
        raise Wrong("the name of the passfile is empty: give the file that holds the passphrase")
    try:
        content, status = read(_place(name, directory), _LONGEST_FILE)
    except FileNotFoundError:
        raise Wrong("the passfile does not exist: create it with the passphrase as its only line") from None
    except (OSError, ValueError) as error:
        raise Wrong(f"the passfile cannot be read ({why(error)}): give a file that this user may read") from None
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if len(content) > _LONGEST_FILE or any(line.strip() for line in lines[1:]):
        raise Wrong("the passfile holds more than a passphrase: let it have one line")
    if not lines[0].strip():
        raise Wrong("the passfile holds no passphrase: put it on the first line")
    if b"\0" in lines[0]:
        raise Wrong("the passfile holds a NUL character, at which every BSD would cut the passphrase: remove it")
    return lines[0], exposed(status)
