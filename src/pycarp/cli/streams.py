"""The standard streams, when they are closed, full, or lose their reader."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class OutputLost(Exception):
    """What was printed on stdout could not be written. No `OSError`: nobody is to take it for another one."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror or error}")
        self.reader_gone = isinstance(error, BrokenPipeError)


class _Watched:
    """A stream whose failing writes are `OutputLost`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise OutputLost(error) from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputLost(error) from None


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While the context lasts there are a stdin, a stdout and a stderr, and stdout raises `OutputLost`.

    What is still in its buffer is written at the end; what can not be written is dropped.
    """
    with contextlib.ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, stack.enter_context(open(os.devnull, mode, encoding="utf-8")))
        stdout = sys.stdout
        stack.callback(setattr, sys, "stdout", stdout)
        sys.stdout = cast("TextIO", _Watched(stdout))
        try:
            yield
            sys.stdout.flush()
        except OutputLost:
            _drop(stdout)
            raise


def _drop(stream: TextIO) -> None:
    # Without this the interpreter complains once more when it flushes the stream at its end.
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
