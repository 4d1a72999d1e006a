"""Floods of forged adverts against an engine, and trees of pycarp beside each other.

    python benchmarks/flood.py                       # a few minutes; nothing else should run
    python benchmarks/flood.py --tree base=/path/to/python:/path/to/tree --tree now=/path/to/python:/path/to/tree
    python benchmarks/flood.py --quick               # half a minute: shows that it runs

The trees take turns. **held**: a native master and its backup, and as many forgeries as were sent: what a frame costs
the master's process, how far its adverts are off, and whether anybody noticed. **takeover**: the master of a Python
backup is cut off in a flood; the backup is due 3.098 s after the last advert. Times are the switch's timestamps.
With --realtime the measured processes have SCHED_FIFO, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import building
import frames
import peers
import stage

from pycarp.lab import namespaces
from pycarp.lab.namespaces import Host, Lab
from pycarp.monitor.timing import quantiles

SKEW = 25
INTERVAL = 1_000_000_000
DUE = 3_097_656_250
"""ns after the last advert at which a backup of advskew 25 is due."""
REALTIME: list[str] = []
"""What the measured processes are started by."""
HEADINGS = {
    "held": "| tree | forged/s | core of the runtime | ns a frame | off p50 | p99 | missed | backup spoke |",
    "takeover": "| tree | forged/s | takeovers | due | p50 | worst |",
}


@dataclass(frozen=True)
class Tree:
    name: str
    python: str
    source: Path

    @classmethod
    def of(cls, text: str) -> Tree:
        name, _, rest = text.partition("=")
        python, _, source = rest.partition(":")
        if not python or not source:
            raise argparse.ArgumentTypeError(f"{text!r}: give NAME=PYTHON:SOURCE")
        return cls(name, python, Path(source))


@contextmanager
def engine(tree: Tree, host: Host, implementation: str, master: bool) -> Iterator[int]:
    """An engine of a tree on a host, ready; its process."""
    told = {
        "passphrase": frames.PASSPHRASE, "prefix": peers.PREFIX, "master": master, "advskew": 0 if master else SKEW,
        "count": 1, "hold_gil": 0, "realtime": True,
    }  # fmt: skip
    environment = {**os.environ, "PYCARP_IMPL": implementation, "PYTHONPATH": str(tree.source / "src")}
    if not any((tree.source / "src/pycarp/_native").glob("*.so")):
        del environment["PYTHONPATH"]  # it is installed
    command = [*REALTIME, tree.python, str(tree.source / "benchmarks/subject.py"), json.dumps(told)]
    process = host.popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{tree.name} did not start; what it said is above")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def held(tree: Tree, lab: Lab, program: Path, rate: float, seconds: float) -> dict[str, Any]:
    """A round of it."""
    with ExitStack() as stack:
        ears = stack.enter_context(stage.Ears(lab, ["main", "second"]))
        pid = stack.enter_context(engine(tree, lab["main"], "native", True))
        ears.until(lambda: ears.last("main"), 20, "the master speaks")
        stack.enter_context(engine(tree, lab["second"], "native", False))
        time.sleep(2)
        idle = -stage.cpu([pid])
        time.sleep(2)
        idle = (idle + stage.cpu([pid])) / 2
        forged = frames.forged(256, lab["client"].address, 1)
        blast = stack.enter_context(stage.blast(program, lab["client"], forged, rate, seconds + 5, REALTIME))
        time.sleep(0.5)
        ears.forget()
        used, began = -stage.cpu([pid]), time.monotonic()
        time.sleep(seconds)
        used, passed = used + stage.cpu([pid]), time.monotonic() - began
        beats = [beat.at for beat in ears.beats if beat.port == "main"]
        backup = sum(beat.port == "second" for beat in ears.beats)
        blast.end()
        took = time.monotonic() - began + 0.5
    sent = blast.sent / took
    errors = [b - a - INTERVAL for a, b in itertools.pairwise(beats)]
    return {
        "rate": sent,
        "core": used / passed / 1e9,
        "each": (used - idle * passed) / (sent * passed),
        "errors": [abs(error) for error in errors if error < INTERVAL // 2],
        "missed": sum(round(error / INTERVAL) for error in errors if error >= INTERVAL // 2),
        "backup": backup,
    }


def takeover(tree: Tree, lab: Lab, program: Path, rate: float) -> dict[str, Any]:
    """One takeover."""
    with ExitStack() as stack:
        ears = stack.enter_context(stage.Ears(lab, ["main", "second"]))
        stack.enter_context(engine(tree, lab["main"], "native", True))
        ears.until(lambda: ears.last("main"), 20, "the master speaks")
        stack.enter_context(engine(tree, lab["second"], "python", False))
        time.sleep(2)
        forged = frames.forged(256, lab["client"].address, 1)
        blast = stack.enter_context(stage.blast(program, lab["client"], forged, rate, 30, REALTIME))
        began = time.monotonic()
        time.sleep(2.3)
        spoken = len(ears.beats)
        ears.until(lambda: len(ears.beats) > spoken, 5, "the master speaks")
        time.sleep(0.3)
        lab.unplug("main", seen=False)
        cut = time.time_ns()
        try:
            ears.until(lambda: ears.first_after("second", cut), 20, "the backup takes over")
        finally:
            lab.plug("main")
        first = ears.first_after("second", cut)
        last = max(beat.at for beat in ears.beats if beat.port == "main" and beat.at < cut)
        blast.end()
        passed = time.monotonic() - began
    assert first is not None
    return {"rate": blast.sent / passed, "after": first.at - last}


def rows(part: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for name, rounds in found.items():
        rate = sum(one["rate"] for one in rounds) / len(rounds)
        if part == "held":
            errors = sorted(error for one in rounds for error in one["errors"])
            core, each = (sorted(one[key] for one in rounds)[len(rounds) // 2] for key in ("core", "each"))
            p50, p99 = (quantiles(errors, share)[0] / 1e3 for share in (0.5, 0.99))
            missed, backup = (sum(one[key] for one in rounds) for key in ("missed", "backup"))
            error = f"{p50:.1f} us | {p99:.1f} us"
            yield f"| {name} | {rate:,.0f} | {core:.3f} | {each:.0f} | {error} | {missed} | {backup} |"
        else:
            after = sorted(one["after"] for one in rounds)
            middle, worst = after[len(after) // 2] / 1e9, after[-1] / 1e9
            yield f"| {name} | {rate:,.0f} | {len(after)} | {DUE / 1e9:.3f} s | {middle:.3f} s | {worst:.3f} s |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--tree", type=Tree.of, action="append", metavar="NAME=PYTHON:SOURCE", help="default: this one")
    parser.add_argument("--parts", default="held,takeover", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each tree; default %(default)s")
    parser.add_argument("--seconds", type=float, default=20, help="of each flood that is held; default %(default)s")
    parser.add_argument("--rate", type=float, default=600_000, help="forged a second, held; default %(default)s")
    parser.add_argument("--takeover-rate", type=float, default=200_000, help="default %(default)s")
    parser.add_argument("--realtime", action="store_true", help="SCHED_FIFO: other work on the machine does not count")
    parser.add_argument("--quick", action="store_true", help="half a minute: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rate, options.takeover_rate = 1, 3, 20_000, 10_000
    if namespaces.available() == "user":
        namespaces.enter_user_namespace([sys.executable, *sys.argv])
    if options.realtime:
        REALTIME.extend(("chrt", "-f", "1"))
    trees = options.tree or [Tree("here", sys.executable, building.HERE.parent)]
    result: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="pycarp-flood-") as scratch:
        program = building.program("blast", Path(scratch))
        for part in options.parts.split(","):
            found = result[part] = {tree.name: [] for tree in trees}
            for turn in range(options.rounds):
                for tree in trees:
                    with Lab(("main", "second", "client"), peers.SUBNET, None) as lab:
                        if part == "held":
                            one = held(tree, lab, program, options.rate, options.seconds)
                        else:
                            one = takeover(tree, lab, program, options.takeover_rate)
                    found[tree.name].append(one)
                    print(f"{part}, round {turn + 1} of {options.rounds}, {tree.name}: {one}", file=sys.stderr)
            columns = HEADINGS[part].count("|") - 2
            print("\n".join((HEADINGS[part], "|---|" + "--:|" * columns, *rows(part, found), "")))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
