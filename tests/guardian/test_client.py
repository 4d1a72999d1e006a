"""The engine's end of the socket."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.guarded import BOWOUT, floating
from support.guardians import (
    ADDRESSES,
    engine_of,
    is_gone,
    stopped,
    until,
)
from support.linux import needs_namespaces

from pycarp._python.guardian import protocol
from pycarp.errors import CapabilityError, EngineError
from pycarp.lab.namespaces import Lab
from pycarp.linux import guardian_client as client
from pycarp.linux.guardian_client import Guardian, GuardianGone, Kind, Reply

pytestmark = needs_namespaces()


def test_a_guardian_that_dies(program: str) -> None:
    # Fault: the guardian is killed.
    # Expected: what it had replied is read; then every call raises GuardianGone.
    with Lab() as lab, engine_of(lab, program) as engine:
        engine.order(Kind.DROP, 7)
        time.sleep(0.05)
        os.kill(engine.guardian.pid, signal.SIGKILL)
        until(lambda: is_gone(engine))
        # What it said before is still heard.
        assert [one.error for one in engine.guardian.replies()] == [errno.ENOENT]
        with pytest.raises(GuardianGone):
            engine.guardian.replies()
        with pytest.raises(GuardianGone):
            engine.order(Kind.BEAT, 101)
        with pytest.raises(GuardianGone):
            engine.hand_over(101)


def test_no_room_for_orders(program: str) -> None:
    # Fault: the guardian is stopped until the socket is full.
    # Expected: an order that finds no room is refused; afterwards orders work as before.
    with Lab() as lab, engine_of(lab, program) as engine:
        with stopped(engine.guardian.pid):
            sent = 0
            while engine.guardian.order(Kind.BEAT, 101):
                sent += 1
            assert sent > 250
        until(lambda: engine.guardian.order(Kind.BEAT, 101))
        assert engine.ask(Kind.TAKE, 101).error == 0


class Spawner:
    """Starts something else in the guardian's place."""

    def __init__(self, file: str, *argv: str) -> None:
        self.__file__ = file
        self._argv = argv

    def spawn(self, path: str, argv: list[bytes], fds: list[int]) -> int:
        from pycarp._python.spawn import spawn

        return spawn(self._argv[0], [os.fsencode(one) for one in self._argv], fds)


def test_one_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault: the guardian's program is missing, ends at once, says an error, or says nothing.
    # Expected: an error that names the cause; nothing is left behind.
    from pycarp._python.spawn import Lifeline

    native = tmp_path / "_native" / "spawn.so"
    native.parent.mkdir()
    with contextlib.closing(Lifeline()) as lifeline:
        with pytest.raises(EngineError, match="guardian is not there: reinstall pycarp, or set PYCARP_IMPL=python"):
            Guardian(lifeline, False, Spawner(str(native)))
        native.with_name("guardian").touch(mode=0o755)
        assert client.program(Spawner(str(native))) == [str(native.with_name("guardian"))]
        with pytest.raises(EngineError, match="ended before it was ready"):
            Guardian(lifeline, False, Spawner(str(native), "/bin/true"))
        with pytest.raises(FileNotFoundError, match="/nonexistent cannot be started"):
            Guardian(lifeline, False, Spawner(str(native), "/nonexistent"))
        for error, expected in ((errno.EPERM, CapabilityError), (errno.EMFILE, OSError)):
            hello = protocol.REPLY.pack(Kind.HELLO, 0, 0, 0, error, 0, 0, 0, 0)
            script = f"import os, time; os.write(3, {hello!r}); time.sleep(60)"
            with pytest.raises(expected, match="may not change addresses" if error == errno.EPERM else "cannot work"):
                Guardian(lifeline, False, Spawner(str(native), sys.executable, "-c", script))
        monkeypatch.setattr(client, "_READY_WITHIN", 0.2)
        with pytest.raises(EngineError, match="not ready within"):
            Guardian(lifeline, False, Spawner(str(native), "/bin/sleep", "60"))
    monkeypatch.setattr(sys, "executable", "/opt/app/bin/happy")
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    with pytest.raises(EngineError, match="interpreter of its own"):
        client.program(Spawner("/x/_python/spawn.py"))


@pytest.mark.slow
def test_close_and_abandon_may_be_repeated(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    with contextlib.closing(spawn.Lifeline()) as lifeline:
        guardian = Guardian(lifeline, False, spawn)
        for _turn in range(2):
            guardian.close()
        guardian.abandon()
        with pytest.raises(GuardianGone):
            guardian.order(Kind.BEAT, 1)
        with pytest.raises(GuardianGone):
            guardian.replies()


def test_an_adopted_guardian_is_collected(program: str) -> None:
    # Fault: in a process that adopts orphans, as process 1 does, a guardian ends after it was closed.
    # Expected: it stays a zombie no longer than until the next one is closed.
    script = f"""
import ctypes, importlib, os, signal
from pycarp.linux.guardian_client import Guardian
spawn = importlib.import_module("pycarp._{program}.spawn")
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
lifeline = spawn.Lifeline()
former = Guardian(lifeline, False, spawn)
os.kill(former.pid, signal.SIGSTOP)
os.waitid(os.P_PID, former.pid, os.WSTOPPED)
former.close(0)
os.kill(former.pid, signal.SIGKILL)
os.waitid(os.P_PID, former.pid, os.WEXITED | os.WNOWAIT)
Guardian(lifeline, False, spawn).close()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    with Lab() as lab:
        assert lab["main"].run([sys.executable, "-c", script]).stdout == "no child\n"


def test_replies_are_plain() -> None:
    assert protocol.ORDER.size == protocol.REPLY.size == 40
    assert Reply(Kind.TAKE, 0, 1, 0, 0, 0, 0, 0) == Reply(Kind.TAKE, 0, 1, 0, 0, 0, 0, 0)
    assert BOWOUT.endswith(b"%d")
    batches = {"take": b"ab", "renew": b"", "drop": b"", "mute": (), "remove": b"", "restore": b"", "late": b""}
    device = SimpleNamespace(index=9, essential=1, gate=None, host=floating(101, *ADDRESSES), **batches)
    blob = client._encode(5, device, [b"xyz", b""])  # type: ignore[arg-type]
    assert protocol.DESCRIPTION.unpack_from(blob) == (4, 5, 1, 9, True, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7)
    assert blob[protocol.DESCRIPTION.size :] == b"ab\3\0xyz\0\0"
