"""Where control sockets are: their directory, who may connect, and what is done about those of the dead.

/run/pycarp/run.sock is that of ``pycarp run``, /run/pycarp/carp0.sock that of ``pycarp up carp0``, and of ``pycarp run
/etc/ifconfig.carp0``. Where another living
process has that name, the process number is added to it. PYCARP_RUN_DIRECTORY names another directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from .._records import dataclass
from .._unpatched import socket
from ..errors import ConfigError, EngineError

_LONGEST_PATH = 107
"""Bytes of a path that the kernel takes for a Unix socket."""
_ANSWERS_WITHIN = 1.0
_LIVES = (errno.EAGAIN, errno.EACCES, errno.EPERM, errno.EPROTOTYPE)
"""Errors of connect(2) where somebody has the socket, or may have it."""


class _Taken(EngineError):
    """A living process has it."""


def directory() -> Path:
    """Where processes of this machine put their sockets."""
    return Path(os.environ.get("PYCARP_RUN_DIRECTORY") or "/run/pycarp")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect beside root and the process's own user: a group. `mode` is that of the file."""

    gid: int | None = None
    mode: int = 0o600

    def allows(self, uid: int, gids: Sequence[int]) -> bool:
        return uid in (0, os.geteuid()) or (self.gid is not None and self.mode & 0o020 != 0 and self.gid in gids)


def parse_place(words: Sequence[str]) -> tuple[str, Access]:
    """``PATH [group NAME] [mode 0660]``: a path, "" for the usual one, "off" for none, and who may connect.

    Raises `ConfigError`.
    """
    if not words:
        raise ConfigError("control needs a path, or off", "control")
    path, *rest = words
    gid, mode = None, None
    while rest:
        key, value, *rest = [*rest, ""] if len(rest) == 1 else rest
        if key == "group":
            gid = _gid(value)
        elif key == "mode" and len(value) in (3, 4) and set(value) <= set("01234567"):
            mode = int(value, 8)
        else:
            raise ConfigError("control takes a path, then group and a group's name, mode and 0600 or 0660", "control")
    mode = (0o600 if gid is None else 0o660) if mode is None else mode
    if mode & 0o117 or not mode & 0o600:
        raise ConfigError("a control socket is for its owner and one group: give mode 0600 or 0660", "control")
    if path != "off" and not path.startswith("/"):
        raise ConfigError("the path of a control socket begins with /: write it out, or off", "control")
    return path, Access(gid, mode)


def _gid(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            "the group of the control socket is not known here: give one of getent group", "control"
        ) from None


def usual_path(name: str) -> Path:
    """That of a process of this machine: `name` is "run", or a virtual host's."""
    return directory() / f"{name}.sock"


def sockets(where: Path | None = None) -> list[Path]:
    """The control sockets of living processes, by name. Raises `PermissionError` where this user may not connect."""
    where = directory() if where is None else where
    try:
        found = sorted(one for one in where.iterdir() if one.suffix == ".sock" and one.is_socket())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [one for one in found if lives(one)]


def lives(path: Path) -> bool:
    """Whether a process listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return error.errno in _LIVES
    return True


def listen(path: Path, access: Access) -> socket.socket:
    """A socket at this path, for those whom `access` allows. Raises `EngineError`, in one sentence.

    What a dead process left there is replaced, a living one's socket is not, nor is anything else.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise EngineError(f"{path} is too long for a socket: give a path of at most {_LONGEST_PATH} bytes")
    try:
        if path.parent == directory():
            _make_directory(path.parent)
        with _alone(path.parent):
            _remove_stale(path)
            return _bound(path, access)
    except OSError as error:
        raise EngineError(
            f"no control socket at {path} ({error.strerror}): give another path; the engine runs without"
        ) from None


def listen_usual(name: str, access: Access) -> tuple[Path, socket.socket]:
    """The same at the usual path of a name, or, where another process has that, at one of our own."""
    path = usual_path(name)
    try:
        return path, listen(path, access)
    except _Taken:
        path = usual_path(f"{name}-{os.getpid()}")
        return path, listen(path, access)


def remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove a socket, if it still is the one of this device and inode."""
    with contextlib.suppress(OSError), _alone(path.parent):
        if identity_of(path) == identity:
            path.unlink()


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode."""
    found = path.lstat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _alone(where: Path) -> Iterator[None]:
    """No other pycarp changes sockets in this directory meanwhile."""
    handle = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_directory(where: Path) -> None:
    """With the rights that it is to have, whatever the umask; one that others may write to is refused."""
    try:
        where.mkdir(0o755)
        where.chmod(0o755)
    except FileExistsError:
        found = where.stat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise EngineError(
                f"no control socket in {where}: others may write there; make it root's, mode 0755, or give a path"
            ) from None


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EngineError(f"{path} is no socket: remove it, or give another path for the control socket")
    if lives(path):
        raise _Taken(f"another process listens at {path}: give another path for the control socket")
    path.unlink()


def _bound(path: Path, access: Access) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # The file is made with these rights, less the umask: at no time may others connect.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        if access.gid is not None:
            os.chown(path, -1, access.gid)
        os.chmod(path, access.mode)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener
