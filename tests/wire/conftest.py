"""The tests on the wire: real sockets between network namespaces, in real time.

Each test has a lab of its own; nothing touches the machine's own interfaces. As root they run as they are, as an
ordinary user this process goes into a user namespace of its own first. Where neither is allowed they are skipped, and
say so.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
else:
    from support.lan import Lan, lan
    from support.wire import passfile

    from pycarp import _impl
    from pycarp.lab import namespaces

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.wire)


@pytest.fixture(scope="session", autouse=True)
def lab_is_possible() -> None:
    """Labs work in this process from here on, or the test is skipped."""
    # A sanitizer's library is for this process; the programs that the tests start are not built for it.
    os.environ.pop("LD_PRELOAD", None)
    way = namespaces.available()
    if way == "user":
        _become_root_of_a_user_namespace()
        way = namespaces.available()
    if way != "root":
        pytest.skip("no network namespaces here: run as root, or where user namespaces are allowed")


def _become_root_of_a_user_namespace() -> None:
    if threading.active_count() > 1:
        pytest.skip("this process has threads already: run the tests on the wire alone, pytest tests/wire")
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """The path of a file with the passphrase of `support.wire`."""
    return passfile(tmp_path)


@pytest.fixture
def make_lan() -> Iterator[Callable[..., Lan]]:
    """`support.lan.lan`, for tests that want other hosts than the usual; they end with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(lan(*arguments, **options))


@pytest.fixture
def net(make_lan: Callable[..., Lan]) -> Lan:
    """main, second and client on a switch."""
    return make_lan()


@pytest.fixture
def net3(make_lan: Callable[..., Lan]) -> Lan:
    """main, second, third and client on a switch."""
    return make_lan(("main", "second", "third", "client"))


@pytest.fixture
def with_impl(impl: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Engines of this test run on each implementation of the core in turn; its name."""
    monkeypatch.setattr(_impl, "current", impl)
    return str(impl.name)


_FIGURES = pytest.StashKey[dict[str, float]]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, float]:
    """Measured values by name, printed at the end, and written as JSON to the file that PYCARP_FIGURES names."""
    return request.config.stash.setdefault(_FIGURES, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    values = config.stash.get(_FIGURES, {})
    if values:
        terminalreporter.section("figures of the wire")
        for name, value in values.items():
            terminalreporter.line(f"{value:10.3f}  {name}")
        if target := os.environ.get("PYCARP_FIGURES"):
            Path(target).write_text(json.dumps(values, indent=2) + "\n")
