"""What every test has: both implementations, nothing left behind, and a header that says what is tested.

The same suite runs over both implementations. A native extension that is missing is an error, not a skip; a machine
without a compiler says so itself: ``PYCARP_TEST_IMPLS=python``.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import IMPLEMENTATIONS

import pycarp
from pycarp import _impl

# Nothing is stored in the working directory; a failure prints what reproduces it. Speed is the machine's affair.
settings.register_profile(
    "pycarp", database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pycarp")
# The commands that tests start put their control sockets here, and not where this machine's own are.
_sockets = tempfile.TemporaryDirectory(prefix="pycarp-run-")
os.environ["PYCARP_RUN_DIRECTORY"] = os.environ["PYCARP_STATE_DIRECTORY"] = _sockets.name
os.chmod(_sockets.name, 0o755)


def pytest_report_header() -> str:
    return f"pycarp {pycarp.__version__}: __impl__ is {pycarp.__impl__}, tested: {', '.join(IMPLEMENTATIONS)}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The default run has five minutes: what lives in real time runs there over the native implementation alone."""
    if len(IMPLEMENTATIONS) < 2:
        return
    for item in items:
        real_time = item.path.parent.name in ("wire", "guardian")
        values = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        if real_time and "python" in values:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=IMPLEMENTATIONS)
def impl(request: pytest.FixtureRequest) -> _impl.Implementation:
    """One implementation of packet, input_, auth and machine; each test that asks for it runs once with each."""
    return _impl.load(request.param)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT and SIGHUP end this process and those that the test starts, though ``nohup pytest &`` ignores both."""
    former = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


_SELF = Path("/proc/self")


def _threads() -> set[str]:
    names = {f"thread {thread.name}" for thread in threading.enumerate()}
    # Native threads, which Python does not know of.
    return names | {f"task {task}" for task in _listed(_SELF / "task")}


def _children() -> set[str]:
    children: set[str] = set()
    for task in _listed(_SELF / "task"):
        try:
            children.update(f"child process {pid}" for pid in (_SELF / "task" / task / "children").read_text().split())
        except OSError:
            continue  # the thread is gone, or the kernel does not keep this list
    return children


def _descriptors() -> set[str]:
    found = set()
    for number in _listed(_SELF / "fd"):
        try:
            found.add(f"descriptor {number} {os.readlink(_SELF / 'fd' / number)}")
        except OSError:
            continue  # the one that read the directory
    return found


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _belongings() -> set[str]:
    return _threads() | _children() | _descriptors()


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """A test that leaves a thread, a child process or a descriptor behind fails, after one second."""
    before = _belongings()
    yield
    give_up = time.monotonic() + 1.0
    while left := _belongings() - before:
        if time.monotonic() > give_up:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.005)
