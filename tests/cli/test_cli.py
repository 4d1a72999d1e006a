"""The command line: exit codes, lines, signals. The engine is a double here; `tests` on the wire have the real one."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import pycarp
from pycarp import InterfaceError, Reason, State, VirtualHost
from pycarp import events as ev
from pycarp.cli import main, output, serve
from pycarp.cli.group import COMMANDS
from pycarp.cli.notify import notify
from pycarp.cli.status_view import table
from pycarp.engine.snapshot import InstanceSnapshot
from pycarp.linux import host_findings, interfaces
from pycarp.stats import Stats

SECRET = "motdepassehalakon"
WORDS = ["vhid", "101", "10.13.37.42/24"]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two LANs, so that no test depends on the one it runs on."""

    def interface(index: int, name: str, *addresses: str) -> interfaces.Interface:
        from ipaddress import ip_interface

        found = tuple(interfaces.InterfaceAddress(ip_interface(address)) for address in addresses)
        return interfaces.Interface(
            index=index,
            name=name,
            mac=b"\2\0\0\0\0\1",
            up=True,
            running=True,
            alias="",
            loopback=False,
            addresses=found,
        )

    there = (interface(2, "eth0", "10.13.37.11/24", "2001:db8::11/64"), interface(3, "eth1", "10.1.0.1/16"))
    monkeypatch.setattr(interfaces, "read_interfaces", lambda: there)
    monkeypatch.setattr(host_findings, "look", lambda hosts: [])


@pytest.fixture
def passfile(tmp_path: Path) -> str:
    path = tmp_path / "carp.pass"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return str(path)


class FakeEngine:
    """An engine that tells what it was asked for, and sends signals to this process when its events are read."""

    script: list[ev.Event | signal.Signals | Callable[[], object]]
    started: list[FakeEngine]
    refuse: Exception | None

    waiting: dict[str, str]

    def __init__(self, *hosts: VirtualHost, wait: bool, maintenance_file: Path, take_over: bool) -> None:
        self.hosts = hosts
        self.waits = wait
        self.calls: list[str] = []
        self.left = list(self.script)
        self.fd = os.eventfd(1)
        FakeEngine.started.append(self)

    def start(self) -> None:
        self.calls.append("start")
        if self.refuse is not None:
            os.close(self.fd)
            raise self.refuse

    def stop(self) -> None:
        self.calls.append("stop")
        os.close(self.fd)
        self.left = [changed(State.MASTER, State.INIT, Reason.STOPPED)]
        signal.raise_signal(signal.SIGINT)

    def fileno(self) -> int:
        return self.fd

    def events(self, timeout: float | None = None) -> Iterator[ev.Event]:
        assert timeout == 0, "the command line waits on descriptors only"
        while self.left:
            step = self.left.pop(0)
            if isinstance(step, signal.Signals):
                signal.raise_signal(step)
                return
            if isinstance(step, ev.Event):
                yield step
            else:
                step()

    def state(self, which: str) -> State:
        return State.BACKUP if f"hand over {which}" in self.calls else State.MASTER

    def demotion(self, which: str) -> int:
        return len(which)

    def begin_hand_over(self) -> SimpleNamespace:
        names = tuple(host.name for host in self.hosts if self.state(host.name) is State.MASTER)
        self.calls += [f"hand over {name}" for name in names]
        return SimpleNamespace(names=names)

    def snapshot(self) -> SimpleNamespace:
        return SimpleNamespace(instances=tuple(snapshot_of(host) for host in self.hosts))

    @property
    def predecessor(self) -> int:
        self.calls.append("see off")
        return 0

    def bequeath(self, hold: float) -> None:
        self.calls.append(f"bequeath {hold:g}")
        if self.refuse is not None:
            raise self.refuse
        self.hosts = ()

    def reconfigure(self, *hosts: VirtualHost) -> None:
        self.calls.append("reconfigure")
        self.hosts = hosts


def snapshot_of(host: VirtualHost, **changes: Any) -> InstanceSnapshot:
    """That of a MASTER since 1 ns after the machine's start, whose demotion is the length of its name."""
    values: dict[str, Any] = {
        "name": host.name, "vhid": host.vhid, "carpdev": "eth0", "mac": "00:00:5e:00:01:65", "master": None,
        "addresses": host.address_texts, "state": State.MASTER, "since": 1, "why": Reason.MASTER_DOWN, "cause": None,
        "owns": True, "leaving": False,
        "peers": (), "advbase": 1, "advskew": 0, "effective_advskew": 0, "preempt": False,
        "demotion": len(host.name), "demotions": (), "standing_back": None, "conflicts": (), "waiting": "",
        "hindrance": "", "gated": True, "lease": None, "failing": False, "due": None, "late": 0, "counters": Stats(),
    }  # fmt: skip
    return InstanceSnapshot(**{**values, **changes})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    FakeEngine.script = [changed(State.INIT, State.BACKUP, Reason.STARTED), signal.SIGTERM]
    FakeEngine.started = []
    FakeEngine.refuse = None
    FakeEngine.waiting = {}
    monkeypatch.setattr(serve, "make_engine", FakeEngine)
    return FakeEngine


def changed(before: State, after: State, reason: Reason, peer: str | None = None) -> ev.StateChanged:
    return ev.StateChanged(vhid=101, name="carp0", at=1, before=before, after=after, reason=reason, peer=peer)


def pycarp_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "pycarp", *arguments], capture_output=True, text=True, env=environment, **options
    )


def failing(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that ends with 2."""
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    return err


# Another server where pycarp's is expected


STATUS = {"instances": [], "well": True, "guardian": 1, "watchdog": None, "maintenance": False, "time": 1, "taken": 1}


@pytest.mark.parametrize(
    "given",
    [
        {"ok": True},
        {"ok": True, "v": 2, "result": STATUS},
        {"ok": True, "v": 1, "result": []},
        {"ok": True, "v": 1, "result": {"instances": 5}},
        {"ok": True, "v": 1, "result": {"instances": [5]}},
        {"ok": True, "v": 1, "result": {"instances": [{"name": "x", "vhid": 1}]}},
        {"ok": True, "v": 1, "result": {**STATUS, "instances": [{**dict.fromkeys(InstanceSnapshot.__slots__, 1)}]}},
        {"ok": True, "v": 1, "result": {**STATUS, "watchdog": {"expired": True, "fed": "x"}}},
        [1],
        7,
    ],
    ids=str,
)
def test_answers_that_make_no_sense(given: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "foreign.sock")
    commands = [["status"], ["ctl", "hand-over"], ["ctl", "demote", "1", "x"], ["ctl", "maintenance", "on"]]

    def serve_them() -> None:
        for _ in commands:
            with server.accept()[0] as client:
                client.recv(9999)
                client.sendall(json.dumps(given).encode() + b"\n")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(10)
        thread = threading.Thread(target=serve_them)
        thread.start()
        try:
            for group, *rest in commands:
                options = ["--socket", path]
                words = [group, *options] if group == "status" else ["ctl", *options, *rest]
                assert "of this version?" in failing(capfd, *words)
        finally:
            thread.join()


# The group


def test_help_lists_the_commands_without_their_modules() -> None:
    code = (
        "import sys; from pycarp.cli import main; main(['--help']);"
        "print([m for m in sys.modules if m in ('rich', 'pyroute2') or m.startswith(('pycarp.cli.', 'pycarp.linux'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.splitlines()
    for name, summary in COMMANDS.items():
        assert any(line.split() == [name, *summary.split()] for line in lines), name
    assert modules == "['pycarp.cli.output', 'pycarp.cli.streams', 'pycarp.cli.group']"


def test_the_help_of_ctl_cuts_no_summary(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--help"]) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert main(["ctl"]) == 0
    assert " ".join(capfd.readouterr().out.split()) == out
    assert "... " not in out.partition("Commands:")[2] and "also after a restart; or end that." in out


def test_without_arguments_it_helps(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "pycarp up carp0 vhid 101" in capfd.readouterr().out


@pytest.mark.parametrize("command", ["up", "run", "check"])
def test_the_help_of_a_command_has_examples(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--help", "-h"):
        assert main([command, option]) == 0
        out = capfd.readouterr().out
        assert f"  pycarp {command} " in out
        assert "Exit code" in out


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith(f"pycarp {pycarp.__version__} ({pycarp.__impl__}, ")


def test_as_a_module() -> None:
    done = pycarp_process("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pycarp {pycarp.__version__}")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["chek"], "did you mean 'check'?"),
        (["frobnicate"], "give one of up, run, status, ctl, check, convert, doctor, monitor, observe, demo"),
        (["--frobnicate"], "the option is unknown"),
        (["up"], "NAME"),
        (["up", "vhid", "101"], "the name of the interface comes first"),
        (["up", "10.13.37.42", "vhid", "101"], "the name of the interface comes first"),
        (["up", "carp0", "--vhid", "101"], "write 'vhid'"),
        (["up", "carp0", "--pasfile=foo"], "unknown"),
        (["up", "carp0", "--premt"], "did you mean '--preempt'?"),
        (["up", "carp0", "--dialect", "foo"], "'--dialect': (not shown) is not one of"),
        (["up", "carp0", "--dialect"], "--dialect"),
        (["check", "--foo"], "the option is unknown"),
        (["ctl", "maintenance"], "Choose from: on, off (see"),
        (["monitor", "eth0"], "pycarp monitor: there is a word too many (see"),
        (["run", "--directory", "/nonexistent"], "there is no file /nonexistent/ifconfig.carp*"),
        (["check", "--directory", "/nonexistent"], "there is no file /nonexistent/ifconfig.carp*"),
        (["run", "x", "--directory", "/nonexistent"], "one of the two"),
    ],
)
def test_mistakes_in_options(arguments: list[str], part: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert part in failing(capfd, *arguments)


def test_an_option_that_may_hold_a_passphrase_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    for option in (f"--pass={SECRET}", f"--password={SECRET}", f"--pass{SECRET}"):
        assert SECRET not in failing(capfd, "up", "carp0", option)


def test_without_click_there_is_one_line() -> None:
    code = "import sys; sys.modules['click'] = None; from pycarp.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "pycarp: the command line needs click: install it with pip install 'pycarp[cli]'\n"


def test_without_rich_there_is_one_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'rich.live'", name="rich.live")

    monkeypatch.setattr("importlib.import_module", refuse)
    assert failing(capfd, "demo") == "pycarp: the command line needs rich: install it with pip install 'pycarp[cli]'\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys; from pycarp.cli import main; sys.exit(main(['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr


# up


def test_up(engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
    out, err = capfd.readouterr()
    (one,) = engine.started
    assert one.hosts == (VirtualHost(vhid=101, addresses=["10.13.37.42/24"], passphrase=SECRET.encode(), name="carp0"),)
    assert one.calls == ["start", "stop"]
    assert err == ""
    assert [line.split(maxsplit=1)[1] for line in out.splitlines()] == [
        "carp0 INIT -> BACKUP: started",
        "carp0 MASTER -> INIT: administratively down",
    ]


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_options_stand_anywhere(
    where: str, engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--preempt", "--json", "--dialect", "netbsd", "--mac=interface"]
    words = ["vhid", "101", "carpdev", "eth1", "-carpdev", "passfile", passfile, "10.13.37.42/24"]
    arguments = {
        "before": [*options, "carp0", *words],
        "between": ["carp0", *words[:4], *options, *words[4:]],
        "after": ["carp0", *words, *options],
    }[where]
    assert main(["up", *arguments]) == 0
    (host,) = engine.started[0].hosts
    assert (host.preempt, host.dialect, host.mac, host.carpdev) == (True, "netbsd", "interface", None)
    first, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert (first["event"], first["before"], first["after"]) == ("StateChanged", "INIT", "BACKUP")
    assert (last["name"], last["vhid"], last["reason"], last["peer"]) == ("carp0", 101, "administratively down", None)
    assert "T" in first["time"]


def test_help_after_the_words(engine: type[FakeEngine], capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["carp0", *WORDS, "-h"], ["carp0", *WORDS, "--help"], ["carp0", "-carpdev", "-h", "up"]):
        assert main(["up", *words]) == 0
        assert "Usage: pycarp up" in capfd.readouterr().out
    assert engine.started == []
    # After pass it may be a passphrase.
    assert main(["up", "carp0", *WORDS, "pass", "-h"]) == 0
    assert engine.started[0].hosts[0].passphrase == "-h"


def test_words_like_options_are_words(engine: type[FakeEngine], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "carp0", *WORDS, "pass", "--jsonlike-phrase"]) == 0
    assert engine.started[0].hosts[0].passphrase == "--jsonlike-phrase"
    assert main(["up", "carp0", "--quiet", "--", *WORDS, "pass", "--json-and-more"]) == 0
    assert engine.started[1].hosts[0].passphrase == "--json-and-more"
    capfd.readouterr()
    assert main(["up", "carp0", *WORDS, "pass", "--json"]) == 2
    assert "'pass' needs a passphrase" in capfd.readouterr().err
    assert main(["up", "carp0", *WORDS, "-carpdv"]) == 2
    assert "'-carpdev'" in capfd.readouterr().err


def test_quiet(engine: type[FakeEngine], capfd: pytest.CaptureFixture[str]) -> None:
    engine.script.insert(0, ev.Failed(vhid=101, name="carp0", at=1, what="the address was not taken"))
    assert main(["up", "carp0", *WORDS, "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "NO PASSPHRASE" in err
    assert "failed: the address was not taken" in err


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_in_order(engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]) -> None:
    # The double raises SIGINT a second time while it stops.
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        engine.script[-1] = number
        assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
        assert engine.started[-1].calls == ["start", "stop"]
        assert capfd.readouterr().err == ""
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("name", ["SIGQUIT", "SIGALRM", "SIGXCPU", "SIGPWR", "SIGIO", "SIGPROF"])
def test_what_would_end_it_at_once_ends_it_in_order(name: str, engine: type[FakeEngine], passfile: str) -> None:
    number = engine.script[-1] = signal.Signals[name]
    # Whoever starts the tests in the background may have had SIGQUIT ignored.
    former = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
        assert engine.started[-1].calls == ["start", "stop"]
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, former)


def test_usr1_prints_a_line_for_each_virtual_host(
    engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24", carp12=f"vhid 2 pass {SECRET} 10.1.0.2")
    engine.script = [changed(State.BACKUP, State.MASTER, Reason.MASTER_DOWN), signal.SIGUSR1, signal.SIGTERM]
    assert main(["run", "--directory", str(tmp_path), "--quiet"]) == 0
    first, second = [line.split(maxsplit=1)[1] for line in capfd.readouterr().out.splitlines()]
    assert first.startswith("carp0: vhid 101, MASTER since 20")
    assert first.endswith(", 10.13.37.42/24, demotion 5")
    assert second.startswith("carp12: vhid 2, MASTER since ") and second.endswith(", 10.1.0.2, demotion 6")
    engine.script = [changed(State.BACKUP, State.MASTER, Reason.MASTER_DOWN), signal.SIGUSR1, signal.SIGTERM]
    assert main(["run", "--directory", str(tmp_path), "--json"]) == 0
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    one, two = [each for each in told if each["event"] == "Status"]
    assert {name: one[name] for name in ("name", "vhid", "state", "addresses", "demotion")} == {
        "name": "carp0", "vhid": 101, "state": "MASTER", "addresses": ["10.13.37.42"], "demotion": 5,
    }  # fmt: skip
    assert "T" in one["since"] and "T" in one["time"] and two["why"] == "master-down timer expired"


def test_usr2_hands_over_what_is_master(
    engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.script = [signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM]
    assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
    assert engine.started[0].calls == ["start", "hand over carp0", "stop"]
    assert capfd.readouterr().err == "pycarp up: SIGUSR2 hands over what is MASTER, and nothing is MASTER here\n"


def test_nohup_is_respected(engine: type[FakeEngine], passfile: str) -> None:
    seen: list[str] = []
    engine.script[1:] = [signal.SIGHUP, lambda: seen.append("still here"), signal.SIGTERM]
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
    finally:
        signal.signal(signal.SIGHUP, former)
    assert seen == ["still here"]


@pytest.mark.parametrize(
    ("words", "word", "part"),
    [
        ("vhid 0 10.13.37.42/24", 2, "vhid 0 is out of range: give 1-255"),
        ("vhid 101 10.13.37.42/24 advskew 255", 5, "advskew 255"),
        ("vhid 101 10.99.0.1/24", 3, "10.99.0.1"),
        ("vhid 101 10.13.37.42/24 10.1.0.2/16", 3, "10.13.37.42"),
        ("vhid 101 10.13.37.11/24", 3, "10.13.37.11 is already on eth0"),
        ("vhid 101 carpdev eth0 10.1.0.1/16", 5, "10.1.0.1 is already on eth1"),
        ("vhid 101 10.13.37.42/24 carpdev eth7", 5, "eth7"),
    ],
)
def test_configuration_mistakes(
    words: str, word: int, part: str, engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]
) -> None:
    line = failing(capfd, "up", "carp0", *words.split(), "passfile", passfile)
    assert line.startswith(f"command line, word {word}: error: ")
    assert part in line
    assert engine.started == []


def test_an_engine_that_cannot_start(
    engine: type[FakeEngine], passfile: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for error in (
        pycarp.CapabilityError("CAP_NET_RAW is missing"),
        InterfaceError("eth0 went"),
        OSError(24, "Too many"),
    ):
        engine.refuse = error
        assert str(error) in failing(capfd, "up", "carp0", *WORDS, "passfile", passfile)
        assert engine.started[-1].calls == ["start"]


# run


def files(directory: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = directory / f"ifconfig.{name}"
        path.write_text(content)
        path.chmod(0o600)


def test_run_every_file(engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24", carp1=f"vhid 2 pass {SECRET}\n-preempt 10.1.0.2")
    (tmp_path / "ifconfig.carp0~").touch()
    assert main(["run", "--directory", str(tmp_path), "--preempt", "--json"]) == 0
    assert [(h.name, h.vhid, h.preempt) for h in engine.started[0].hosts] == [("carp0", 101, True), ("carp1", 2, False)]
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2
    assert err.startswith(f"{tmp_path}/ifconfig.carp0~: warning: the file is left out") and err.count("\n") == 1


def test_run_some_files(engine: type[FakeEngine], tmp_path: Path) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24", carp1="broken")
    assert main(["run", str(tmp_path / "ifconfig.carp0")]) == 0
    assert [h.name for h in engine.started[0].hosts] == ["carp0"]


def test_run_with_mistakes_runs_nothing(
    engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24", carp1=f"vhid 101\npass {SECRET} 10.13.37.43/24")
    line = failing(capfd, "run", "--directory", str(tmp_path))
    assert line.startswith(f"{tmp_path}/ifconfig.carp1:1:6: error: vhid 101 on eth0")
    files(tmp_path, carp1="vhid 0")
    assert main(["run", "--directory", str(tmp_path)]) == 2
    assert engine.started == []


def test_a_hangup_reads_the_files_again(
    engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = f"vhid 101 pass {SECRET} 10.13.37.42/24"

    def empty() -> None:
        (tmp_path / "ifconfig.carp0").unlink()

    files(tmp_path, carp0=good)
    engine.script = [
        lambda: files(tmp_path, carp0=f"{good} advskew 255"),
        signal.SIGHUP,
        lambda: files(tmp_path, carp0=f"{good} advskew 10", carp1=f"vhid 2 pass {SECRET} 10.1.0.2"),
        signal.SIGHUP,
        lambda: (empty(), (tmp_path / "ifconfig.carp1").unlink()),
        signal.SIGHUP,
        signal.SIGTERM,
    ]
    assert main(["run", "--directory", str(tmp_path)]) == 0
    (one,) = engine.started
    assert one.calls == ["start", "reconfigure", "stop"]
    assert [(h.name, h.advskew) for h in one.hosts] == [("carp0", 10), ("carp1", 0)]
    err = [line for line in capfd.readouterr().err.splitlines() if "was read again" not in line]
    assert "advskew 255" in err[0]
    assert err[1] == err[3] == "pycarp run: the old configuration stays"
    assert "there is no file" in err[2]


@pytest.mark.parametrize("command", ["run", "up"])
def test_a_signal_that_comes_before_its_handler_waits_for_it(command: str, tmp_path: Path) -> None:
    names = "SIGUSR1", "SIGUSR2", *(["SIGHUP"] if command == "run" else [])
    code = (
        "import os, signal, sys\nfrom pycarp import cli\ncli._be_a_program()\n"
        f"for name in {names}: os.kill(os.getpid(), getattr(signal, name))\n"
        "from pycarp.cli.signals import Signals\n"
        "with Signals(hangup_reloads=True) as signals:\n"
        f"    assert all(signals.take(getattr(signal, name)) for name in {names})\n"
        "    assert not signals.stopping and not signal.pthread_sigmask(signal.SIG_BLOCK, ())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hangup_when_the_directory_cannot_be_read(
    engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24")
    engine.script = [lambda: monkeypatch.setattr(os, "listdir", refuse), signal.SIGHUP, signal.SIGTERM]
    assert main(["run", "--directory", str(tmp_path)]) == 0
    assert engine.started[0].calls == ["start", "stop"]
    err = capfd.readouterr().err.splitlines()
    assert "cannot be read (Permission denied)" in err[0] and err[1] == "pycarp run: the old configuration stays"


def test_an_engine_that_refuses_the_new_configuration(
    engine: type[FakeEngine], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeEngine, *hosts: VirtualHost) -> None:
        raise InterfaceError("eth0 went away")

    monkeypatch.setattr(FakeEngine, "reconfigure", refuse)
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24")
    engine.script = [signal.SIGHUP, signal.SIGTERM]
    assert main(["run", "--directory", str(tmp_path)]) == 0
    assert capfd.readouterr().err == "pycarp run: eth0 went away\npycarp run: the old configuration stays\n"


# The service manager


def test_notify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    assert not notify("READY=1")
    for address in (str(tmp_path / "notify"), f"\0pycarp-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
            assert notify("READY=1")
            assert listener.recv(100) == b"READY=1"


def test_the_service_manager_hears_of_every_step(
    engine: type[FakeEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24")
    engine.script = [signal.SIGHUP, signal.SIGTERM]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert main(["run", "--directory", str(tmp_path)]) == 0
        heard = []
        while select.select([listener], [], [], 0)[0]:
            heard.append(listener.recv(500).decode())
    assert heard[0] == "READY=1\nSTATUS=carp0 (vhid 101)"
    assert heard[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[2:] == ["STATUS=carp0 (vhid 101)", "READY=1", "STOPPING=1"]


# check


def test_check_what_is_right(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24", carp1="vhid 2 10.1.0.2 carpdev eth1")
    assert main(["check", "--directory", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    warning, first, second = out.splitlines()
    assert warning.startswith(f"{tmp_path}/ifconfig.carp1: warning: NO PASSPHRASE")
    assert first == f"{tmp_path}/ifconfig.carp0: ok: carp0, vhid 101, 10.13.37.42/24 on eth0"
    assert second == f"{tmp_path}/ifconfig.carp1: ok: carp1, vhid 2, 10.1.0.2 on eth1"


def test_check_what_is_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files(
        tmp_path,
        carp0=f"# one\nvhid 256 pass {SECRET}\n  advskwe 10 10.13.37.42/24",
        carp1=f"vhid 1 pass {SECRET}\n10.99.0.1/24",
        carp2=f"vhid 2 pass {SECRET}\n10.13.37.43/24",
    )
    names = [str(tmp_path / f"ifconfig.carp{n}") for n in range(4)]
    assert main(["check", *names]) == 2
    out = capfd.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in out] == [
        f"{names[0]}:2:6",
        f"{names[0]}:3:3",
        f"{names[1]}:2:1",
        names[3],
        names[2],
    ]
    assert "'advskew'" in out[1] and "10.99.0.1" in out[2] and "does not exist" in out[3] and ": ok: " in out[4]
    assert main(["check", "--offline", names[1]]) == 0
    assert capfd.readouterr().out == f"{names[1]}: ok: carp1, vhid 1, 10.99.0.1/24\n"


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("10.13.37.42", False), ("10.13.37.42/24", False), ("10.13.37.42/32", False), ("10.13.37.42/29", True),
        ("10.13.37.42/16", True), ("2001:db8::42/64", False), ("2001:db8::42/56", True),
    ],
)  # fmt: skip
def test_another_mask_than_the_lans(
    address: str, warned: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ifconfig.carp0"
    file.write_text(f"vhid 101 pass {SECRET} {address}\n")
    file.chmod(0o600)
    assert main(["check", str(file)]) == 0
    *warnings, _ok = capfd.readouterr().out.splitlines()
    assert [line.partition(": warning: ")[0] for line in warnings] == [f"{file}:1:33"] * warned
    assert all("has another mask than eth0" in line for line in warnings)


def test_check_of_what_is_no_file_of_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One sentence each, and it waits for nobody."""
    os.mkfifo(tmp_path / "ifconfig.fifo")
    (tmp_path / "ifconfig.binary").write_bytes(os.urandom(100) + b"\0")
    (tmp_path / "ifconfig.wide").write_text("vhid 1", "utf-16")
    with open(tmp_path / "ifconfig.huge", "wb") as huge:
        huge.truncate(1 << 40)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "ifconfig.socket"))
        for name, part in (
            ("fifo", "nothing writes into this pipe"), ("binary", "not a text file"), ("wide", "not a text file"),
            ("huge", "not a text file"), ("socket", "cannot be read"), ("", "this is a directory"),
            ("none", "does not exist"),
        ):  # fmt: skip
            path = str(tmp_path / f"ifconfig.{name}") if name else str(tmp_path)
            assert main(["check", "--offline", path]) == 2
            out, err = capfd.readouterr()
            assert out.startswith(f"{path}: error: ") and part in out and out.count("\n") == 1 and err == ""


def test_check_reads_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    slow = threading.Timer(
        0.2, lambda: (os.write(writer, f"vhid 1 pass {SECRET} 10.0.0.1/24".encode()), os.close(writer))
    )
    slow.start()
    assert main(["check", "--offline", f"/dev/fd/{reader}"]) == 0
    slow.join()
    os.close(reader)
    assert capfd.readouterr().out == f"/dev/fd/{reader}: ok: carp1, vhid 1, 10.0.0.1/24\n"


@pytest.mark.parametrize("command", ["check", "run"])
def test_words_where_files_belong(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = failing(capfd, command, *WORDS, "pass", SECRET)
    assert "these are words, not FILEs" in said and SECRET not in said
    assert main([command, SECRET, f"dir/{SECRET}"]) == 2
    out, err = capfd.readouterr()
    assert [line.partition(":")[0] for line in (out + err).splitlines()] == ["FILE 1", "FILE 2"]


def test_check_for_programs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, carp0=f"vhid 256 pass {SECRET} 10.13.37.42/24\npass short")
    assert main(["check", "--json", "--directory", str(tmp_path)]) == 2
    out = capfd.readouterr().out
    found = [json.loads(line) for line in out.splitlines()]
    assert [(d["line"], d["column"], d["severity"]) for d in found] == [
        (1, 6, "error"),
        (2, 1, "error"),
        (2, 6, "warning"),
    ]
    assert found[0]["word"] == "256" and found[0]["source"] == f"{tmp_path}/ifconfig.carp0"
    assert SECRET not in out and "short" not in out


def test_check_what_cannot_be_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24")
    (tmp_path / "ifconfig.carp0").chmod(0)
    if os.geteuid():
        assert main(["check", str(tmp_path / "ifconfig.carp0")]) == 2
        assert "ifconfig.carp0: error: the file cannot be read (permission denied)" in capfd.readouterr().out

    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    for command in ("check", "run"):
        line = failing(capfd, command, "--directory", str(tmp_path))
        assert f"the directory {tmp_path} cannot be read (Permission denied): give one that this user may read" in line


def test_check_as_a_user_who_may_not(tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root, to give up the right to read everything")
    files(tmp_path, carp0=f"vhid 101 pass {SECRET} 10.13.37.42/24")
    (tmp_path / "ifconfig.carp0").chmod(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    program = [*less, sys.executable, "-m", "pycarp", "check", str(tmp_path / "ifconfig.carp0")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    said = "ifconfig.carp0: error: the file cannot be read (permission denied): run as a user who may, such as root"
    assert (done.returncode, done.stderr) == (2, "") and said in done.stdout


def test_check_says_what_of_the_host_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(hosts: list[VirtualHost]) -> list[host_findings.Finding]:
        make = host_findings.finding
        return [make("no-carrier", host.name, carpdev="eth0") for host in hosts] + [make("tcp-loose")]

    monkeypatch.setattr(host_findings, "look", look)
    files(tmp_path, carp0=f"vhid 101 pass {SECRET}\ncarpdev eth0 10.13.37.42/24")
    assert main(["check", "--directory", str(tmp_path)]) == 0
    warning, right = capfd.readouterr().out.splitlines()
    place, _, rest = warning.partition(": ")
    assert place == f"{tmp_path}/ifconfig.carp0:2:9"
    assert rest == "warning: eth0 has no carrier: plug its cable, or take another carpdev [no-carrier]"
    assert right.startswith(f"{tmp_path}/ifconfig.carp0: ok: ")
    assert main(["check", "--offline", "--directory", str(tmp_path)]) == 0
    assert "carrier" not in capfd.readouterr().out


def test_check_without_netlink(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(interfaces, "read_interfaces", refuse)
    files(tmp_path, carp0=f"vhid 1 pass {SECRET} 10.13.37.42/24")
    assert main(["check", "--directory", str(tmp_path)]) == 2
    assert "Operation not permitted" in capfd.readouterr().out


# Lines

EVENTS: list[tuple[ev.Event, str]] = [
    (
        changed(State.BACKUP, State.MASTER, Reason.MASTER_DOWN),
        "carp0 BACKUP -> MASTER: master-down timer expired",
    ),
    (
        changed(State.MASTER, State.BACKUP, Reason.BETTER, "10.13.37.12"),
        "carp0 MASTER -> BACKUP: a better master was heard (10.13.37.12)",
    ),
    (
        ev.AddressesTaken(vhid=1, name="carp0", at=1, addresses=("10.0.0.1", "10.0.0.2"), took=1_250_000),
        "carp0 holds 10.0.0.1, 10.0.0.2 (1.2 ms)",
    ),
    (
        ev.AddressesDropped(vhid=1, name="carp0", at=1, addresses=("10.0.0.1",), took=40_000),
        "carp0 gave up 10.0.0.1 (0.0 ms)",
    ),
    (
        ev.PeerHeard(vhid=1, name="carp0", at=1, peer="10.0.0.9", dialect="netbsd", advbase=1, advskew=100),
        "carp0 heard 10.0.0.9: advbase 1, advskew 100, key as netbsd",
    ),
    (
        ev.AdvertRejected(
            vhid=1, name="carp0", at=1, counter="badauth", peer="10.0.0.9", hint="compare the passphrases"
        ),
        "carp0 refuses adverts of 10.0.0.9: badauth, compare the passphrases",
    ),
    (
        ev.SiblingHeard(vhid=1, name="carp0", at=1, sibling=100, peer="10.0.0.9", standing="warn", advice="do better"),
        "carp0 do better",
    ),
    (
        ev.RivalHeard(vhid=1, name="carp0", at=1, peer="10.0.0.9", rule="worse"),
        "carp0 another master is heard, 10.0.0.9: this host is the better one and stays",
    ),
    (
        ev.RivalHeard(vhid=1, name="carp0", at=1, peer="10.0.0.9", rule="tie"),
        "carp0 another master is heard, 10.0.0.9: it is as good, this host yields",
    ),
    (
        ev.VirtualMacFiltered(
            vhid=1, name="carp0", at=1, carpdev="eth0", mac="00:00:5e:00:01:01", neighbour="10.0.0.1"
        ),
        "carp0 10.0.0.1 answers the MAC of eth0, but not 00:00:5e:00:01:01: a switch or hypervisor filters the virtual "
        "MAC (port security, forged transmits); allow it there, or use mac interface on all hosts of the group",
    ),
    (ev.RivalDeaf(vhid=1, name="carp0", at=1, peer="10.0.0.9", advice="it stays"), "carp0 it stays"),
    (
        ev.VrrpHeard(vhid=1, name="carp0", at=1, peer="10.0.0.9", advice="10.0.0.9 speaks VRRP"),
        "carp0 10.0.0.9 speaks VRRP",
    ),
    (
        ev.UnicastPeer(vhid=1, name="carp0", at=1, peer="10.0.0.9", advice="peer 10.0.0.9 is not found"),
        "carp0 peer 10.0.0.9 is not found",
    ),
    (
        ev.Stalled(vhid=1, name="carp0", at=1, pause=2_450_000_001, released=False),
        "carp0 did not run for 2.5 s; it stands by",
    ),
    (
        ev.Stalled(vhid=1, name="carp0", at=1, pause=30 * 10**9, released=True),
        "carp0 did not run for 30.0 s; the guardian let go of the addresses",
    ),
    (
        ev.TenureEnded(vhid=1, name="carp0", at=1),
        "carp0 the program has not renewed its tenure: the addresses go",
    ),
    (
        ev.WatchdogExpired(vhid=0, name="", at=1, silence=5 * 10**9),
        "the program gave no sign of life for 5.0 s: adverts count as advskew 240",
    ),
    (ev.WatchdogFed(vhid=0, name="", at=1), "the program gives signs of life again"),
    (
        ev.TakeoverDelayed(vhid=1, name="carp0", at=1, losses=7),
        "carp0 no master is heard, but frames were lost here (7): waits for one more interval",
    ),
    (ev.PaceChanged(vhid=1, name="carp0", at=1, what="this machine is slow"), "carp0 this machine is slow"),
    (ev.GuardianLost(vhid=0, name="", at=1, what="it was killed"), "the guardian is lost: it was killed"),
    (ev.GuardianReplaced(vhid=0, name="", at=1), "there is a guardian again"),
    (
        ev.NativeUnavailable(vhid=0, name="", at=1, why="this installation has no compiled modules"),
        "adverts are timed less sharply, in plain Python: this installation has no compiled modules",
    ),
    (
        ev.GateUnavailable(vhid=0, name="", at=1, why="Operation not supported"),
        "no gate can be made (Operation not supported): when engine and guardian die at once, the addresses stay until "
        "their lifetime ends, a whole number of seconds and up to 2 s more; a gate needs Linux 5.16 with nf_tables",
    ),
    (
        ev.LeaseUnavailable(vhid=1, name="carp0", at=1, why="advbase is 0"),
        "carp0 holds addresses without a limit that ends before others may take over: advbase is 0",
    ),
    (
        ev.AddressConflict(vhid=1, name="carp0", at=1, address="10.0.0.1", mac="02:00:00:00:00:09"),
        "carp0 02:00:00:00:00:09 answers for 10.0.0.1, though no master is heard",
    ),
    (
        ev.FamilySilent(vhid=1, name="carp0", at=1, family=6),
        "carp0 the master is no longer heard in IPv6, though in the other family",
    ),
    (ev.Demoted(vhid=1, name="carp0", at=1, demotion=2), "carp0 demoted, 2: advskew counts as 240 or more"),
    (ev.Demoted(vhid=1, name="carp0", at=1, demotion=0), "carp0 no longer demoted"),
    (ev.DemotionReason(vhid=1, name="carp0", at=1, reason="dns", by=2, fault=False), "carp0 demoted by 2: dns"),
    (ev.DemotionReason(vhid=1, name="carp0", at=1, reason="dns", by=1, fault=True), "carp0 fault, handing over: dns"),
    (ev.DemotionReason(vhid=1, name="carp0", at=1, reason="dns", by=0, fault=False), "carp0 no longer demoted by: dns"),
    (
        ev.CheckChanged(vhid=1, name="carp0", at=1, check="dns", up=False, said="no answer within 1 s"),
        "carp0 check dns fails: no answer within 1 s",
    ),
    (
        ev.CarpdevChanged(vhid=1, name="carp0", at=1, carpdev="eth0", present=True, up=False),
        "carp0 eth0 is down, or without carrier",
    ),
    (
        ev.Waiting(vhid=1, name="carp0", at=1, what="there is no interface eth9; there is eth0 (10.0.0.0/24)"),
        "carp0 waits: there is no interface eth9; there is eth0 (10.0.0.0/24)",
    ),
    (ev.CarpdevChanged(vhid=1, name="carp0", at=1, carpdev="eth0", present=True, up=True), "carp0 eth0 is up"),
    (ev.CarpdevChanged(vhid=1, name="carp0", at=1, carpdev="eth0", present=False, up=False), "carp0 eth0 is gone"),
    (
        ev.CarpdevChanged(vhid=1, name="carp0", at=1, carpdev="eth0", present=True, up=False, why="it is too small"),
        "carp0 eth0 cannot be used: it is too small",
    ),
    (
        ev.CarpdevMacUsed(vhid=1, name="carp0", at=1, carpdev="eth0", driver="macvlan"),
        "carp0 eth0 is a macvlan, which does not hear another host's virtual MAC: its own MAC answers, as with "
        "mac interface",
    ),
    (
        ev.ChangedByOthers(vhid=1, name="carp0", at=1, what="took the carrier of carp0 (protodown)"),
        "carp0 another program took the carrier of carp0 (protodown): it is put right",
    ),
    (ev.Failed(vhid=1, name="carp0", at=1, what="no [room] left"), "carp0 failed: no [room] left"),
    (
        ev.HostFinding(vhid=0, name="", at=1, finding="tcp-loose", what="it is 0: set it to 1"),
        "it is 0: set it to 1",
    ),
    (
        ev.ControlClientDropped(vhid=0, name="", at=1, pid=7, uid=33, why="it does not read what it has asked for"),
        "a client of the control socket (process 7, user 33) is dropped: it does not read what it has asked for",
    ),
    (
        ev.Inherited(vhid=1, name="carp0", at=1, process=7, state=State.MASTER),
        "carp0 goes on from process 7, as MASTER",
    ),
    (ev.HandedOn(vhid=1, name="carp0", at=1, process=8), "carp0 process 8 goes on with it"),
    (
        ev.ChangeStep(vhid=1, name="carp0", at=1, speaks="both", why="it was told so"),
        "carp0 of the old and the new secret or addresses it speaks both: it was told so",
    ),
    (ev.ChangedAtOnce(vhid=1, name="carp0", at=1, what="secret", advice="it changed"), "carp0 it changed"),
    (ev.HandedOn(vhid=1, name="carp0", at=1, process=0), "carp0 is stopped, for another process to start it"),
    (ev.HookSaid(vhid=1, name="carp0", at=1, hook="any up.sh", line="hello"), "carp0 hook any up.sh: hello"),
    (
        ev.HookDone(vhid=1, name="carp0", at=1, hook="any up.sh", took=5_000_000),
        "carp0 hook any up.sh is done (5.0 ms)",
    ),
    (
        ev.HookFailed(vhid=1, name="carp0", at=1, hook="any up.sh", why="exit code 7"),
        "carp0 hook any up.sh failed: exit code 7",
    ),
    (
        ev.HooksSkipped(vhid=1, name="carp0", at=1, count=2),
        "carp0 2 changes were not told to hooks: one before them takes too long",
    ),
    (ev.EventsLost(vhid=0, name="", at=1, count=7), "7 events are not shown: what reads them is too slow"),
]


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_lines_for_people(event: ev.Event, line: str) -> None:
    clock, rest = output.human(event).split(" ", 1)
    assert rest == line
    assert len(clock) == len("12:34:56.789")


def test_every_event_has_its_line() -> None:
    known = {name for name, value in vars(ev).items() if isinstance(value, type) and issubclass(value, ev.Event)}
    assert {type(event).__name__ for event, _ in EVENTS} == known - {"Event"}


def test_colours_change_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = output._rich_line()
    assert line is not None
    for event, _ in EVENTS:
        coloured = line(event)
        assert "\x1b[" in coloured
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured)[12:] == output.human(event)[12:]
    monkeypatch.setenv("TERM", "dumb")
    assert output._rich_line() is None


def test_the_wall_clock() -> None:
    import time

    now = output.wall_clock(time.monotonic_ns()).timestamp()
    assert abs(now - time.time()) < 1


def test_a_terminal_gets_colours_and_a_pipe_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main_end, terminal = os.openpty()
    with open(main_end, "rb", buffering=0) as reader, open(terminal, "w") as tty:
        output.Printer(out=tty).event(EVENTS[0][0])
        assert b"\x1b[" in reader.read(1000)
        output.Printer(out=tty, as_json=True).event(EVENTS[0][0])
        assert b"\x1b[" not in reader.read(1000)
        output.Printer(out=tty).remark("Ctrl-C ends it")
        assert b"Ctrl-C" in reader.read(1000)
    stream = io.StringIO()
    output.Printer(out=stream).event(EVENTS[0][0])
    output.Printer(out=stream).remark("Ctrl-C ends it")
    assert stream.getvalue()[12:] == f" {EVENTS[0][1]}\n"


def test_a_reader_that_is_gone_costs_the_lines_only(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as raw:
        printer = output.Printer(out=raw)  # type: ignore[arg-type]
        printer.event(EVENTS[0][0])
        printer.event(EVENTS[0][0])
    assert capsys.readouterr().err.count("the reader of the events is gone") == 1


def test_a_full_disk_costs_the_lines_until_there_is_room(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, open(tmp_path / "events", "w") as room:
        printer = output.Printer(out=full)
        printer.event(EVENTS[0][0])
        printer.event(EVENTS[0][0])
        os.dup2(room.fileno(), full.fileno())
        printer.event(EVENTS[0][0])
    assert (tmp_path / "events").read_text().count("\n") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pycarp: events cannot be printed (No space left on device)")


def test_a_reader_that_stalls_does_not_keep_the_engine_from_stopping(
    engine: type[FakeEngine], passfile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is full and nobody reads: SIGTERM still ends it, in order."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    engine.script = [EVENTS[0][0], EVENTS[0][0]]
    killer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0) as raw:
        monkeypatch.setattr(sys, "stdout", raw)
        killer.start()
        assert main(["up", "carp0", *WORDS, "passfile", passfile]) == 0
        monkeypatch.undo()
    killer.join()
    assert engine.started[0].calls == ["start", "stop"]


def test_a_narrow_terminal_gets_lines_that_can_be_read() -> None:
    host = VirtualHost(vhid=101, passphrase=SECRET, addresses=["10.13.37.42/24"], name="carp0")
    instance = {**asdict(snapshot_of(host)), "state": "MASTER", "why": None, "well": True}
    found = [(Path("run.sock"), {**STATUS, "instances": [instance]})]
    for width, part in ((50, "carp0: vhid 101, MASTER since"), (90, "vhid   state")):
        console = Console(width=width, file=io.StringIO())
        console.print(table(found, width))
        assert isinstance(console.file, io.StringIO) and part in console.file.getvalue(), console.file.getvalue()
