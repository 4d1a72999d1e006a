"""``pycarp monitor``, with captures and on terminals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.scene import EPOCH, SECRET, VIP, Scene
from support.wire import Frame

from pycarp.cli import main
from pycarp.lab.simulation import SECOND
from pycarp.monitor import pcap
from pycarp.monitor.observer import Observer


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    scene = Scene(Observer())
    scene.run(5)
    scene.main.stop()
    scene.run(4)
    path = tmp_path / "group.pcap"
    pcap.write(path, scene.frames)
    return path


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    path = tmp_path / "carp.pass"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_capture_as_lines(capture: Path, passfile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--passfile", str(passfile), "--address", VIP]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} vhid 101: 10\.13\.37\.11 advertises every 1\.000 s \(advbase 1, advskew 0\)", lines[0]
    )
    assert "10.13.37.11 bows out" in lines[1]
    assert "10.13.37.12 advertises every 1.391 s" in lines[2]
    assert lines[3].startswith(f"{capture}: ")
    assert "bsd+netbsd, looks like pycarp, 00:00:5e:00:01:65" in lines[4]
    assert len(lines) == 6


def test_a_capture_as_json(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--json"]) == 0
    *changes, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [change["event"] for change in changes] == ["master", "bowed out", "master"]
    assert changes[0]["at"] > EPOCH and changes[0]["time"].startswith("2026-11-18T")
    assert summary["event"] == "summary" and len(summary["speakers"]) == 2
    assert summary["speakers"][0]["interval_ns"]["median"] == SECOND


def test_count_and_seconds_end_it(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-r", str(capture), "--json", "--count", "3"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["adverts"] == 3
    assert main(["monitor", "-r", str(capture), "--json", "--seconds", "1.5"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["adverts"] == 4


def test_a_terminal_gets_a_table(capture: Path) -> None:
    from io import StringIO

    from rich.console import Console

    from pycarp.cli.monitor_view import ColourView, LiveView, MonitorReport

    observer = Observer(SECRET, [VIP])
    console = Console(file=StringIO(), force_terminal=True, width=140, highlight=False)
    with ColourView(MonitorReport(observer, "a\x1b[2Jfile"), console) as view:
        for at, frame in pcap.read(capture):
            view.show(observer.frame(frame, at), at)
        view.summary()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "● master" in text and "○ bowed out" in text and "\x1b[2J" not in text and r"a\x1b[2Jfile" in text
    live = Observer()
    with LiveView(MonitorReport(live, "eth0"), console) as view:
        view.show([], EPOCH)
        view.show(live.frame(bytes(Frame()), EPOCH + SECOND), EPOCH + SECOND)
        view.summary()
    assert "nobody so far" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either -i INTERFACE or -r FILE"),
        (["-i", "eth0", "-r", "x"], "give either -i INTERFACE or -r FILE"),
        (["-i", "nonesuch"], "there is no interface 'nonesuch': this machine has lo"),
        (["-i", "none\x1b[2J"], r"none\x1b[2J"),
        (["-r", "/nonexistent.pcap"], "No such file"),
        (["-r", __file__], "neither pcap nor pcapng"),
        (["-r", "x", "--address", "10.0.0.300"], "is not an IP address"),
        (["-r", "x", "--passfile", "/nonexistent"], "does not exist"),
        (["-r", "x", "--count", "0"], "--count"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err and shown.err.count("\n") == 1 and "\x1b" not in shown.err


def test_a_capture_that_was_cut_short_is_shown_as_far_as_it_goes(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-5])
    assert main(["monitor", "-r", str(capture)]) == 1
    shown = capsys.readouterr()
    assert "10.13.37.12 advertises" in shown.out
    assert "was cut short" in shown.err and shown.err.count("\n") == 1


def test_a_passfile_that_others_may_read_is_remarked_upon(
    capture: Path, passfile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passfile.chmod(0o644)
    assert main(["monitor", "-r", str(capture), "--passfile", str(passfile)]) == 0
    assert "warning: everybody may read the passphrase" in capsys.readouterr().err
