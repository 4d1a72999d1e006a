"""A command whose arguments are ifconfig's words: options may stand anywhere, and no word is mistaken for one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

import click

from ..ifconfig.values import harmless
from ..ifconfig.vocabulary import KNOWN, PUBLIC, SECRET_WORDS, nearest


class WordsCommand(click.Command):
    """Cuts options from words itself: click would take ``-carpdev`` for a row of short options.

    Every option has a long name, after two dashes. What follows `pass` is an option only if it is a long name; ``-h``
    is one anywhere else.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name: not param.is_flag
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in (*param.opts, *param.secondary_opts)
        }
        options: list[str] = []
        words: list[str] = []
        rest = list(args)
        while rest:
            argument = rest.pop(0)
            name, equals, _ = argument.partition("=")
            if argument == "--":
                words += rest
                break
            secret = words[-1:] in ([word] for word in SECRET_WORDS)
            if name in takes_value and (name.startswith("--") or not secret):
                options.append(argument)
                if takes_value[name] and not equals and rest:
                    options.append(rest.pop(0))
            elif argument.startswith("--") and not secret:
                ctx.fail(_unknown(name, list(takes_value)))
            else:
                words.append(argument)
        return super().parse_args(ctx, [*options, "--", *words])


def _unknown(name: str, options: list[str]) -> str:
    # The option is not repeated, unless a word of ours is its name: the passphrase may be in it.
    word = nearest(name)
    if name[2:] in KNOWN and word is not None:
        return f"'--{word}' is no option: ifconfig's words have no dashes, write '{word}'"
    if name.startswith("--pass"):
        return "an option that begins with '--pass' is unknown: write 'passfile FILE' among the words"
    close = get_close_matches(name, options, n=1)
    return "an option is unknown: " + (f"did you mean '{close[0]}'?" if close else f"give one of {', '.join(options)}")


def without_secrets(message: str, arguments: Iterable[str], ctx: click.Context | None) -> str:
    """A message of click's without those arguments that may be a passphrase or have one in them."""
    options = {name for one in (ctx.command.params if ctx is not None else ()) for name in one.opts}
    pieces = {piece for argument in arguments for piece in (argument, *argument.partition("=")[::2])}
    secrets = {piece for piece in pieces if piece not in options | PUBLIC and not harmless(piece)}
    written = {form for piece in secrets for form in (repr(piece), f"'{piece}'")}
    # Without quotes around it, a short one may also be a part of click's own words.
    written |= {form for piece in secrets if len(piece) > 3 for form in (piece, repr(piece)[1:-1])}
    pattern = "|".join(map(re.escape, sorted(written, key=len, reverse=True)))
    return re.sub(pattern, "(not shown)", message) if pattern else message
