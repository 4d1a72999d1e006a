"""When the command leaves its virtual hosts to the next process, and when it stops as ever."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("systemd is Linux's", allow_module_level=True)

from pycarp import EngineError, VirtualHost
from pycarp.cli import restart

HOST = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"])


class Holding:
    """An engine that is asked to leave what it has."""

    def __init__(self, *hosts: VirtualHost, wrong: str = "") -> None:
        self.hosts, self.wrong = hosts, wrong
        self.held: list[float] = []

    def bequeath(self, hold: float) -> None:
        self.held.append(hold)
        if self.wrong:
            raise EngineError(self.wrong)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This process is the main one of pycarp.service; what systemctl says is in the file."""
    said = tmp_path / "said"
    said.write_text("")
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$1" = show ] && {{ cat {said}.mode; exit; }}\ncat {said}\n')
    said.with_suffix(".mode").write_text("process\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(restart, "_own_unit", lambda: "pycarp.service")
    return said


@pytest.mark.parametrize(
    "said, restarts",
    [
        ("31 pycarp.service restart running\n", True),
        ("7 nginx.service stop running\n31 pycarp.service restart waiting\n", True),
        ("31 pycarp.service stop running\n", False),
        ("31 other-pycarp.service restart running\n", False),
        ("No jobs running.\n", False),
        ("", False),
    ],
)
def test_only_a_restart_leaves_the_virtual_hosts(service: Path, said: str, restarts: bool) -> None:
    service.write_text(said)
    engine = Holding(HOST)
    restart.leave_for_the_next(engine, "pycarp run")  # type: ignore[arg-type]
    assert engine.held == ([restart.HELD] if restarts else [])


def test_what_cannot_be_held_is_said(service: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service.write_text("31 pycarp.service restart running\n")
    restart.leave_for_the_next(Holding(HOST, wrong="no other process goes on"), "pycarp run")  # type: ignore[arg-type]
    assert capsys.readouterr().err == (
        "pycarp run: no other process goes on: another host takes over for the restart\n"
    )
    empty = Holding()
    restart.leave_for_the_next(empty, "pycarp run")  # type: ignore[arg-type]
    assert empty.held == []


def test_systemctl_that_is_missing_or_hangs_is_a_plain_stop(
    service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Holding(HOST)
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(restart, "_ANSWERED_WITHIN", 0.05)
    restart.leave_for_the_next(engine, "pycarp run")  # type: ignore[arg-type]
    (tmp_path / "systemctl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    restart.leave_for_the_next(engine, "pycarp run")  # type: ignore[arg-type]
    assert engine.held == []


@pytest.mark.parametrize(
    "environment, groups, unit",
    [
        ({"INVOCATION_ID": "1"}, "0::/system.slice/pycarp.service\n", "pycarp.service"),
        (
            {"INVOCATION_ID": "1"},
            "1:name=systemd:/system.slice/system-pycarp.slice/pycarp@a.service\n",
            "pycarp@a.service",
        ),
        ({"INVOCATION_ID": "1", "SYSTEMD_EXEC_PID": "1"}, "0::/system.slice/pycarp.service\n", ""),
        ({"INVOCATION_ID": "1"}, "0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ({}, "0::/system.slice/pycarp.service\n", ""),
    ],
)
def test_whose_main_process_this_is(
    environment: dict[str, str], groups: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INVOCATION_ID", "SYSTEMD_EXEC_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "read_text", lambda _path: groups)
    assert restart._own_unit() == unit


def test_with_a_kill_mode_that_ends_the_holder_it_is_a_plain_stop(service: Path) -> None:
    engine = Holding(HOST)
    service.write_text("31 pycarp.service restart running\n")
    service.with_suffix(".mode").write_text("mixed\n")
    restart.leave_for_the_next(engine, "pycarp run")  # type: ignore[arg-type]
    assert engine.held == []
