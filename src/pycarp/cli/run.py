"""``pycarp run``: the machine's virtual hosts, from files, as a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..ifconfig import DEFAULT_DIRECTORY, Defaults, find_files
from ..ifconfig.files import interface_name
from ..ifconfig.vocabulary import KNOWN
from .control import control_option
from .group import fail
from .load import Stated, load_files
from .options import file_options, host_options, output_options, statement_options
from .output import Printer, complain
from .restart import inherit_option
from .serve import Beside, serve
from .signals import HELP

if TYPE_CHECKING:
    from ..config import VirtualHost

_HELP = """Run every /etc/ifconfig.carp* file, or the FILEs given, as the machine's service.

Each file describes one virtual host in ifconfig(8)'s words, on one line or on several; ifconfig.carp0 is about carp0.
SIGHUP reads the files again; if one is broken or cannot be run, run says so and the old configuration runs on.
The programs in /etc/pycarp/hooks.d run when a virtual host changes its state, and so do those of its lines
'hook WHEN COMMAND'.
A virtual host whose interface is missing, or has no address yet, waits for it; the others run meanwhile. One that runs
already is not moved to an interface that is missing.

\b
/etc/ifconfig.carp0, readable by root only:
  # the web servers' address
  vhid 101 passfile carp.pass advskew 100
  inet 10.13.37.42 netmask 255.255.255.0
  preempt

\b
Examples:
  pycarp check && pycarp run
  pycarp run --directory /usr/pkg/etc --preempt
  pycarp run ./ifconfig.carp0 ./ifconfig.carp1 --json

\b
As a service of systemd: pycarp install-service. A unit by hand, without its sandbox and its restarts without fail-over:
  [Unit]
  Description=Floating addresses by CARP (pycarp)
  Wants=network-online.target
  After=network-online.target
  StartLimitIntervalSec=0
  [Service]
  Type=notify
  ExecStart=/usr/local/bin/pycarp run
  ExecReload=/bin/kill -HUP $MAINPID
  KillMode=mixed
  Restart=on-failure
  RestartSec=1
  [Install]
  WantedBy=multi-user.target

{signals}
Exit code: 0 after an orderly stop; 2 if the files, the machine or the permissions do not allow it, and then nothing has
been changed.
"""

HOOKS = Path("/etc/pycarp/hooks.d")
"""Every executable file in it runs when a virtual host changes its state."""


@click.command(help=_HELP.replace("{signals}", HELP))
@file_options
@host_options
@statement_options("hook", "metrics")
@control_option
@inherit_option
@output_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    directory: Path | None,
    stated: Stated,
    control: str,
    take_over: bool,
    as_json: bool,
    log: str | None,
    quiet: bool,
    **defaults: Any,
) -> None:
    def reload() -> tuple[VirtualHost, ...] | None:
        # Found anew: files may have come or gone.
        where = directory or DEFAULT_DIRECTORY
        try:
            again = list(files) if files else find_files(where)[0]
        except OSError as error:
            complain(f"{ctx.command_path}: {_unreadable(where, error)}")
            return None
        if again:
            return load_files(again, Defaults(**defaults), _with_folder(stated), wait=True).hosts()
        complain(f"{ctx.command_path}: {_none_in(where)}")
        return None

    loaded = load_files(chosen(ctx, files, directory), Defaults(**defaults), _with_folder(stated), wait=True)
    hosts = loaded.hosts()
    if hosts is None:
        ctx.exit(2)
    printer = Printer(as_json=as_json, log=log, quiet=quiet)
    # One file by its name is a service of its own, as pycarp@carp0 is.
    name = (interface_name(files[0]) if len(files) == 1 else None) or "run"
    services = loaded.services
    beside = Beside(control or services.get("control", ""), name, services.get("metrics"), take_over)
    ctx.exit(serve(hosts, printer, command=ctx.command_path, reload=reload, beside=beside))


def _with_folder(stated: Stated) -> Stated:
    """The statements that are options, and the hooks of this machine's folder, if it is there."""
    if not HOOKS.is_dir():
        return stated
    return {**stated, "hook": (*stated.get("hook", ()), f"directory {HOOKS}")}


def chosen(ctx: click.Context, files: Sequence[Path], directory: Path | None) -> list[Path]:
    """The files that were named, or those of the directory; ends the command if there are none."""
    if files and directory is not None:
        fail(ctx, "FILEs and --directory are given: give one of the two")
    if files:
        if any(str(file) in KNOWN and not file.exists() for file in files):
            fail(ctx, "these are words, not FILEs: 'pycarp up NAME WORDS' takes words, or write them into a file")
        return list(files)
    where = directory or DEFAULT_DIRECTORY
    try:
        found, leftovers = find_files(where)
    except OSError as error:
        fail(ctx, _unreadable(where, error))
    for path in leftovers:
        complain(f"{path}: warning: the file is left out, its name is that of a backup copy: rename or remove it")
    if not found:
        fail(ctx, _none_in(where))
    return found


def _unreadable(directory: Path, error: OSError) -> str:
    return f"the directory {directory} cannot be read ({error.strerror}): give one that this user may read"


def _none_in(directory: Path) -> str:
    remedy = "write one with the words of a virtual host, or name files on the command line"
    return f"there is no file {directory / 'ifconfig.carp*'}: {remedy}"
