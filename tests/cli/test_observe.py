"""``pycarp observe``, with captures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.wire import VHID, Frame

from pycarp.cli import main
from pycarp.monitor import pcap

SECOND = 1_000_000_000
MAIN, SECONDARY = "10.13.37.11", "10.13.37.12"
ADVERT = Frame(source=MAIN)
BACKUP = Frame(source=SECONDARY, advskew=100)
AT = 1_795_000_000 * SECOND


@pytest.fixture
def failover(tmp_path: Path) -> str:
    """Twenty seconds of main, signed twice, then second by silence."""
    twin = ADVERT.but(dialect="netbsd")
    sent: list[tuple[int, bytes]] = []
    for turn in range(20):
        at = AT + turn * SECOND + (turn % 2) * 30_000
        sent += [(at, bytes(ADVERT)), (at + 20_000, bytes(twin))]
    start = sent[-2][0] + 3_390_700_000
    # Each with a counter of its own: one that stays is OpenBSD's.
    second = [BACKUP.but(counter=bytes((turn, *range(7)))) for turn in range(5)]
    sent += [(start + turn * 1_390_625_000, bytes(frame)) for turn, frame in enumerate(second)]
    pcap.write(tmp_path / "failover.pcap", sent)
    return str(tmp_path / "failover.pcap")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = main(["observe", *arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def summary(lines: Sequence[str]) -> Any:
    last = json.loads(lines[-1])
    assert last["event"] == "summary"
    return last


def test_a_capture_as_a_table(capsys: pytest.CaptureFixture[str], failover: str) -> None:
    code, lines, err = run(capsys, "-r", failover)
    assert (code, err) == (0, "")
    assert f"vhid {VHID}: {SECONDARY} takes over, 3.390700 s after the last advert of {MAIN}" in lines[0]
    assert lines[1] == f"{failover}: 25 adverts in 28.0 s, 20 twins (the same under another key)"
    assert lines[2].split() == [
        *("vhid", "host", "adverts", "promised", "mean", "sd", "p50", "p90", "p99", "worst", "drift", "missed")
    ]
    assert lines[3].split()[:5] == [str(VHID), MAIN, "20", "1.000000", "s"]
    assert "30.0 us" in lines[3]
    assert lines[4].split()[:5] == [str(VHID), SECONDARY, "5", "1.390625", "s"]
    assert lines[5] == f"vhid {VHID}: 1 takeover by silence, 3.390700 s after the last advert (due 3.390625 s)"


def test_a_capture_as_json(capsys: pytest.CaptureFixture[str], failover: str) -> None:
    code, lines, _err = run(capsys, "-r", failover, "--json")
    assert code == 0
    (change,) = [json.loads(line) for line in lines[:-1]]
    assert (change["event"], change["vhid"], change["source"], change["error_ns"]) == (
        "takeover",
        VHID,
        SECONDARY,
        75_000,
    )
    assert change["time"].startswith("2026-")
    figures = summary(lines)
    assert figures["adverts"] == 25
    assert [one["source"] for one in figures["series"]] == [MAIN, SECONDARY]
    first = figures["series"][0]
    assert first["interval_ns"] == {"advertised": SECOND, "mean": SECOND + round(30_000 / 19)}
    assert (first["error_ns"]["p50"], first["error_ns"]["count"], first["twins"]) == (30_000, 19, 20)
    assert first["gaps"] == {"count": 0, "missed": 0, "longest_ns": 0}
    assert figures["takeovers"][0]["gap_ns"] == 3_390_700_000


def test_it_ends_after_so_many_adverts_or_seconds(capsys: pytest.CaptureFixture[str], failover: str) -> None:
    assert summary(run(capsys, "-r", failover, "--json", "--count", "7")[1])["adverts"] == 7
    assert summary(run(capsys, "-r", failover, "--json", "--seconds", "4.5")[1])["adverts"] == 5


def test_nobody_spoke(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pcap.write(tmp_path / "empty.pcap", [])
    code, lines, _err = run(capsys, "-r", str(tmp_path / "empty.pcap"))
    assert (code, lines) == (1, [f"{tmp_path}/empty.pcap: 0 adverts in 0.0 s"])


def test_a_capture_cut_short_still_gives_figures(capsys: pytest.CaptureFixture[str], failover: str) -> None:
    whole = Path(failover).read_bytes()
    Path(failover).write_bytes(whole[: len(whole) - 5])
    code, lines, err = run(capsys, "-r", failover)
    assert code == 1
    assert "24 adverts" in lines[1]
    assert err.startswith("pycarp observe: ") and "cut short" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give either -i INTERFACE or -r FILE"),
        (["-i", "lo", "-r", "x"], "give either -i INTERFACE or -r FILE"),
        (["-r", "/nowhere.pcap"], "/nowhere.pcap cannot be read"),
        (["-r", "x", "--seconds", "0"], "--seconds"),
        (["-r", "x", "--count", "0"], "--count"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    code, _lines, err = run(capsys, *arguments)
    assert code == 2
    assert complaint in err and err.count("\n") == 1
