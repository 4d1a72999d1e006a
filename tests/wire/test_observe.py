"""`pycarp observe` on an interface: kernel timestamps of real frames."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.wire import VHID, Frame

from pycarp.lab.namespaces import Host, Lab
from pycarp.linux.sockets import send_socket

TENTH = Frame(source="10.13.37.11", advbase=0, advskew=25)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(("main", "client"), subnet6=None) as lab:
        yield lab


def observe(host: Host, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "pycarp", "observe", "-i", "eth0", *arguments]
    process: subprocess.Popen[str] = host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process


def speak(host: Host, frame: Frame, count: int) -> None:
    """Sends `count` adverts, one every 97.65625 ms, as the frame promises."""
    with host.enter(), send_socket(host.index("eth0")) as out:
        start = time.monotonic()
        for turn in range(count):
            time.sleep(max(0.0, start + turn * 25 / 256 - time.monotonic()))
            out.send(bytes(frame))


@pytest.mark.slow
def test_it_measures_what_is_sent(lab: Lab) -> None:
    # Fault: None: 24 adverts, one every 97.65625 ms.
    # Expected: The figures of one series: 20 adverts, and errors far below the interval.
    process = observe(lab["client"], "--count", "20", "--json")
    time.sleep(1.0)
    speak(lab["main"], TENTH, 24)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert err.startswith("pycarp observe: listens on eth0 for 20 adverts")
    figures = json.loads(out.splitlines()[-1])
    (series,) = figures["series"]
    assert (series["vhid"], series["source"], series["adverts"]) == (VHID, "10.13.37.11", 20)
    assert series["interval_ns"]["advertised"] == 97_656_250
    # Sent by a plain sleep beside other tests: punctual enough to be told from any other interval.
    assert series["error_ns"]["p50"] < 20_000_000
    assert abs(series["drift_ns"]) < 5_000_000


def test_a_signal_ends_it_with_its_figures(lab: Lab) -> None:
    # Fault: SIGTERM after five adverts.
    # Expected: It says what it waits for, prints its figures and ends in order.
    process = observe(lab["client"])
    time.sleep(1.0)
    speak(lab["main"], TENTH, 5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert err.startswith("pycarp observe: listens on eth0 until Ctrl-C (--seconds N ends it by itself)")
    assert err.count("\n") == 1
    assert out.startswith("eth0: 5 adverts in 0.")
    assert "10.13.37.11" in out


def test_an_interface_that_is_not_there(lab: Lab) -> None:
    # Fault: The interface does not exist.
    # Expected: One line on stderr that names it, and exit code 2.
    done = lab["client"].run([sys.executable, "-m", "pycarp", "observe", "-i", "eth7"], check=False)
    assert done.returncode == 2
    assert "there is no interface 'eth7'" in done.stderr
