"""Measures how long a client waits at a silent cut, for those that speak fast: pycarp with a pace, and keepalived.

    python benchmarks/fast.py [--cuts 200] [--busy] [--json FILE]

The groups are cut in turn, so that all see the same machine. A cut is the switch's port of the master, which sees
nothing of it; when it is put back, the master has the address again. The client asks for an echo every 0.5 ms. An
outage lasts from the last request that was answered to the first answer after the cut.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import stage
from peers import PASSPHRASE, Keepalived, Pycarp, Running, Subject, Ucarp, address

from pycarp.lab.namespaces import Lab, Pinger

ASKED_EVERY = 0.0005
SETTLED = 1.5
"""Seconds after which a backup believes its master's pace again."""
SECRET = PASSPHRASE[:19]
"""UCarp takes no more."""


class FastPinger(Pinger):
    """One whose waits are not rounded to milliseconds."""

    def _run(self) -> None:
        due = time.monotonic_ns()
        while True:
            wait = due - time.monotonic_ns()
            if wait <= 0:
                self._ask()
                due = max(due + self.interval, time.monotonic_ns())
                continue
            ready = select.select([self._socket, self._wake], [], [], wait / 1e9)[0]
            self._collect()
            if self._wake in ready:
                return


class Group:
    """A pair on a lab of its own, and perhaps a third member that only counts."""

    def __init__(self, name: str, subject: Subject, stack: ExitStack, third: Subject | None = None, **options: Any):
        self.name = name
        self.outages: list[float] = []
        hosts = ["main", "second", "client", *(["third"] if third else [])]
        self.lab = stack.enter_context(Lab(hosts, subnet="10.13.0.0/16"))
        self.ears = stack.enter_context(stage.Ears(self.lab, hosts[3:])) if third else None
        self.running: dict[str, Running] = {}
        for host, master in (("main", True), ("second", False)):
            self.running[host] = subject.start(self.lab[host], master, **options)
            stack.callback(self._end, host)
        if third is not None:
            self.running["third"] = third.start(self.lab["third"], False)
            stack.callback(self._end, "third")
        with self.lab["client"].enter():
            self.pinger = stack.enter_context(FastPinger(address(1), ASKED_EVERY))
        if not self.pinger.wait(100, 20):
            raise RuntimeError(f"{name}: the address does not answer")

    def _end(self, host: str) -> None:
        self.running[host].end()
        self.running[host].wait()

    def cut(self) -> None:
        """One silent cut, at any moment of an interval."""
        time.sleep(SETTLED + random.random() * 0.1)
        if not self.pinger.wait(200, 60):
            raise RuntimeError(f"{self.name}: the address does not answer after a cut")
        first = len(self.pinger.requests()) - 200
        self.lab.unplug("main", seen=False)
        at = time.time_ns()
        while not any(answer and answer > at + 1_000_000 for _, answer in self.pinger.requests()[first:]):
            time.sleep(0.02)
        asked = self.pinger.requests()[first:]
        last = max(sent for sent, answer in asked if answer and answer <= at + 1_000_000)
        again = min(answer for _, answer in asked if answer and answer > at + 1_000_000)
        self.outages.append((again - last) / 1e6)
        time.sleep(0.1)
        self.lab.plug("main")

    def row(self) -> dict[str, Any]:
        found = sorted(self.outages)
        at = {f"p{part}": round(found[min(len(found) - 1, len(found) * part // 100)], 2) for part in (50, 90, 99)}
        row = {"cuts": len(found), **at, "worst": round(found[-1], 2)}
        return row | ({"adverts of the third": len(self.ears.beats)} if self.ears else {})


def groups(scratch: Path, stack: ExitStack) -> list[Group]:
    native = Pycarp("native", scratch)
    paced: dict[str, Any] = {"pace": 3, "passphrase": SECRET}
    return [
        Group("pycarp, pace 3 ms, advbase 1", native, stack, **paced),
        Group("keepalived, 10 ms", Keepalived(scratch), stack, interval=0.01),
        Group("pycarp, pace 3 ms, and a ucarp", native, stack, third=Ucarp(scratch), **paced),
    ]


def share(group: Group, seconds: float) -> dict[str, float]:
    """The part of a processor that MASTER and BACKUP use, in percent."""
    pids = {host: group.running[host].pids() for host in ("main", "second")}
    before = {host: stage.cpu(those) for host, those in pids.items()}
    time.sleep(seconds)
    return {host: round((stage.cpu(those) - before[host]) / seconds / 1e7, 2) for host, those in pids.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=200, help="of each group")
    parser.add_argument("--busy", action="store_true", help="with a busy loop on each processor")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        made = groups(Path(scratch), stack)
        if told.busy:
            stack.enter_context(stage.busy_cores())
        for number in range(told.cuts):
            for group in made:
                group.cut()
            if number % 10 == 9:
                print(number + 1, "cuts", {g.name: g.row()["p50"] for g in made}, file=sys.stderr, flush=True)
        for group in made:
            group.pinger.stop()
        time.sleep(SETTLED)
        found: dict[str, Any] = {g.name: g.row() | {"% of a CPU": share(g, 5)} for g in made}
        found["load"] = os.getloadavg()
    for group in made:
        for host, running in group.running.items():
            moves = json.loads(running.said).get("moves", []) if running.said.startswith("{") else []
            paces = [move for move in moves if "->" not in move]
            found[group.name][f"moves of {host}"] = len(moves) - len(paces)
            found[group.name][f"paces of {host}"] = paces[:10]
    print(json.dumps(found, indent=2))
    if told.json:
        told.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
