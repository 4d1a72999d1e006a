"""Events for systemd's journal: priorities on its streams, and its native protocol, with a socket of the test's own."""

from __future__ import annotations

import array
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycarp import State, events
from pycarp.cli import journal, output

LOST = events.GuardianLost(vhid=0, name="", at=1, what="it died; another is started")
HELD = events.AddressesTaken(vhid=7, name="carp0", at=1, addresses=("10.0.0.1", "fd00::1"), took=1_000_000)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "socket")
    monkeypatch.setattr(journal, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(5)
        yield listening


def test_events_have_their_fields(server: socket.socket) -> None:
    printer = output.Printer(log="journal", out=io.StringIO())
    printer.event(HELD)
    fields = dict(line.split("=", 1) for line in server.recv(65536).decode().splitlines())
    assert (fields["MESSAGE"], fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == (
        "carp0 holds 10.0.0.1, fd00::1 (1.0 ms)", "6", "pycarp",
    )  # fmt: skip
    assert (fields["PYCARP_EVENT"], fields["PYCARP_NAME"], fields["PYCARP_VHID"]) == ("AddressesTaken", "carp0", "7")
    assert fields["PYCARP_ADDRESSES"] == "10.0.0.1 fd00::1"
    printer.event(LOST)
    assert b"PRIORITY=3\n" in server.recv(65536)
    printer.event(events.HookSaid(vhid=1, name="carp0", at=1, hook="any x", line="a\nb"))
    assert b"PYCARP_LINE\n\x03\0\0\0\0\0\0\0a\nb\n" in server.recv(65536)
    large = "x" * 1_000_000
    printer.event(events.Failed(vhid=1, name="carp0", at=1, what=large))
    data, ancillary, _flags, _address = server.recvmsg(16, socket.CMSG_SPACE(4))
    fd = array.array("i", ancillary[0][2])[0]
    with open(fd, "rb") as file:
        file.seek(0)
        assert data == b"" and f"PYCARP_WHAT={large}\n".encode() in file.read()
    printer.close()


def test_a_journal_that_is_slow_or_gone_delays_nothing(
    server: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    printer = output.Printer(log="journal", out=out)
    for _turn in range(2000):  # nobody reads
        printer.event(HELD)
    assert capsys.readouterr().err == (
        "pycarp: the journal is too slow: events are lost until it reads; the addresses stay\n"
    )
    server.close()
    printer.event(LOST)
    assert "the journal is gone" in capsys.readouterr().err and "guardian is lost" in out.getvalue()
    again = output.Printer(log="journal", out=out)
    assert "there is no journal (Connection refused): events are printed" in capsys.readouterr().err
    again.event(HELD)
    assert "carp0 holds" in out.getvalue().splitlines()[-1]


def test_lines_that_systemd_reads_have_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w+") as stream:
        status = os.fstat(stream.fileno())
        for value, expected in ((f"{status.st_dev}:{status.st_ino}", ["<6>", "<3>", "<4>"]), ("1:2", ["", "", ""])):
            stream.seek(0)
            stream.truncate()
            monkeypatch.setenv("JOURNAL_STREAM", value)
            monkeypatch.setattr(sys, "stderr", stream)
            printer = output.Printer(out=stream)
            printer.event(HELD)
            printer.event(LOST)
            output.complain("a warning")
            lines = (tmp_path / "log").read_text().splitlines()
            assert len(lines) == 3
            for line, priority in zip(lines, expected, strict=True):
                assert line.startswith(priority) and line.startswith("<") is bool(priority)


def test_json_by_either_name() -> None:
    for options in ({"as_json": True}, {"log": "json"}):
        out = io.StringIO()
        printer = output.Printer(out=out, **options)  # type: ignore[arg-type]
        change = events.StateChanged(
            vhid=1, name="carp0", at=1, before=State.INIT, after=State.BACKUP, reason=next(iter(events.Reason))
        )
        printer.event(change)
        assert '"event": "StateChanged"' in out.getvalue()
