"""Writes packaging/man/: a page for each command from its help, and one for the words from their table. Needs Sphinx.

python tools/man_pages.py           write them
python tools/man_pages.py --check   fail if they are not what this writes
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

import pycarp
from pycarp.cli.group import COMMANDS
from pycarp.cli.group import pycarp as command_line
from pycarp.ifconfig.statements import STATEMENTS
from pycarp.protocol.options import OPTIONS

TARGET = Path(__file__).resolve().parents[1] / "packaging" / "man"
WORDS = "pycarp-words"
_SEE_ALSO = ("pycarp(8)", f"{WORDS}(5)")
_MARKS = re.compile(r"([\\*`|_])")


def main(arguments: list[str]) -> int:
    """Write or compare; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        made = _made(dict(pages()), Path(folder))
    if arguments == ["--check"]:
        there = {path.name: path.read_text() for path in TARGET.iterdir()} if TARGET.exists() else {}
        wrong = sorted(name for name in {*made, *there} if _plain(made.get(name, "")) != _plain(there.get(name, "")))
        for name in wrong:
            print(f"packaging/man/{name} is not what the help says: python tools/man_pages.py", file=sys.stderr)
        return 1 if wrong else 0
    TARGET.mkdir(exist_ok=True)
    for path in TARGET.iterdir():
        path.unlink()
    for name, text in made.items():
        (TARGET / name).write_text(text)
    return 0


def pages() -> Iterator[tuple[tuple[str, int, str], str]]:
    """Name, section and summary of each page, and its text as reStructuredText."""
    yield ("pycarp", 8, "a floating IP address for a group of hosts"), _main_page()
    context = click.Context(command_line, info_name="pycarp")
    for name, summary in COMMANDS.items():
        command = command_line.get_command(context, name)
        assert command is not None
        text = _page(command, click.Context(command, info_name=name, parent=context))
        yield (f"pycarp-{name}", 8, summary[0].lower() + summary[1:].rstrip(".")), text
    yield (WORDS, 5, "the words that describe a virtual host"), _words_page()


def title(name: str, section: int) -> str:
    """The heading of a page."""
    return f"{name}({section})"


def _main_page() -> str:
    commands = "".join(f"**pycarp-{name}**\\ (8)\n    {_escaped(about)}\n\n" for name, about in COMMANDS.items())
    text = _section("Synopsis", "**pycarp** *COMMAND* ...") + _section("Description", _help(command_line))
    files = (
        "/etc/ifconfig.carp*\n    A virtual host each; the words are those of **pycarp-words**\\ (5).\n\n"
        "/etc/pycarp/secrets\n    Passfiles that only root reads; the service gets them as credentials.\n\n"
        "/run/pycarp\n    Locks, and sockets for **pycarp-ctl**\\ (8) and **pycarp-status**\\ (8).\n"
    )
    return text + _section("Commands", commands) + _section("Files", files) + _section("See also", ", ".join(_SEE_ALSO))


def _page(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    text = _section("Synopsis", f"**{_escaped(context.command_path)}** {_escaped(usage)}")
    text += _section("Description", _help(command))
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = [record for one in options if (record := one.get_help_record(context)) is not None]
    listed = "".join(f"{_escaped(name)}\n    {_escaped(about)}\n\n" for name, about in records)
    return text + _section("Options", listed) + _section("See also", ", ".join(_SEE_ALSO))


def _words_page() -> str:
    words = "".join(
        f"**{_escaped(option.usage)}**\n    {_escaped(option.sentence)}"
        + (f" ({_escaped(option.default_word)})" if option.default_word else "")
        + "\n\n"
        for option in OPTIONS
    )
    statements = "".join(f"**{_escaped(one.usage)}**\n    {_escaped(one.sentence)}\n\n" for one in STATEMENTS.values())
    about = (
        "A file ``/etc/ifconfig.carp0`` describes the virtual host carp0 in words of NetBSD's ifconfig(8), on one line "
        "or on several. ``#`` begins a comment, and a word with blanks stands in quotes. Lines of OpenBSD's "
        "hostname.if(5) and of FreeBSD's rc.conf(5) are understood.\n"
    )
    example = "::\n\n    # the web servers' address\n    vhid 101 passfile carp.pass advskew 100\n    10.13.37.42/24\n"
    return (
        _section("Description", about)
        + _section("Words", words)
        + _section("Lines", "A line that begins with one of these words belongs to it to its end.\n\n" + statements)
        + _section("Example", example)
        + _section("See also", "pycarp-run(8), pycarp-check(8)")
    )


def _section(title: str, text: str) -> str:
    return f"{title}\n{'=' * len(title)}\n\n{text.strip()}\n\n" if text.strip() else ""


def _help(command: click.Command) -> str:
    """The help of a command: what click keeps as it stands becomes a literal block."""
    paragraphs = re.split(r"\n[ \t]*\n", inspect.cleandoc(command.help or ""))
    return "\n\n".join(map(_paragraph, paragraphs))


def _paragraph(text: str) -> str:
    if not text.startswith("\b"):
        return _escaped(text)
    first, _, rest = text.removeprefix("\b\n").partition("\n")
    lines = textwrap.indent(textwrap.dedent(rest), "    ")
    return f"{_escaped(first)}\n\n::\n\n{lines}" if rest else f"::\n\n    {first}"


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)


def _made(texts: dict[tuple[str, int, str], str], folder: Path) -> dict[str, str]:
    """The pages as Sphinx makes them; its warnings are errors."""
    source = folder / "source"
    source.mkdir()
    listed = []
    for (name, section, summary), text in texts.items():
        heading = title(name, section)
        (source / f"{name}.rst").write_text(f":orphan:\n\n{heading}\n{'#' * len(heading)}\n\n{text}")
        listed.append((name, name, summary, "", section))
    (source / "conf.py").write_text(
        f"project = 'pycarp'\nversion = release = {pycarp.__version__!r}\nroot_doc = 'pycarp'\n"
        f"man_pages = {listed!r}\ntoday = ' '\ncopyright = ''\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", str(source), str(folder / "man")]
    subprocess.run(command, check=True)
    return {path.name: _without_maker(path.read_text()) for path in sorted((folder / "man").glob("*.[58]"))}


def _without_maker(text: str) -> str:
    """Without the comments that name the versions of what made it, and the copyright line of a template."""
    kept = [line for line in text.splitlines() if not line.startswith(('.\\" Generated', "'\\\" t", '.\\" Man page'))]
    return "\n".join(kept).rstrip() + "\n"


def _plain(text: str) -> list[str]:
    """The words of a page: versions of Sphinx differ in its marks."""
    return re.sub(r"\\f.|\\|\.[A-Z]+\b|^\.[a-z]+.*$", " ", text, flags=re.MULTILINE).split()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
