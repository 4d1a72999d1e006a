"""Closed and full streams, readers that go away, Ctrl-C while the program starts: a line or silence, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.scene import Scene

from pycarp.monitor import pcap
from pycarp.monitor.observer import Observer

SILENT = {"stdin": subprocess.DEVNULL}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("streams")
    scene = Scene(Observer())
    scene.run(5)
    scene.main.stop()
    scene.run(4)
    pcap.write(directory / "group.pcap", scene.frames)
    words = directory / "ifconfig.carp0"
    words.write_text("vhid 101 pass motdepassehalakon 10.13.37.42/24\nfrob\n")
    words.chmod(0o600)
    return {"CAPTURE": str(directory / "group.pcap"), "WORDS": str(words)}


COMMANDS = [
    "--help",
    "--version",
    "up --help",
    "check --offline WORDS",
    "check --offline --json WORDS",
    "monitor -r CAPTURE",
    "monitor -r CAPTURE --json",
    "observe -r CAPTURE",
    "observe -r CAPTURE --json",
    "demo --simulate",
    "demo --simulate --json",
]


def pycarp_process(command: str, places: dict[str, str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    arguments = [places.get(word, word) for word in command.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-W", "error", "-m", "pycarp", *arguments]
    return subprocess.run(program, env=environment, timeout=60, check=False, **{**SILENT, **options})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line(command: str, places: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = pycarp_process(command, places, stdout=full, stderr=subprocess.PIPE)
    assert done.stderr.decode() == "pycarp: cannot write to standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_is_silence(command: str, places: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = pycarp_process(command, places, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_descriptors(command: str, places: dict[str, str]) -> None:
    expected = 2 if command.startswith("check") else 0
    shell = ["sh", "-c", 'exec "$@" >&- <&-', "sh"]
    arguments = [sys.executable, "-W", "error", "-m", "pycarp", *(places.get(word, word) for word in command.split())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*shell, *arguments], env=environment, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.stderr, done.returncode) == (b"", expected)


def test_what_is_opened_later_is_no_standard_descriptor(places: dict[str, str], tmp_path: Path) -> None:
    code = "import sys, os; from pycarp.cli import main; main(); print(os.open('/', 0), file=open(sys.argv[-1], 'w'))"
    shell = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", sys.executable, "-c", code, "--version", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(shell, env=environment, timeout=60, check=False)
    assert int((tmp_path / "out").read_text()) > 2


def test_a_full_disk_under_stderr_changes_no_exit_code(places: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        for command, code in (("check --offline WORDS", 2), ("up", 2), ("monitor -r CAPTURE", 0)):
            assert pycarp_process(command, places, stdout=subprocess.DEVNULL, stderr=full).returncode == code


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("module", ["click", "rich.console"])
def test_ctrl_c_in_the_middle_of_an_import(module: str, tmp_path: Path) -> None:
    """The stub stands for a slow machine: the signal comes while the module is being imported."""
    stub = tmp_path / (module.replace(".", "/") + ".py")
    stub.parent.mkdir(exist_ok=True)
    (tmp_path / "rich").mkdir(exist_ok=True)
    (tmp_path / "rich" / "__init__.py").touch()
    stub.write_text("import os\nos.kill(os.getpid(), 2)\nraise SystemExit('still here')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "TERM": "xterm"}
    main_end, terminal = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pycarp", "demo", "--simulate"],
            env=environment, timeout=60, check=False, stdout=terminal, stderr=subprocess.PIPE, **SILENT,
        )  # fmt: skip
    finally:
        os.close(main_end)
        os.close(terminal)
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.usefixtures("interruptible")
def test_a_background_job_does_not_end_by_ctrl_c(places: dict[str, str]) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    code = "import os, sys; os.kill(os.getpid(), 2); from pycarp.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-c", code, "monitor", "-r", places["CAPTURE"]]
    done = subprocess.run(
        program, env=environment, preexec_fn=ignore, timeout=60, check=False, stdout=subprocess.DEVNULL
    )
    assert done.returncode == 0
