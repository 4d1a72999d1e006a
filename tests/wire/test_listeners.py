"""Programs that hear of addresses by netlink, and as many virtual hosts as there are numbers."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path

import pytest
from support.lan import Lan, lan, wait_until
from support.neighbours import available
from support.proving import TRIES

from pycarp.lab.namespaces import Host

VHIDS = range(1, 256)
NAMED = """
options {{ directory "{0}"; listen-on {{ any; }}; listen-on-v6 {{ none; }}; recursion no; pid-file none;
session-keyfile none; interface-interval 0; }};
controls {{}};
"""


def _vip(vhid: int) -> str:
    return f"10.13.40.{vhid}"


def _silent(client: Host) -> set[int]:
    """Those whose address does not answer a question for `example` within ten seconds, and as itself."""
    with client.enter():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent = set(VHIDS)
    deadline = time.monotonic() + 10
    with asking:
        asking.settimeout(0.1)
        while silent and time.monotonic() < deadline:
            for vhid in silent:
                question = struct.pack(">HHHHHH", vhid, 0, 1, 0, 0, 0) + b"\7example\0" + struct.pack(">HH", 1, 1)
                asking.sendto(question, (_vip(vhid), 53))
            with contextlib.suppress(TimeoutError):
                while silent:
                    answer, (sender, _port) = asking.recvfrom(512)
                    silent -= {vhid for vhid in silent if answer[:2] == vhid.to_bytes(2) and sender == _vip(vhid)}
    return silent


def _served(net: Lan, folder: Path) -> tuple[set[int], str]:
    """Whose address does not answer while named runs beside 255 that take over at once, and what named writes."""
    net.audited = net.tidy = False
    folder.mkdir()
    folder.chmod(0o777)
    files, log = [], folder / "named.log"
    for vhid in VHIDS:
        file = folder / f"ifconfig.carp{vhid}"
        file.write_text(f"create\nvhid {vhid} pass secret carpdev eth0 {_vip(vhid)} netmask 255.255.0.0\n")
        file.chmod(0o600)
        files.append(str(file))
    (folder / "named.conf").write_text(NAMED.format(folder))
    with log.open("w") as written:
        named = net["main"].popen(["named", "-g", "-c", str(folder / "named.conf")], stderr=written)
        wait_until(lambda: "running" in log.read_text())
        run = net.command("main", "run", *files)
        run.log.until(lambda: len({one["vhid"] for one in run.log.find("AddressesTaken")}) == len(VHIDS), 60)
        silent = _silent(net["client"])
        run.process.terminate()
        assert run.end(30) == 0
        named.terminate()
        named.wait()
    return silent, log.read_text()


@pytest.mark.slow
@pytest.mark.figures
@pytest.mark.timeout(400)
@pytest.mark.skipif(not available("named"), reason="bind9 is not installed")
def test_named_answers_at_each_of_255_addresses(tmp_path: Path) -> None:
    # Fault: 255 virtual hosts become MASTER at once, beside named.
    # Expected: named hears of each address: it answers at every one, and goes on looking.
    tmp_path.chmod(0o777)
    for attempt in range(TRIES):
        with lan(("main", "client"), subnet="10.13.0.0/16") as net:
            silent, log = _served(net, tmp_path / str(attempt))
        if not silent and "scanning terminated" not in log:
            break
    # Where the processor is busy elsewhere, named may pause for longer than takes wait.
    assert not silent
    assert "scanning terminated" not in log
