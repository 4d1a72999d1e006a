"""``pycarp status``: what the virtual hosts of this machine are now."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from ..errors import CarpError
from .control import socket_option, statuses
from .group import fail
from .output import complain
from .signals import interrupt, on_signals

_HELP = """Say what the virtual hosts of this machine are now: state, master, peers, demotion, what is wrong.

It asks every pycarp that runs here, by its control socket in /run/pycarp. NAME is a virtual host's name or vhid. On a
terminal --watch shows a table that lives.

\b
Examples:
  pycarp status
  pycarp status carp0 --json | jq .instances[].master.source
  pycarp status --watch

Exit code: 0 if all is well, 1 if something waits, is demoted or faulty, 2 if nothing runs or the call is refused.
"""
_EVERY = 0.5
"""Seconds between two pictures of --watch."""


@click.command(help=_HELP)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each process.")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@socket_option
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool, watch: bool, path: Path | None) -> None:
    if watch:
        with on_signals(interrupt, "SIGINT", "SIGTERM"):
            ctx.exit(_watch(name, as_json, path))
    try:
        found = statuses(path, name)
    except CarpError as error:
        fail(ctx, str(error))
    _show(found, as_json)
    ctx.exit(_code(found))


def _code(found: list[tuple[Path, dict[str, Any]]]) -> int:
    return 0 if all(status["well"] for _, status in found) else 1


def _show(found: list[tuple[Path, dict[str, Any]]], as_json: bool) -> None:
    from .status_view import lines, table

    if as_json:
        for path, status in found:
            click.echo(json.dumps({"socket": str(path), **status}))
    elif sys.stdout.isatty() and (picture := table(found, shutil.get_terminal_size().columns)) is not None:
        from rich.console import Console

        Console(highlight=False, emoji=False).print(picture)
    else:
        for line in lines(found):
            click.echo(line)


def _watch(name: str | None, as_json: bool, path: Path | None) -> int:
    """Until Ctrl-C. A process that ends or starts meanwhile is no reason to end; returns the last exit code."""
    from .status_view import living

    code, told = 2, ""
    live = living() if sys.stdout.isatty() and not as_json else None
    try:
        while True:
            try:
                found = statuses(path, name)
                code, wrong = _code(found), ""
            except CarpError as error:
                found, code, wrong = [], 2, str(error)
            if live is not None:
                live.show(found, wrong)
            elif found:
                _show(found, as_json)
            elif wrong != told:
                complain(f"pycarp status: {wrong}")
            told = wrong
            time.sleep(_EVERY)
    except KeyboardInterrupt:
        return code
    finally:
        if live is not None:
            live.close()
