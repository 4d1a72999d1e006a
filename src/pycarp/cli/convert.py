"""``pycarp convert``: other programs' configurations as files of our words."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..convert import KINDS, Conversion, Target, kind_of
from ..convert import convert as made_of
from ..ifconfig.reading import read
from .group import fail
from .output import complain

_LONGEST = 1 << 20
_HELP = """Make files of pycarp's words from FILEs of other programs.

Read are keepalived.conf (VRRP instances), ucarp's command lines in scripts and units, Debian's /etc/network/interfaces
with ucarp's options, and the BSDs' hostname.carp* and rc.conf. The files are printed, or written into a directory. What
could not be carried over is said on stderr, by file and line. A passphrase is never printed: with --output it gets a
file of its own, which only its owner can read.

\b
Examples:
  pycarp convert /etc/keepalived/keepalived.conf
  pycarp convert --output /etc /etc/network/interfaces
  pycarp convert --from ucarp - < start-ucarp.sh

Exit code: 0 if a file came out, with or without remarks; 2 if none did, or if one could not be written.
"""


@click.command(help=_HELP)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--from", "kind", type=click.Choice(list(KINDS)), help="What the FILEs are, if that is not plain.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write the files into this directory.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.pass_context
def convert(ctx: click.Context, files: tuple[Path, ...], kind: str | None, output: Path | None, force: bool) -> None:
    conversions = [_conversion(ctx, file, kind) for file in files]
    for conversion in conversions:
        for remark in conversion.remarks:
            complain(str(remark))
    targets = list(_renamed(conversions))
    if not targets:
        fail(ctx, "no virtual host came out")
    if output is None:
        for target in targets:
            click.echo(f"# {target.file_name}, to be readable by root only")
            click.echo(target.text())
        return
    try:
        written = _write(targets, output, force)
    except FileExistsError as error:
        fail(ctx, f"{error.filename} is there already: nothing was written; move it away, or give --force")
    except OSError as error:
        fail(
            ctx, f"{error.filename or output} cannot be written ({error.strerror}): nothing is left of this conversion"
        )
    for path in written:
        click.echo(f"{path}: written")
    without = [target.secret_name for target in targets if target.secret is None and not target.passfile]
    for name in without:
        complain(f"{output / name}: write the passphrase into it, the same on all hosts, and chmod 600 it")


def _conversion(ctx: click.Context, file: Path, kind: str | None) -> Conversion:
    source = "standard input" if str(file) == "-" else str(file)
    try:
        content = sys.stdin.buffer.read(_LONGEST + 1) if str(file) == "-" else read(file, _LONGEST)[0]
    except (OSError, ValueError) as error:
        fail(ctx, f"{source} cannot be read ({getattr(error, 'strerror', None) or 'no file name'}): give a text file")
    if len(content) > _LONGEST or b"\0" in content:
        fail(ctx, f"{source} is not a text file, or is longer than 1 MiB: give a configuration")
    text = content.decode("utf-8", "replace")
    found = kind or kind_of(text, source)
    return made_of(text, source, found)


def _renamed(conversions: list[Conversion]) -> Iterator[Target]:
    """The targets of all files; a name that two have gets a number."""
    names: set[str] = set()
    for conversion in conversions:
        for target in conversion.targets:
            number = 0
            while target.name in names:
                target.name = f"carp{number}"
                number += 1
            names.add(target.name)
            yield target


def _write(targets: list[Target], directory: Path, force: bool) -> list[Path]:
    """Write all files, or none. Raises `OSError`; `FileExistsError` before anything is written."""
    contents: dict[Path, bytes] = {}
    for target in targets:
        contents[directory / target.file_name] = target.text().encode()
        if target.secret is not None:
            secret = target.secret if isinstance(target.secret, bytes) else target.secret.encode("utf-8")
            contents[directory / target.secret_name] = secret + b"\n"
    for path in contents:
        if os.path.lexists(path) and not force:
            raise FileExistsError(17, "exists", str(path))
    done: list[Path] = []
    try:
        for path, content in contents.items():
            new = path.with_name(f".{path.name}.new")
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            done.append(new)
            with open(descriptor, "wb") as file:
                file.write(content)
        for new, path in zip(done, contents, strict=True):
            new.replace(path)
    except OSError:
        for new in done:
            with contextlib.suppress(OSError):
                new.unlink()
        raise
    return list(contents)
