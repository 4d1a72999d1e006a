"""The command line with the real engine, as a process of its own inside a host of the lab."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.linux import VIP, needs_namespaces

from pycarp.lab.namespaces import Host, Lab

pytestmark = needs_namespaces()

# A fraction of a second from start to MASTER (advbase 0: 3 * 32/256 s).
SWIFT = ["vhid", "101", "advbase", "0", "advskew", "32", VIP, "netmask", "255.255.255.0"]
COMMAND = [sys.executable, "-m", "pycarp"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(hosts=("main", "second"), subnet6=None) as lab:
        yield lab


@pytest.fixture
def passfile(tmp_path: Path) -> str:
    path = tmp_path / "carp.pass"
    path.write_text("motdepassehalakon\n")
    path.chmod(0o600)
    return str(path)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextlib.contextmanager
def running(host: Host, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with host.popen([*COMMAND, *arguments], text=True, env=environment(), **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(process: subprocess.Popen[str], word: str) -> dict[str, Any]:
    """The first event of ``--json`` with this word in it."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            event: dict[str, Any] = json.loads(line)
            return event
    pytest.fail(f"no {word!r} came: {process.stderr.read() if process.stderr else ''}")


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, list[str], str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out.splitlines(), err


def machine(host: Host) -> str:
    """Everything that a virtual host could leave behind."""
    show = (["-o", "address"], ["rule"], ["-6", "rule"], ["route", "show", "table", "all"])
    names = [line.split(": ")[1] for line in host.run(["ip", "-o", "link"]).stdout.splitlines()]
    sysctls = [f"/proc/sys/net/ipv4/conf/eth0/{name}" for name in ("arp_ignore", "arp_filter", "arp_announce")]
    return "\n".join([*names, *(host.run(["ip", *what]).stdout for what in show), host.run(["cat", *sysctls]).stdout])


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_until_a_signal(lab: Lab, passfile: str, number: int) -> None:
    host = lab["main"]
    before = machine(host)
    with running(host, "up", "carp0", *SWIFT, "passfile", passfile, "--json") as process:
        assert until(process, "StateChanged")["after"] == "BACKUP"
        assert f"{VIP}/32" not in machine(host)
        assert until(process, "StateChanged")["after"] == "MASTER"
        until(process, "AddressesTaken")
        assert f"{VIP}/32" in machine(host)
        process.send_signal(number)
        code, lines, err = end(process, signal.SIGINT)  # an impatient second Ctrl-C
    assert (code, err) == (0, "")
    assert [json.loads(line)["event"] for line in lines] == ["StateChanged", "AddressesDropped"]
    assert machine(host) == before


def test_the_words_of_the_blog_as_they_stand(lab: Lab) -> None:
    words = ["vhid", "101", "pass", "motdepassehalakon", "10.13.37.42", "255.255.255.0"]
    with running(lab["main"], "up", "carp0", *words) as process:
        assert process.stdout is not None
        assert "INIT -> BACKUP" in process.stdout.readline()
        code, lines, err = end(process)
    assert code == 0
    assert "BACKUP -> INIT" in lines[-1]
    assert err.count("\n") == 1 and "passfile" in err and "motdepasse" not in err


def test_two_hosts_and_a_master_that_leaves(lab: Lab, passfile: str) -> None:
    words = ["up", "carp0", *SWIFT, "passfile", passfile, "--json"]
    with running(lab["main"], *words) as main:
        until(main, '"MASTER"')
        with running(lab["second"], *words, "advskew", "40") as second:
            heard = until(second, "PeerHeard")
            assert (heard["peer"], heard["advskew"]) == (lab["main"].address, 32)
            end(main)
            assert until(second, "StateChanged")["reason"] == "the master bowed out"
            until(second, "AddressesTaken")
            assert VIP in machine(lab["second"]) and VIP not in machine(lab["main"])
            assert end(second)[0] == 0


def test_run_and_a_hangup(lab: Lab, tmp_path: Path, passfile: str) -> None:
    host = lab["main"]
    before = machine(host)
    file = tmp_path / "ifconfig.carp0"
    text = f"{' '.join(SWIFT)}\npassfile carp.pass\n"
    file.write_text(text)
    with running(host, "run", "--directory", str(tmp_path), "--json") as process:
        until(process, "AddressesTaken")
        file.write_text(text + "vhid 300")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert f"{file}:3:6: error: vhid 300" in process.stderr.readline()
        assert "the old configuration stays" in process.stderr.readline()
        assert VIP in machine(host)
        file.write_text(text + "inet 10.13.37.43/24")
        process.send_signal(signal.SIGHUP)
        give_up = time.monotonic() + 5
        while "10.13.37.43/32" not in machine(host) and time.monotonic() < give_up:
            time.sleep(0.02)
        assert "10.13.37.43/32" in machine(host) and f"{VIP}/32" in machine(host)
        code, lines, err = end(process)
    assert (code, err) == (0, "pycarp run: the configuration was read again: carp0 has changed: addresses\n")
    # It stayed MASTER all the time.
    changes = [json.loads(line) for line in lines if "StateChanged" in line]
    assert [(change["before"], change["after"]) for change in changes] == [("MASTER", "INIT")]
    assert machine(host) == before


def test_a_reader_that_goes_away_does_not_cost_the_address(lab: Lab, passfile: str) -> None:
    host = lab["main"]
    with running(host, "up", "carp0", *SWIFT, "passfile", passfile) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "the reader of the events is gone" in process.stderr.readline()
        give_up = time.monotonic() + 5
        while f"{VIP}/32" not in machine(host) and time.monotonic() < give_up:
            time.sleep(0.02)
        assert f"{VIP}/32" in machine(host)
        process.terminate()
        assert process.wait(10) == 0
    assert f"{VIP}/32" not in machine(host)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("10.99.0.1/24", "command line, word 5: error: no interface has the subnet of 10.99.0.1; there is eth0"),
        ("10.13.37.11/24", "command line, word 5: error: 10.13.37.11 is already on eth0"),
        ("10.13.37.42/24 carpdev eth7", "command line, word 7: error: there is no interface eth7; there is eth0"),
        ("10.13.37.42/24 carpdev lo", "command line, word 7: error: carpdev lo"),
    ],
)
def test_what_this_machine_does_not_allow(lab: Lab, passfile: str, words: str, part: str) -> None:
    host = lab["main"]
    before = machine(host)
    command = [*COMMAND, "up", "carp0", "vhid", "1", "passfile", passfile, *words.split()]
    done = host.run(command, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(part) and done.stderr.count("\n") == 1
    assert machine(host) == before


def test_a_name_and_a_virtual_host_that_are_taken(lab: Lab, passfile: str) -> None:
    host = lab["main"]
    command = [*COMMAND, "up", "eth0", *SWIFT, "passfile", passfile]
    before = machine(host)
    done = host.run(command, env=environment(), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("pycarp up: ") and "eth0" in done.stderr
    assert machine(host) == before
    with running(host, "up", "carp0", *SWIFT, "passfile", passfile, "--json") as process:
        until(process, "AddressesTaken")
        during = machine(host)
        done = host.run([*COMMAND, "up", "carp1", *SWIFT, "passfile", passfile], env=environment(), check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"already run by process {process.pid}" in done.stderr
        assert machine(host) == during
        assert end(process)[0] == 0


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv gives up the capabilities here")
def test_without_capabilities_there_is_advice(lab: Lab, passfile: str) -> None:
    host = lab["main"]
    before = machine(host)
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = host.run([*without, *COMMAND, "up", "carp0", *SWIFT, "passfile", passfile], env=environment(), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "CAP_NET_ADMIN and CAP_NET_RAW" in done.stderr and "AmbientCapabilities" in done.stderr
    assert machine(host) == before
