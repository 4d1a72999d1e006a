"""A site on the address, and those who visit it: what a failover looks like to clients of TCP."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections import Counter
from typing import Any, Self

from pycarp.lab.namespaces import Host

from .wire import VIP

PORT = 8000


class Site:
    """An HTTP server on every address of a host, which answers with the host's name."""

    def __init__(self, host: Host) -> None:
        name = host.name.encode()

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name)

            def log_message(self, *_words: Any) -> None:
                pass

        with host.enter():
            self._server = http.server.ThreadingHTTPServer(("", PORT), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="site")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Visitors:
    """One new connection every 50 ms; `outcomes` has a line for each: who answered, or what went wrong.

    "refused": nobody accepts. "timeout": no answer within a second. "reset": one that had connected was cut off.
    """

    def __init__(self, host: Host, address: str = VIP) -> None:
        self._host, self._address = host, address
        self.outcomes: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="visitors")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def seen(self, outcome: str) -> bool:
        return outcome in self.outcomes

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.outcomes)

    def _run(self) -> None:
        with self._host.enter():
            due = time.monotonic()
            while not self._end.is_set():
                self.outcomes.append(visit(self._address))
                due = max(due + 0.05, time.monotonic())
                self._end.wait(due - time.monotonic())


def visit(address: str) -> str:
    """One connection from the network namespace of this thread; what came of it."""
    try:
        with socket.create_connection((address, PORT), timeout=1) as connection:
            try:
                connection.sendall(b"GET / HTTP/1.0\r\nHost: site\r\n\r\n")
                answer = b""
                while more := connection.recv(4096):
                    answer += more
            except (ConnectionResetError, BrokenPipeError):
                return "reset"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return str(error)
    return answer.rpartition(b"\r\n\r\n")[2].decode() or "nothing"


class Stream:
    """A client that reads an answer without end, so that the server has something to drain."""

    def __init__(self, host: Host, address: str = VIP) -> None:
        with host.enter():
            self._socket = socket.create_connection((address, PORT), timeout=5)
        self._socket.sendall(b"GET /stream HTTP/1.1\r\nHost: site\r\n\r\n")
        self._read = b""
        while b"tick" not in self._read:
            more = self._socket.recv(4096)
            assert more, self._read
            self._read += more

    def close(self) -> None:
        self._socket.close()
