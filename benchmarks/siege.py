"""How regular the adverts of `pycarp run` stay while everything around the engine misbehaves at once.

    python benchmarks/siege.py              # two minutes; nothing else should run
    python benchmarks/siege.py --quick      # ten seconds: shows that it runs

A lone master with advbase 0 and advskew 5 speaks on a switch of network namespaces. Rounds alternate: in peace it has
no checks, no hooks and no clients; in the siege it has 20 checks and 20 hooks that hang, 50 clients of its control
socket that ask and never read, and forged adverts. Needs root, or user namespaces. Times are kernel receive timestamps.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import building
import frames
import stage

from pycarp.control import wire
from pycarp.lab import namespaces
from pycarp.lab.namespaces import Lab
from pycarp.monitor.timing import quantiles
from pycarp.protocol import NS_PER_SKEW

SKEW = 5
CLIENTS, CHECKS, HOOKS = 50, 20, 20
RATIO = 1.2
"""At most, of the 99th percentile in the siege to that in peace."""
# Beyond 20 bytes of a passphrase there is one dialect only: an advert is one frame.
_WORDS = f"vhid 101 pass correct-horse-battery-staple inet 10.13.37.42/24 advbase 0 advskew {SKEW}\n"
_HANGING = "".join(
    [f"check c{number} exec sleep 1000 interval 0.5 timeout 1 weight 0\n" for number in range(CHECKS)]
    + [f"hook any timeout 3600 sleep {1000 + number}\n" for number in range(HOOKS)]
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="ten seconds: shows that it runs")
    parser.add_argument("--rounds", type=int, default=4, help="of each kind; default %(default)s")
    parser.add_argument("--seconds", type=float, default=12, help="of each round; default %(default)s")
    parser.add_argument("--rate", type=float, default=200_000, help="forged adverts a second; default %(default)s")
    parser.add_argument("--impl", choices=("native", "python"), default="native", help="default %(default)s")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rate = 1, 2.0, 10_000
    if namespaces.available() == "user":
        namespaces.enter_user_namespace([sys.executable, *sys.argv])
    errors: dict[str, list[int]] = {"peace": [], "siege": []}
    sent = 0.0
    with tempfile.TemporaryDirectory(prefix="pycarp-siege-") as name, Lab(("main", "client")) as lab:
        scratch = Path(name)
        program = building.program("blast", scratch)
        with stage.Ears(lab, ["main"]) as ears:
            for turn in range(2 * options.rounds):
                kind = ("peace", "siege")[turn % 2]
                with contextlib.ExitStack() as stack:
                    stack.enter_context(_running(lab, scratch, options.impl, kind == "siege"))
                    ears.until(lambda: ears.beats, 20, "it speaks")
                    if kind == "siege":
                        stack.enter_context(_clients(scratch))
                        forged = frames.forged(256, lab["client"].address, 101)
                        blast = stack.enter_context(
                            stage.blast(program, lab["client"], forged, options.rate, options.seconds + 5)
                        )
                    time.sleep(1)
                    ears.forget()
                    time.sleep(options.seconds)
                    times = [beat.at for beat in ears.beats]
                    if kind == "siege":
                        blast.end()
                        sent += blast.sent / (options.seconds + 1)
                ears.forget()
                errors[kind] += [abs(b - a - SKEW * NS_PER_SKEW) for a, b in itertools.pairwise(times)]
                print(f"round {turn // 2 + 1} of {options.rounds}, {kind}: {len(times)} adverts", file=sys.stderr)
        lost = ears.lost
    return _tell(errors, sent / options.rounds, lost, options.quick)


def _tell(errors: dict[str, list[int]], rate: float, lost: int, quick: bool) -> int:
    figures: dict[str, tuple[int, ...]] = {}
    around = f"{CLIENTS} clients, {CHECKS} checks, {HOOKS} hooks"
    print(f"{rate:,.0f} forged adverts a second, {around}; {lost} frames not heard")
    print("| | intervals | p50 | p90 | p99 | worst | missed |\n|---|--:|--:|--:|--:|--:|--:|")
    for kind, found in errors.items():
        ordered = sorted(found)
        figures[kind] = (*(quantiles(ordered, share)[0] for share in (0.5, 0.9, 0.99)), ordered[-1])
        missed = sum(round(error / (SKEW * NS_PER_SKEW)) for error in found)
        row = " | ".join(f"{value / 1000:.1f} us" for value in figures[kind])
        print(f"| {kind} | {len(found)} | {row} | {missed} |")
    ratio = figures["siege"][2] / figures["peace"][2]
    print(f"ratio of the 99th percentiles: {ratio:.2f} (at most {RATIO})")
    return 0 if quick or ratio <= RATIO else 1


@contextlib.contextmanager
def _running(lab: Lab, scratch: Path, impl: str, besieged: bool) -> Iterator[None]:
    """`pycarp run` on main."""
    file = scratch / "ifconfig.carp101"
    file.write_text(_WORDS + (_HANGING if besieged else ""))
    file.chmod(0o600)
    environment = {**os.environ, "PYCARP_IMPL": impl, "PYCARP_RUN_DIRECTORY": str(scratch / "run")}
    with (scratch / "log").open("w") as log:
        command = [sys.executable, "-m", "pycarp", "run", str(file)]
        process = lab["main"].popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextlib.contextmanager
def _clients(scratch: Path) -> Iterator[None]:
    """Clients that ask for everything, and read nothing."""
    give_up = time.monotonic() + 10
    while not (places := list((scratch / "run").glob("*.sock"))):
        if time.monotonic() > give_up:
            raise TimeoutError("pycarp run has no control socket within 10 s")
        time.sleep(0.05)
    (path,) = places
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.connect(str(path))
                for call in ("events", "status", "status"):
                    client.send(wire.request(call, {}, 1))
        yield


if __name__ == "__main__":
    sys.exit(main())
