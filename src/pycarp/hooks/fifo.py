"""A named pipe that gets events as lines of JSON. Nobody waits for its reader.

Thread: hooks
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .._unpatched import select


class Fifo:
    """One named pipe, made with mode 0600 if it is not there. Lines for which there is no room, or no reader, are lost.

    `lost` counts those that a reader was too slow for.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lost = 0
        self._fd = -1

    def write(self, line: bytes) -> None:
        """Write a whole line or nothing. Raises `OSError` if the path is no named pipe or cannot be opened."""
        if not self._open():
            return
        if len(line) > select.PIPE_BUF:
            self.lost += 1  # A longer one might be written in part.
            return
        try:
            os.write(self._fd, line)
        except BlockingIOError:
            self.lost += 1
        except BrokenPipeError:
            self.close()

    def _open(self) -> bool:
        """False if nobody reads. The file may have been removed and made anew."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                mine, there = os.fstat(self._fd), os.stat(self.path)
                if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
                    return True
            self.close()
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.path, 0o600)
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads
                return False
            raise
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(0, "it is no named pipe")
        self._fd = fd
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
