"""`pycarp._unpatched`: the engine's threads, sockets and clock are Python's own, whatever the program patches."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycarp import _unpatched
from pycarp.engine.queue import EventQueue

SOURCE = Path(_unpatched.__file__).parent
ROOMS = ("engine", "linux", "health", "hooks", "metrics", "control", "_python/runtime")
PATCHED_BY_OTHERS = {"select", "selectors", "socket", "threading", "time", "concurrent.futures"}
PROCESSES_OF_THEIR_OWN = {"launcher.py"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports whole."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in ("concurrent.futures", "threading", "time"):
            names.add(node.module)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_engine_take_them_from_there(room: str) -> None:
    for path in sorted((SOURCE / room).rglob("*.py")):
        if path.name not in PROCESSES_OF_THEIR_OWN:
            assert imported(path) & PATCHED_BY_OTHERS == set(), path


def test_the_native_runtime_takes_them_from_there() -> None:
    source = Path(__file__).parents[1] / "ext" / "runtime"
    for path in source.glob("*.p*"):
        lines = path.read_text("utf-8").splitlines()
        assert {f"import {name}" for name in PATCHED_BY_OTHERS} & set(lines) == set(), path


def test_the_clock_is_not_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("monotonic", "monotonic_ns", "time", "sleep"):
        assert getattr(_unpatched.time, name) is not getattr(time, name)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    assert EventQueue(1).get(timeout=0.05) is None


def test_an_unpatched_program_knows_the_engines_threads() -> None:
    import socket
    import threading

    assert not _unpatched.patched()
    assert _unpatched.threading.Thread is threading.Thread and _unpatched.socket.socket is socket.socket


# What gevent and eventlet do: other primitives in the same modules.
PATCHED = """
import _thread, select, socket, sys, threading, time

def stuck(*_arguments, **_options):
    raise AssertionError("the program's own was called")

def late():
    # In a thread that is not the main one: Python's own threading must still see its end.
    assert not _unpatched.patched()
    _unpatched.copy("threading")

if sys.argv[1] == "late":
    from pycarp import _unpatched
    thread = threading.Thread(target=late)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
_thread.start_new_thread = threading._allocate_lock = threading.Lock = stuck
for name in ("_start_new_thread", "_start_joinable_thread"):
    if hasattr(threading, name):
        setattr(threading, name, stuck)
threading.Event = select.poll = select.select = select.epoll = socket.socket = time.sleep = stuck
if sys.argv[1] == "early":
    from pycarp import _unpatched
assert _unpatched.patched()
from pycarp.engine.mailbox import Outcome
future = Outcome()
families = socket.AddressFamily
assert _unpatched.socket.AddressFamily is not families is socket.AddressFamily
left, right = _unpatched.socket.socketpair()
done = _unpatched.threading.Event()

def run():
    with _unpatched.selectors.DefaultSelector() as selector:
        selector.register(right, _unpatched.selectors.EVENT_READ)
        assert selector.select(5)
    assert _unpatched.threading.current_thread() is thread
    future.set_result(right.recv(10))
    done.set()

thread = _unpatched.threading.Thread(target=run, name="ours")
thread.start()
_unpatched.time.sleep(0.01)
left.send(b"hello")
assert future.result(5) == b"hello" and done.wait(5)
assert right.family == socket.AF_UNIX and right.type == socket.SOCK_STREAM
with _unpatched.socket.create_server(("127.0.0.1", 0)) as server:
    with _unpatched.socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
        assert accepted.family == socket.AF_INET
poll = _unpatched.select.poll()
poll.register(right, _unpatched.select.POLLIN)
assert poll.poll(0) == []
thread.join(5)
assert not thread.is_alive()
left.close()
right.close()
print("right")
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_patched_program(when: str) -> None:
    command = [sys.executable, "-W", "error", "-c", PATCHED, when]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={"PYTHONPATH": str(SOURCE.parent)}
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr
