"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..ifconfig import DEFAULT_DIRECTORY, Defaults
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


def file_options(function: _F) -> _F:
    """FILEs, or a ``--directory`` of them."""
    where = f"Where to look for ifconfig.carp* files.  [default: {DEFAULT_DIRECTORY}]"
    function = click.option("--directory", type=click.Path(path_type=Path, readable=False), help=where)(function)
    return click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, readable=False))(
        function
    )


def output_options(function: _F) -> _F:
    """``--json`` and ``--quiet``."""
    quiet = "Print no events; warnings and errors go to stderr as ever."
    function = click.option("--quiet", is_flag=True, help=quiet)(function)
    return click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")(function)
