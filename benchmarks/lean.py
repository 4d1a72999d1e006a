"""What an engine costs the program that it is in: imports, start, memory, modules, and the wait of an event loop.

    python benchmarks/lean.py --tree base=/path/to/python:/path/to/src --tree now=/path/to/python:/path/to/src

Without --tree, of this source tree alone. With --realtime the processes have SCHED_FIFO: other work on the machine does
not count. Every figure comes from processes of its own in network namespaces, the trees
in turn. Needs what `pycarp demo` needs for real hosts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycarp.lab.namespaces import Host, Lab

HOST = "VirtualHost(vhid=7, passphrase='motdepassehalakon', addresses=['10.13.37.42/24'], advskew=100)"
IMPORT = "from pycarp import Engine, VirtualHost"

MODULES = f"""
import sys
before = set(sys.modules)
{IMPORT}
engine = Engine({HOST})
engine.start()
print(len(sys.modules), sorted({{name.partition('.')[0] for name in set(sys.modules) - before}}))
engine.stop()
"""

START = f"""
import time
{IMPORT}
engine = Engine({HOST})
begun = time.perf_counter()
engine.start()
started = time.perf_counter()
while engine.state(7).name != 'BACKUP':
    time.sleep(0.0005)
backup = time.perf_counter()
engine.stop()
print((started - begun) * 1e3, (backup - begun) * 1e3)
"""

MEMORY = f"""
import os, time
def private(pid='self'):
    kinds = {{}}
    with open(f'/proc/{{pid}}/smaps_rollup') as file:
        for line in file:
            name, _colon, value = line.partition(':')
            kinds[name] = value.split()[0]
    return (int(kinds['Private_Clean']) + int(kinds['Private_Dirty'])) / 1024
bare = private()
{IMPORT}
engine = Engine({HOST})
engine.start()
time.sleep(1)
print(bare, private())
engine.stop()
"""

LOOP = f"""
import asyncio, time
from pycarp import VirtualHost, aio
async def main():
    late = []
    async def tick():
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - due) * 1e3)
    task = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    late.clear()
    engine = aio.Engine({HOST})
    await engine.start()
    await asyncio.sleep(0.005)
    task.cancel()
    await engine.stop()
    print(*late)
asyncio.run(main())
"""
# asyncio sleeps 0.1 ms too long even on an idle machine, and 1 ms with a poll that counts in ms.


_FIRST = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\n"


@dataclass(frozen=True, slots=True)
class Tree:
    name: str
    python: str
    source: Path
    realtime: bool = False

    @classmethod
    def parse(cls, text: str) -> Tree:
        name, _equals, where = text.partition("=")
        python, _colon, source = where.partition(":")
        if not (name and python and Path(source, "pycarp").is_dir()):
            raise argparse.ArgumentTypeError(f"{text}: not NAME=PYTHON:SOURCE, where SOURCE holds pycarp")
        return cls(name, python, Path(source).resolve())

    def command(self, code: str) -> list[str]:
        first = _FIRST if self.realtime else ""
        return [self.python, "-I", "-c", f"import sys; sys.path.insert(0, {str(self.source)!r})\n{first}{code}"]

    def prepare(self) -> None:
        """Without compiled files, the first import would be timed with its compilation."""
        subprocess.run([self.python, "-m", "compileall", "-q", str(self.source)], check=True)


HERE = Tree("here", sys.executable, Path(__file__).resolve().parents[1] / "src")


def run(host: Host, tree: Tree, code: str) -> str:
    with host.enter():
        done = subprocess.run(tree.command(code), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree.name}: {done.stderr}")
    return done.stdout


def floats(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def took(host: Host, tree: Tree, code: str) -> float:
    """Of a whole process, in ms."""
    begun = time.perf_counter()
    run(host, tree, code)
    return (time.perf_counter() - begun) * 1e3


def measure(host: Host, tree: Tree) -> dict[str, float]:
    """One turn. Times in ms, memory in MB."""
    start, backup = floats(run(host, tree, START))
    bare, private = floats(run(host, tree, MEMORY))
    return {
        "bare": took(host, tree, ""),
        "import": took(host, tree, IMPORT),
        "start": start,
        "backup": backup,
        "memory": private - bare,
        "process": private,
    }


def lateness(host: Host, tree: Tree) -> list[float]:
    """Of the turns of an event loop while an engine starts in it, in ms; a task wakes every ms."""
    return floats(run(host, tree, LOOP))


Figure = tuple[str, Callable[[Sequence[dict[str, float]]], float]]


def median(name: str) -> Callable[[Sequence[dict[str, float]]], float]:
    return lambda turns: statistics.median(turn[name] for turn in turns)


FIGURES: tuple[Figure, ...] = (
    ("import pycarp, Engine, VirtualHost, beyond bare Python, ms", lambda t: median("import")(t) - median("bare")(t)),
    ("Engine.start() returns after, ms", median("start")),
    ("Engine.start() to BACKUP, ms", median("backup")),
    ("private memory of the process, MB", median("process")),
    ("of it beyond bare Python, MB", median("memory")),
)


def count(host: Host, tree: Tree) -> tuple[int, str]:
    """How many modules a program with a running engine has loaded, and whose."""
    number, names = run(host, tree, MODULES).split(maxsplit=1)
    return int(number), names.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Tree.parse, action="append", metavar="NAME=PYTHON:SOURCE")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trees = [replace(tree, realtime=options.realtime) for tree in options.tree or [HERE]]
    turns: dict[str, list[dict[str, float]]] = {tree.name: [] for tree in trees}
    late: dict[str, list[float]] = {tree.name: [] for tree in trees}
    with Lab(hosts=("main",)) as lab:
        for tree in trees:
            tree.prepare()
            run(lab["main"], tree, START)
        for _round in range(options.rounds):
            for tree in trees:
                turns[tree.name].append(measure(lab["main"], tree))
                late[tree.name] += lateness(lab["main"], tree)
        modules = {tree.name: count(lab["main"], tree)[0] for tree in trees}
    rows: list[tuple[str, list[float]]] = [(name, [of(turns[tree.name]) for tree in trees]) for name, of in FIGURES]
    for percent in (50, 99):
        name = f"while aio.Engine.start() runs, a task that wakes every ms is late, p{percent}, ms"
        rows.append((name, [sorted(late[tree.name])[len(late[tree.name]) * percent // 100] for tree in trees]))
    rows.append(("modules loaded", [float(modules[tree.name]) for tree in trees]))
    show(trees, rows, options.json)


def show(trees: list[Tree], rows: list[tuple[str, list[float]]], raw: bool) -> None:
    if raw:
        figures: dict[str, Any] = {tree.name: {name: row[at] for name, row in rows} for at, tree in enumerate(trees)}
        print(json.dumps(figures, indent=2))
        return
    ratio = len(trees) == 2
    print("| |", " | ".join(tree.name for tree in trees), "| ratio |" if ratio else "|")
    print("|---|" + "--:|" * (len(trees) + ratio))
    for name, row in rows:
        end = f" {row[1] / row[0]:.2f} |" if ratio else ""
        print(f"| {name} |", " | ".join(f"{one:.1f}" for one in row), f"|{end}")


if __name__ == "__main__":
    main()
