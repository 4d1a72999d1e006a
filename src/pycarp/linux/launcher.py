"""The program that starts other programs for an engine, and waits for them: `python -I -S launcher.py`.

A process of its own does it, because the end of a child would be seen by the wait() of the program that the engine is
in. It imports nothing of the package. Descriptor 3 is a socket with requests, 4 the engine's process, a pidfd, if
there is one. When either ends, it kills what it started, and ends.

A request is three or four descriptors: a memory file with JSON, the program's stdin, a socket, and the program's stdout
and stderr (without it, /dev/null). On that socket the launcher says ``{"pid": N}`` or ``{"error": ERRNO}``, and later
``{"status": CODE}``, negative for a signal. A byte on it is sent as a signal to the process group; its end is SIGKILL.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import subprocess
from typing import Any

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36


class Launcher:
    """The programs that run, by process number, each with its socket and whether its group may outlive it."""

    def __init__(self, requests: socket.socket, engine: int) -> None:
        self.requests = requests
        self.running: dict[int, tuple[socket.socket, bool]] = {}
        self.poll = select.poll()
        self.poll.register(requests, select.POLLIN)
        if engine >= 0:
            self.poll.register(engine, select.POLLIN)
        self.engine = engine
        self.woken, wake = socket.socketpair()
        self.woken.setblocking(False)
        wake.setblocking(False)
        self.wake = wake
        self.poll.register(self.woken, select.POLLIN)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        while True:
            ready = {number for number, _ in self.poll.poll()}
            if self.engine in ready:
                return
            if self.woken.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    while self.woken.recv(64):
                        pass
                self.collect()
            for pid, (owner, _leave) in list(self.running.items()):
                if owner.fileno() in ready:
                    self.obey(pid, owner)
            if self.requests.fileno() in ready and not self.request():
                return

    def request(self) -> bool:
        """Start what is asked for; False when nobody asks any longer."""
        space = socket.CMSG_SPACE(8 * array.array("i").itemsize)
        message, ancillary, _flags, _address = self.requests.recvmsg(16, space, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) >= 3:
            with open(fds[0], "rb") as file:
                file.seek(0)
                wanted = json.load(file)
            self.start(wanted, fds[1], socket.socket(fileno=fds[2]), fds[3] if len(fds) > 3 else subprocess.DEVNULL)
        return True

    def start(self, wanted: dict[str, Any], stdin: int, owner: socket.socket, output: int) -> None:
        owner.setblocking(False)
        os.lseek(stdin, 0, os.SEEK_SET)
        try:
            child = subprocess.Popen(
                wanted["argv"], env=wanted["env"], cwd=wanted["cwd"], stdin=stdin, stdout=output, stderr=output,
                start_new_session=True, user=wanted["uid"], group=wanted["gid"], extra_groups=wanted["groups"],
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.tell(owner, error=getattr(error, "errno", None) or errno.EINVAL)
            owner.close()
            return
        finally:
            for fd in (stdin, output):
                if fd >= 0:
                    os.close(fd)
        child.returncode = 0  # `collect` waits for it, and no Popen
        self.running[child.pid] = (owner, wanted["leave"])
        self.poll.register(owner, select.POLLIN)
        self.tell(owner, pid=child.pid)

    def tell(self, owner: socket.socket, **said: int) -> None:
        with contextlib.suppress(OSError):
            owner.send(json.dumps(said).encode())

    def obey(self, pid: int, owner: socket.socket) -> None:
        """A signal for the process group: the byte that came, or SIGKILL when the owner is gone."""
        try:
            message = owner.recv(1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        self.signal(pid, message[0] if message else signal.SIGKILL)
        if not message:
            self.poll.unregister(owner)

    def signal(self, pid: int, number: int) -> None:
        # Nobody has collected the leader yet, so the number is still its own.
        with contextlib.suppress(OSError, ValueError):
            os.killpg(pid, number)

    def collect(self) -> None:
        """Report who has ended, and collect orphans of theirs."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            owner, leave = self.running.pop(pid, (None, True))
            if not leave:
                self.signal(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if owner is not None:
                with contextlib.suppress(KeyError):
                    self.poll.unregister(owner)
                self.tell(owner, status=os.waitstatus_to_exitcode(status))
                owner.close()

    def end(self) -> None:
        for pid in self.running:
            self.signal(pid, signal.SIGKILL)


def main() -> None:
    """Run with the descriptors that `pycarp.linux.children` passes."""
    # Orphans of a program that is killed are collected here, too.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, b"pycarp-launcher", 0, 0, 0)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        # It ends with the engine, which may need it for its stop. The programs get the defaults back. SIGPIPE stays
        # ignored: a handler for it would write to the wake-up socket, and at the end that makes another SIGPIPE.
        signal.signal(getattr(signal, name), lambda *_: None)
    try:
        os.fstat(4)
        engine = 4
    except OSError:
        engine = -1
    for fd in (3, engine):
        if fd >= 0:
            os.set_inheritable(fd, False)
    launcher = Launcher(socket.socket(fileno=3), engine)
    try:
        launcher.run()
    finally:
        launcher.end()


if __name__ == "__main__":
    main()
