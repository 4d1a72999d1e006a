"""The main faults on hosts as they are in the field: docs/reliability.md has a row for each profile.

The client asks the floating address, or what is behind it (a host behind the routers, a container). Who holds is the
witness's account; no host may send from the virtual MAC while it does not hold the address.

    pytest tests/wire/test_profiles.py                          with the virtual MAC, swift
    pytest tests/wire/test_profiles.py -m "long or not long"    also with the interface's MAC, and the usual pace
"""

from __future__ import annotations

from typing import Any

import pytest
from support import proving
from support.chaos import SWIFT, USUAL, Agent, Pace, Stage
from support.profiles import PROFILES, Profile
from support.proving import Values
from support.strays import strays

pytestmark = [pytest.mark.figures, pytest.mark.timeout(200)]

AT_HAND = 10.0
"""Milliseconds that a client waits when the one who goes can say so."""
RUNS = [
    pytest.param("virtual", SWIFT, id="virtual-swift"),
    pytest.param("interface", SWIFT, id="interface-swift", marks=pytest.mark.long),
    pytest.param("virtual", USUAL, id="virtual-usual", marks=pytest.mark.long),
    pytest.param("interface", USUAL, id="interface-usual", marks=pytest.mark.long),
]


def launch(net: Stage, name: str, mac: str) -> Agent:
    agent = net.launch(name, mac=mac)
    agent.wait("Ready")
    return agent


@pytest.mark.parametrize("mac, pace", RUNS)
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_main_faults(figures: dict[str, float], impl: Any, profile: Profile, mac: str, pace: Pace) -> None:
    # Fault: In one group, one after the other: SIGTERM, SIGKILL, a cut behind the switch, the cable again.
    # Expected: Each time the other host holds the address within the time of docs/reliability.md, and the client is
    # served; no host sends from the virtual MAC while it does not hold the address.
    def scenario(net: Stage) -> Values:
        frames = net.lab.record()
        main, second = launch(net, "main", mac), launch(net, "second", mac)
        net.settle("main")
        second.wait("PeerHeard")
        values = net.after(main.terminate, "second", "SIGTERM: ")
        main.end()
        main = launch(net, "main", mac)
        net.settle("main")
        values |= net.after(main.kill, "second", "SIGKILL: ")
        main.end()
        launch(net, "main", mac)
        net.settle("main")
        values |= net.after(lambda: net.cut("main", seen=False), "second", "cut: ", alone=False)
        values |= net.after(lambda: net.mend("main"), "main", "heal: ")
        if mac == "virtual":
            assert strays(frames.frames, net.timeline) == []
        return values

    limits = {
        "SIGTERM: two owners": 0,
        "SIGTERM: outage": AT_HAND,
        "SIGKILL: two owners": 0,
        "SIGKILL: outage": AT_HAND,
        "cut: two owners": 0,
        "cut: outage": pace.master_down() + AT_HAND,
        "heal: two owners": pace.interval() + 5,
        "heal: outage": pace.interval() + 5,
    }
    hosts = ("main", "second", "client", "gw")
    row = f"profile {profile.name}, MAC {mac}, {pace.name}"
    stage = lambda: Stage(impl.name, hosts, pace, profile)  # noqa: E731
    proving.prove(figures, impl.name, row, scenario, limits, stage)
