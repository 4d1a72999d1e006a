"""What a program writes, cut into lines for the log.

Thread: hooks
"""

from __future__ import annotations

from collections.abc import Callable

from ..linux.children import Child

_LONGEST_LINE = 1000
_MOST_LINES = 100
_MOST_READS = 16
"""Pieces read at once: then others have their turn."""


class Output:
    """Calls `say` with each line. Bytes that are not UTF-8, and control characters, are shown as escapes.

    Of each run it shows `_MOST_LINES` lines of `_LONGEST_LINE` characters. `ended`: there will be no more.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""
        self._lines = 0
        self.ended = False

    def read(self, child: Child) -> bool:
        """Take what has come. True at the end of the output."""
        for _turn in range(_MOST_READS):
            piece = child.read()
            if not piece:
                return piece is not None
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._line(line)
            if len(self._rest) > _LONGEST_LINE * 4:
                self._line(self._rest)
                self._rest = b""
        return False

    def finish(self) -> None:
        """There is no more: a line without an end is one, too."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").strip()
        if not text:
            return
        self._lines += 1
        if self._lines > _MOST_LINES:
            if self._lines == _MOST_LINES + 1:
                self._say("(more of its output is not shown)")
            return
        self._say("".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[:_LONGEST_LINE]))
