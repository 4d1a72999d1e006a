"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def host_options(function: _F) -> _F:
    """``--preempt``, ``--dialect``, ``--mac``: what holds where the words say nothing."""
    for option in (
        click.option(
            "--mac",
            type=click.Choice(["virtual", "interface"]),
            default="virtual",
            show_default=True,
            help="Whose MAC the addresses have: that of the group, or the interface's own.",
        ),
        click.option(
            "--dialect",
            type=click.Choice(["auto", "bsd", "netbsd"]),
            default="auto",
            show_default=True,
            help="How the passphrase becomes a key: as the peers do, or as one kind of BSD does.",
        ),
        click.option("--preempt", is_flag=True, help="Become master as soon as a slower master is heard."),
    ):
        function = option(function)
    return function


def output_options(function: _F) -> _F:
    """``--json`` and ``--quiet``."""
    function = click.option("--quiet", is_flag=True, help="Print no events; warnings and errors go to stderr as ever.")(
        function
    )
    return click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")(function)
