"""What keeps a hook from running, seen before it has to.

Thread: any caller
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path

from ..ifconfig.files import LEFTOVER
from .hook import Hook


def programs(hook: Hook) -> list[tuple[str, ...]]:
    """The commands that a hook stands for: its own, or the executable files of its directory, by name."""
    if hook.when == "fifo":
        return []
    if hook.when != "directory":
        return [hook.command]
    try:
        found = sorted(entry.path for entry in os.scandir(hook.command[0]) if _executable(entry))
    except OSError:
        return []
    return [(path,) for path in found]


def _executable(entry: os.DirEntry[str]) -> bool:
    left_out = entry.name.startswith(".") or LEFTOVER.fullmatch(entry.name)
    return not left_out and entry.is_file() and os.access(entry.path, os.X_OK)


def label(hook: Hook, command: tuple[str, ...]) -> str:
    """How messages call it: by its file alone, as arguments may be secrets."""
    return f"{hook.when} {os.path.basename(command[0])}"


def fault(hook: Hook) -> str | None:
    """Why it cannot run on this machine, or what is unwise about it: a clause with the remedy; None if all is well."""
    what = hook.command[0]
    if hook.user is not None:
        try:
            pwd.getpwnam(hook.user)
        except KeyError:
            return "there is no user of this name: make one, or name another"
        if os.geteuid() != 0 and pwd.getpwnam(hook.user).pw_uid != os.geteuid():
            return "only root may run it as another user: leave 'user' out"
    if hook.when == "fifo":
        return _fifo_fault(Path(what))
    if hook.when == "directory":
        return None if os.path.isdir(what) else "the directory is not there: make it, or remove the line"
    found = shutil.which(what)
    if found is None:
        if "/" in what and os.path.isfile(what):
            return "its program may not be executed: chmod +x the file"
        return "its program is not there: give the path of one that is"
    mode = os.stat(found)
    if os.geteuid() == 0 and hook.user is None and mode.st_mode & stat.S_IWOTH:
        return "everybody may change its program, which root runs: chmod o-w the file"
    return None


def _fifo_fault(path: Path) -> str | None:
    if path.exists():
        return None if path.is_fifo() else "its path is no named pipe: give another"
    return None if path.parent.is_dir() else "the directory of its path is not there: make it"
