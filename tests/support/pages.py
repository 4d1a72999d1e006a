"""The tutorial and the pages of docs/howto/: their fenced blocks, and a lab in which they run.

A comment before a block says what becomes of it:

    <!-- run HOST -->                       bash runs it on that host of the lab, and it must end with 0
    <!-- run HOST background until TEXT --> it goes on running until the page ends; TEXT must appear in what it prints
    <!-- file HOST PATH -->                 the block is the contents of that file
    <!-- output -->                         each line is a pattern, as of fnmatch, that the last output must hold
    <!-- not run: REASON -->                it cannot run in a lab

A comment that begins with "setup HOST" runs the lines below it: what a reader is told in words, or knows.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pycarp.lab.namespaces import Host

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs" / "howto").glob("*.md"), ROOT / "docs" / "tutorial.md"])
PROGRAMS = ("sh", "bash", "python", "console")
"""Languages of blocks that a reader is to run."""
_FENCE = re.compile(r"^```([\w{}]*)$")
_COMMENT = re.compile(r"^<!-- (.*?)(?: -->)?$")
_WITHIN = 20.0


@dataclass(frozen=True)
class Step:
    """A block with its order: "run", "file", "output", "not run:", "setup", or "" where it has none."""

    order: str
    words: tuple[str, ...]
    language: str
    text: str
    line: int


def steps(page: Path) -> Iterator[Step]:
    """The blocks of a page, in order."""
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), 1))
    order = ""
    for number, line in lines:
        if (fence := _FENCE.match(line)) is not None:
            body = []
            for _, inner in lines:
                if inner == "```":
                    break
                body.append(inner)
            yield _step(order, fence[1], body, number)
            order = ""
        elif (comment := _COMMENT.match(line)) is not None:
            order = comment[1]
            if order.startswith("setup "):
                body = []
                for _, inner in lines:
                    if inner == "-->":
                        break
                    body.append(inner)
                yield _step(order, "sh", body, number)
                order = ""
        elif line.strip():
            order = ""


def _step(order: str, language: str, body: list[str], line: int) -> Step:
    if order.startswith("not run:"):
        return Step("not run:", tuple(order.split()[2:]), language, "\n".join(body), line)
    kind, *words = order.split() or [""]
    return Step(kind, tuple(words), language, "\n".join(body) + "\n", line)


class Reader:
    """Does what a page says, on the hosts of a lab. Each host has processes, an /etc and a home of its own."""

    def __init__(self, hosts: dict[str, Host], directory: Path) -> None:
        self._hosts = hosts
        self._directory = directory
        self._inits: dict[str, subprocess.Popen[str]] = {}
        self._running: list[tuple[Step, subprocess.Popen[str], Path]] = []
        self._output = ""
        self._orders = {"run": self._run, "setup": self._run, "file": self._file, "output": self._compare}
        command = directory / "bin" / "pycarp"
        command.parent.mkdir()
        command.write_text(f"#!{sys.executable}\nimport sys\nfrom pycarp.cli import main\nsys.exit(main())\n")
        command.chmod(0o755)

    def follow(self, page: Path) -> None:
        """All steps of a page, in order."""
        try:
            for step in steps(page):
                try:
                    self._orders.get(step.order, lambda step: None)(step)
                except AssertionError as error:
                    raise AssertionError(f"{page.name}:{step.line}: {error}") from None
            for step, process, log in self._running:
                assert process.poll() is None, f"{page.name}:{step.line}: it has ended: {log.read_text()}"
        finally:
            self.close()

    def close(self) -> None:
        """End what runs on: in order, so that it takes down what it made."""
        for _, process, _ in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for _, process, _ in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(8)
        for init in self._inits.values():
            init.kill()  # and with it everything in its namespace
            init.wait()
        for _, process, _ in self._running:
            process.wait()
        self._running.clear()
        self._inits.clear()

    def _run(self, step: Step) -> None:
        name, *rest = step.words
        log = self._directory / f"{name}-{step.line}.log"
        if step.language == "python":
            program = [sys.executable, "-c", step.text]
        else:
            program = ["bash", "-euo", "pipefail", "-c", step.text]
        inside = ["nsenter", f"--target={self._init(name)}", "--pid", "--mount", f"--wd={self._home(name)}"]
        path = f"{self._directory / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        more = {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        more["PYCARP_RUN_DIRECTORY"] = str(self._home(name).parent / "run")
        with log.open("w") as out:
            process = self._hosts[name].popen(
                [*inside, *program], env={**os.environ, **more}, text=True, process_group=0,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if rest[:1] == ["background"]:
            self._running.append((step, process, log))
            wanted, end = " ".join(rest[2:]), time.monotonic() + _WITHIN
            while wanted not in log.read_text():
                assert process.poll() is None and time.monotonic() < end, f"no {wanted!r} in: {log.read_text()}"
                time.sleep(0.05)
            self._output = log.read_text()
            return
        code = process.wait(60)
        self._output = log.read_text()
        assert code == 0, f"exit code {code}: {self._output}\n{self._logs()}"

    def _file(self, step: Step) -> None:
        name, path = step.words
        assert path.startswith("/etc/"), path
        target = self._etc(name) / path.removeprefix("/etc/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(step.text)
        target.chmod(0o600)

    def _compare(self, step: Step) -> None:
        printed = self._output.splitlines()
        for wanted in step.text.splitlines():
            assert any(fnmatch.fnmatch(line, f"*{wanted}*") for line in printed), f"no {wanted!r} in: {self._output}"

    def _logs(self) -> str:
        return "\n".join(f"{step.words}: {log.read_text()}" for step, _, log in self._running)

    def _init(self, name: str) -> int:
        """The process id, here, of the first process in a host's namespaces of processes and mounts."""
        if name not in self._inits:
            script = f'mount --bind "{self._etc(name)}" /etc; echo ready; exec sleep 600'
            unshare = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
            self._inits[name] = init = self._hosts[name].popen(
                [*unshare, "sh", "-ec", script], stdout=subprocess.PIPE, text=True
            )
            assert init.stdout is not None
            assert init.stdout.readline() == "ready\n", "no namespaces of processes and mounts here"
        children = Path(f"/proc/{self._inits[name].pid}/task/{self._inits[name].pid}/children").read_text().split()
        return int(children[0])

    def _etc(self, name: str) -> Path:
        etc = self._directory / name / "etc"
        if not etc.exists():
            etc.parent.mkdir()
            # What an ordinary user may not read is missed by no page.
            subprocess.run(["cp", "-a", "/etc", etc], stderr=subprocess.DEVNULL, check=False)
        return etc

    def _home(self, name: str) -> Path:
        home = self._etc(name).parent / "home"
        home.mkdir(exist_ok=True)
        return home
