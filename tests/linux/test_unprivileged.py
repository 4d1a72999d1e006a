"""The same as root of a user namespace only, as an ordinary user has it: no privilege outside, smaller buffers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycarp.lab import namespaces

pytestmark = pytest.mark.wire

_TESTS = Path(__file__).parents[1]
_CHOSEN = (
    "linux/test_device.py::test_a_backup_neither_answers_nor_sends",
    "linux/test_device.py::test_a_master_answers_from_the_virtual_mac_alone",
    "linux/test_device.py::test_teardown_leaves_the_host_as_it_was_and_may_be_repeated",
    "linux/test_device.py::test_a_start_after_a_crash_removes_what_the_former_run_left_and_only_that",
    "linux/test_device.py::test_the_interfaces_own_mac",
    "linux/test_lock.py::test_a_second_holder_is_told_who_the_first_is",
    "linux/test_sockets.py",
    "linux/test_watch.py::test_an_overrun_is_told_and_the_watch_goes_on",
    "guardian/test_orders.py::test_take_renew_and_drop",
)


@pytest.mark.slow
def test_the_machine_works_for_an_ordinary_user() -> None:
    probe = subprocess.run(namespaces._unshared(["true"]), capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("user namespaces are forbidden here")
    inside = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(_TESTS.parent / "pyproject.toml")),
        *("--rootdir", str(_TESTS.parent)),
        *(str(_TESTS / one) for one in _CHOSEN),
    ]
    done = subprocess.run(
        namespaces._unshared(inside), capture_output=True, text=True, timeout=110, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout and "passed" in done.stdout
