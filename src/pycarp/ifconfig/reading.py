"""Reads a file that a user named, whatever it turns out to be."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path


def read(path: str | os.PathLike[str], longest: int) -> tuple[bytes, os.stat_result]:
    """The content, and what fstat(2) says; one byte more than `longest` where there is more.

    Waits for what writes into a pipe, as a shell's ``<(command)``, but not for somebody to open a FIFO for writing.
    Raises `OSError`, also for an empty pipe, and `ValueError` for what can be no name.
    """
    descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        content = bytearray()
        while len(content) <= longest:
            try:
                piece = os.read(descriptor, longest + 1 - len(content))
            except BlockingIOError:
                waits = select.poll()
                waits.register(descriptor, select.POLLIN)
                waits.poll()
                continue
            if not piece:
                break
            content += piece
    finally:
        os.close(descriptor)
    if not content and stat.S_ISFIFO(status.st_mode):
        raise OSError(0, "nothing writes into this pipe")
    return bytes(content), status
