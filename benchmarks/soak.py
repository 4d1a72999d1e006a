"""Wears out a runtime: peers that flap, forged adverts, cut cables, for minutes; looks for what grows.

    python benchmarks/soak.py --minutes 30 --json soak.json     # exit code 1: something grew, or an address was lost
    python benchmarks/soak.py --minutes 2 --turn 8              # shows that it runs

In each turn the peers flap for half of the time, then one thing happens (a cut cable, a killed peer, ...), then all is
quiet. At its end the subject has to have all addresses, and a sample is taken: memory, descriptors and threads of all
its processes, and how late it was. The last quarter is compared with the second.
Needs root, or user namespaces (then without SCHED_FIFO). Touches no interface of the machine itself.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mayhem
import peers
import stage

from pycarp import VirtualHost
from pycarp.lab import namespaces
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux.interfaces import read_interfaces

HERE = Path(__file__).resolve().parent
MEMORY_SLACK = 512 * 1024
"""Bytes: an allocator takes from the kernel in pieces, and gives back when it likes."""
LATENESS_SLACK = {0.5: 1, 0.99: 3}
"""Powers of two by which these parts of the lateness may rise: the second is the machine's doing more than ours."""
SETTLED_WITHIN = 20.0
"""Seconds after which an address that is not back counts as lost."""
_Row = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Process:
    """`soak_subject` in a host of the lab."""

    def __init__(self, host: Host, hosts: Sequence[VirtualHost], implementation: str) -> None:
        told = [_plain(one) for one in hosts]
        process = host.popen(
            [sys.executable, str(HERE / "soak_subject.py"), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYCARP_IMPL": implementation},
        )
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.running = peers.Running(host, [process])
        self._read("ready")

    def tell(self, word: str) -> None:
        self._in.write(word + "\n")
        self._in.flush()

    def sample(self) -> _Row:
        self.tell("sample")
        answer: _Row = json.loads(self._read())
        return answer

    def end(self, kill: bool = False) -> None:
        if kill:
            self.running.end(signal.SIGKILL)
        else:
            self._in.close()
        self.running.wait()

    def _read(self, wanted: str = "") -> str:
        line: str = self._out.readline()
        if not line or (wanted and line != wanted + "\n"):
            raise RuntimeError(f"the subject is gone, or said {line!r}; what it complained of is above")
        return line


def _plain(host: VirtualHost) -> _Row:
    return {
        "vhid": host.vhid,
        "passphrase": host.passphrase,
        "addresses": [str(one) for one in host.addresses],
        "advbase": host.advbase,
        "advskew": host.advskew,
        "preempt": host.preempt,
        "mac": host.mac,
    }


def soak(implementation: str, seconds: float, turn: float) -> list[_Row]:
    """The samples, one a turn."""
    groups = mayhem.groups()
    second = [host.replace(advbase=1, advskew=200) for host in groups]
    wanted = {str(address.ip) for host in groups for address in host.addresses}
    samples: list[_Row] = []
    with Lab(("main", "second", "client"), peers.SUBNET) as lab, contextlib.ExitStack() as stack:
        main = Process(lab["main"], groups, implementation)
        stack.callback(main.end)
        other = [Process(lab["second"], second, implementation)]
        stack.callback(lambda: other[0].end())
        flapper = mayhem.Flapper(lab["client"], groups)
        stack.callback(flapper.close)

        def restart(kill: bool) -> None:
            other[0].end(kill)
            other[0] = Process(lab["second"], second, implementation)

        began = time.monotonic()
        disturb = itertools.cycle(mayhem.disturbances(lab, flapper, main.tell, restart))
        while time.monotonic() - began < seconds:
            due = began + turn * (len(samples) + 1)
            flapper.flap(turn / 2)
            next(disturb)()
            time.sleep(max(0.0, due - time.monotonic() - turn / 10))
            lost = settle(lambda: _held(lab["main"]) == wanted and main.sample()["masters"] == len(groups))
            samples.append(take(main, time.monotonic() - began, lost, flapper.sent))
            say(describe(samples))
    return samples


def settle(settled: Callable[[], bool]) -> bool:
    """Whether it was waited for in vain."""
    give_up = time.monotonic() + SETTLED_WITHIN
    while not settled():
        if time.monotonic() > give_up:
            return True
        time.sleep(0.1)
    return False


def take(process: Process, at: float, lost: bool, frames: int) -> _Row:
    pids = process.running.pids()
    row = {"at": round(at, 1), "lost": lost, "frames": frames, **process.sample()}
    row |= {"processes": len(pids), "private": stage.memory(pids)["private"], "cpu": stage.cpu(pids)}
    row["descriptors"] = sum(_count(f"/proc/{pid}/fd") for pid in pids)
    row["threads"] = sum(_count(f"/proc/{pid}/task") for pid in pids)
    return row


def _count(directory: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(directory))
    return 0


def _held(host: Host) -> set[str]:
    """The addresses on a host besides its own."""
    with host.enter():
        found = {str(one.interface.ip) for interface in read_interfaces() for one in interface.addresses}
    return {one for one in found if one not in (host.address, host.address6, "127.0.0.1", "::1") and one[:4] != "fe80"}


# The second quarter and the last


def compare_quarters(samples: Sequence[_Row]) -> tuple[_Row, list[str]]:
    """Figures of the second and the last quarter, and what is wrong with them."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    figures: _Row = {"samples": len(samples), "quarter": quarter}
    wrong = [f"at {row['at']:.0f} s it did not have its addresses" for row in samples if row["lost"]]
    if len(samples) < 4:
        return figures, [*wrong, f"{len(samples)} samples are too few to see growth: let it run longer"]
    for name, slack in (("private", MEMORY_SLACK), ("descriptors", 0), ("threads", 0), ("processes", 0)):
        before, after = (statistics.median(row[name] for row in part) for part in (early, late))
        figures[name] = [before, after]
        if after > before + slack:
            wrong.append(f"{name} grew from {before:.0f} to {after:.0f}")
    for name in ("wakeup", "sending", "takeover"):
        spans = [_between(samples, at, at + quarter, name) for at in (quarter, len(samples) - quarter)]
        for part, slack in LATENESS_SLACK.items():
            before, after = (_bucket(counts, part) for counts in spans)
            figures[f"{name} p{part * 100:g}"] = [_upper(before), _upper(after)]
            if after > before + slack:
                wrong.append(f"{name}: {part * 100:g} % were below {_upper(before)} ns, then below {_upper(after)} ns")
        figures[f"{name} worst"] = _upper(_bucket(samples[-1][name], 1.0))
    return figures, wrong


def _between(samples: Sequence[_Row], begin: int, end: int, name: str) -> list[int]:
    """A histogram of what came after sample `begin` - 1 and not after sample `end` - 1."""
    return [after - before for before, after in zip(samples[begin - 1][name], samples[end - 1][name], strict=True)]


def _bucket(counts: Sequence[int], part: float) -> int:
    """The bucket below or in which this part of all lies; 0 when there are none."""
    need = part * sum(counts)
    reached = itertools.accumulate(counts)
    return next((bucket for bucket, so_far in enumerate(reached) if so_far and so_far >= need), 0)


def _upper(bucket: int) -> int:
    """ns below which everything in the bucket was."""
    return 1 << bucket


def describe(samples: Sequence[_Row]) -> str:
    row = samples[-1]
    return (
        f"{row['at']:6.0f} s  {row['private'] / 1024:8.0f} KiB private, {row['descriptors']} descriptors,"
        f" {row['threads']} threads, {row['transitions']} transitions, {row['frames']} frames,"
        f" {row['cpu'] / 1e9:.1f} s of CPU{', not settled' if row['lost'] else ''}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30, help="default %(default)s")
    parser.add_argument("--turn", type=float, default=20, metavar="SECONDS", help="default %(default)s")
    parser.add_argument("--implementation", choices=peers.runtimes(), default=peers.runtimes()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples there")
    options = parser.parse_args(arguments)
    if namespaces.available() == "user":
        namespaces.enter_user_namespace([sys.executable, *sys.argv])
    samples = soak(options.implementation, options.minutes * 60, options.turn)
    figures, wrong = compare_quarters(samples)
    for name, value in figures.items():
        say(f"{name}: {value}")
    for complaint in wrong:
        say(f"soak: {complaint}")
    if options.json is not None:
        shown = {"implementation": options.implementation, "wrong": wrong, "figures": figures, "samples": samples}
        options.json.write_text(json.dumps(shown, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
