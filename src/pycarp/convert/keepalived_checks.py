"""keepalived's trackers as checks: scripts, interfaces, files and processes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from .keepalived_blocks import Block
from .model import Conversion

_SECONDS = re.compile(r"\d{1,5}(\.\d{1,6})?")
_NAME = re.compile(r"[^A-Za-z0-9_.-]")


class Tracked:
    """The blocks that trackers name: scripts, files and processes, by their kind and name."""

    def __init__(self, blocks: Iterable[Block], conversion: Conversion) -> None:
        self._blocks: dict[tuple[str, str], Block] = {}
        kinds = {"vrrp_script": "script", "vrrp_track_process": "process", "track_process": "process"}
        kinds |= {"track_file": "file", "vrrp_track_file": "file"}
        for block in blocks:
            if block.words[0] in kinds and len(block.words) > 1:
                self._blocks[kinds[block.words[0]], block.words[1]] = block
        for (kind, _), block in self._blocks.items():
            for line in block.children:
                if line.words[0] not in _KNOWN[kind]:
                    conversion.remark(line.line, f"a line of this {kind}'s block was left out")

    def find(self, kind: str, name: str) -> Block | None:
        return self._blocks.get((kind, name))


_KNOWN = {
    "script": ("script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"),
    "process": ("process", "weight"),
    "file": ("file", "weight"),
}


def statements(block: Block, tracked: Tracked, conversion: Conversion) -> Iterator[str]:
    """A line ``check ...`` for each tracker of an instance, or of a sync group."""
    for line in block.inside("track_interface"):
        weight = _weight(line, None, conversion)
        yield f"check {_name(line.words[0])} interface {shlex.quote(line.words[0])} {weight}"
    for kind in ("script", "process", "file"):
        for line in block.inside(f"track_{kind}"):
            found = tracked.find(kind, line.words[0])
            if found is None:
                conversion.remark(line.line, f"the {kind} that is tracked here has no block of its own in this file")
                continue
            yield from _check(kind, line, found, conversion)


def _check(kind: str, line: Block, found: Block, conversion: Conversion) -> Iterator[str]:
    what = next(iter(found.named(kind)), None)
    if what is None or len(what.words) < 2:
        conversion.remark(found.line, f"this {kind}'s block does not say which {kind}: it was left out")
        return
    weight = _weight(line, next(iter(found.named("weight")), None), conversion)
    name = _name(line.words[0])
    if kind == "script":
        yield f"check {name} exec {_command(what)}{_times(found, conversion)} {weight}"
    elif kind == "process":
        if len(what.words) > 2:
            conversion.remark(what.line, "the parameters of the process were left out: its name alone is looked for")
        yield f"check {name} process {shlex.quote(what.value)} {weight}"
    else:
        conversion.remark(
            what.line, "keepalived adds the number in the file to the priority: here a check of the file demotes by it"
        )
        yield f"check {name} file {shlex.quote(what.value)} {weight}"


def _command(what: Block) -> str:
    try:
        words = shlex.split(what.value) if len(what.words) == 2 else what.words[1:]
    except ValueError:
        words = []
    if not words or re.search(r"[|&;<>$`]", what.value):
        words = ["/bin/sh", "-c", what.value]
    return shlex.join(words)


def _times(block: Block, conversion: Conversion) -> str:
    text = ""
    for word, default in (("interval", "1"), ("timeout", ""), ("rise", ""), ("fall", "")):
        line = next(iter(block.named(word)), None)
        value = line.value if line is not None else default
        if value and not _SECONDS.fullmatch(value):
            conversion.remark(line.line if line else None, f"a value of {word} that is no number was left out")
        elif value:
            text += f" {word} {value}"
    for line in block.named("user"):
        conversion.remark(line.line, "the user of this script was left out: checks run as pycarp does")
    return text


def _weight(line: Block, default: Block | None, conversion: Conversion) -> str:
    """``fault``, or ``weight N``: what a failure costs, whether keepalived counts it by a bonus or by a malus."""
    words = line.words[1:] if len(line.words) > 1 else default.words if default is not None else []
    number = words[1] if len(words) > 1 and words[0] == "weight" else "0"
    if "reverse" in words:
        conversion.remark(line.line, "'reverse' was left out: a check fails when what it looks at is not there")
    if not re.fullmatch(r"-?\d{1,3}", number) or int(number) == 0:
        return "fault"
    return f"weight {abs(int(number))}"


def _name(text: str) -> str:
    """keepalived's name as one that a check may have."""
    return _NAME.sub("_", text)[:32] or "check"
