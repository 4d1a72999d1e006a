"""The BSDs' own files: hostname.carp*, ifconfig.carp*, and lines of rc.conf(5) and sysctl.conf(5).

``pycarp run`` reads these as they are. A conversion makes a file for each virtual host, with the words of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config import VirtualHost
from ..ifconfig.files import interface_name
from ..ifconfig.lexer import Line, Word, lex
from ..ifconfig.parser import Parsed, Parser
from ..ifconfig.rcconf import about_virtual_host
from ..protocol.options import OPTIONS, REQUIRED, Flag, Hosts
from .model import Conversion, Target

_SYSCTL = re.compile(r"^[ \t]*(?:sysctl[ \t]+(?:-w[ \t]+)?)?net\.inet\.carp\.(\w+)[ \t]*=[ \t]*[\"']?(-?\d+)[\"']?.*$")
_BY_FILE = re.compile(r"(hostname|ifconfig)\.")


def convert(text: str, source: str) -> Conversion:
    """A virtual host for each vhid that the lines describe."""
    conversion = Conversion(source)
    text, preempt = _without_sysctls(text, conversion)
    name = interface_name(Path(source)) if _BY_FILE.match(Path(source).name) else None
    for interface, lines in _split(lex(text)).items():
        parsed = Parser(lines, name or interface[0] or None, source).parse()
        _add(parsed, interface[0], preempt, conversion)
    if not conversion.targets and not conversion.remarks:
        conversion.remark(None, "nothing here describes a virtual host: give the file that has its vhid")
    return conversion


def _without_sysctls(text: str, conversion: Conversion) -> tuple[str, bool]:
    """The text with empty lines where settings of carp(4) stood, and whether preempt is among them."""
    preempt = False
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if setting := _SYSCTL.match(line):
            lines[at] = ""
            preempt = preempt or (setting[1] == "preempt" and setting[2] != "0")
            if setting[1] not in ("preempt", "allow", "log") or (setting[1] == "allow" and setting[2] == "0"):
                conversion.remark(at + 1, f"net.inet.carp.{setting[1]} has no counterpart and was left out")
    return "\n".join(lines), preempt


def _split(lines: Iterable[Line]) -> dict[tuple[str, str], list[Line]]:
    """Lines by interface and vhid, for those of rc.conf(5); the others are about one virtual host."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.variable is None:
            found.setdefault(("", ""), []).append(line)
            continue
        interface, words = about_virtual_host(line)
        for vhid, call in _by_vhid(words):
            known = vhid if re.fullmatch(r"carp\d+", interface) is None else ""
            piece = Line(line.number, list(call), None, line.shell_at, line.comment_at, line.open_quote)
            found.setdefault((interface, known), []).append(piece)
    return found


def _by_vhid(words: Sequence[Word]) -> list[tuple[str, Sequence[Word]]]:
    """The words of one call after another: a call that has another vhid begins with its family, or with that word."""
    places = [at for at, word in enumerate(words) if word.text == "vhid"]
    starts = [0]
    for place in places[1:]:
        back = next((at for at in range(place, starts[-1], -1) if words[at].text in ("inet", "inet6")), place)
        starts.append(back)
    pieces = [words[start:end] for start, end in zip(starts, [*starts[1:], len(words)], strict=True)]
    return [(_after(piece, "vhid"), piece) for piece in pieces if piece]


def _after(words: Sequence[Word], wanted: str) -> str:
    texts = [word.text for word in words]
    return texts[texts.index(wanted) + 1] if wanted in texts[:-1] else ""


def _add(parsed: Parsed, interface: str, preempt: bool, conversion: Conversion) -> None:
    for diagnostic in parsed.diagnostics:
        conversion.remark(diagnostic.line, diagnostic.message)
    if parsed.host is None:
        return
    host = parsed.host
    target = to_target(host, f"the words of {host.name} ({conversion.source})")
    if preempt:
        target.words["preempt"] = ""
    physical = host.carpdev or ("" if re.fullmatch(r"carp\d+", interface) else interface)
    if physical:
        target.words.pop("carpdev", None)
        line = parsed.places.get("carpdev", parsed.places.get("vhid", (None, None, None)))[0]
        conversion.remark(
            line,
            "the name of the BSD's interface was left out: the interface whose subnet has the address is taken, or "
            "write 'carpdev' with its name on Linux",
        )
    conversion.targets.append(target)


def to_target(host: VirtualHost, origin: str) -> Target:
    """A virtual host as words: whatever is not the default."""
    target = Target(origin, secret=host.passphrase, addresses=list(host.address_texts))
    target.name = host.name if re.fullmatch(r"carp\d+", host.name) else ""
    for option in OPTIONS:
        value = getattr(host, option.name)
        if option.name in ("passphrase", "addresses") or value == option.default:
            continue
        if isinstance(option.kind, Hosts):
            word = next(iter(option.words))
            target.words[word] = (" " if word == "peer" else f" {word} ").join(map(str, value))
        elif isinstance(option.kind, Flag):
            target.words[option.name if value else option.opposite] = ""
        elif option.default is REQUIRED or value is not None:
            target.words[option.name] = getattr(value, "name", None) or str(value)
    return target
