"""``pycarp install-service --root DIR`` and ``pycarp completion``: what they write, and what they leave alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from pycarp import VirtualHost
from pycarp.cli.changes import changes
from pycarp.cli.group import pycarp

UNITS = ("etc/systemd/system/pycarp.service", "etc/systemd/system/pycarp@.service")


def run(*words: str) -> Result:
    return CliRunner().invoke(pycarp, words)


def test_it_writes_what_is_missing_and_keeps_what_differs(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/pycarp/bin/pycarp"])
    result = run("install-service", "--root", str(tmp_path))
    assert result.exit_code == 0, result.output
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {*UNITS, "etc/sysusers.d/pycarp.conf", "etc/tmpfiles.d/pycarp.conf"}
    unit = tmp_path / UNITS[0]
    assert "ExecStart=/opt/pycarp/bin/pycarp run\n" in unit.read_text()
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644

    unit.write_text(unit.read_text() + "# mine\n")
    again = run("install-service", "--root", str(tmp_path), "--networkd")
    assert again.exit_code == 2
    assert f"{unit}: differs, and stays" in again.output
    assert (tmp_path / "etc/systemd/network/10-pycarp.network").exists()

    gone = run("install-service", "--root", str(tmp_path), "--remove")
    assert gone.exit_code == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [unit]
    assert run("install-service", "--root", str(tmp_path), "--force").exit_code == 0
    assert "# mine" not in unit.read_text()


def test_who_may_not_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run("install-service")
    assert (result.exit_code, "only root may write into /etc" in result.stderr) == (2, True)
    monkeypatch.undo()
    blocked = tmp_path / "etc"
    blocked.write_text("no folder")
    result = run("install-service", "--root", str(tmp_path))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_PYCARP_COMPLETE={shell}_complete" in result.output


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "conv", ["convert"]),
        (["up", "carp0"], "adv", ["advbase", "advskew"]),
        (["up", "carp0", "vhid", "1"], "vh", []),
        (["up", "carp0", "mac"], "", ["virtual", "interface"]),
        (["up", "carp0", "state"], "M", ["MASTER"]),
        (["up", "carp0", "vhid"], "", []),
        (["up", "carp0", "pass"], "", []),
        (["up", "carp0"], "--pre", ["--preempt"]),
    ],
)
def test_words_are_completed(words, incomplete, expected):
    complete = ShellComplete(pycarp, {}, "pycarp", "_PYCARP_COMPLETE")
    assert [item.value for item in complete.get_completions(words, incomplete)] == expected


def test_files_and_interfaces_are_completed():
    complete = ShellComplete(pycarp, {}, "pycarp", "_PYCARP_COMPLETE")
    (item,) = complete.get_completions(["up", "carp0", "passfile"], "/etc/ca")
    assert item.type == "file"
    there = (
        {name for name in os.listdir("/sys/class/net") if name != "lo"} if Path("/sys/class/net").exists() else set()
    )
    assert {item.value for item in complete.get_completions(["up", "carp0", "carpdev"], "")} == there


def test_a_reload_says_what_it_changed():
    one = VirtualHost(vhid=1, passphrase="motdepassehalakon", addresses=["10.0.0.1"])
    two = one.replace(passphrase="another secret", advskew=3)
    assert changes([one], [one]) == "the configuration was read again: nothing has changed"
    assert changes([one], [two]) == "the configuration was read again: carp1 has changed: advskew, secret"
    other = VirtualHost(vhid=2, passphrase="x", addresses=["10.0.0.2"])
    assert changes([one], [other]) == "the configuration was read again: carp2 is new; carp1 is gone"


def test_a_file_that_is_no_text_differs(tmp_path):
    assert run("install-service", "--root", str(tmp_path)).exit_code == 0
    unit = tmp_path / "etc/systemd/system/pycarp.service"
    unit.write_bytes(b"# caf\xe9\n")
    for more in ([], ["--remove"]):
        assert f"{unit}: differs, and stays" in run("install-service", "--root", str(tmp_path), *more).output
    assert unit.read_bytes() == b"# caf\xe9\n"
