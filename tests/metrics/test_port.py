"""The HTTP side of the metrics port, without an engine."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pycarp.metrics import page, port
from pycarp.metrics.port import Port


class Figures:
    def __init__(self, *_: object) -> None:
        pass

    def collect(self) -> list[object]:
        return []

    describe = latest = collect

    def close(self) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    monkeypatch.setattr(port, "Tally", Figures)
    monkeypatch.setattr(port, "Collector", Figures)
    monkeypatch.setattr(page, "inner", lambda *_: f"now {time.monotonic_ns()}")
    monkeypatch.setattr(port, "SLOW", 0.5)
    monkeypatch.setattr(port, "_LOOK", 0.05)
    with Port(SimpleNamespace(snapshot=lambda: None), port=0) as one:  # type: ignore[arg-type]
        yield one


def ask(served: Port, request: bytes) -> socket.socket:
    connection = socket.create_connection((served.address, served.port), 5)
    connection.sendall(request)
    return connection


def test_a_restart_gets_its_place_again(served: Port) -> None:
    """Though the kernel keeps connections that the port has closed for a minute."""
    with ask(served, b"GET /nothing HTTP/1.0\r\n\r\n") as connection:
        while connection.recv(4096):
            pass
    served.close()
    Port(served._server.engine, port=served.port).close()


def test_a_byte_now_and_then_keeps_no_place(served: Port) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(ask(served, b"G")) for _ in range(port.CONNECTIONS)]
        until = time.monotonic() + 5
        answer = b""
        while not answer and time.monotonic() < until:
            for one in crowd:
                with contextlib.suppress(OSError):
                    one.send(b"E")
            with contextlib.suppress(OSError), ask(served, b"GET /metrics HTTP/1.0\r\n\r\n") as good:
                answer = good.recv(100)
            time.sleep(0.05)
        assert answer.startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("request_", [b"GET http://[bad/ HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nHost: [bad\r\n\r\n"])
def test_what_is_no_address_is_answered(served: Port, request_: bytes) -> None:
    with ask(served, request_) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.0 400")


def test_the_page_follows_where_there_are_many_descriptors(served: Port) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        for _ in range(1100):
            stack.callback(os.close, os.dup(null))
        with ask(served, b"GET /events HTTP/1.0\r\n\r\n") as connection, connection.makefile("rb") as lines:
            assert sum(next(lines).startswith(b"data:") for _ in range(16)) >= 3


@pytest.mark.parametrize(
    ("name", "missing", "says"),
    [
        ("Collector", "prometheus_client", "prometheus-client: pip install 'pycarp[metrics]'"),
        ("Port", "prometheus_client", "prometheus-client: pip install 'pycarp[metrics]'"),
        ("instrument", "opentelemetry", "OpenTelemetry's API: pip install opentelemetry-api"),
    ],
)
def test_without_the_library_it_says_what_to_install(name: str, missing: str, says: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import pycarp.metrics as m; m.{name}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.stderr.endswith(f"ModuleNotFoundError: pycarp.metrics.{name} needs {says}\n")
