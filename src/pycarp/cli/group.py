"""The group of commands. A command's module is imported when the command runs or prints its help."""

from __future__ import annotations

import importlib
import re
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from ..errors import CarpError
from . import OPTIONAL, missing
from .output import complain
from .streams import OutputLost, watched

COMMANDS = {
    "up": "Run one virtual host, in ifconfig's words.",
    "run": "Run every /etc/ifconfig.carp* file, as a service.",
    "status": "Say what the virtual hosts of this machine are now.",
    "ctl": "Hand over, demote, maintain, reload: tell them what to do.",
    "check": "Say what is wrong with files, by line and column.",
    "convert": "Make files of our words from other programs' files.",
    "doctor": "Say what of this host keeps virtual hosts from working.",
    "monitor": "Show who speaks CARP on an interface or in a capture.",
    "observe": "Measure how punctual they are, and how long takeovers take.",
    "demo": "Watch an address fail over, in a lab of its own.",
    "install-service": "Install it as a systemd service: units, a user, folders.",
    "completion": "Print what bash, zsh or fish needs to complete all this.",
}
"""Each is the command of the same name in the module of the same name, with ``_`` for ``-``."""

_HELP = """A floating IP address for a group of hosts, as NetBSD's carp(4).

One host of the group, the master, holds the address; when it dies, another one takes it over. Every host of the group
runs the same command, with its own advskew: the lowest becomes master.

\b
Examples:
  pycarp demo
  pycarp up carp0 vhid 101 passfile /etc/carp.pass 10.13.37.42 netmask 255.255.255.0
  pycarp check /etc/ifconfig.carp0
  pycarp run
"""


class LazyGroup(click.Group):
    """A group that knows its commands by name and summary before it imports them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f".{name}", __package__), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = get_close_matches(name, COMMANDS, n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"give one of {', '.join(COMMANDS)}"
            ctx.fail(f"the command is unknown: {remedy}")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    import platform

    import pycarp

    python = f"{platform.python_implementation()} {platform.python_version()}"
    click.echo(f"pycarp {pycarp.__version__} ({pycarp.__impl__}, {python}, {platform.system()})")
    ctx.exit()


_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_VERSION = "Show version and implementation."


@click.group(cls=LazyGroup, help=_HELP, invoke_without_command=True, context_settings=_HELP_OPTIONS)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help=_VERSION)
@click.pass_context
def pycarp(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code; every mistake is one line on stderr."""
    try:
        with watched():
            return _run(arguments)
    except OutputLost as error:
        if not error.reader_gone:
            complain(f"pycarp: {error}")
        return 1


def _run(arguments: list[str]) -> int:
    try:
        result: Any = pycarp.main(arguments, prog_name="pycarp", standalone_mode=False)
    except click.UsageError as error:
        from .words import without_secrets

        command = error.ctx.command_path if error.ctx is not None else "pycarp"
        message = " ".join(error.format_message().split())
        message = without_secrets(message.rstrip("."), arguments, error.ctx)
        # A word that is not shown needs no mention.
        message = re.sub(r"^No such (option|command):? \(not shown\)", r"the \1 is unknown", message)
        message = re.sub(r"^Got unexpected extra arguments? \(.*\)$", "there is a word too many", message)
        complain(f"{command}: {message} (see '{command} --help')")
        return 2
    except (click.ClickException, CarpError) as error:
        complain(f"pycarp: {error}")
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in OPTIONAL:
            raise
        return missing(package)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0


def fail(ctx: click.Context, message: str) -> NoReturn:
    """End the command with one line on stderr and exit code 2."""
    complain(f"{ctx.command_path}: {message}")
    ctx.exit(2)
