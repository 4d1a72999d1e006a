"""``pycarp check``: prints what is wrong with files and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .load import Loaded, load_files, look_at_host
from .options import file_options
from .output import addresses_of
from .run import chosen

_HELP = """Say what is wrong with FILEs, or with every /etc/ifconfig.carp* file, and change nothing.

Each mistake and each warning is one line, FILE:LINE:COLUMN: SEVERITY: MESSAGE, on stdout. The files are looked at each
by itself, together (one vhid twice on an interface), and beside this machine: its interfaces, and what else on it
keeps the virtual hosts from working (pycarp doctor says more).

\b
Examples:
  pycarp check
  pycarp check ./ifconfig.carp0 --offline
  pycarp check --json | jq .message

Exit code: 0 if there are no mistakes (warnings are none), 2 if there are.
"""


@click.command(help=_HELP)
@file_options
@click.option("--offline", is_flag=True, help="Do not look at this machine: the files are another one's.")
@click.option("--json", "as_json", is_flag=True, help="Print each mistake and each warning as one line of JSON.")
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], directory: Path | None, offline: bool, as_json: bool) -> None:
    loaded = load_files(chosen(ctx, files, directory), machine=not offline)
    if not offline and not loaded.errors:
        look_at_host(loaded)
    for diagnostic in loaded.diagnostics:
        click.echo(json.dumps(diagnostic.as_dict()) if as_json else str(diagnostic))
    if not as_json:
        _summary(loaded)
    ctx.exit(2 if loaded.errors else 0)


def _summary(loaded: Loaded) -> None:
    """One line for each file that is right."""
    wrong = {diagnostic.source for diagnostic in loaded.errors}
    for at, parsed in enumerate(loaded.parsed):
        if parsed.host is None or parsed.source in wrong:
            continue
        host = parsed.host
        carpdev = loaded.carpdevs.get(at, host.carpdev)
        on = f" on {carpdev}" if carpdev else ""
        click.echo(f"{parsed.source}: ok: {host.name}, vhid {host.vhid}, {addresses_of(host)}{on}")
