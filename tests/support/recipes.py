"""The recipes of docs/howto/frameworks.md as files in a directory, and programs of them in hosts of a lab."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pycarp.lab.namespaces import Host

from .pages import ROOT, steps

PAGE = ROOT / "docs" / "howto" / "frameworks.md"
MYSITE = """
import asyncio

async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"tick\\n", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"main"})
"""
"""The application that the page's reader has already: GET / says "main", GET /stream never ends."""


def recipe(name: str) -> str:
    """What the page has for the file /etc/NAME, as it stands but for the pace: adverts every 39 ms."""
    [text] = [step.text for step in steps(PAGE) if step.order == "file" and step.words[1] == f"/etc/{name}"]
    return text.replace("VirtualHost(vhid=101,", "VirtualHost(vhid=101, advbase=0, advskew=10,")


def write(directory: Path, *names: str) -> None:
    (directory / "mysite.py").write_text(MYSITE)
    for name in names:
        (directory / name).write_text(recipe(name))


class Served:
    """A program in a host of the lab, in a process group of its own; what it says is in `said`."""

    def __init__(self, host: Host, directory: Path, words: Sequence[str], implementation: str) -> None:
        self._log = directory / "said.txt"
        scripts = str(Path(sys.executable).parent)
        path = [str(directory), *sys.path]
        more = {
            "PYCARP_IMPL": implementation,
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(directory),
        }
        environment = {**os.environ, **more, "PATH": f"{scripts}:{os.environ['PATH']}"}
        with self._log.open("w") as out:
            self.process = host.popen(
                words, cwd=directory, stdout=out, stderr=subprocess.STDOUT, env=environment, process_group=0
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def served(host: Host, directory: Path, words: Sequence[str], implementation: str = "native") -> Iterator[Served]:
    program = Served(host, directory, words, implementation)
    with contextlib.closing(program):
        yield program
