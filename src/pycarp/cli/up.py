"""``pycarp up``: one virtual host in the foreground, in ifconfig's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import click

from ..ifconfig import Defaults, parse_words
from ..ifconfig.values import looks_like_address
from ..ifconfig.vocabulary import KNOWN
from .group import fail
from .load import look
from .options import host_options, output_options
from .output import Printer, addresses_of, complain
from .serve import serve
from .words import WordsCommand

if TYPE_CHECKING:
    from ..config import Dialect

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
  vhid N                     number of the group, 1-255
  passfile FILE, pass TEXT   its secret; FILE keeps it out of the process list
  [inet|inet6] ADDRESS       with /24, netmask 255.255.255.0, prefixlen 24, or as the subnet has it
  advskew N                  0-254, the lower the more eager to be master (0)
  advbase N                  0-254 seconds between adverts (1)
  carpdev NAME               the interface to speak on (the one whose subnet has the address)
  state INIT|BACKUP|MASTER   force a state at start
  preempt, dialect, mac      as the options
  siblings arbitrate|warn    hosts with the same addresses under another vhid: the higher one holds them, or both do
  announcements N            1-10, how often the addresses are announced after a takeover (3)
  conflict warn|refuse      somebody else answers for the addresses: take them all the same, or do not
  replay guard|off           drop our own adverts that come back, and those that were altered, or obey them
  create, up, down, alias    as in ifconfig

Exit code: 0 after an orderly stop, by Ctrl-C too; 2 if the words, the machine or the permissions do not allow it, and
then nothing has been changed.
"""


@click.command(cls=WordsCommand, help=_HELP)
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@host_options
@output_options
@click.pass_context
def up(
    ctx: click.Context,
    name: str,
    words: tuple[str, ...],
    preempt: bool,
    dialect: str,
    mac: str,
    as_json: bool,
    quiet: bool,
) -> None:
    if name in KNOWN or looks_like_address(name):
        fail(ctx, f"the name of the interface comes first: write '{ctx.command_path} carp0 {name} ...'")
    defaults = Defaults(
        preempt=preempt, dialect=cast("Dialect", dialect), mac=cast('Literal["virtual", "interface"]', mac)
    )
    loaded = look([parse_words(words, name=name, defaults=defaults)])
    for diagnostic in loaded.diagnostics:
        complain(str(diagnostic))
    if loaded.errors:
        ctx.exit(2)
    printer = Printer(as_json=as_json, quiet=quiet)
    host = loaded.hosts[0]
    printer.remark(f"{host.name}: vhid {host.vhid}, {addresses_of(host)}. Ctrl-C ends it.")
    ctx.exit(serve(loaded.hosts, printer, command=ctx.command_path))
