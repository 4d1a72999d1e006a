"""``pycarp up``: one virtual host in the foreground, in ifconfig's words."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from ..ifconfig import Defaults, parse_words
from ..ifconfig.values import looks_like_address
from ..ifconfig.vocabulary import KNOWN
from ..protocol.options import OPTIONS
from .completion import words_that_fit
from .control import control_option
from .group import fail
from .load import Stated, look
from .options import host_options, output_options, statement_options
from .output import Printer, addresses_of
from .restart import inherit_option
from .serve import Beside, serve
from .signals import HELP
from .words import WordsCommand

_HELP = """Run one virtual host in the foreground, until Ctrl-C or SIGTERM.

NAME is the interface that will carry the addresses (it is made, and removed at the end); WORDS are those that
ifconfig(8) takes for carp(4) on NetBSD. Options may stand anywhere.

\b
Examples, the first on two or more hosts of 10.13.37.0/24:
  pycarp up carp0 vhid 101 passfile /etc/carp.pass 10.13.37.42 netmask 255.255.255.0
  pycarp up carp0 vhid 101 passfile /etc/carp.pass advskew 100 10.13.37.42/24
  pycarp up carp0 vhid 7 passfile /etc/carp.pass carpdev eth1 inet6 2001:db8::42/64 --preempt

\b
Words:
{words}

{signals}
Exit code: 0 after an orderly stop, by Ctrl-C too; 2 if the words, the machine or the permissions do not allow it, and
then nothing has been changed.
"""


def _lines(usage: str, sentence: str, default: str = "") -> str:
    """One word and what it does, as an entry of the help."""
    text = sentence + (f" ({default})" if default else "")
    return textwrap.fill(text, 118, initial_indent=f"  {usage:30} ", subsequent_indent=" " * 33, break_on_hyphens=False)


_WORDS = [_lines(option.usage, option.sentence, option.default_word) for option in OPTIONS]
_WORDS.append(_lines("create, alias", "accepted, and do nothing"))


@click.command(cls=WordsCommand, help=_HELP.replace("{words}", "\n".join(_WORDS)).replace("{signals}", HELP))
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, shell_complete=words_that_fit)
@host_options
@statement_options("check", "hook", "sync", "metrics")
@control_option
@inherit_option
@output_options
@click.pass_context
def up(
    ctx: click.Context,
    /,
    name: str,
    words: tuple[str, ...],
    stated: Stated,
    control: str,
    take_over: bool,
    as_json: bool,
    log: str | None,
    quiet: bool,
    **defaults: Any,
) -> None:
    if name in KNOWN or looks_like_address(name):
        fail(ctx, f"the name of the interface comes first: write '{ctx.command_path} carp0' before the words")
    loaded = look([parse_words(words, name=name, defaults=Defaults(**defaults))], stated)
    hosts = loaded.hosts()
    if hosts is None:
        ctx.exit(2)
    printer = Printer(as_json=as_json, log=log, quiet=quiet)
    printer.remark(f"{name}: vhid {hosts[0].vhid}, {addresses_of(hosts[0])}. Ctrl-C ends it.")
    beside = Beside(control, name, loaded.services.get("metrics"), take_over)
    ctx.exit(serve(hosts, printer, command=ctx.command_path, beside=beside))
