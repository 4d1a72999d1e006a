"""How a program is started that is no child of ours."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time

import pytest
from support.guardians import (
    Child,
    lives,
    until,
)
from support.linux import needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux.guardian_client import Guardian

pytestmark = needs_namespaces()


def test_a_program_that_is_started(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    reading, writing = os.pipe()
    try:
        script = b"echo $0 $1; cat /proc/$$/environ; exec ls -l /proc/self/fd"
        # Their numbers cross those that the program gets.
        pid = spawn.spawn("/bin/sh", [b"sh", b"-c", script, b"name", b"first"], [-1, writing, -1, writing, reading])
        assert pid > 1 and pid != os.getpid()
    finally:
        os.close(writing)
    with open(reading) as output:
        first, _total, *listed = output.read().splitlines()
        assert first == "name first"
        links = {int(line.split()[-3]): line.split()[-1] for line in listed}
        # The last is the directory that is listed.
        assert set(links) == set(range(6)) and links[0] == links[2] == "/dev/null"
        assert all(links[number].startswith("pipe:") for number in (1, 3, 4))
        until(lambda: not lives(pid))
        with pytest.raises(FileNotFoundError):
            spawn.spawn("/nonexistent/guardian", [b"x"], [-1, -1, -1])
        with pytest.raises(OSError):
            spawn.spawn("/bin/true", [b"true"], [-1, -1, -1, 4711])


@pytest.mark.slow
def test_it_is_started_while_other_threads_are_busy(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            json.loads(json.dumps(list(range(100))))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for one in workers:
        one.start()
    try:
        for _turn in range(20):
            pid = spawn.spawn("/bin/true", [b"true"], [-1, -1, -1])
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
        until(lambda: not lives(pid))
    finally:
        done.set()
        for one in workers:
            one.join()


def test_an_engine_sees_no_child(program: str) -> None:
    with Lab() as lab:
        child = Child(lab["main"], program)
        assert child.ask("wait") == "no child"


def test_it_starts_fast(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    took = []
    for _turn in range(5):
        lifeline = spawn.Lifeline()
        started = time.monotonic()
        guardian = Guardian(lifeline, True, spawn)
        took.append(time.monotonic() - started)
        guardian.close()
        assert not lives(guardian.pid)
        lifeline.close()
    # 25 ms of computing for the interpreted one; the machine may have more to do.
    assert min(took) < 0.25
