"""The grammar of keepalived.conf: lines of words, and blocks of lines in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .._records import dataclass, field
from .model import Conversion

_DEEPEST = 8
_PIECE = re.compile(
    r'"(?P<double>(?:\\.|[^"\\])*)"|\'(?P<single>[^\']*)\'|(?P<mark>[{}])|(?P<plain>[^\s{}"\'#!]+)|[#!].*'
)


@dataclass(slots=True)
class Block:
    """One line: its words, its place, and the lines in the braces after it."""

    words: list[str]
    line: int
    children: list[Block] = field(default_factory=list)

    @property
    def value(self) -> str:
        """The word after the first, or ""."""
        return self.words[1] if len(self.words) > 1 else ""

    def named(self, name: str) -> list[Block]:
        """The lines in this block that begin with this word."""
        return [line for line in self.children if line.words[0] == name]

    def inside(self, name: str) -> Iterator[Block]:
        """The lines within the blocks of this name in this block."""
        for block in self.named(name):
            yield from block.children
            if len(block.words) > 1 and not block.children:
                yield Block(block.words[1:], block.line)


def read(text: str, conversion: Conversion) -> list[Block]:
    """The lines of the outermost level. What is not balanced, and what is a condition, is remarked."""
    outermost: list[Block] = []
    open_blocks: list[list[Block]] = [outermost]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith(("@", "$", "~")):
            what = {"@": "a condition", "$": "a definition", "~": "a repetition"}[stripped[0]]
            conversion.remark(number, f"{what} of keepalived.conf is not followed: write out what it stands for here")
            # What a condition guards belongs to some host: it is read as if it held.
            line = re.sub(r"^\s*@\S*", "", line) if stripped[0] == "@" else ""
        _line(line, number, open_blocks, conversion)
    if len(open_blocks) > 1:
        conversion.remark(None, "a block does not end: a closing brace is missing")
    return outermost


def _line(text: str, number: int, open_blocks: list[list[Block]], conversion: Conversion) -> None:
    words: list[str] = []

    def end_of_words() -> None:
        if words:
            open_blocks[-1].append(Block(words.copy(), number))
            words.clear()

    for piece in _PIECE.finditer(text):
        mark = piece["mark"]
        if mark == "{":
            end_of_words()
            if not open_blocks[-1] or len(open_blocks) > _DEEPEST:
                conversion.remark(number, "a brace opens a block that has no name")
                open_blocks[-1].append(Block(["{"], number))
            open_blocks.append(open_blocks[-1][-1].children)
        elif mark == "}":
            end_of_words()
            if len(open_blocks) == 1:
                conversion.remark(number, "a closing brace has no block to close")
            else:
                open_blocks.pop()
        else:
            word = next((piece[name] for name in ("double", "single", "plain") if piece[name] is not None), None)
            words += [] if word is None else [word]
    end_of_words()
