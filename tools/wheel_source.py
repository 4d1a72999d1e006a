"""What a wheel holds of a Python source: the code, line by line where it was, without what only its authors read.

Comments go everywhere, docstrings where no `help()` of a public name leads. Line numbers and code stay, so a traceback
says the same as in the source tree; the sdist has all of it. That is a sixth of a wheel.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import PurePosixPath

ROOMS = {
    *("_native", "_pyinstaller", "_python", "cli", "control", "convert", "engine", "health", "hooks", "ifconfig"),
    *("lab", "linux", "metrics", "monitor", "protocol", "testing"),
}
"""Packages in which users look nothing up..."""
PUBLIC = {
    "cli/ctl",  # its help
    "control/client",
    "engine/awaited",
    "engine/engine",
    "engine/owner",
    "engine/snapshot",
    "health/check",
    "health/runner",
    "hooks/hook",
    "lab/simulation",
    "metrics/collector",
    "metrics/port",
    "metrics/telemetry",
    "protocol/__init__",
    "protocol/abc",
    "testing/engine",
    "testing/lan",
    "testing/netns",
}
"""... but for these modules of them, which the reference shows."""
KEPT = ("# type:", "#!")
"""Comments that programs read."""


def in_wheel(source: bytes, path: PurePosixPath) -> bytes:
    """The source of one module; `path` is its place in the package, as ``engine/engine.py``."""
    lines = source.splitlines(keepends=True)
    for first, last, left in sorted(_cuts(source, path), reverse=True):
        _cut(lines, first, last, left)
    return b"".join(lines)


_Place = tuple[int, int]
"""A line, from 1, and a column in bytes."""


def _cut(lines: list[bytes], first: _Place, last: _Place, left: bytes) -> None:
    """Leave `left` of what stands between two places, and as many lines as there were."""
    before, after = lines[first[0] - 1][: first[1]], lines[last[0] - 1][last[1] :]
    lines[first[0] - 1 : last[0]] = [(before + left).rstrip() + after.lstrip(b" "), *[b"\n"] * (last[0] - first[0])]


def _cuts(source: bytes, path: PurePosixPath) -> Iterator[tuple[_Place, _Place, bytes]]:
    """What goes."""
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(KEPT):
            line = token.line.encode()
            column = len(token.line[: token.start[1]].encode())
            yield (token.start[0], column), (token.start[0], len(line.rstrip(b"\r\n"))), b""
    if path.parts[0] not in ROOMS or path.with_suffix("").as_posix() in PUBLIC:
        return
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            yield from _texts(body)


def _texts(body: list[ast.stmt]) -> Iterator[tuple[_Place, _Place, bytes]]:
    """Statements that are nothing but a text, below a definition or below what they describe."""
    texts = [one.value for one in body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
    for one in texts:
        if isinstance(one.value, str):
            assert one.end_lineno is not None and one.end_col_offset is not None
            # Something has to stand in a body.
            left = b"..." if len(texts) == len(body) and one is texts[0] else b""
            yield (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset), left
