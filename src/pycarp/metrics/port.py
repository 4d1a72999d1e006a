"""`Port`: ``/metrics`` for Prometheus and a page for people, read-only, over HTTP.

Thread: pycarp-metrics and one for each connection; none of them is the engine's
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import weakref
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from .._unpatched import http_server, select, socket, threading, time
from ..errors import CarpError, EngineError
from . import page
from .collector import Collector
from .tally import Tally

if TYPE_CHECKING:
    from ..engine.engine import Engine

CONNECTIONS = 32
"""At once; one more is turned away."""
SLOW = 10.0
"""Seconds that a client may take to ask, or to read what it asked for."""
_LOOK = 1.0
"""Seconds between two looks for a page that follows."""


class Port:
    """Serves an engine's figures at an address of this machine until `close`. Nobody can change anything by it.

    Raises `EngineError`, in one sentence, where it cannot listen; then nothing is left. That of `pycarp.aio.Engine` is
    its `blocking`.
    """

    def __init__(self, engine: Engine, address: str = "127.0.0.1", port: int = 9112) -> None:
        self.address, self.port = address, port
        try:
            self._server = _Server(engine, address, port)
        except OSError as error:
            where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            raise EngineError(f"metrics cannot be served at {where} ({error.strerror}): give another place") from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="pycarp-metrics", daemon=True
        )
        self._thread.start()
        self._closed = False
        _ports.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and the connections. May be called again."""
        if not self._closed:
            self._closed = True
            _ports.discard(self)
            self._server.end()
            self._thread.join()
            self._server.server_close()

    def _abandon(self) -> None:
        """In a forked child: close the copy of the descriptor, so that the place is free when the parent has ended."""
        self._closed = True
        self._server.socket.close()


# A fork copies descriptors.
_ports: weakref.WeakSet[Port] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for port in list(_ports):
        port._abandon()
    _ports.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Server(http_server.ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self, engine: Engine, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.local = ip_address(address).is_loopback
        super().__init__((address, port), _Handler)
        self.engine = engine
        self.tally = Tally(engine)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(Collector(engine, self.tally))
        self.ending = threading.Event()
        self._inner, self._made = "", 0.0
        # Each with the moment until which it may ask, None: it has asked.
        self._open: dict[socket.socket, float | None] = {}
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        # Not the class's own: that one asks the name service for this host's name.
        super(http_server.HTTPServer, self).server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= CONNECTIONS:
                return False
            self._open[request] = time.monotonic() + SLOW
        request.settimeout(SLOW)
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Send away who has not asked in time, however busy: a byte now and then does not keep a place."""
        now = time.monotonic()
        with self._lock:
            for one in [one for one, until in self._open.items() if until is not None and until < now]:
                self._open[one] = None
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def inner(self) -> str:
        """What all pages that follow show: made once in `_LOOK`, however many they are. Raises `CarpError`."""
        with self._lock:
            if time.monotonic() - self._made >= _LOOK:
                self._inner = page.inner(self.engine.snapshot(), self.tally.latest())
                self._made = time.monotonic()
            return self._inner

    def has_asked(self, request: socket.socket) -> None:
        with self._lock:
            if request in self._open:
                self._open[request] = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def end(self) -> None:
        self.ending.set()
        self.shutdown()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self.tally.close()


class _Handler(http_server.BaseHTTPRequestHandler):
    server: _Server
    server_version = "pycarp"
    sys_version = ""
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.server.has_asked(self.connection)
        try:
            path, here = urlsplit(self.path).path, self._asked_here()
        except ValueError:
            self._answer(400, "text/plain", b"the address or the Host is not one\n")
            return
        if not here:
            self._answer(403, "text/plain", b"this address is not served under that name\n")
        elif path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, kind, encode(self.server.registry))
        elif path == "/events":
            self._follow()
        elif path == "/":
            nonce = secrets.token_urlsafe(16)
            policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
            self._page(lambda snapshot, seen: page.whole(snapshot, seen, nonce), policy)
        else:
            self._answer(404, "text/plain", b"there are /metrics and /\n")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """No access log."""

    def _asked_here(self) -> bool:
        """Whether a browser on this machine was not lured: on a loopback address the name has to be that address."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if not self.server.local or host in ("", "localhost"):
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False

    def _page(self, made: Any, policy: str) -> None:
        try:
            text = made(self.server.engine.snapshot(), self.server.tally.latest())
        except CarpError as error:
            self._answer(503, "text/plain", f"{error}\n".encode())
            return
        self._answer(200, "text/html; charset=utf-8", text.encode(), {"Content-Security-Policy": policy})

    def _follow(self) -> None:
        """Server-sent events: the page's inner part, whenever it changed."""
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        former, spoken = "", time.monotonic()
        while not self.server.ending.is_set():
            try:
                text = self.server.inner()
            except CarpError:
                return
            if text != former:
                self.wfile.write(f"data: {json.dumps(text)}\n\n".encode())
            elif time.monotonic() - spoken > SLOW:
                self.wfile.write(b":\n\n")  # so that a reader who has gone is noticed
            else:
                self._wait()
                continue
            former, spoken = text, time.monotonic()
            self._wait()

    def _wait(self) -> None:
        """A moment; less if the reader goes, or the port ends."""
        waits = select.poll()  # select(2) takes no descriptor above 1023
        waits.register(self.connection, select.POLLIN)
        if waits.poll(_LOOK * 1000) and not self.connection.recv(1 << 10):
            raise ConnectionAbortedError

    def _answer(self, code: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, "Cache-Control": "no-store", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
