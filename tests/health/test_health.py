"""Checks of every kind, their rise and fall, and what they tell the ledger. The looks are real, on this machine."""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest

from pycarp import Check, ConfigError
from pycarp.events import CheckChanged
from pycarp.health.arguments import USAGE, read
from pycarp.health.check import KINDS
from pycarp.health.look import Look, Tools, look
from pycarp.health.runner import Health
from pycarp.linux.children import Children


@pytest.fixture
def tools() -> Iterator[Tools]:
    children = Children()
    yield Tools(lambda: children)
    children.close()


def found(tools: Tools, kind: str, *words: str, timeout: float = 2.0) -> Look:
    return look(read(kind, words), timeout, tools)


def test_programs(tools):
    assert found(tools, "exec", "true") == (True, "exit code 0", None)
    assert found(tools, "exec", "false") == (False, "exit code 1", None)
    assert found(tools, "exec", "sh", "-c", "kill -9 $$").said == "it was ended by signal 9"
    begun = time.monotonic()
    assert "did not end within 0.2 s" in found(tools, "exec", "sh", "-c", "sleep 30 & sleep 30", timeout=0.2).said
    assert time.monotonic() - begun < 3
    assert "cannot be started" in found(tools, "exec", "/nowhere/motdepasse").said
    assert "motdepasse" not in found(tools, "exec", "/nowhere/motdepasse").said


def test_ports(tools):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert found(tools, "tcp", f"127.0.0.1:{port}").well
    assert found(tools, "tcp", f"127.0.0.1:{port}") == (False, "Connection refused", None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert found(tools, "udp", f"127.0.0.1:{port}").said == "not refused"
        assert "no answer within 0.1 s" in found(tools, "udp", f"127.0.0.1:{port}", "ping", timeout=0.1).said
        threading.Thread(target=lambda: [server.sendto(b"pong", server.recvfrom(9)[1]) for _ in range(3)]).start()
        assert found(tools, "udp", f"127.0.0.1:{port}", "ping").said == "answered"
    assert not found(tools, "udp", f"127.0.0.1:{port}").well


def test_http(tools):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/").partition("?")[0] or 200))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(b"x" * 5000 + b"all is well")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert found(tools, "http", f"{url}/200", "expect", "all is well").well
        assert (
            found(tools, "http", f"{url}/200", "expect", "motdepasse").said == "status 200, and the text is not in it"
        )
        assert found(tools, "http", f"{url}/302").well
        assert found(tools, "http", f"{url}/503?password=motdepasse") == (False, "status 503", None)
        assert found(tools, "http", f"{url}/503", "status", "503").well
        secure = found(tools, "http", url.replace("http:", "https:") + "/200")
        assert not secure.well and "TLS" in secure.said
        server.shutdown()
        thread.join()


def test_dns(tools):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            for rcode, text in ((0, "10.13.37.42"), (0, "10.13.37.42"), (3, ""), (0, "")):
                wire, client = server.recvfrom(600)
                answer = dns.message.make_response(dns.message.from_wire(wire))
                answer.set_rcode(rcode)
                if text:
                    answer.answer.append(dns.rrset.from_text("www.example.", 1, "IN", "A", text))
                server.sendto(answer.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        assert found(tools, "dns", where, "www.example", "A", "expect", "10.13.37.42").well
        assert "not the expected one" in found(tools, "dns", where, "www.example", "A", "expect", "10.0.0.1").said
        assert found(tools, "dns", where, "www.example").said == "the server answers NXDOMAIN"
        assert found(tools, "dns", where, "www.example").said == "the server knows no such record"
        thread.join()
        assert "within 0.1 s" in found(tools, "dns", where, "www.example", timeout=0.1).said
    assert found(tools, "dns", where, "www.example", timeout=60).said == "Connection refused"


def test_files_processes_and_interfaces(tools, tmp_path):
    path = tmp_path / "weight"
    assert found(tools, "file", str(path)) == (False, "No such file or directory", None)
    for content, well, by in (
        ("", True, None),
        ("0\n", True, None),
        ("text", True, None),
        ("-20", False, 20),
        ("3", False, 3),
    ):
        path.write_text(content)
        assert found(tools, "file", str(path))[::2] == (well, by), content
    name = Path("/proc/self/comm").read_text().strip()
    assert found(tools, "process", name).well
    assert not found(tools, "process", "nosuchprocess").well
    path.write_text(f"{os.getpid()}\n")
    assert found(tools, "process", str(path)).well
    path.write_text("no number")
    assert not found(tools, "process", str(path)).well
    assert found(tools, "interface", "nosuch0").said == "there is no such interface"
    assert found(tools, "interface", "lo").said in ("it is up", "it is down")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("exec", ()),
        ("tcp", ("motdepasse",)),
        ("tcp", ("h:0",)),
        ("udp", ("h:1", "a", "motdepasse")),
        ("http", ("ftp://motdepasse/",)),
        ("http", ("http://h/", "status", "999")),
        ("http", ("http://h/", "expect")),
        ("http", ("http://[motdepasse/",)),
        ("dns", ("h",)),
        ("dns", ("h", "n", "A", "motdepasse")),
        ("file", ()),
        ("process", ("a", "motdepasse")),
        ("interface", ("a" * 16,)),
    ],
)
def test_what_is_not_in_order_is_said(kind, words):
    with pytest.raises(ConfigError) as caught:
        Check(name="x", kind=kind, words=words)
    assert USAGE[kind] in str(caught.value)
    assert "motdepasse" not in str(caught.value)


def test_every_kind_has_its_usage():
    assert set(USAGE) == set(KINDS)


class Ledger:
    """What of an engine a runner of checks uses."""

    hosts = ()

    def __init__(self) -> None:
        self.by = 0
        self.faults: dict[str, bool] = {}
        self.events: list[CheckChanged] = []

    def demote(self, by: int, reason: str, which: str | None) -> None:
        self.by += by

    def undemote(self, by: int, reason: str, which: str | None) -> None:
        self.by -= by

    def fault(self, reason: str, on: bool, which: str | None) -> None:
        self.faults[reason] = on

    def report(self, event: CheckChanged) -> None:
        self.events.append(event)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def health(ledger: Ledger) -> Iterator[Health]:
    made = Health(ledger)  # type: ignore[arg-type]
    yield made
    made.close()
    assert not any(thread.name.startswith(("pycarp-check", "pycarp-health")) for thread in threading.enumerate())


def until(reached: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_rise_and_fall(health, ledger):
    answers = {"well": True, "looks": 0}

    def probe() -> bool:
        answers["looks"] += 1
        return answers["well"]

    health.add("probe", probe, interval=0.01, rise=3, fall=4, weight=-7)
    until(lambda: answers["looks"] > 3)
    assert ledger.by == 0 and ledger.events == []
    answers["well"], answers["looks"] = False, 0
    until(lambda: ledger.by == 7)
    assert answers["looks"] >= 4
    (event,) = ledger.events
    assert (event.check, event.up, event.text) == ("probe", False, "check probe fails: it says no")
    (status,) = health.status()[""]
    assert (status.up, status.by, status.fault) == (False, 7, False)
    answers["well"], answers["looks"] = True, 0
    until(lambda: ledger.by == 0)
    assert answers["looks"] >= 3
    assert [event.up for event in ledger.events] == [False, True]


def test_the_first_look_decides_and_removal_takes_back(health, ledger):
    health.add("dead", lambda: False, interval=60)
    until(lambda: ledger.faults == {"check dead": True})
    health.remove("dead")
    assert ledger.faults == {"check dead": False}
    health.remove("dead")


def test_what_hangs_or_raises_is_bad(health, ledger):
    release = threading.Event()
    health.add("hangs", lambda: release.wait(20), interval=0.05, timeout=0.05, fall=1, weight=1)
    health.add("raises", lambda: 1 / 0, interval=5, weight=2)

    async def slow() -> bool:
        await asyncio.sleep(20)
        return True

    health.add("slow", slow, interval=5, timeout=0.05, weight=4)
    until(lambda: ledger.by == 7)
    said = {one.name: one.said for one in health.status()[""]}
    assert "it hangs since" in said["hangs"]
    assert said["raises"] == "it raised ZeroDivisionError"
    assert said["slow"] == "no answer within 0.05 s"
    release.set()


def test_a_number_in_a_file_is_the_weight(health, ledger, tmp_path):
    path = tmp_path / "weight"
    path.write_text("0")
    health.add("file", Check(name="", kind="file", words=(str(path),), interval=0.01, fall=1, rise=1))
    until(lambda: health.status()[""][0].up)
    path.write_text("20")
    until(lambda: ledger.by == 20)
    path.write_text("30")
    until(lambda: ledger.by == 30)
    path.unlink()
    until(lambda: ledger.faults.get("check file") and ledger.by == 0)


def test_looks_are_on_time(health):
    moments: list[float] = []
    health.add("clock", lambda: moments.append(time.monotonic()), interval=0.02)
    until(lambda: len(moments) > 20)
    # Of the schedule, not of the look before: lateness does not add up.
    assert abs((moments[20] - moments[0]) - 0.4) < 0.15


def test_the_end_does_not_wait_for_those_that_hang(ledger):
    health = Health(ledger)  # type: ignore[arg-type]
    release = threading.Event()
    for number in range(8):
        health.add(f"hangs{number}", lambda: release.wait(20), interval=5, timeout=10)
    health.add("program", Check(name="", kind="exec", words=("sleep", "30"), timeout=20))
    until(lambda: sum(one.name.startswith("pycarp-check") for one in threading.enumerate()) == 9)
    time.sleep(0.2)
    begun = time.monotonic()
    health.close()
    assert time.monotonic() - begun < 3
    release.set()
    until(lambda: not any(one.name.startswith("pycarp-check") for one in threading.enumerate()))
