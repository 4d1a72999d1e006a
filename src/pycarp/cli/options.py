"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..ifconfig import DEFAULT_DIRECTORY, Defaults
from ..ifconfig.statements import STATEMENTS
from ..protocol.options import BY_NAME, Choice

_F = TypeVar("_F", bound=Callable[..., Any])


def host_options(function: _F) -> _F:
    """``--preempt``, ``--dialect``, ``--mac``, as the fields of `Defaults`: what holds where the words say nothing."""
    for name in reversed(Defaults.__dataclass_fields__):
        row = BY_NAME[name]
        choice = row.kind.values if isinstance(row.kind, Choice) else None
        function = click.option(
            f"--{name}",
            is_flag=choice is None,
            type=choice and click.Choice(choice),
            default=row.default,
            show_default=choice is not None,
            help=row.sentence[0].upper() + row.sentence[1:] + ".",
        )(function)
    return function


def statement_options(*names: str) -> Callable[[_F], _F]:
    """Statements as options, ``--hook`` for instance, each with its words as one value; the command gets `stated`."""

    def keep(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
        ctx.params.setdefault("stated", {})[param.opts[0].removeprefix("--")] = values

    def decorate(function: _F) -> _F:
        for name in reversed(names):
            kind = STATEMENTS[name]
            words = kind.usage.removeprefix(name).strip()
            text = f"{kind.sentence[0].upper()}{kind.sentence[1:]}" + (
                ", for each virtual host." if kind.about else "."
            )
            function = click.option(
                f"--{name}", metavar=f'"{words}"', multiple=True, expose_value=False, callback=keep, help=text
            )(function)
        return function

    return decorate


def file_options(function: _F) -> _F:
    """FILEs, or a ``--directory`` of them."""
    where = f"Where to look for ifconfig.carp* files.  [default: {DEFAULT_DIRECTORY}]"
    function = click.option("--directory", type=click.Path(path_type=Path, readable=False), help=where)(function)
    return click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, readable=False))(
        function
    )


def output_options(function: _F) -> _F:
    """``--json``, ``--log`` and ``--quiet``."""
    quiet = "Print no events; warnings and errors go to stderr as ever."
    function = click.option("--quiet", is_flag=True, help=quiet)(function)
    log = (
        "How to log events: as lines, as JSON (as --json), or to systemd's journal with their fields.  [default: text]"
    )
    function = click.option("--log", type=click.Choice(["text", "json", "journal"]), help=log)(function)
    return click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")(function)
