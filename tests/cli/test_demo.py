"""The demonstration: the story on a simulated LAN and on real sockets, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.linux import needs_namespaces

from pycarp.cli import demo, demo_stage, demo_story, demo_view, main
from pycarp.cli.demo_story import ADDRESS, MAIN, PING_INTERVAL, SECOND, DemoError, Gap, Story, find_gaps

MS = 1_000_000
ALLOWED = 3_390_625_000


def test_the_simulated_story_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--simulate", "--seed", "1", "--json"]) == 0
    shown = capsys.readouterr()
    *lines, summary = map(json.loads, shown.out.splitlines())
    assert shown.err == ""
    acts = [line["act"] for line in lines if line["event"] == "act"]
    assert acts == ["start", "unplug", "plug", "stop"]
    changes = [(line["host"], line["after"]) for line in lines if line["event"] == "StateChanged"]
    assert changes == [
        (MAIN, "BACKUP"),
        (SECOND, "BACKUP"),
        (MAIN, "MASTER"),
        (MAIN, "INIT"),
        (SECOND, "MASTER"),
        (MAIN, "BACKUP"),
        (MAIN, "MASTER"),
        (SECOND, "BACKUP"),
        (MAIN, "INIT"),
        (SECOND, "MASTER"),
    ]
    assert summary["event"] == "summary"
    cut, back, stop = summary["acts"]
    assert 2 * 10**9 < cut["outage_ns"] <= ALLOWED + 2 * PING_INTERVAL and cut["allowed_ns"] == ALLOWED
    assert back["pings_lost"] == 0 == back["outage_ns"]
    assert stop["pings_lost"] <= 1 and stop["moved_after_ns"] < 5 * MS
    assert not any(act["late"] for act in summary["acts"])


@pytest.mark.parametrize(
    ("outage", "told"), [(2 * MS, ""), (19_800_000, "Pings measure a gap up to 10 ms too long"), (200 * MS, ": late")]
)
def test_a_gap_beyond_what_is_allowed_is_explained(outage: int, told: str) -> None:
    story = demo_story.Story()
    story.acts = [demo_story.Act("main stops", 2_500_000, "in good order", outage=outage, lost=1)]
    lines = demo_view.results(story, demo_story.Stage("nowhere", lambda happening: None, lambda: None))
    assert [told in line for line in lines].count(True) == (1 if told else len(lines))
    assert len(lines) == (4 if told.startswith("Pings") else 3)


def test_a_seed_makes_chance_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def run(seed: int) -> str:
        assert main(["demo", "--seed", str(seed)]) == 0
        return capsys.readouterr().out

    assert run(3) == run(3) != run(4)


@pytest.mark.parametrize("seed", range(5))
def test_the_story_as_text(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seed", str(seed)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith("A floating address between two hosts, on a simulated LAN in memory, as asked for")
    assert "pycarp up carp0 vhid 101 passfile /dev/stdin 10.13.37.42 netmask 255.255.255.0 --preempt" in lines[1]
    rows = [line for line in lines if line[:12].rstrip().endswith(" s") and line[:1] == " " and "." in line[:12]]
    times = [float(line.split()[0]) for line in rows]
    assert times == sorted(times) and len(times) > 15
    assert any("the cable of main is pulled out" in row for row in rows)
    assert any("INIT    MASTER" in row and "second: holds 10.13.37.42" in row for row in rows)
    assert "taken down" not in text
    assert "motdepassehalakon" not in text


def test_a_plain_old_terminal_gets_plain_old_signs() -> None:
    story = Story()
    out = TextIOWrapper(BytesIO(), encoding="ascii")
    view = demo_view.make_view(story, as_json=False, out=out)
    _simulate(story, view)
    out.flush()
    text = out.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "# master  - backup" in text and "x the cable of main" in text


def _simulate(story: Story, view: demo_view.DemoView) -> None:
    stage = demo_stage.SimulatedStage("here", story.tell, view.idle, 1)
    view.opening(stage)
    story.play(stage)
    view.closing()
    view.broken()
    stage.close()
    view.cleaned()


def test_a_terminal_gets_colours() -> None:
    from rich.console import Console

    console = Console(file=StringIO(), force_terminal=True, width=120, highlight=False, legacy_windows=False)
    story = Story()
    _simulate(story, demo_view.ColourView(story, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "█ master" in text and "\x1b[1;32mMASTER" in text and "Everything is taken down" in text


def test_gaps_are_runs_of_lost_pings() -> None:
    requests = [(0, 1), (10, None), (20, None), (30, 31), (40, 41), (50, None)]
    scaled = [(sent * MS, None if answered is None else answered * MS) for sent, answered in requests]
    late = 1000 * MS
    assert find_gaps(scaled, late) == [
        Gap(1 * MS, 10 * MS, 31 * MS, 2, False),
        Gap(41 * MS, 50 * MS, late, 1, True),
    ]
    # What was sent a moment ago is not lost yet, and who was too busy to ask has lost nothing.
    assert find_gaps([(0, 1 * MS), (50 * MS, None)], 60 * MS) == []
    assert find_gaps([(0, 1 * MS), (900 * MS, 901 * MS)], late) == []
    assert find_gaps([], late) == []


class LazyStage(demo_stage.SimulatedStage):
    """A stage on which the second host never does its part."""

    def start(self) -> None:
        self._lan.hosts[MAIN].start()


def test_a_host_that_does_not_do_its_part_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SimulatedStage", LazyStage)
    assert main(["demo", "--simulate"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("pycarp demo: second did not take 10.13.37.42 within 6.4 s, main's cable is pulled: ")
    assert err.count("\n") == 1


def test_a_lab_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "SimulatedStage", broken)
    assert main(["demo", "--simulate"]) == 1
    assert capsys.readouterr().err == "pycarp demo: the lab failed: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("platform", "found", "inside", "how"),
    [
        ("darwin", None, False, "elsewhere"),
        ("linux", "root", False, "root"),
        ("linux", "user", False, "user"),
        ("linux", None, False, "none"),
        ("linux", "root", True, "user"),
        # The second run never begins a third.
        ("linux", "user", True, "none"),
        ("linux", None, True, "none"),
    ],
)
def test_where_it_plays(
    monkeypatch: pytest.MonkeyPatch, platform: str, found: str | None, inside: bool, how: str
) -> None:
    from pycarp.lab import namespaces

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(namespaces, "available", lambda: found)
    monkeypatch.delenv("PYCARP_DEMO_INSIDE", raising=False)
    if inside:
        monkeypatch.setenv("PYCARP_DEMO_INSIDE", "1")
    assert demo._how() == how
    assert demo._WHERE[how]


def test_a_user_begins_anew_inside_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycarp.lab import namespaces

    entered: list[tuple[list[str], str | None]] = []

    def enter(argv: list[str]) -> None:
        entered.append((argv, os.environ.get("PYCARP_DEMO_INSIDE")))
        raise PermissionError("not here")

    monkeypatch.delenv("PYCARP_DEMO_INSIDE", raising=False)
    monkeypatch.setattr(namespaces, "available", lambda: "user")
    monkeypatch.setattr(namespaces, "enter_user_namespace", enter)
    assert main(["demo", "--json"]) == 0
    ((argv, mark),) = entered
    assert argv[-3:] == ["pycarp", "demo", "--json"] and mark == "1"
    assert "PYCARP_DEMO_INSIDE" not in os.environ
    assert "since this machine allows neither" in json.loads(capsys.readouterr().out.splitlines()[-1])["where"]


# On real sockets


@pytest.fixture
def mark() -> str:
    """In the environment of everything that a test starts, so that what is left can be found."""
    return f"PYCARP_TEST_MARK={uuid.uuid4().hex}"


def marked(mark: str) -> dict[int, str]:
    """The processes of this test that still run, with their command lines."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                if mark.encode() in (directory / "environ").read_bytes().split(b"\0"):
                    line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(directory.name)] = line
            except OSError:
                continue
    return found


@pytest.fixture
def process(mark: str, interruptible: None) -> Iterator[subprocess.Popen[str]]:
    """A demonstration on real sockets, killed at the end if it still runs."""
    name, _, value = mark.partition("=")
    path = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-m", "pycarp", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, name: value, "PYTHONPATH": path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    assert process.stdout is not None
    end = time.monotonic() + 60
    while time.monotonic() < end and select.select([process.stdout], [], [], 60)[0]:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        if wanted(event := json.loads(line)):
            return dict(event)
    pytest.fail("what was waited for did not happen")


class TestOnTheWire:
    pytestmark = needs_namespaces()

    @pytest.mark.slow
    def test_the_real_story(self, mark: str, process: subprocess.Popen[str]) -> None:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")
        summary = json.loads(out.splitlines()[-1])
        assert "network namespaces" in summary["where"]
        cut, back, stop = summary["acts"]
        # The bounds themselves are measured elsewhere, on a machine that does nothing else.
        assert 1.5e9 < cut["outage_ns"] < ALLOWED + 1e9
        assert back["outage_ns"] < 1e9 and stop["outage_ns"] < 1e9
        assert summary["pings"]["received"] > 200
        assert marked(mark) == {}

    @pytest.mark.slow
    def test_ctrl_c_leaves_nothing(self, mark: str, process: subprocess.Popen[str]) -> None:
        until(process, lambda event: event["event"] == "AddressesTaken")
        assert len(marked(mark)) == 3
        process.send_signal(signal.SIGINT)
        # An impatient second one does not get in the way of cleaning up.
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert err == "pycarp demo: interrupted; everything is taken down again\n"
        assert marked(mark) == {}

    @pytest.mark.slow
    def test_even_a_kill_leaves_nothing(self, mark: str, process: subprocess.Popen[str]) -> None:
        until(process, lambda event: event["event"] == "AddressesTaken")
        process.kill()
        process.communicate(timeout=20)
        end = time.monotonic() + 10
        while marked(mark) and time.monotonic() < end:
            time.sleep(0.05)
        assert marked(mark) == {}

    @pytest.mark.slow
    def test_a_host_that_dies_is_reported(self, mark: str, process: subprocess.Popen[str]) -> None:
        until(process, lambda event: event["event"] == "AddressesTaken")
        (victim,) = (number for number, line in marked(mark).items() if " up " in line and "advskew" not in line)
        os.kill(victim, signal.SIGKILL)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1
        assert err.startswith("pycarp demo: the pycarp of main has ended (exit code -9): ") and err.count("\n") == 1
        assert marked(mark) == {}


def test_the_errors_are_carps() -> None:
    from pycarp import CarpError

    assert issubclass(DemoError, CarpError)
    assert str(demo_story.HOSTS[MAIN].addresses[0].ip) == ADDRESS


def test_the_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "demo.svg"
    assert main(["demo", "--simulate", "--seed", "1", "--svg", str(file)]) == 0
    root = ElementTree.parse(file).getroot()
    assert root.tag.endswith("svg")
    assert "MASTER" in "".join(root.itertext())
    assert main(["demo", "--simulate", "--svg", str(tmp_path / "absent" / "x.svg")]) == 2
    assert "the picture cannot be written" in capfd.readouterr().err
