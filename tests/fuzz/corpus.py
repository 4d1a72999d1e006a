"""Where scenarios come from: those that were kept, and the recorded frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEPT = HERE / "corpus.txt"
"""A scenario a line, in hexadecimal. What follows a # says what it once broke."""
_HEAD = bytes(9)
"""Two virtual hosts as the blog's, the first of which is the vectors'."""
_HEAR, _TIMEOUT, _RAW = 0, 11, 0


def kept() -> list[bytes]:
    lines = (line.partition("#")[0].strip() for line in KEPT.read_text().splitlines())
    return [bytes.fromhex(line) for line in lines if line]


def keep(scenarios: Iterable[bytes]) -> None:
    """Replace all but those that once broke something."""
    breakers = [line for line in KEPT.read_text().splitlines() if "#" in line]
    lines = sorted((one.hex() for one in scenarios), key=lambda line: (len(line), line))
    KEPT.write_text("\n".join([*breakers, *lines]) + "\n")


def recorded() -> list[bytes]:
    """Each frame of the vectors, heard by a backup and by a master."""
    vectors = HERE.parent / "vectors"
    frames = [frame["hex"] for record in _load(vectors / "netbsd-frames.json") for frame in record["frames"]]
    frames += [record["hex"] for record in _load(vectors / "scapy.json")]
    become_master = bytes((_TIMEOUT, 0))
    return [_HEAD + before + _heard(bytes.fromhex(frame)) for frame in frames for before in (b"", become_master)]


def _heard(frame: bytes) -> bytes:
    return bytes((_HEAR, 255, _RAW, min(len(frame), 255))) + frame


def _load(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def scenarios() -> list[bytes]:
    return [*kept(), *recorded()]
