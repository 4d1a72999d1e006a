"""``pycarp monitor`` on an interface."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.wire import PEER, Frame

from pycarp.lab.namespaces import Lab
from pycarp.lab.simulation import SECOND
from pycarp.linux.sockets import send_socket


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(hosts=("main", "client"), subnet6=None) as lab:
        yield lab


def _monitor(lab: Lab, host: str, *arguments: str) -> subprocess.Popen[str]:
    return lab[host].popen(
        [sys.executable, "-m", "pycarp", "monitor", "-i", "eth0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until_heard(lab: Lab, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Send adverts until the monitor, which takes a while to start, tells of one."""
    assert process.stdout is not None
    host = lab["main"]
    with host.enter(), send_socket(host.index("eth0")) as opened:
        for number in range(600):
            opened.send(bytes(Frame(counter=number.to_bytes(8, "big"))))
            if select.select([process.stdout], [], [], 0.05)[0]:
                return dict(json.loads(process.stdout.readline()))
    pytest.fail("the monitor heard nothing")


@pytest.mark.parametrize("where", ["client", "main"])
def test_it_hears_others_and_the_host_itself_and_ends_by_signal(lab: Lab, where: str) -> None:
    # Fault: None: monitor runs on another host, and on the sender itself.
    # Expected: It tells of the sender with the time of arrival, and ends with a summary at SIGTERM.
    process = _monitor(lab, where)
    heard = _until_heard(lab, process)
    assert (heard["event"], heard["source"]) == ("master", PEER)
    assert abs(heard["at"] - time.time_ns()) < 5 * SECOND
    process.terminate()
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and err == ""
    assert json.loads(out.splitlines()[-1])["event"] == "summary"


def test_it_ends_by_itself(lab: Lab) -> None:
    # Fault: None: nobody speaks for the seconds that it is to listen.
    # Expected: It ends in order, and its summary has no advert.
    process = _monitor(lab, "client", "--seconds", "0.2")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["adverts"] == 0


def test_an_interface_that_goes_away_ends_it(lab: Lab) -> None:
    # Fault: The interface that it listens on is deleted.
    # Expected: One line on stderr, and exit code 1.
    process = _monitor(lab, "client")
    _until_heard(lab, process)
    lab["client"].run(["ip", "link", "delete", "eth0"])
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err == "pycarp monitor: the interface eth0 is gone\n"


def test_without_the_capability_it_says_which(lab: Lab) -> None:
    # Fault: CAP_NET_RAW is missing.
    # Expected: One line on stderr that names it, and exit code 2.
    argv = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-m", "pycarp", "monitor"]
    done = lab["client"].run([*argv, "-i", "eth0"], check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("pycarp monitor: missing CAP_NET_RAW") and done.stderr.count("\n") == 1
