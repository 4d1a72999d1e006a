"""Whatever happened before, on a network that is quiet and whole the addresses have exactly one owner soon.

All situations within a bound are visited: see `support.exploration`. `PYCARP_EXPLORATION_FAULTS=2` (by default 1) takes
many minutes and visits some hundred thousand.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.exploration import Explorer

from pycarp import VirtualHost

FAULTS = int(os.environ.get("PYCARP_EXPLORATION_FAULTS", "1"))
EVERYTHING = ("loss", "copy", "late", "pause", "link", "stop", "hand over")
SECOND = 1_000_000_000


def config(vhid: int = 101, **changes: Any) -> VirtualHost:
    return VirtualHost(vhid=vhid, addresses=["10.13.37.42/24"], **{"passphrase": ""} | changes)


TWO = {
    "equals": [config(), config()],
    "unequal": [config(), config(advskew=100)],
    "preempt": [config(preempt=True), config(advskew=100, preempt=True)],
    "equals, preempt": [config(preempt=True), config(preempt=True)],
    "siblings": [config(101), config(100)],
    "siblings, the lower one is slower": [config(101), config(100, advskew=100)],
    "siblings, the higher one is slower": [config(101, advskew=100), config(100)],
    "a lower sibling that does not arbitrate": [config(101), config(100, siblings="warn")],
    "a higher sibling that does not arbitrate": [config(101, siblings="warn"), config(100)],
}
THREE = {
    "equals": [config()] * 3,
    "preempt": [config(advskew=skew, preempt=True) for skew in (0, 50, 100)],
    "two of the higher vhid": [config(101), config(101, advskew=100), config(100)],
    "two of the lower vhid": [config(101), config(100), config(100, advskew=100)],
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("configs", TWO.values(), ids=TWO)
def test_two_hosts(configs: list[VirtualHost]) -> None:
    explorer = Explorer(configs, ticks=6, faults=FAULTS, kinds=EVERYTHING)
    explorer.run()
    assert len(explorer.visited) > 200
    # Silence, or three intervals of one that does not arbitrate, then silence; and the waits that make equals differ.
    stalemate = any(each.siblings == "warn" for each in configs)
    slowest = max(each.interval for each in configs) - SECOND
    assert explorer.longest <= (8 if stalemate else 4) * SECOND + 2 * slowest + 50_000_000


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("configs", THREE.values(), ids=THREE)
@pytest.mark.slow
def test_three_hosts(configs: list[VirtualHost]) -> None:
    explorer = Explorer(configs, ticks=2 + FAULTS, faults=FAULTS, kinds=("loss", "late", "pause", "stop"))
    explorer.run()
    assert len(explorer.visited) > 200
    slowest = max(each.interval for each in configs) - SECOND
    assert explorer.longest <= 4 * SECOND + 2 * slowest + 50_000_000


def test_what_does_not_come_to_one_owner_is_found() -> None:
    """The explorer itself: two vhids that take no notice of each other are two owners, as on any BSD."""
    configs = [config(101, siblings="warn"), config(100, siblings="warn")]
    with pytest.raises(AssertionError, match=r"MASTER', 'MASTER'\], holding: \[True, True\]"):
        Explorer(configs, ticks=1, faults=0, kinds=()).run()
    Explorer(configs, ticks=4, faults=1, kinds=("loss",), owners=2).run()
