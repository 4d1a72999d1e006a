"""keepalived's trackers as checks: scripts, interfaces, files and processes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from .keepalived_blocks import Block
from .model import Conversion

_DEFAULT_WEIGHT = {"interface": 0, "script": 0, "process": 0, "file": 1}
"""As keepalived 2.2.7 behaves; its manual says 1 for a process, too."""
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

    def weight(self, kind: str, line: Block, grouped: bool = False) -> int:
        """What the line that tracks it says, or its own block; 0 stands for a fault, also for a file in a group."""
        if grouped and kind == "file":
            return 0
        found = self.find(kind, line.words[0])
        words = line.words[1:] or next((one.words for one in (found.named("weight") if found else [])), [])
        number = words[1] if len(words) > 1 and words[0] == "weight" else ""
        return int(number) if re.fullmatch(r"-?\d{1,3}", number) else _DEFAULT_WEIGHT[kind]

    def ignored(self, kind: str, line: Block, block: Block, grouped: bool) -> str:
        """Why keepalived does not heed what this line of `block` tracks, or ""."""
        if grouped and kind == "script" and self.weight(kind, line):
            return "keepalived ignores a script with a weight in a member of a sync group"
        if kind == "interface" and line.words[0] in (one.value for one in block.named("interface")):
            return "the interface of the virtual host is always followed"
        return ""

    def reversed(self, kind: str, line: Block) -> bool:
        """Whether it is well when what it looks at is not there."""
        found = self.find(kind, line.words[0])
        own = next((one.words for one in (found.named("weight") if found else [])), [])
        return "noreverse" not in line.words and ("reverse" in line.words or "reverse" in own)

    def bonus(self, block: Block, grouped: bool = False) -> int:
        """What keepalived adds to a priority while all that the block tracks is well."""
        return sum(
            max(0, self.weight(kind, line))
            for kind in ("interface", "script", "process")
            for line in block.inside(f"track_{kind}")
            if not self.reversed(kind, line) and not self.ignored(kind, line, block, grouped)
        )


_KNOWN = {
    "script": ("script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"),
    "process": ("process", "weight"),
    "file": ("file", "weight", "init_file"),
}


def statements(block: Block, tracked: Tracked, conversion: Conversion, grouped: bool = False) -> Iterator[str]:
    """A line ``check ...`` for each tracker of an instance, or of a sync group.

    `grouped`: the instance is in a sync group that has no ``sync_group_tracking_weight``.
    """
    for kind in ("interface", *_KNOWN):
        for line in block.inside(f"track_{kind}"):
            found = tracked.find(kind, line.words[0])
            if why := tracked.ignored(kind, line, block, grouped):
                conversion.remark(line.line, f"this {kind} was left out: {why}")
            elif found is None and kind != "interface":
                conversion.remark(line.line, f"the {kind} that is tracked here has no block of its own in this file")
            elif tracked.reversed(kind, line):
                conversion.remark(
                    line.line, f"this {kind} was left out: a check has no 'reverse', let a script negate it"
                )
            else:
                cost = f"weight {abs(weight)}" if (weight := tracked.weight(kind, line, grouped)) else "fault"
                yield from _check(kind, line, found or line, cost, conversion)


def _check(kind: str, line: Block, found: Block, cost: str, conversion: Conversion) -> Iterator[str]:
    what = line if kind == "interface" else next(iter(found.named(kind)), None)
    if what is None or (len(what.words) < 2 and what is not line):
        conversion.remark(found.line, f"this {kind}'s block does not say which {kind}: it was left out")
        return
    name = _name(line.words[0])
    match kind:
        case "script":
            yield f"check {name} exec {_command(what)}{_times(found, conversion)} {cost}"
        case "file":
            conversion.remark(
                what.line,
                "keepalived adds the number in the file to the priority; here any number but 0 is a failure, and so "
                "is a missing file: keep one there with 0 in it",
            )
            yield f"check {name} file {shlex.quote(what.value)} rise 1 fall 1 {cost}"
        case _:
            if kind == "process" and len(what.words) > 2:
                conversion.remark(
                    what.line, "the parameters of the process were left out: its name alone is looked for"
                )
            named = line.words[0] if what is line else what.value
            yield f"check {name} {kind} {shlex.quote(named)} rise 1 fall 1 {cost}"


def _command(what: Block) -> str:
    try:
        words = shlex.split(what.value) if len(what.words) == 2 else what.words[1:]
    except ValueError:
        words = []
    if not words or re.search(r"[|&;<>$`]", what.value):
        words = ["/bin/sh", "-c", what.value]
    return shlex.join(words)


def _times(block: Block, conversion: Conversion) -> str:
    text, interval = "", "1"
    for word in ("interval", "timeout", "rise", "fall"):
        line = next(iter(block.named(word)), None)
        value = line.value if line is not None else ""
        if value and not _SECONDS.fullmatch(value):
            conversion.remark(line.line if line else None, f"a value of {word} that is no number was left out")
            value = ""
        # As there: a script may take as long as its interval, and one look decides.
        value = value or (interval if word in ("interval", "timeout") else "1")
        interval = value if word == "interval" else interval
        text += f" {word} {value}"
    for line in block.named("user"):
        conversion.remark(line.line, "the user of this script was left out: checks run as pycarp does")
    for line in block.named("init_fail"):
        conversion.remark(line.line, "init_fail was left out: the first look decides")
    return text


def _name(text: str) -> str:
    """keepalived's name as one that a check may have."""
    return _NAME.sub("_", text)[:32] or "check"
