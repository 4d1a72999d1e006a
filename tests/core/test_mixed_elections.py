"""Groups of ours and OpenBSD's hosts, on simulated time with loss and jitter: one master, and the right one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.elections import NS, Lan
from support.openbsd import OpenBsd

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import State

BACKUP, MASTER = State.BACKUP, State.MASTER
SEEDS = 40


def lan_of(impl: Implementation, seed: int, *hosts: dict[str, Any], openbsd: int = 1, **changes: Any) -> Lan:
    """The first `openbsd` hosts are OpenBSD's. An advert takes up to 2 ms."""
    defaults = {"passphrase": "", "addresses": ["10.13.37.42/24"], "timing": "openbsd"}
    configs = [VirtualHost(vhid=101, **defaults | host) for host in hosts]  # type: ignore[arg-type]
    lan = Lan(impl, configs, seed, lambda random: random.randrange(2_000_000), others=[OpenBsd] * openbsd, **changes)
    for node in lan.nodes:
        # Not all in the same tick.
        lan.run(lan.now + lan.random.randrange(50_000_000))
        lan.carry_out(node, node.machine.start(lan.now))
    return lan


@pytest.mark.parametrize("preempt", [False, True], ids=["", "preempt"])
@pytest.mark.parametrize("by", [1, 128])
def test_a_demoted_openbsd_master_is_relieved(impl: Implementation, by: int, preempt: bool) -> None:
    for seed in range(SEEDS):
        lan = lan_of(impl, seed, {"advskew": 0, "preempt": preempt}, {"advskew": 100, "preempt": preempt})
        lan.run(10 * NS)
        assert lan.state == [MASTER, BACKUP], seed
        lan.carry_out(lan.nodes[0], lan.nodes[0].machine.demote(by, lan.now))
        lan.run(lan.now + 20_000_000)
        assert lan.state == [BACKUP, MASTER], seed
        lan.run(lan.now + 10 * NS)
        assert lan.state == [BACKUP, MASTER], seed


@pytest.mark.parametrize("advskew", [100, 250])
def test_openbsd_relieves_us(impl: Implementation, advskew: int) -> None:
    for seed in range(SEEDS):
        lan = lan_of(impl, seed, {"advskew": advskew}, {"advskew": 0})
        lan.run(10 * NS)
        assert lan.state == [BACKUP, MASTER], seed
        lan.carry_out(lan.nodes[1], lan.nodes[1].machine.demote(1, lan.now))
        lan.run(lan.now + 30_000_000)
        assert lan.state == [MASTER, BACKUP], seed
        lan.run(lan.now + 10 * NS)
        assert lan.state == [MASTER, BACKUP], seed


@pytest.mark.parametrize(("theirs", "ours"), [(10, 11), (10, 20), (10, 31), (31, 10), (101, 100), (1, 2), (200, 199)])
def test_the_more_eager_one_takes_over(impl: Implementation, theirs: int, ours: int) -> None:
    """With preempt: within a tick or two either may be first, and the next advert decides."""
    for seed in range(SEEDS):
        lan = lan_of(impl, seed, *({"advskew": advskew, "preempt": True} for advskew in (theirs, ours, 0)))
        lan.run(10 * NS)
        assert lan.state == [BACKUP, BACKUP, MASTER], seed
        lan.kill(lan.nodes[2])
        lan.run(lan.now + 12 * NS)
        assert lan.state[:2] == ([MASTER, BACKUP] if theirs < ours else [BACKUP, MASTER]), seed


def test_the_fastest_of_openbsd_with_loss(impl: Implementation) -> None:
    """advbase 0: with a hundredth of all adverts lost, two masters no longer than OpenBSD beside itself."""
    together = {"theirs": 0, "ours": 0}
    for advskew in (0, 1, 2, 3):
        for seed in range(4):
            for who, openbsd in (("theirs", 2), ("ours", 1)):
                hosts = ({"advbase": 0, "advskew": advskew}, {"advbase": 0, "advskew": advskew + 1})
                lan = lan_of(impl, seed, *hosts, openbsd=openbsd, lost=10)
                lan.run(60 * NS)
                times = [*lan.masters, (lan.now, 0)]
                together[who] += sum(after - at for (at, count), (after, _) in pairwise(times) if count > 1)
    assert together["ours"] <= together["theirs"] + 40_000_000
