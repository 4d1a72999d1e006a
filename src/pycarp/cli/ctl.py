"""``pycarp ctl``: tell the engines of this machine what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..control.client import ControlError
from ..monitor.text import printable
from ..protocol import SPOKEN
from .control import ask, connect, places_to_ask, socket_option, statuses
from .group import fail
from .output import complain
from .signals import interrupt, on_signals

_HELP = """Tell the pycarp processes of this machine what to do, by their control sockets in /run/pycarp.

NAME is a virtual host's name or vhid; without it, a command is about all of them.

\b
Examples:
  pycarp ctl hand-over
  pycarp ctl maintenance on
  pycarp ctl demote 1 "the disk is slow"
  pycarp ctl events --json

Exit code: 0 if it is done, 1 if something of it is not, 2 if nothing runs or the call is refused.
"""


class _WholeSummaries(click.Group):
    """click cuts a summary at 45 characters where it lists commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(200)) for name, one in self.commands.items()])


@click.group(cls=_WholeSummaries, help=_HELP, invoke_without_command=True)
@socket_option
@click.pass_context
def ctl(ctx: click.Context, path: Path | None) -> None:
    ctx.obj = path
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@ctl.command("hand-over")
@click.argument("name", required=False)
@click.option("--timeout", type=click.FloatRange(0, 600), default=5.0, show_default=True, metavar="S")
@click.pass_context
def hand_over(ctx: click.Context, name: str | None, timeout: float) -> None:
    """Let another host take over where this one is MASTER, and wait until it has."""
    masters, failed = 0, False
    for _path, result in _each(ctx, "hand-over", name, timeout=timeout):
        for one, done in result["handed_over"].items():
            masters += 1
            failed |= not done
            click.echo(f"{one}: another host is MASTER" if done else f"{one}: nobody takes over, this host stays")
    if not masters:
        complain(f"{ctx.command_path}: nothing is MASTER here")
    ctx.exit(1 if failed or not masters else 0)


@ctl.command()
@click.argument("by", type=click.IntRange(1, 1 << 20), metavar="N")
@click.argument("reason")
@click.option("--name", help="Only this virtual host.")
@click.pass_context
def demote(ctx: click.Context, by: int, reason: str, name: str | None) -> None:
    """Make this host less eager to be MASTER; one that is demoted less takes over."""
    _tell_demotion(_each(ctx, "demote", name, by=by, reason=reason))


@ctl.command()
@click.argument("by", type=click.IntRange(1, 1 << 20), metavar="[N]", default=1)
@click.argument("reason", default="")
@click.option("--name", help="Only this virtual host.")
@click.pass_context
def undemote(ctx: click.Context, by: int, reason: str, name: str | None) -> None:
    """Take a demotion back that has this REASON."""
    _tell_demotion(_each(ctx, "undemote", name, by=by, reason=reason))


@ctl.command()
@click.argument("what", type=click.Choice(["on", "off"]))
@click.pass_context
def maintenance(ctx: click.Context, what: str) -> None:
    """Hand over, and stay away from MASTER while another host is heard, also after a restart; or end that."""
    for path, result in _each(ctx, "maintenance", None, on=what == "on"):
        if result.get("warning"):
            complain(f"{ctx.command_path}: {printable(result['warning'])}")
        click.echo(f"{path.stem}: maintenance is {what}")


@ctl.command()
@click.argument("name")
@click.argument("state", type=click.Choice(["MASTER", "BACKUP"], case_sensitive=False))
@click.pass_context
def force(ctx: click.Context, name: str, state: str) -> None:
    """Put a virtual host into a state, without a bow-out."""
    for _ in _each(ctx, "force", name, state=state.upper()):
        pass


@ctl.command()
@click.argument("name", required=False)
@click.pass_context
def announce(ctx: click.Context, name: str | None) -> None:
    """Send gratuitous ARP and neighbour advertisements once more."""
    for _ in _each(ctx, "announce", name):
        pass


@ctl.command()
@click.argument("spoken", type=click.Choice([*SPOKEN, "auto"]))
@click.argument("name", required=False)
@click.pass_context
def speak(ctx: click.Context, spoken: str, name: str | None) -> None:
    """During a change of the secret or the addresses: sign with the old, both or the new, or as the others do."""
    for _path, result in _each(ctx, "speak", name, spoken=spoken):
        for one, now in result["speaks"].items():
            click.echo(f"{one}: speaks {now}")


@ctl.command()
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Read the files again, as SIGHUP does, and say how that went."""
    done = 0
    for path in _places(ctx):
        try:
            ask(path, "reload")
            done += 1
        except ControlError as error:
            if "no files" not in str(error) or len(_places(ctx)) == 1:
                fail(ctx, f"{path.stem}: {error}")
    if not done:
        fail(ctx, "no process here has files to read again: start pycarp run")


@ctl.command()
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
@click.pass_context
def events(ctx: click.Context, as_json: bool) -> None:
    """Print every event from now on, until Ctrl-C."""
    import threading

    turn = threading.Lock()

    def follow(stream: Iterator[dict[str, Any]]) -> None:
        for event in stream:
            with turn:
                click.echo(json.dumps(event) if as_json else _line(event))

    try:
        clients = [connect(path) for path in _places(ctx)]
        threads = [threading.Thread(target=follow, args=(client.events(),), daemon=True) for client in clients]
    except ControlError as error:
        fail(ctx, str(error))
    with on_signals(interrupt, "SIGINT", "SIGTERM"):
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            ctx.exit(0)
    complain(f"{ctx.command_path}: the processes have ended")
    ctx.exit(1)


def _line(event: dict[str, Any]) -> str:
    who = f"{event['name']} " if event.get("name") else ""
    values = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("event", "name", "vhid", "at"))
    return printable(f"{who}{event['event']}: {values}" if values else f"{who}{event['event']}")


def _tell_demotion(results: Iterator[tuple[Path, dict[str, Any]]]) -> None:
    for path, result in results:
        click.echo(f"{path.stem}: demotion {result['demotion']}")


def _places(ctx: click.Context) -> list[Path]:
    try:
        return list(places_to_ask(ctx.obj))
    except ControlError as error:
        fail(ctx, str(error))


def _each(ctx: click.Context, call: str, name: str | None, **arguments: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The call on every socket, or on those that have a virtual host of this name."""
    try:
        paths = _places(ctx) if name is None else [path for path, _ in statuses(ctx.obj, name)]
        which = int(name) if name is not None and name.isdecimal() else name
        for path in paths:
            yield path, ask(path, call, which=which, **arguments)
    except ControlError as error:
        fail(ctx, str(error))
