"""Groups of ours and of all BSDs, on simulated time with loss and jitter: never worse than these BSDs alone.

Each scenario runs with `PYCARP_ELECTION_SEEDS` seeds, 12 by default.
"""

from __future__ import annotations

import os
from itertools import combinations, pairwise
from typing import Any

import pytest
from support.bsds import FreeBsd, NetBsd
from support.elections import NS, Lan
from support.openbsd import OpenBsd

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import State

BACKUP, MASTER = State.BACKUP, State.MASTER
SEEDS = int(os.environ.get("PYCARP_ELECTION_SEEDS", "12"))
BSDS: dict[str, type[Any]] = {"netbsd": NetBsd, "openbsd": OpenBsd, "freebsd": FreeBsd}
LATE = 60_000_000
"""Ticks and jitter: who is a little later is not worse."""


def lan_of(
    impl: Implementation,
    seed: int,
    kinds: list[type[Any] | None],
    skews: list[int],
    lost: int = 0,
    jitter: int = 2_000_000,
    **changes: Any,
) -> Lan:
    """One host of each kind, None for ours, all started; an advert takes up to `jitter` ns, and of 1,000 `lost` do not
    come."""
    timing = "openbsd" if OpenBsd in kinds else "bsd"
    values = {"passphrase": "", "addresses": ["10.13.37.42/24"], "timing": timing, "advbase": 1, **changes}
    configs = [VirtualHost(vhid=101, advskew=skew, **values) for skew in skews]
    lan = Lan(impl, configs, seed, lambda random: random.randrange(jitter), lost=lost)
    for node, kind in zip(lan.nodes, kinds, strict=True):
        if kind is not None:
            node.machine = kind(node.machine.config)
    for node in lan.nodes:
        lan.run(lan.now + lan.random.randrange(50_000_000))
        lan.carry_out(node, node.machine.start(lan.now))
    return lan


def alone_and_with_us(kinds: list[type[Any] | None]) -> list[list[type[Any] | None]]:
    """The same group with another BSD in our place, each in turn, and the group itself."""
    return [[other if kind is None else kind for kind in kinds] for other in BSDS.values()] + [kinds]


def without_a_master(lan: Lan, since: int) -> int:
    """ns since then without any MASTER that lives."""
    times = [*lan.masters, (lan.now, 0)]
    return sum(
        max(0, after - max(at, since)) for (at, count), (after, _) in pairwise(times) if count == 0 and after > since
    )


def with_two(lan: Lan, since: int) -> int:
    times = [*lan.masters, (lan.now, 0)]
    return sum(max(0, after - max(at, since)) for (at, count), (after, _) in pairwise(times) if count > 1)


def happen(lan: Lan, what: str, at: int) -> None:
    """Something to the host with that number."""
    node = lan.nodes[at]
    if what == "power off":
        lan.kill(node)
    elif what == "stop":
        lan.carry_out(node, node.machine.stop(lan.now))
    elif what == "demote":
        lan.carry_out(node, node.machine.demote(1, lan.now))
    elif what == "cut":
        lan.cut(node)
        lan.run(lan.now + 7 * NS)
        lan.cut(node, False)


EVENTS = ("power off", "stop", "demote", "cut")
PEERS = [list(names) for size in (1, 2) for names in combinations(BSDS, size)]


@pytest.mark.parametrize("preempt", [False, True], ids=["", "preempt"])
@pytest.mark.parametrize("peers", PEERS, ids="-".join)
def test_all_come_to_one_owner(impl: Implementation, peers: list[str], preempt: bool) -> None:
    """Whatever happens to whichever host, there is one MASTER soon, also with a hundredth of all adverts lost."""
    kinds = [None, *(BSDS[name] for name in peers)]
    for seed in range(SEEDS):
        for what in EVENTS:
            lan = lan_of(impl, seed, kinds, [50, 0, 100][: len(kinds)], lost=10, preempt=preempt)
            lan.run(20 * NS)
            happen(lan, what, lan.random.randrange(len(kinds)))
            lan.run(lan.now + 10 * NS)
            lan.lost = 0
            lan.run(lan.now + 12 * NS)
            living = [node.machine.state for node in lan.nodes if node.alive]
            assert living.count(MASTER) == 1, (seed, what, lan.state)
            since = lan.now
            lan.run(lan.now + 10 * NS)
            assert with_two(lan, since) == without_a_master(lan, since) == 0, (seed, what)


@pytest.mark.parametrize("what", EVENTS)
@pytest.mark.parametrize("peers", PEERS, ids="-".join)
def test_no_worse_than_the_bsds_alone(impl: Implementation, peers: list[str], what: str) -> None:
    """The time without a MASTER, and with two, of the same group with a BSD in our place: the worst of these."""
    kinds = [None, *(BSDS[name] for name in peers)]
    gaps, doubles = [], []
    for group in alone_and_with_us(kinds):
        gap = double = 0
        for seed in range(SEEDS):
            lan = lan_of(impl, seed, group, [0, 50, 100][: len(group)], lost=10)
            lan.run(20 * NS)
            since = lan.now
            happen(lan, what, next((at for at, state in enumerate(lan.state) if state is MASTER), 0))
            lan.run(lan.now + 10 * NS)
            gap += without_a_master(lan, since)
            double += with_two(lan, since)
        gaps.append(gap / SEEDS)
        doubles.append(double / SEEDS)
    *others, ours = gaps
    assert ours <= max(others) + LATE, (gaps, doubles)
    *others, ours = doubles
    assert ours <= max(others) + LATE, (gaps, doubles)


@pytest.mark.parametrize(("theirs", "ours"), [(10, 11), (10, 20), (10, 31), (100, 101), (100, 200)])
def test_when_the_master_dies_the_more_eager_takes_over(impl: Implementation, theirs: int, ours: int) -> None:
    """Without preempt: who takes over stays. As seldom wrong as OpenBSD beside itself, where adverts were lost.

    The less eager one wins where it alone missed the last advert: a hundredth of all runs, beside whichever. Between
    two such counts lies what chance does (two deviations).
    """
    wrong = []
    for kind in (OpenBsd, None):
        wrong.append(0)
        for seed in range(2 * SEEDS):
            lan = lan_of(impl, seed, [OpenBsd, kind, NetBsd], [theirs, ours, 0], lost=10)
            lan.run(20 * NS)
            if lan.state[2] is not MASTER:
                continue
            lan.kill(lan.nodes[2])
            lan.run(lan.now + 12 * NS)
            wrong[-1] += lan.state[:2] != [MASTER, BACKUP]
    chance = max(1, int(2 * (2 * 0.01 * 2 * SEEDS) ** 0.5))
    assert wrong[1] <= wrong[0] + chance, wrong


@pytest.mark.parametrize("worse", list(BSDS))
@pytest.mark.parametrize("master", ["netbsd", "openbsd", "ours"])
def test_on_a_bow_out_the_better_backup_wins(impl: Implementation, master: str, worse: str) -> None:
    """Without preempt, and though a BSD does not wait: 0 of all wrong. No advert overtakes the bow-out by a ms."""
    for seed in range(4 * SEEDS):
        lan = lan_of(impl, seed, [BSDS.get(master), None, BSDS[worse]], [0, 50, 100], jitter=500_000)
        lan.run(10 * NS)
        assert lan.state == [MASTER, BACKUP, BACKUP]
        lan.carry_out(lan.nodes[0], lan.nodes[0].machine.stop(lan.now))
        since = lan.now
        lan.run(lan.now + 10 * NS)
        assert lan.state[1:] == [MASTER, BACKUP], seed
        assert without_a_master(lan, since) <= 10_000_000 and with_two(lan, since) <= 10_000_000
