"""``pycarp doctor``: what of this host keeps virtual hosts from working, and what to do about it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import CarpError
from ..ifconfig import DEFAULT_DIRECTORY, find_files
from ..protocol.checks import vrrp_advice
from .group import fail
from .load import load_files
from .options import file_options
from .output import complain
from .run import chosen

if TYPE_CHECKING:
    from ..config import VirtualHost
    from ..linux.host_findings import Finding
    from ..monitor.listener import Listener
    from ..monitor.observer import Change

_HELP = """Say what of this host keeps virtual hosts from working, or will, and what to do about it.

It looks at settings, rules, firewall, interfaces and other programs, for the virtual hosts of FILEs or of
/etc/ifconfig.carp*; without any it looks at the interfaces that one may be put on. It changes nothing. As an ordinary
user it sees less, and says what. docs/findings.md lists all that it knows.

\b
Examples:
  pycarp doctor
  pycarp doctor ./ifconfig.carp0 --listen 3
  pycarp doctor --json | jq .remedy

Exit code: 0 if nothing is wrong (notes do not count), 1 if there is a warning or an alarm, 2 if it cannot look.
"""
_TURN = 0.02
"""Seconds for which each of several interfaces is listened to before the next one's turn."""


@click.command(help=_HELP)
@file_options
@click.option(
    "--listen",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Also listen S seconds for others that speak CARP or VRRP.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each finding as one line of JSON.")
@click.pass_context
def doctor(
    ctx: click.Context, files: tuple[Path, ...], directory: Path | None, listen: float | None, as_json: bool
) -> None:
    if sys.platform != "linux":
        fail(ctx, "virtual hosts need Linux: run it on the host that shall have them")
    from ..linux.host_findings import look

    hosts = _hosts(ctx, files, directory)
    try:
        found = look(hosts)
        if listen is not None:
            found += _heard(ctx, hosts, listen)
    except OSError as error:
        fail(ctx, f"this host cannot be looked at: {error.strerror or error}")
    for one in found:
        click.echo(json.dumps(one.as_dict()) if as_json else _line(one))
    wrong = [one for one in found if one.severity != "note"]
    if not wrong and not as_json:
        click.echo("nothing is wrong here" + (f" with {', '.join(host.name for host in hosts)}" if hosts else ""))
    ctx.exit(1 if wrong else 0)


def _line(one: Finding) -> str:
    where = f"{one.where}: " if one.where else ""
    return f"{where}{one.severity}: {one.text} [{one.kind}]"


def _hosts(ctx: click.Context, files: Sequence[Path], directory: Path | None) -> tuple[VirtualHost, ...]:
    """Those of the files; none where nothing was named and there is no file in the usual place."""
    if not files and directory is None:
        try:
            if not find_files(DEFAULT_DIRECTORY)[0]:
                return ()
        except OSError:
            return ()
    # `look` compares them with this machine.
    loaded = load_files(chosen(ctx, files, directory), machine=False)
    for diagnostic in loaded.errors:
        complain(str(diagnostic))
    if loaded.errors:
        ctx.exit(2)
    return tuple(parsed.require() for parsed in loaded.parsed)


def _heard(ctx: click.Context, hosts: Sequence[VirtualHost], seconds: float) -> list[Finding]:
    """What the adverts on the carpdevs say, as `pycarp monitor` would."""
    from ..linux.host_findings import carpdevs
    from ..monitor.listener import Listener
    from ..monitor.observer import Observer

    found: list[Finding] = []
    with contextlib.ExitStack() as stack:
        listening = []
        for carpdev, host in carpdevs(hosts):
            observer = Observer() if host is None else Observer(host.passphrase, host.addresses, vhid=host.vhid)
            try:
                listening.append((stack.enter_context(Listener(carpdev)), observer, host))
            except (CarpError, OSError) as error:
                fail(
                    ctx, str(error) if isinstance(error, CarpError) else f"cannot listen on {carpdev}: {error.strerror}"
                )
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for listener, observer, host in listening:
                heard = listener.read(min(left, _TURN))
                changes = observer.tick(time.time_ns()) if heard is None else observer.frame(heard[1], heard[0])
                vrrp = [one.text for one in changes if one.kind == "vrrp" and _concerns(one, host)]
                found += [_told(text, listener, host) for text in vrrp]
        for listener, observer, host in listening:
            found += [_told(text, listener, host) for text in observer.findings()]
    return list(dict.fromkeys(found))


def _concerns(change: Change, host: VirtualHost | None) -> bool:
    """Whether a VRRP router that was heard has the number of the virtual host."""
    return host is None or change.text == vrrp_advice(host.vhid, change.source or "")


def _told(text: str, listener: Listener, host: VirtualHost | None) -> Finding:
    from ..linux.host_findings import finding

    where = listener.interface if host is None else host.name
    return finding("heard", where, what=text, carpdev=listener.interface)
