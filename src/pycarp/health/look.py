"""One look at what a check is about. Each waits for its time at most, and says what it found in one sentence.

No sentence repeats an argument, the content of a file or what a program wrote: a secret may be in it.

Thread: that of the check
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from .._unpatched import socket, time
from . import arguments as a

if TYPE_CHECKING:
    from ..linux.children import Children

_MOST = 1 << 16
"""Bytes of an answer or a file that are read."""
_REFUSED_WITHIN = 0.2
_COMM = 15
"""Characters of a process's name that the kernel keeps."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Look(NamedTuple):
    """What was found. `by` is how much it demotes, where what was looked at says so itself."""

    well: bool
    said: str
    by: int | None = None


class Tools(NamedTuple):
    """What looks need of the runner: who starts programs."""

    children: Callable[[], Children]


def look(what: a.Arguments, timeout: float, tools: Tools) -> Look:
    """Look once. Never raises for what is found; `OSError` and what libraries raise becomes a sentence."""
    try:
        return _LOOKS[type(what)](what, timeout, tools)
    except TimeoutError:
        return Look(False, f"no answer within {timeout:g} s")
    except ssl.SSLError as error:
        return Look(False, f"TLS fails: {error.reason or 'it is refused'}")
    except OSError as error:
        return Look(False, os.strerror(error.errno) if error.errno and error.errno > 0 else "it cannot be reached")


def _exec(what: a.Exec, timeout: float, tools: Tools) -> Look:
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    environment = {"PATH": os.environ.get("PATH") or _PATH, **kept}
    try:
        child = tools.children().start(what.command, env=environment)
    except OSError as error:
        return Look(False, f"its program cannot be started: {error.strerror or error}")
    with child:
        status, _ = child.finish(timeout)
    if status is None:
        return Look(False, f"it did not end within {timeout:g} s, and was killed")
    if status < 0:
        return Look(False, f"it was ended by signal {-status}")
    return Look(status == 0, f"exit code {status}")


def _tcp(what: a.Tcp, timeout: float, _: Tools) -> Look:
    with socket.create_connection((what.host, what.port), timeout):
        return Look(True, "connected")


def _udp(what: a.Udp, timeout: float, _: Tools) -> Look:
    family, kind, protocol, _name, address = socket.getaddrinfo(what.host, what.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sender:
        sender.settimeout(timeout if what.payload else min(timeout, _REFUSED_WITHIN))
        sender.connect(address)
        sender.send(what.payload or b"\n")
        try:
            sender.recv(_MOST)
        except TimeoutError:
            if what.payload:
                raise
            return Look(True, "not refused")
        return Look(True, "answered")


def _http(what: a.Http, timeout: float, _: Tools) -> Look:
    parts = urlsplit(what.url)
    assert parts.hostname is not None
    give_up = time.monotonic() + timeout
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context() if what.verify else ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "pycarp", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status not in what.status:
            return Look(False, f"status {answer.status}")
        if what.expect and not _reads(answer, what.expect.encode(), give_up):
            return Look(False, f"status {answer.status}, and the text is not in it")
        return Look(True, f"status {answer.status}")
    except http.client.HTTPException:
        return Look(False, "the answer is no HTTP")
    finally:
        connection.close()


def _reads(answer: http.client.HTTPResponse, wanted: bytes, give_up: float) -> bool:
    """Whether the text stands in the first bytes of an answer."""
    content = b""
    while len(content) < _MOST and (piece := answer.read1(4096)):
        content += piece
        if wanted in content:
            return True
        if time.monotonic() > give_up:
            raise TimeoutError
    return False


def _dns(what: a.Dns, timeout: float, _: Tools) -> Look:
    try:
        import dns.exception
        import dns.message
        import dns.query
        import dns.rcode
    except ModuleNotFoundError:
        return Look(False, "it needs dnspython: pip install 'pycarp[health]'")
    family, kind, _protocol, _name, place = socket.getaddrinfo(what.host, what.port, type=socket.SOCK_DGRAM)[0]
    try:
        question = dns.message.make_query(what.name, what.type)
        # Connected: where nobody listens the kernel says so at once, and the look need not wait for its time limit.
        with socket.socket(family, kind) as connected:
            connected.setblocking(False)
            connected.connect(place)
            answer, _tcp_used = dns.query.udp_with_fallback(
                question, str(place[0]), timeout=timeout, port=what.port, udp_sock=connected
            )
    except dns.exception.Timeout:
        return Look(False, f"no answer within {timeout:g} s")
    except dns.exception.DNSException as error:
        return Look(False, f"the question or the answer is not in order ({type(error).__name__})")
    code = dns.rcode.to_text(answer.rcode())
    if answer.rcode() != dns.rcode.NOERROR:
        return Look(False, f"the server answers {code}")
    texts = [str(record) for group in answer.answer for record in group]
    if not texts:
        return Look(False, "the server knows no such record")
    if what.expect and what.expect not in texts:
        return Look(False, "the record is not the expected one")
    return Look(True, "answered")


def _file(what: a.File, _timeout: float, _: Tools) -> Look:
    descriptor = os.open(what.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        content = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    number = re.fullmatch(rb"\s*(-?[0-9]{1,9})\s*", content)
    if number is None or int(number[1]) == 0:
        return Look(True, "it is there")
    by = min(abs(int(number[1])), 254)
    return Look(False, f"it holds {int(number[1])}", by)


def _process(what: a.Process, _timeout: float, _: Tools) -> Look:
    if what.pidfile:
        return _by_pidfile(Path(what.pidfile))
    wanted = what.name[:_COMM]
    for number in filter(str.isdigit, os.listdir("/proc")):
        if _text(f"/proc/{number}/comm") == wanted:
            return Look(True, "it runs")
    hidden = "" if Path("/proc/1").exists() else ", or is hidden: give ProtectProc=default to the unit"
    return Look(False, f"there is no such process{hidden}")


def _by_pidfile(path: Path) -> Look:
    number = path.read_text(errors="replace")[:32].strip()
    if not re.fullmatch(r"[0-9]{1,9}", number):
        return Look(False, "its file holds no number")
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return Look(False, "there is no process of that number")
    except PermissionError:
        pass  # It is there, and another user's.
    return Look(True, "it runs")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def _link(what: a.Link, _timeout: float, _: Tools) -> Look:
    from ..linux.interfaces import read_interfaces

    for one in read_interfaces():
        if one.name == what.name:
            if not one.up:
                return Look(False, "it is down")
            return Look(one.running, "it is up" if one.running else "it has no carrier")
    return Look(False, "there is no such interface")


_LOOKS: dict[type, Callable[..., Look]] = {
    a.Exec: _exec,
    a.Tcp: _tcp,
    a.Udp: _udp,
    a.Http: _http,
    a.Dns: _dns,
    a.File: _file,
    a.Process: _process,
    a.Link: _link,
}
