"""What the guardian's process is and may do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.guardians import (
    Child,
    addresses,
    engine_of,
    is_bowout,
    lives,
    until,
)
from support.linux import needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux.guardian_client import Kind

pytestmark = needs_namespaces()


def _users() -> int:
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())


@pytest.mark.root
@pytest.mark.skipif(_users() < 65535, reason="this user namespace has no nobody")
def test_a_program_that_gave_up_root(program: str) -> None:
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        child.ask("setuid")
        # It still moves its addresses, and nothing else: neither by itself nor by a description of its own.
        assert errno.EPERM in child.ask("configure")
        assert child.ask("add") == errno.EPERM
        assert child.ask("drop") == 0 and not addresses(lab["main"])
        assert child.ask("take") == 0 and len(addresses(lab["main"])) == 2
        child.kill()
        assert capture.wait(is_bowout) is not None
        until(lambda: not addresses(lab["main"]))
        # Another of them, that ends in order.
        until(lambda: not lives(child.guardian))
        child.process.wait()
        child = Child(lab["main"], program)
        child.ask("setuid")
        for word in ("drop", "remove", "restore", "forget"):
            assert child.ask(word) == 0
        assert "carp101" not in lab["main"].run(["ip", "link"]).stdout


def test_signals_of_an_orderly_stop_are_the_engines_affair(program: str) -> None:
    # Fault: the guardian gets the signals of an orderly stop, as a whole process group does.
    # Expected: it goes on.
    with Lab() as lab, engine_of(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=20_000).error == 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(engine.guardian.pid, number)
        os.kill(engine.guardian.pid, signal.SIGUSR2)
        time.sleep(0.05)
        assert engine.ask(Kind.TAKE, 101).error == 0


def test_it_is_nobodys_child_and_inherits_nothing(program: str) -> None:
    with Lab() as lab:
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
        with engine_of(lab, program) as engine:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            os.close(reading)
            os.close(writing)
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
            folder = Path(f"/proc/{engine.guardian.pid}")
            opened = {int(one.name): os.readlink(one) for one in (folder / "fd").iterdir()}
            assert all(opened[number] == "/dev/null" for number in range(3))
            assert "socket" in opened[3] and "pycarp-lifeline" in opened[4] and "pidfd" in opened[5]
            assert not [one for one in opened.values() if "pipe:" in one]
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            assert {status[name].strip() for name in ("CapEff", "CapPrm")} == {f"{1 << 12:016x}"}
            assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == int(status["SigBlk"], 16) == 0
            assert status["NoNewPrivs"].strip() == "1"
            assert (folder / "comm").read_text() == "pycarp-guardian\n"
            assert os.readlink(folder / "cwd") == "/" and (folder / "environ").read_bytes() == b""
            assert os.getsid(engine.guardian.pid) == engine.guardian.pid
            assert os.readlink(folder / "ns/net") == os.readlink("/proc/thread-self/ns/net")
            private = sum(
                int(line.split()[1])
                for line in (folder / "smaps_rollup").read_text().splitlines()
                if line.startswith(("Private_Clean", "Private_Dirty"))
            )
            sanitized = "libasan" in (folder / "maps").read_text()
            assert private < {"native": 8 << 10 if sanitized else 2 << 10, "python": 40 << 10}[program]
        assert not lives(engine.guardian.pid)


def test_without_capabilities(program: str) -> None:
    # Fault: the guardian gets no CAP_NET_ADMIN.
    # Expected: the error names the remedy.
    script = f"""
import ctypes, importlib
from pycarp._python.guardian import protocol
from pycarp.errors import CapabilityError
from pycarp.linux.guardian_client import Guardian
spawn = importlib.import_module("pycarp._{program}.spawn")
libc = ctypes.CDLL(None)
assert libc.prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_ADMIN
lifeline = spawn.Lifeline()
try:
    Guardian(lifeline, False, spawn)
except CapabilityError as error:
    print(error)
"""
    with Lab() as lab:
        done = lab["main"].run([sys.executable, "-c", script])
        assert "the guardian may not change addresses" in done.stdout
