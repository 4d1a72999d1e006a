"""How long a client waits. The targets are those of the plain Python runtime; both runtimes are measured.

The hosts run the real command, each a process of its own; times are the kernel's, of frames on the switch and answers
at the client. Other work on the machine disturbs milliseconds: a figure may be tried three times.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support.audit import adverts
from support.lan import VIP, Command, Lan, lan

from pycarp import State

pytestmark = pytest.mark.figures

MASTER, BACKUP = State.MASTER, State.BACKUP
ADVBASE, ADVSKEW = 1, 8
MASTER_DOWN = 3 * ADVBASE + ADVSKEW / 256
INTERVAL = 0.002
TRIES = 3


def two_hosts(net: Lan, secret: str, impl: str) -> tuple[Command, Command]:
    """A master of advskew 0 and its backup, one advert after the backup has heard it."""

    def up(name: str, *words: str) -> Command:
        common = ["up", "carp101", "vhid", "101", "passfile", secret, f"{VIP}/24", "advbase", str(ADVBASE)]
        return net.command(name, *common, *words, env={**os.environ, "PYCARP_IMPL": impl})

    main, second = up("main", "state", "MASTER"), up("second", "advskew", str(ADVSKEW))
    main.become(MASTER)
    second.wait("PeerHeard")
    return main, second


def measured(
    figures: dict[str, float], scenario: Callable[[], dict[str, float]], targets: dict[str, float], what: str
) -> None:
    """Try a scenario until all its values, in ms, are within their targets; keep the best of each."""
    best: dict[str, float] = {}
    for _ in range(TRIES):
        values = scenario()
        best = {name: min(value, best.get(name, value)) for name, value in values.items()}
        if all(values[name] <= target for name, target in targets.items()):
            best = values
            break
    for name, value in best.items():
        figures[f"ms {name}, {what} (target {targets[name]:g})"] = round(value, 3)
    assert all(best[name] <= target for name, target in targets.items()), f"{best}, wanted {targets}"


@pytest.mark.slow
def test_a_cut_cable(secret: str, impl: object, figures: dict[str, float]) -> None:
    # Fault: The cable is cut right after an advert, unseen by the host: the worst case.
    # Expected: The takeover is at most 10 ms late; the client waits at most 50 ms longer than master-down.
    name = impl.name  # type: ignore[attr-defined]

    def scenario() -> dict[str, float]:
        with lan() as net:
            net.audited = False  # the hosts are commands, which the audit does not know
            _main, second = two_hosts(net, secret, name)
            pinger = net.ping(interval=INTERVAL)
            pinger.wait(3)
            seen = len(adverts(net.capture.frames, 101))
            net.capture.wait(lambda _frame: len(adverts(net.capture.frames, 101)) > seen)
            net.lab.unplug("main", seen=False)
            second.become(MASTER)
            assert pinger.wait(5)
            pinger.stop()
            frames = list(net.capture.frames)
            took_over = next(one for one in adverts(frames, 101) if one.port == "second")
            heard = [
                one
                for one in frames
                if one.port == "second" and one.outgoing and one.data[23:24] == b"\x70" and one.at_ns < took_over.at_ns
            ]
            late = (took_over.at_ns - heard[-1].at_ns) / 1e6 - MASTER_DOWN * 1e3
            assert late > -1, "a take-over before its time"
            return {"client outage after a cut": pinger.longest / 1e6, "take-over after its deadline": late}

    targets = {"client outage after a cut": MASTER_DOWN * 1e3 + 50, "take-over after its deadline": 10.0}
    measured(figures, scenario, targets, name)


def test_sigterm(secret: str, impl: object, figures: dict[str, float]) -> None:
    # Fault: SIGTERM of the MASTER's command.
    # Expected: The client waits 30 ms at most; the command ends with code 0.
    name = impl.name  # type: ignore[attr-defined]

    def scenario() -> dict[str, float]:
        with lan() as net:
            net.audited = False
            main, second = two_hosts(net, secret, name)
            pinger = net.ping(interval=INTERVAL)
            assert pinger.wait(100)
            main.send_signal(signal.SIGTERM)
            second.become(MASTER)
            assert pinger.wait(50)
            pinger.stop()
            assert main.end() == 0
            return {"client outage after SIGTERM": pinger.longest / 1e6}

    measured(figures, scenario, {"client outage after SIGTERM": 30.0}, name)
