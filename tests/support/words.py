"""Short ways to parse ifconfig's words and to look at what is said about them."""

from __future__ import annotations

from pathlib import Path

from pycarp.ifconfig import Diagnostic, Parsed, parse_text, parse_words

SECRET = "motdepassehalakon"
GOOD = f"vhid 101 pass {SECRET} 10.13.37.42/24"


def words(line: str, **options: object) -> Parsed:
    """Words from somewhere that is no command line, so that `pass` draws no warning."""
    return parse_words(line.split(), name="carp0", source="test", **options)  # type: ignore[arg-type]


def text(lines: str) -> Parsed:
    return parse_text(lines, name="carp0", source="/etc/ifconfig.carp0")


def only(parsed: Parsed, severity: str = "error") -> Diagnostic:
    found = [d for d in parsed.diagnostics if d.severity == severity]
    assert len(found) == 1, [str(d) for d in parsed.diagnostics]
    return found[0]


def messages(parsed: Parsed) -> str:
    return "\n".join(map(str, parsed.diagnostics))


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path
