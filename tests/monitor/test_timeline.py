"""Who was heard when, as text and as a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support.wire import Frame

from pycarp.cli.group import pycarp
from pycarp.monitor.pcap import write
from pycarp.monitor.timeline import MOST_SPEAKERS, Timeline

SECOND = 1_000_000_000
AT = 1_795_000_000 * SECOND
MAIN = Frame(source="10.13.37.11")
BOWOUT = MAIN.but(advbase=255, advskew=255)
BACKUP = Frame(source="10.13.37.12", advskew=100)

STORY = [
    *((MAIN, AT + n * SECOND + n % 3 * 1000) for n in range(10)),
    (BOWOUT, AT + 9_500_000_000),
    *((BACKUP, AT + 9_600_000_000 + n * 1_390_625_000) for n in range(8)),
]


def told() -> Timeline:
    timeline = Timeline()
    for frame, at in STORY:
        timeline.frame(bytes(frame), at)
    return timeline


def test_spans_and_intervals():
    main, backup = (told().speakers[key] for key in sorted(told().speakers, key=lambda key: key.rank))
    (span,) = main.spans
    assert (span.begin, span.end, span.bowed_out) == (AT, AT + 9_500_000_000, True)
    assert [error for _, error in main.errors] == [1000, 1000, -2000] * 3
    assert len(backup.errors) == 7 and not backup.spans[0].bowed_out
    assert {error for _, error in backup.errors} == {0}


def test_silence_ends_a_span_and_a_bow_out_begins_none():
    timeline = Timeline()
    for at in (0, 1, 2, 10, 11):
        timeline.frame(bytes(MAIN), AT + at * SECOND)
    timeline.frame(bytes(BOWOUT.but(source="10.13.37.13")), AT)
    spans = [[(span.begin - AT) // SECOND for span in line.spans] for line in timeline.speakers.values()]
    assert spans == [[0, 10], []]
    timeline.frame(b"no advert", AT)


def test_as_text():
    scale, main, backup = told().lines(60)
    assert "s a character" in scale
    assert main.startswith("vhid 101 10.13.37.11 ##") and backup.endswith("#")
    assert main.count("#") + main.count("v") + main.count(".") > 20 and "v" in main
    assert backup.index("#") >= main.rindex("v") - 1
    assert Timeline().lines(60) == []


def test_it_is_bounded():
    timeline = Timeline()
    for number in range(MOST_SPEAKERS + 5):
        timeline.frame(bytes(Frame(source=f"10.1.{number // 250}.{number % 250 + 1}")), AT)
    assert len(timeline.speakers) == MOST_SPEAKERS


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="matplotlib does not run under AddressSanitizer")
@pytest.mark.parametrize("name", ["a.svg", "a.png"])
def test_as_a_picture(tmp_path, name):
    write(tmp_path / "cap.pcap", ((at, bytes(frame)) for frame, at in STORY))
    path = tmp_path / name
    # In a process of its own: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "pycarp", "observe", "-r", str(tmp_path / "cap.pcap"), "--plot", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLCONFIGDIR": str(tmp_path)})
    assert done.returncode == 0 and "is drawn" in done.stderr, done.stderr
    if name.endswith("svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_says_at_once_why_it_cannot_draw(tmp_path):
    run = CliRunner().invoke
    for words, part in (
        (["--plot", "x.gif"], "give FILE.svg or FILE.png"),
        (["--plot", "/nowhere/x.svg"], "make it first"),
    ):
        result = run(pycarp, ["observe", "-r", "-", *words], input=b"")
        assert (result.exit_code, part in result.stderr) == (2, True), result.output
