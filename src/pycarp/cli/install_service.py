"""``pycarp install-service``: the systemd units, their user and their folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from ..ifconfig import find_files
from .group import fail

USER = "pycarp"
_COMMAND = "/usr/local/bin/pycarp"
"""The path in the units, which becomes that of this command."""
_HELP = """Install pycarp as a systemd service: units, a user, folders.

\b
Written are:
  /etc/systemd/system/pycarp.service    runs all /etc/ifconfig.carp* files
  /etc/systemd/system/pycarp@.service   runs one: pycarp@carp0
  /etc/sysusers.d/pycarp.conf           the user 'pycarp', as which the service runs
  /etc/tmpfiles.d/pycarp.conf           /etc/pycarp/secrets for passfiles, which only root reads
  /etc/systemd/network/10-pycarp.network, /etc/systemd/networkd.conf.d/10-pycarp.conf
                                        where systemd-networkd runs: it leaves alone what pycarp makes

What is there already and differs stays, unless --force is given. Nothing is started. --remove takes it all away again.

\b
Examples:
  pycarp install-service && systemctl enable --now pycarp
  pycarp install-service --remove

Exit code: 0 if all of it is there (or gone, with --remove); 2 if not.
"""


class _File(NamedTuple):
    """A file of the installation, and where it goes."""

    name: str
    target: str
    networkd: bool = False


_FILES = (
    _File("systemd/pycarp.service", "etc/systemd/system/pycarp.service"),
    _File("systemd/pycarp@.service", "etc/systemd/system/pycarp@.service"),
    _File("sysusers.d/pycarp.conf", "etc/sysusers.d/pycarp.conf"),
    _File("tmpfiles.d/pycarp.conf", "etc/tmpfiles.d/pycarp.conf"),
    _File("networkd/10-pycarp.network", "etc/systemd/network/10-pycarp.network", True),
    _File("networkd/10-pycarp.conf", "etc/systemd/networkd.conf.d/10-pycarp.conf", True),
)


@click.command(help=_HELP)
@click.option(
    "--root", type=click.Path(path_type=Path), default="/", metavar="DIR", help="Write below DIR, run nothing."
)
@click.option("--networkd/--no-networkd", default=None, help="With the files for systemd-networkd; else where it runs.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
@click.option("--remove", is_flag=True, help="Stop the service, and remove the files.")
@click.pass_context
def install_service(ctx: click.Context, root: Path, networkd: bool | None, force: bool, remove: bool) -> None:
    live = root == Path("/")
    if live and os.geteuid() != 0:
        fail(ctx, "only root may write into /etc: run it by sudo")
    if live and not Path("/run/systemd/system").exists():
        fail(ctx, "systemd does not run here: start 'pycarp run' by the service manager of this host")
    if networkd is None:
        networkd = (root / "run/systemd/netif/state").exists()
    files = [file for file in _FILES if networkd or remove or not file.networkd]
    if not (_source() / files[0].name).exists():
        remedy = "a package of the system has brought it: systemctl enable --now pycarp"
        fail(ctx, f"this installation has no files for a service: {remedy}")
    try:
        if remove:
            _remove(files, root, live, force)
            return
        differ = list(_write(files, root, force))
    except OSError as error:
        fail(ctx, f"{error.filename or root} cannot be written ({error.strerror}): mend that, and run it again")
    if live:
        _apply(ctx)
        _advise()
    ctx.exit(2 if differ else 0)


def contents(file: _File) -> str:
    """What the file is to hold here: the units have the path of this command."""
    text = (_source() / file.name).read_text()
    return text.replace(_COMMAND, _this_command())


def _source() -> Path:
    """The folder of the files: in the installation, or in a checkout."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        for entry in distribution("pycarp").files or ():
            if entry.name == "pycarp.service":
                return Path(str(entry.locate())).resolve().parents[1]
    except PackageNotFoundError:
        pass
    return Path(__file__).resolve().parents[3] / "packaging"


def _this_command() -> str:
    """The path by which this command was started, or that of the one in the search path."""
    started = Path(sys.argv[0])
    if started.name == "pycarp" and started.is_absolute():
        return str(started)
    return shutil.which("pycarp") or _COMMAND


def _write(files: list[_File], root: Path, force: bool) -> Iterator[Path]:
    """Write what is missing; yields what differs and was left alone."""
    for file in files:
        path = root / file.target
        wanted = contents(file)
        former = path.read_bytes() if path.exists() else None
        if former == wanted.encode():
            click.echo(f"{path}: there already")
        elif former is not None and not force:
            click.echo(f"{path}: differs, and stays: 'systemctl edit' changes a unit beside it, --force replaces it")
            yield path
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.write_text(wanted)
            new.chmod(0o644)
            new.replace(path)
            click.echo(f"{path}: written")


def _remove(files: list[_File], root: Path, live: bool, force: bool) -> None:
    if live:
        _run("systemctl", "disable", "--now", "pycarp.service")
        _run("systemctl", "stop", "pycarp@*.service")
    for file in files:
        path = root / file.target
        if not path.exists():
            continue
        if path.read_bytes() != contents(file).encode() and not force:
            click.echo(f"{path}: differs, and stays: --force removes it")
            continue
        path.unlink()
        click.echo(f"{path}: removed")
    if live:
        _run("systemctl", "daemon-reload")
        click.echo(f"The user {USER}, /etc/pycarp and the files /etc/ifconfig.carp* stay.")


def _apply(ctx: click.Context) -> None:
    """Have systemd make the user and the folders, and read the units."""
    for command in (
        ("systemd-sysusers", "/etc/sysusers.d/pycarp.conf"),
        ("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/pycarp.conf"),
        ("systemctl", "daemon-reload"),
    ):
        said = _run(*command)
        if said is not None:
            fail(ctx, f"'{' '.join(command)}' failed ({said}): mend that, and run it again")


def _run(*command: str) -> str | None:
    """Run a command of systemd: None, or what it said when it failed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=90
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it did not say why"])[-1]


def _advise() -> None:
    """Say which files the service could not read, and what comes next."""
    import grp

    try:
        group = grp.getgrnam(USER).gr_gid
        files, _ = find_files()
    except (KeyError, OSError):
        return
    for file in files:
        status = file.stat()
        readable = status.st_mode & 0o004 or (status.st_mode & 0o040 and status.st_gid == group)
        if not readable:
            click.echo(f"{file}: the service cannot read it: chgrp {USER} {file} && chmod 640 {file}")
    if not files:
        click.echo("Next: write /etc/ifconfig.carp0, for all users to read, and its passfile into /etc/pycarp/secrets.")
    click.echo("Then: pycarp check && systemctl enable --now pycarp")
