"""``pycarp completion``: what a shell needs to complete commands, options and words; and the words that fit."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, get_completion_class

from ..ifconfig.vocabulary import ARGUMENT, BY_WORD, KNOWN
from ..protocol import State
from ..protocol.options import Choice

SHELLS = ("bash", "zsh", "fish")
_PLACES = {
    "bash": "/etc/bash_completion.d/pycarp",
    "zsh": "/usr/local/share/zsh/site-functions/_pycarp",
    "fish": "/etc/fish/completions/pycarp.fish",
}
_EXAMPLES = "\n".join(f"  pycarp completion {shell} > {_PLACES[shell]}" for shell in SHELLS)
_HELP = f"""Print what SHELL needs to complete the commands, options and words of pycarp.

\b
Examples:
{_EXAMPLES}
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "pycarp", "_PYCARP_COMPLETE").source())


def words_that_fit(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words that may stand next: what the word before takes, or those that were not given yet."""
    given: tuple[str, ...] = ctx.params.get("words") or ()
    before = given[-1] if given else ""
    if before in ("passfile", "nextpassfile"):
        return [CompletionItem(incomplete, type="file")]
    if before in ARGUMENT and not (before in ("inet", "inet6") or given[-2:-1] in (("pass",), ("nextpass",))):
        return [CompletionItem(value) for value in _values(before) if value.startswith(incomplete)]
    left = [word for word in KNOWN if word not in given or word in ("inet", "inet6", "netmask", "prefixlen")]
    about = {word: BY_WORD[word].sentence for word in left if word in BY_WORD}
    return [CompletionItem(word, help=about.get(word)) for word in left if word.startswith(incomplete)]


def _values(word: str) -> list[str]:
    """What a word takes, as far as it can be listed."""
    option = BY_WORD[word]
    if isinstance(option.kind, Choice):
        return list(option.kind.values)
    if word == "state":
        return [state.name for state in State]
    if word == "carpdev":
        try:
            return sorted(name for name in os.listdir("/sys/class/net") if name != "lo")
        except OSError:
            return []
    return []
