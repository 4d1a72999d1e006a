"""Each program of examples/ runs, on hosts in network namespaces, and so do the servers that are carried."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.linux import needs_namespaces
from support.pages import ROOT

from pycarp.lab.namespaces import Host, Lab

EXAMPLES = ROOT / "examples"
pytestmark = needs_namespaces()
SECRET = "motdepassehalakon"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "carp.pass"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def until(reached: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.02)
    return value


def start(host: Host, program: str, *words: object, **environment: str) -> subprocess.Popen[str]:
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    argv = [sys.executable, *([program] if program.startswith("-") else [str(EXAMPLES / program)]), *map(str, words)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return host.popen(argv, env={**os.environ, **paths}, text=True, **output)


def holds(host: Host, address: str) -> bool:
    return f" {address}/" in host.run(["ip", "-4", "address"]).stdout


def end(process: subprocess.Popen[str]) -> str:
    """What it has said, after an end in good order."""
    process.terminate()
    said, _ = process.communicate(timeout=10)
    assert process.returncode in (0, -signal.SIGTERM) and "Traceback" not in said, said
    return said


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def running(lab: Lab, secret: Path) -> dict[str, subprocess.Popen[str]]:
    """What needs three seconds to be MASTER, all at once."""
    patroni = secret.parent / "patroni"
    patroni.mkdir()
    (patroni / "primary").write_text("yes\n")
    uvicorn = ("-m", "uvicorn", "--host", "0.0.0.0", "--port", "80", "--app-dir", EXAMPLES / "site", "carried_site:app")
    site = {"CARP_PASSPHRASE": SECRET}
    return {
        "patroni": start(lab["main"], "-m", "http.server", "-b", "127.0.0.1", "-d", patroni, "8008"),
        "echo": start(lab["main"], "echo/echo.py", "10.13.37.7", "--passfile", secret),
        "leader": start(lab["main"], "leader/follow_patroni.py", "10.13.37.5/24"),
        "site": start(lab["main"], *uvicorn, CARP_HOST="main", **site),
        "other site": start(lab["second"], *uvicorn, CARP_HOST="second", CARP_ADVSKEW="100", **site),
    }


@pytest.mark.root
def test_an_echo_without_root(lab: Lab, running: dict[str, subprocess.Popen[str]]) -> None:
    # Fault: None: the program gives up root before its first takeover.
    # Expected: It takes the address all the same, answers from it, and lets go of it at its end.
    echo = running["echo"]
    with lab["client"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.connect(("10.13.37.7", 7))

        def answer() -> bytes:
            with contextlib.suppress(OSError):
                client.send(b"hello")
                return client.recv(100)
            return b""

        assert until(answer) == b"hello"
    status = Path(f"/proc/{echo.pid}/status").read_text()
    assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.MULTILINE)
    assert "holds 10.13.37.7 (" in (said := end(echo)) and "(user 65534)" in said
    assert not holds(lab["main"], "10.13.37.7")


def test_the_leader_has_the_address(lab: Lab, running: dict[str, Any], secret: Path) -> None:
    # Fault: Patroni's node is no longer the leader.
    # Expected: The address goes within a look.
    until(lambda: holds(lab["main"], "10.13.37.5"))
    (secret.parent / "patroni" / "primary").unlink()
    until(lambda: not holds(lab["main"], "10.13.37.5"), 3)
    end(running["leader"])
    running["patroni"].kill()
    running["patroni"].wait()


def test_a_site_hands_over(lab: Lab, running: dict[str, subprocess.Popen[str]]) -> None:
    # Fault: The server gets SIGTERM.
    # Expected: The other host's site answers the next request.
    pytest.importorskip("uvicorn")

    def ask() -> str:
        with contextlib.suppress(OSError), lab["client"].enter():
            connection = http.client.HTTPConnection("10.13.37.80", timeout=0.5)
            try:
                connection.request("GET", "/")
                return connection.getresponse().read().decode()
            finally:
                connection.close()
        return ""

    assert until(ask) == "main answers\n"
    end(running["site"])
    assert ask() == "second answers\n"
    end(running["other site"])


def test_two_name_servers_and_the_picture_of_an_outage(tmp_path: Path) -> None:
    # Fault: A name server is killed, starts again and is cut off.
    # Expected: The client has answers again within 0.5 s, 0.5 s, and the silence that advbase 1 allows.
    picture = tmp_path / "outage.svg"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "dns" / "outage.py", picture], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {what: int(ms) for what, ms in re.findall(r"^(.*): (\d+) ms without an answer$", done.stdout, re.M)}
    assert list(found) == ["ns1 is killed", "ns1 starts again", "ns1 is cut off"]
    assert found["ns1 is killed"] < 500 and found["ns1 starts again"] < 500 and found["ns1 is cut off"] < 3700
    colours = {mark.get("fill") for mark in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}rect")}
    assert colours == {"#2a78b5", "#3a9a4b", "#c8322f"}


def test_bind_and_unbound_are_carried(tmp_path: Path, secret: Path) -> None:
    # Fault: named hangs; later its host is cut off.
    # Expected: unbound's host has the address, and dig its answer, both times.
    for program in ("named", "unbound", "dig"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"no {program} here: install bind9, unbound and bind9-dnsutils")
    carried = EXAMPLES / "dns" / "carried"
    servers = {"ns1": ("named", "-g", "-4", "-c"), "ns2": ("unbound", "-d", "-c")}
    with Lab((*servers, "client")) as lab:
        processes = {}
        for number, (name, server) in enumerate(servers.items()):
            place = tmp_path / name
            shutil.copytree(carried, place)
            shutil.copy(secret, place / "carp.pass")
            for file in place.iterdir():
                file.write_text(file.read_text().replace("/etc/dns/", f"{place}/"))
            with (place / "ifconfig.carp0").open("a") as words:
                words.write(f"advskew {100 * number}\n")
            argv = [f"/usr/sbin/{server[0]}", *server[1:], str(place / f"{server[0]}.conf")]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            processes[name] = lab[name].popen(argv, **quiet)
            run = ("-m", "pycarp", "run", "--control", "off", place / "ifconfig.carp0")
            processes[f"carp of {name}"] = start(lab[name], *run)

        def dig() -> str:
            words = ["dig", "+short", "+time=1", "+tries=1", "@10.13.37.53", "www.example."]
            return lab["client"].run(words, check=False).stdout.strip()

        until(lambda: holds(lab["ns1"], "10.13.37.53"))
        assert until(lambda: dig() == "192.0.2.80")
        processes["ns1"].send_signal(signal.SIGSTOP)
        until(lambda: holds(lab["ns2"], "10.13.37.53"))
        assert dig() == "192.0.2.80"
        processes["ns1"].send_signal(signal.SIGCONT)
        until(lambda: holds(lab["ns1"], "10.13.37.53"))
        assert dig() == "192.0.2.80"
        lab.unplug("ns1")
        until(lambda: dig() == "192.0.2.80", 5)
        assert holds(lab["ns2"], "10.13.37.53") and not holds(lab["ns1"], "10.13.37.53")
        for name in servers:
            end(processes[f"carp of {name}"])
