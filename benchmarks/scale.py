"""A thousand virtual hosts on four links, IPv4 and IPv6: their start, the cut of a link, a bow-out, and their cost.

    python benchmarks/scale.py             # two minutes; nothing else should run
    python benchmarks/scale.py --quick     # half a minute, 20 virtual hosts: shows that it runs

One engine on each of two hosts has a quarter of the virtual hosts on each of four carpdevs. One host is MASTER of all.
One of its cables is cut where nobody sees it, and put back; then it stops. Times are receive timestamps at the switch,
but for the start, which is the program's. "Missed" are intervals of more than one and a half seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import stage

from pycarp.lab import namespaces
from pycarp.lab.namespaces import Namespace
from pycarp.monitor.timing import quantiles

LINKS = 4
SKEW = 100
DUE = 3 * 1_000_000_000 + SKEW * 1_000_000_000 // 256
INTERVAL = 1_000_000_000

SUBJECT = """
import json, signal, sys, threading, time
import pycarp
told = json.loads(sys.argv[1])
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
hosts = [
    pycarp.VirtualHost(
        vhid=vhid, carpdev=f"d{link}", name=f"c{link}v{vhid}", passphrase="correct horse battery staple",
        addresses=[f"10.{20 + link}.1.{vhid}/16", f"fd00:{link}::1:{vhid:x}/64"], advskew=told["advskew"], preempt=True,
        state=pycarp.State.MASTER if told["master"] else None,
    )
    for link in range(told["links"]) for vhid in range(1, told["each"] + 1)
]
engine = pycarp.Engine(*hosts)
began = time.monotonic()
engine.start()
print(time.monotonic() - began, flush=True)
stopping.wait()
began = time.monotonic()
engine.stop()
print(time.monotonic() - began, flush=True)
"""


class Stage:
    """Three namespaces: `main` and `second` with a carpdev on each link, and a switch with a bridge for each."""

    def __init__(self, stack: ExitStack) -> None:
        self.main, self.second, self.switch = (stack.enter_context(Namespace()) for _ in range(3))
        for link in range(LINKS):
            self._ip(self.switch, f"link add br{link} type bridge mcast_snooping 0")
            self._ip(self.switch, f"link set br{link} up")
            for number, (name, host) in enumerate((("main", self.main), ("second", self.second)), 11):
                self._ip(self.switch, f"link add {name}{link} type veth peer name d{link} netns {host.path}")
                self._ip(self.switch, f"link set {name}{link} master br{link} up")
                self._ip(host, f"address add 10.{20 + link}.0.{number}/16 dev d{link}")
                self._ip(host, f"address add fd00:{link}::{number}/64 dev d{link} nodad")
                self._ip(host, f"link set d{link} up")
        time.sleep(2)
        # What Ears asks of a lab.
        self.ports = [f"{name}{link}" for name in ("main", "second") for link in range(LINKS)]

    def cut(self, link: int, cut: bool) -> None:
        self.switch.run(["bridge", "link", "set", "dev", f"main{link}", "state", "0" if cut else "3"], check=True)

    def _ip(self, namespace: Namespace, words: str) -> None:
        namespace.run(["ip", *words.split()], check=True)


@contextmanager
def engine(host: Namespace, master: bool, each: int, impl: str) -> Iterator[subprocess.Popen[str]]:
    told = {"master": master, "advskew": 0 if master else SKEW, "each": each, "links": LINKS}
    environment = {**os.environ, "PYCARP_IMPL": impl}
    process = host.popen(
        [sys.executable, "-c", SUBJECT, json.dumps(told)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def said(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    return float(process.stdout.readline() or "nan")


def intervals(beats: list[stage.Beat]) -> list[int]:
    """Those of each virtual host and port; the two families of one advert are one."""
    last: dict[tuple[str, int], int] = {}
    found = []
    for beat in sorted(beats, key=lambda one: one.at):
        before = last.get((beat.port, beat.vhid))
        if before is not None and beat.at - before < INTERVAL // 4:
            continue
        if before is not None:
            found.append(beat.at - before)
        last[beat.port, beat.vhid] = beat.at
    return found


def regular(beats: list[stage.Beat]) -> dict[str, Any]:
    errors = sorted(abs(one - INTERVAL) for one in intervals(beats))
    p50, p99 = (quantiles(errors, share)[0] / 1e3 for share in (0.5, 0.99))
    return {"p50 us": p50, "p99 us": p99, "missed": sum(error > INTERVAL // 2 for error in errors)}


def measure(place: Stage, each: int, seconds: float, impl: str, stack: ExitStack) -> dict[str, Any]:
    found: dict[str, Any] = {"virtual hosts": LINKS * each}
    ears = stack.enter_context(stage.Ears(place, place.ports))  # type: ignore[arg-type]  # a switch is all it asks for
    began = time.time_ns()
    main = stack.enter_context(engine(place.main, True, each, impl))
    found["start as MASTER, s"] = said(main)
    everyone = LINKS * each

    def speaks(host: str) -> int:
        return len({(one.port, one.vhid) for one in ears.beats if one.port.startswith(host) and not one.bowout})

    ears.until(lambda: speaks("main") == everyone, 60, "all are MASTER")
    found["until all are MASTER, s"] = (time.time_ns() - began) / 1e9
    second = stack.enter_context(engine(place.second, False, each, impl))
    found["start as BACKUP, s"] = said(second)
    time.sleep(5)
    ears.forget()
    pids = {"MASTER": main.pid, "BACKUP": second.pid}
    used = {role: -stage.cpu([pid]) for role, pid in pids.items()}
    time.sleep(seconds)
    for role, pid in pids.items():
        found[f"CPU as {role}, %"] = (used[role] + stage.cpu([pid])) / seconds / 1e7
        found[f"private memory as {role}, KiB each"] = stage.memory([pid])["private"] / 1024 / everyone
    found["at rest"] = regular(ears.beats) | {"backup spoke": speaks("second")}
    found |= cut(place, ears, each)
    ears.forget()
    main.send_signal(signal.SIGTERM)
    found["stop, s"] = said(main)
    ears.until(lambda: speaks("second") == everyone, 30, "all are taken over")
    bowouts = [one.at for one in ears.beats if one.bowout and one.port.startswith("main")]
    first: dict[tuple[str, int], int] = {}
    for one in ears.beats:
        if one.port.startswith("second"):
            first.setdefault((one.port, one.vhid), one.at)
    found["bow-out: first bow-out to last takeover, ms"] = (max(first.values()) - min(bowouts)) / 1e6
    return found


def cut(place: Stage, ears: stage.Ears, each: int) -> dict[str, Any]:
    """One cable; the others' adverts meanwhile."""
    ears.forget()
    time.sleep(1.5)
    place.cut(0, True)
    at = time.time_ns()
    last = {one.vhid: one.at for one in ears.beats if one.port == "main0"}

    def taken() -> dict[int, int]:
        return {one.vhid: one.at for one in reversed(ears.beats) if one.port == "second0" and not one.bowout}

    try:
        ears.until(lambda: len(taken()) == each, 30, "the link's are taken over")
        time.sleep(1)
        late = sorted(first - last[vhid] - DUE for vhid, first in taken().items())
        others = [one for one in ears.beats if one.port.startswith("main") and one.port != "main0" and one.at > at]
    finally:
        place.cut(0, False)
    time.sleep(5)
    return {
        "cut: beyond the deadline, ms": {"p50": late[len(late) // 2] / 1e6, "worst": late[-1] / 1e6},
        "cut: other links": regular(others),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--each", type=int, default=250, help="virtual hosts on each link; default %(default)s")
    parser.add_argument("--seconds", type=float, default=20, help="at rest; default %(default)s")
    parser.add_argument("--impl", choices=("native", "python"), default="native", help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="half a minute: shows that it runs")
    options = parser.parse_args()
    if options.quick:
        options.each, options.seconds = 5, 3
    if namespaces.available() == "user":
        namespaces.enter_user_namespace([sys.executable, *sys.argv])
    with ExitStack() as stack:
        print(json.dumps(measure(Stage(stack), options.each, options.seconds, options.impl, stack), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
