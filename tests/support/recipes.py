"""The recipes of docs/howto/frameworks.md and programs.md as files, and programs of them in hosts of a lab."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pycarp.lab.namespaces import Host

from .pages import ROOT, steps

PAGES = [ROOT / "docs" / "howto" / f"{name}.md" for name in ("frameworks", "programs")]
QUICK = "vhid=101, advbase=0, advskew=10, "
"""Adverts every 39 ms."""
SITE = ROOT / "tests" / "frameworks" / "site"
"""What the pages' reader has already: an application for each framework."""


def recipe(name: str) -> str:
    """What these pages have for the file /etc/NAME, as it stands but for the pace: adverts every 39 ms."""
    [text] = [
        step.text for page in PAGES for step in steps(page) if step.order == "file" and step.words[1] == f"/etc/{name}"
    ]
    return text.replace("VirtualHost(vhid=101, ", f"VirtualHost({QUICK}")


def write(directory: Path, *names: str) -> None:
    shutil.copytree(SITE, directory, dirs_exist_ok=True)
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
            self.process.wait(1.5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def served(host: Host, directory: Path, words: Sequence[str], implementation: str = "native") -> Iterator[Served]:
    program = Served(host, directory, words, implementation)
    with contextlib.closing(program):
        yield program
