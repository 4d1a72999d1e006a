"""Maintenance: this host hands over, and is not MASTER while another host is. It is kept in a file, past a restart.

The file is there while the mode is on. An administrator may make it, or remove it, while nothing runs.

Thread: any caller; `look`: supervisor
"""

from __future__ import annotations

import contextlib
import os

from .._unpatched import time

_TEXT = "pycarp is in maintenance: pycarp ctl maintenance off ends it\n"


class Maintenance:
    """The mode of one engine; `file` keeps it, None: it ends with the engine."""

    def __init__(self, file: str | os.PathLike[str] | None) -> None:
        self._file = None if file is None else os.fspath(file)
        self.unknown = ""
        """Why nobody knows whether the mode was on, in one sentence; it is off then. Empty where it is known."""
        self.on = self._kept()

    def set(self, on: bool) -> str:
        """Switch it; returns what is wrong with the file, in one sentence, or "": the mode holds all the same."""
        self.on = on
        try:
            self._keep(on)
        except OSError as error:
            done, then = ("written", "ends") if on else ("removed", "comes back")
            return f"{self._file} cannot be {done} ({error.strerror}): the mode {then} with a restart"
        return ""

    def _kept(self) -> bool:
        if self._file is None:
            return False
        try:
            os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self.unknown = (
                f"{self._file} cannot be looked at ({why}), so this host is not in maintenance: "
                "switch it on once more if it was"
            )
            return False
        return True

    def _keep(self, on: bool) -> None:
        """On the disk, all or nothing."""
        if self._file is None:
            return
        if not on:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._file)
            return
        os.makedirs(os.path.dirname(self._file) or ".", 0o755, exist_ok=True)
        fresh = f"{self._file}.{os.getpid()}"
        try:
            with open(fresh, "w", encoding="utf-8") as file:
                file.write(f"{_TEXT}{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
