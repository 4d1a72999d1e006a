"""Measures pycarp, ucarp and keepalived in turn, on a switch of network namespaces, by kernel receive timestamps.

    python benchmarks/wire.py --json wire.json          # an hour and a half; nothing else should run
    python benchmarks/wire.py --quick                   # under a minute: shows that it runs, not how fast
    python benchmarks/report.py wire.json

Needs root, or user namespaces (then without SCHED_FIFO). Touches no interface of the machine itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import building
import frames
import machine
import peers
import stage
from peers import Pycarp, Running, Subject

from pycarp.lab import namespaces
from pycarp.lab.namespaces import Lab
from pycarp.monitor.timing import Distribution, Trend, quantiles
from pycarp.protocol import NS_PER_SECOND

KEPT_SAMPLES = 4096
PING_RATE = 10_000
_WITHIN = 60.0
"""Seconds in which a pair of hosts must have settled."""
_Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How long and how much."""

    seconds: float
    rounds: int
    many: int
    flood_rate: float
    flood_seconds: float
    load_seconds: float
    imports: int
    hold_gil: int
    """Seconds that the GIL is held at a time."""
    parts: tuple[str, ...]
    quick: bool

    def wants(self, part: str) -> bool:
        return part in self.parts


PARTS = ("timing", "flood", "takeover", "load", "import")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Figures


def regularity(beats: Iterable[stage.Beat], interval: int = NS_PER_SECOND) -> _Row:
    """How far the intervals are off, missed adverts included: an advert that never came counts with its whole delay."""
    times: dict[int, list[int]] = {}
    for beat in beats:
        times.setdefault(beat.vhid, []).append(beat.at)
    errors, trend, missed = Distribution(), Trend(), 0
    for ats in times.values():
        trend.restart()
        for turn, (one, other) in enumerate(pairwise(ats), 1):
            gap = other - one
            errors.add(gap - interval)
            trend.add(turn, other - ats[0] - turn * interval)
            missed += max(0, round(gap / interval) - 1)
    return {
        **(errors.as_dict() or {"count": 0}),
        "drift": trend.slope,
        "missed": missed,
        "samples": list(errors.samples[:KEPT_SAMPLES]),
    }


def spread(values: list[int]) -> _Row:
    """A distribution of a few values in ns, all of them kept."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}
    return {
        "count": len(ordered),
        "min": ordered[0],
        "p50": quantiles(ordered, 0.5)[0],
        "p99": quantiles(ordered, 0.99)[0],
        "max": ordered[-1],
        "mean": round(statistics.fmean(ordered)),
        "samples": ordered,
    }


# Timing of adverts


def timing(lab: Lab, subject: Subject, seconds: float, load: Condition, count: int = 1, **options: Any) -> _Row:
    """The regularity of a lone master's adverts."""
    with stage.Ears(lab, ["main"]) as ears:
        running = subject.start(lab["main"], True, count, **options)
        try:
            await_masters(ears, "main", count)
            with load():
                # What is measured begins with the load at work and start-up over.
                time.sleep(min(1.0, seconds))
                ears.forget()
                time.sleep(seconds)
                heard = list(ears.beats)
        finally:
            stop(running, subject, count)
    return {**regularity(heard), "lost": ears.lost}


Condition = Callable[[], AbstractContextManager[Any]]


def timings(lab: Lab, subject: Subject, settings: Settings) -> dict[str, _Row]:
    seconds = settings.seconds
    rows = {"idle": timing(lab, subject, seconds, nullcontext)}
    if not settings.quick:
        rows["every core busy"] = timing(lab, subject, seconds, stage.busy_cores)
        rows[f"{settings.many} virtual hosts"] = timing(lab, subject, seconds, nullcontext, settings.many)
    if isinstance(subject, Pycarp):
        held = max(seconds, 2.0 * settings.hold_gil)
        rows["GIL held"] = timing(lab, subject, held, nullcontext, hold_gil=settings.hold_gil)
        if not settings.quick:
            rows["idle, no SCHED_FIFO"] = timing(lab, subject, seconds, nullcontext, realtime=False)
            rows["every core busy, no SCHED_FIFO"] = timing(lab, subject, seconds, stage.busy_cores, realtime=False)
    for condition, row in rows.items():
        say(f"  {subject.name}, {condition}: {describe(row)}")
    return rows


def describe(row: _Row) -> str:
    if not row["count"]:
        return "nothing was heard"
    p50, p99, worst = (row[name] / 1000 for name in ("p50", "p99", "max"))
    return f"{row['count']} intervals, off by p50 {p50:.1f} p99 {p99:.1f} worst {worst:.1f} us, {row['missed']} missed"


# A flood


def flood(lab: Lab, subject: Subject, settings: Settings, program: Path) -> _Row:
    """Forged adverts for a master and its backup: who notices, and what it costs each."""
    hosts = ("main", "second")
    forged = frames.forged(256, lab["client"].address, 1)
    seconds = settings.flood_seconds
    with stage.Ears(lab, hosts) as ears, ExitStack() as stack:
        running = pair(lab, subject, ears, stack)
        time.sleep(min(2.0, seconds))
        pids = {host: running[host].pids() for host in hosts}
        idle = {host: -stage.cpu(pids[host]) for host in hosts}
        time.sleep(seconds)
        idle = {host: idle[host] + stage.cpu(pids[host]) for host in hosts}
        ears.forget()
        used = {host: -stage.cpu(pids[host]) for host in hosts}
        began = time.monotonic()
        with stage.blast(program, lab["client"], forged, settings.flood_rate, seconds) as blast:
            time.sleep(seconds)
            used = {host: used[host] + stage.cpu(pids[host]) for host in hosts}
            passed = time.monotonic() - began
            heard = list(ears.beats)
        blast.end()
    row: _Row = {
        "said": {host: json.loads(running[host].said or "null") for host in hosts},
        "rate": settings.flood_rate,
        "seconds": passed,
        "sent": blast.sent,
        "timing": regularity(beat for beat in heard if beat.port == "main"),
        "adverts of the backup": sum(beat.port == "second" for beat in heard),
    }
    for host, role in zip(hosts, ("master", "backup"), strict=True):
        row[role] = {
            "cpu_percent": used[host] / passed / 1e7,
            "ns_per_frame": (used[host] - idle[host]) / max(1, blast.sent),
        }
    say(
        f"  {subject.name}, flood of {blast.sent / passed:.0f}/s: master {row['master']['cpu_percent']:.2f} % of a CPU,"
        f" {row['master']['ns_per_frame']:.0f} ns a frame, {describe(row['timing'])},"
        f" backup spoke {row['adverts of the backup']} times"
    )
    return row


# Takeovers


def takeovers(lab: Lab, subject: Subject, kind: str, settings: Settings, program: Path) -> _Row:
    """Rounds of: the master goes, by "cut", "SIGTERM" or "SIGKILL"; the backup speaks; the address answers again."""
    one = Rounds(lab, subject, kind, program)
    with stage.Ears(lab, ["main", "second"], everything=["second"]) as ears, ExitStack() as stack:
        running = pair(lab, subject, ears, stack)
        stack.callback(lambda: stop(running["main"], subject))
        for _ in range(settings.rounds):
            one.play(ears, running)
    row = one.row()
    say(f"  {subject.name}, {kind}: {describe_takeover(row)}")
    return row


class Rounds:
    """The rounds of one kind, and their figures."""

    def __init__(self, lab: Lab, subject: Subject, kind: str, program: Path) -> None:
        self._lab, self._subject, self._kind, self._program = lab, subject, kind, program
        self._gaps: list[int] = []
        self._late: list[int] = []
        self._answers: list[int] = []
        self._outages: list[int] = []

    def play(self, ears: stage.Ears, running: dict[str, Running]) -> None:
        lab, subject = self._lab, self._subject
        announced = self._kind == "SIGTERM" or (self._kind == "SIGKILL" and subject.bows_out_when_killed)
        await_quiet(ears)
        pinger = lab["client"].ping(peers.address(1), 0.005)
        try:
            # In the middle of an interval, so that the last advert is known for sure.
            spoken = len(ears.beats)
            ears.until(lambda: len(ears.beats) > spoken, 10, "the master speaks")
            time.sleep(random.uniform(0.3, 0.7))
            with ExitStack() as asking:
                if announced:
                    asking.enter_context(self._ask())
                    time.sleep(0.1)
                gone = time.time_ns()
                self._strike(running["main"])
                if not announced:
                    silent = [beat.at for beat in ears.beats if beat.port == "main"][-1]
                    time.sleep(max(0.0, (silent + subject.due - 250_000_000 - time.time_ns()) / 1e9))
                    asking.enter_context(self._ask())
                ears.until(lambda: ears.first_after("second", gone), 15, "the backup takes over")
                last = self._last_of_the_old(ears, gone)
                ears.until(lambda: any(at > last.at for at in ears.replies), 5, "the address answers")
            time.sleep(0.1)
        finally:
            pinger.stop()
        self._outages.append(pinger.longest)
        self._note(ears, last)
        self._restore(running)

    def row(self) -> _Row:
        return {
            "due": self._subject.due,
            "gap": spread(self._gaps),
            "late": spread(self._late),
            "answer": spread(self._answers),
            "outage": spread(self._outages),
        }

    def _note(self, ears: stage.Ears, last: stage.Beat) -> None:
        first = ears.first_after("second", last.at)
        assert first is not None
        deadline = first.at if last.bowout else last.at + self._subject.due
        self._gaps.append(first.at - last.at)
        if not last.bowout:
            self._late.append(first.at - deadline)
        self._answers.append(min(at for at in ears.replies if at > last.at) - deadline)

    def _last_of_the_old(self, ears: stage.Ears, gone: int) -> stage.Beat:
        """The last advert that the backup heard of the master, which may have been a bow-out."""
        first = ears.first_after("second", gone)
        assert first is not None
        # A host that is cut off goes on sending; one that is told to end may bow out a moment later.
        end = gone if self._kind == "cut" else first.at
        return [beat for beat in ears.beats if beat.port == "main" and beat.at < end][-1]

    def _ask(self) -> AbstractContextManager[Any]:
        mac = bytes.fromhex("00005e000101") if self._subject.own_mac else self._lab["second"].mac
        request = stage.echo_request(self._lab["client"], mac, peers.address(1))
        return stage.blast(self._program, self._lab["client"], [request], PING_RATE, 10)

    def _strike(self, main: Running) -> None:
        if self._kind == "cut":
            self._lab.unplug("main", seen=False)
        else:
            main.end(SIGTERM if self._kind == "SIGTERM" else SIGKILL)

    def _restore(self, running: dict[str, Running]) -> None:
        if self._kind == "cut":
            self._lab.plug("main")
            return
        running["main"].wait()
        self._subject.clean(self._lab["main"])
        running["main"] = self._subject.start(self._lab["main"], True)


def describe_takeover(row: _Row) -> str:
    text = f"gap {row['gap']['min'] / 1e6:.2f} to {row['gap']['max'] / 1e6:.2f} ms"
    if row["late"]["count"]:
        text += f", after its deadline by p50 {row['late']['p50'] / 1e3:.0f} worst {row['late']['max'] / 1e3:.0f} us"
    return text + f", an answer after {row['answer']['p50'] / 1e3:.0f} to {row['answer']['max'] / 1e3:.0f} us"


# CPU and memory


def load(lab: Lab, subject: Subject, count: int, settings: Settings) -> _Row:
    """What a master and a backup of `count` virtual hosts cost while nothing happens."""
    with stage.Ears(lab, ["main", "second"]) as ears, ExitStack() as stack:
        running = pair(lab, subject, ears, stack, count)
        time.sleep(min(5.0, settings.load_seconds))
        row: _Row = {}
        pids = {role: running[host].pids() for role, host in (("master", "main"), ("backup", "second"))}
        used = {role: -stage.cpu(pids[role]) for role in pids}
        began = time.monotonic()
        time.sleep(settings.load_seconds)
        passed = time.monotonic() - began
        for role in pids:
            cpu = used[role] + stage.cpu(pids[role])
            row[role] = {
                "cpu_percent": cpu / passed / 1e7,
                "processes": len(pids[role]),
                **stage.memory(pids[role]),
            }
    for role in ("master", "backup"):
        cost = row[role]
        private = cost["private"] / 1024
        say(f"  {subject.name}, {count} as {role}: {cost['cpu_percent']:.3f} % of a CPU, {private:.0f} KiB private")
    return row


def import_time(turns: int, scratch: Path) -> _Row:
    """Wall time of interpreters that import pycarp, and of ones that import nothing, in turn."""
    # Compiled once, as an installed package is, whatever the caller's environment says.
    cached = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(scratch / "bytecode")}

    def once(program: str) -> int:
        began = time.perf_counter_ns()
        subprocess.run([sys.executable, "-c", program], check=True, env=cached)
        return time.perf_counter_ns() - began

    once("import pycarp")
    bare, with_it = zip(*((once("pass"), once("import pycarp")) for _ in range(turns)), strict=True)
    row = {"bare": spread(list(bare)), "pycarp": spread(list(with_it))}
    row["difference"] = {"p50": row["pycarp"]["p50"] - row["bare"]["p50"]}
    say(f"  import pycarp: {row['difference']['p50'] / 1e6:.1f} ms more than a bare interpreter")
    return row


# Starting and waiting


def pair(lab: Lab, subject: Subject, ears: stage.Ears, stack: ExitStack, count: int = 1) -> dict[str, Running]:
    """A master on "main", then a backup on "second", settled; stopped when the stack unwinds."""
    running: dict[str, Running] = {}
    for host, master in (("main", True), ("second", False)):
        running[host] = subject.start(lab[host], master, count)
        stack.callback(stop, running[host], subject, count)
        if master:
            await_masters(ears, host, count)
    await_quiet(ears, count)
    return running


def await_masters(ears: stage.Ears, port: str, count: int) -> None:
    """Until all virtual hosts of a host speak."""
    ears.until(
        lambda: len({beat.vhid for beat in ears.beats if beat.port == port}) >= count,
        _WITHIN,
        f"{count} masters on {port}",
    )


def await_quiet(ears: stage.Ears, count: int = 1) -> None:
    """Until only "main" has spoken for a second and a half, and forget what was before."""

    def settled() -> bool:
        since = time.time_ns() - 1_500_000_000
        recent = [beat for beat in ears.beats if beat.at > since]
        return {beat.port for beat in recent} == {"main"} and len({beat.vhid for beat in recent}) >= count

    time.sleep(1.5)
    ears.until(settled, _WITHIN, "one master and a quiet backup")
    ears.forget()


def stop(running: Running, subject: Subject, count: int = 1) -> None:
    running.end()
    running.wait()
    if not isinstance(subject, Pycarp):
        subject.clean(running.host, count)


# The whole


def measure(settings: Settings, chosen: list[Subject], scratch: Path) -> _Row:
    program = building.program("blast", scratch)
    result: _Row = {part: {} for part in settings.parts}
    for subject in chosen:
        # Each has a lab of its own: nothing of one is left for the next.
        with Lab(("main", "second", "client"), peers.SUBNET, None) as lab:
            say(f"{subject.name} {subject.version}")
            quick_only = not settings.quick or subject is chosen[0]
            if settings.wants("timing"):
                result["timing"][subject.name] = timings(lab, subject, settings)
            if settings.wants("flood") and subject.protocol == "carp" and quick_only:
                result["flood"][subject.name] = flood(lab, subject, settings, program)
            if settings.wants("takeover") and quick_only:
                kinds = ("SIGTERM",) if settings.quick else ("cut", "SIGTERM", "SIGKILL")
                result["takeover"][subject.name] = {
                    kind: takeovers(lab, subject, kind, settings, program) for kind in kinds
                }
            if settings.wants("load") and quick_only:
                counts = (settings.many,) if settings.quick else (1, settings.many)
                result["load"][subject.name] = {str(count): load(lab, subject, count, settings) for count in counts}
    if settings.wants("import"):
        result["import"] = import_time(settings.imports, scratch)
    return result


def parse(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="under a minute: shows that it runs")
    parser.add_argument("--subjects", help=f"of {','.join(peers.available())}: which, and in which order")
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts; default %(default)s")
    parser.add_argument("--seconds", type=float, default=120, help="of each timing; default %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="takeovers of each kind; default %(default)s")
    options = parser.parse_args(arguments)
    parts = tuple(options.parts.split(","))
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: give some of {','.join(PARTS)}")
    if options.quick:
        return Settings(2, 1, 16, 10_000, 1, 1, 2, 1, parts, True), options
    return Settings(options.seconds, options.rounds, 255, 60_000, 20, 30, 15, 5, parts, False), options


def main(arguments: list[str] | None = None) -> int:
    settings, options = parse(arguments)
    if namespaces.available() == "user":
        namespaces.enter_user_namespace([sys.executable, *sys.argv])
    names = options.subjects.split(",") if options.subjects else peers.available()
    with tempfile.TemporaryDirectory(prefix="pycarp-wire-") as scratch:
        try:
            chosen = peers.subjects(names, Path(scratch))
        except LookupError as error:
            say(f"wire: {error}")
            return 2
        result = {
            "command": " ".join(["python benchmarks/wire.py", *(sys.argv[1:] if arguments is None else arguments)]),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine.describe(),
            "subjects": {subject.name: subject.version for subject in chosen},
            "many": settings.many,
            **measure(settings, chosen, Path(scratch)),
        }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
