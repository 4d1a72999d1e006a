"""Elections among machines on a simulated LAN: one master, and soon."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.elections import NS, Lan, Node

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import State
from pycarp.protocol.timing import TAKEOVER_JITTER, TIE_JITTER

INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER


def config(advbase: int, advskew: int, **changes: Any) -> VirtualHost:
    changes = {"addresses": ["10.13.37.42/24"], "passphrase": "motdepassehalakon"} | changes
    return VirtualHost(vhid=101, advbase=advbase, advskew=advskew, **{"passphrase": ""} | changes)


def election(impl: Implementation, skews: list[int], seed: int, delay: int = 0, **changes: Any) -> Lan:
    lan = Lan(impl, [config(1, skew, **changes) for skew in skews], seed, lambda _: delay)
    lan.start()
    return lan


def with_backups(lan: Lan, until: int) -> Node:
    """The first host becomes MASTER, and then the others start; the MASTER."""
    first = lan.nodes[0]
    lan.carry_out(first, first.machine.start(0))
    lan.run(4 * NS)
    for node in lan.nodes[1:]:
        lan.carry_out(node, node.machine.start(lan.now))
    lan.run(until)
    assert lan.state == [MASTER] + [BACKUP] * (len(lan.nodes) - 1)
    return first


def bowout(impl: Implementation, skews: list[int], seed: int, delay: int = 0, **changes: Any) -> Lan:
    """A MASTER with these for backups bows out; the LAN just after that."""
    lan = Lan(impl, [config(1, 0, **changes)] + [config(1, skew, **changes) for skew in skews], seed, lambda _: delay)
    first = with_backups(lan, 7 * NS)
    lan.masters = [(lan.now, 0)]
    lan.carry_out(first, first.machine.stop(lan.now))
    return lan


FAMILIES = pytest.mark.parametrize(
    "addresses",
    [["10.13.37.42/24"], ["2001:db8::42/64"], ["10.13.37.42/24", "2001:db8::42/64"]],
    ids=["IPv4", "IPv6", "both"],
)


@FAMILIES
@pytest.mark.parametrize("count", [2, 3])
def test_equal_hosts_started_together(impl: Implementation, count: int, addresses: list[str]) -> None:
    for seed in range(60):
        lan = election(impl, [0] * count, seed, addresses=addresses)
        lan.run(12 * NS)
        assert sorted(lan.state) == [BACKUP] * (count - 1) + [MASTER], seed
        assert lan.leaderless_again == 0 and max(n for _, n in lan.masters) == 1, seed
        (took,) = (at for at, n in lan.masters if n)
        assert 3 * NS <= took <= 3 * NS + TIE_JITTER


@FAMILIES
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("preempt", [False, True], ids=["", "preempt"])
def test_equal_hosts_out_of_one_bowout(impl: Implementation, count: int, preempt: bool, addresses: list[str]) -> None:
    for seed in range(40):
        lan = bowout(impl, [0] * count, seed, preempt=preempt, addresses=addresses)
        since = lan.now
        lan.run(since + 12 * NS)
        assert sorted(lan.state[1:]) == [BACKUP] * (count - 1) + [MASTER], seed
        assert lan.leaderless_again == 0 and max(n for _, n in lan.masters) == 1, seed
        (took,) = (at for at, n in lan.masters if n)
        assert took - since <= TAKEOVER_JITTER


@pytest.mark.parametrize("delay", [0, 20_000, 100_000])
def test_best_backup_takes_over_after_a_bowout(impl: Implementation, delay: int) -> None:
    """Where the others are at least 25 + delay/20us steps of advskew behind, they never act at all."""
    for seed in range(40):
        lan = bowout(impl, [100, 60, 200], seed, delay)
        lan.run(lan.now + 12 * NS)
        assert lan.state == [INIT, BACKUP, MASTER, BACKUP], seed
        assert max(n for _, n in lan.masters) == 1


def test_two_equal_masters_meet(impl: Implementation) -> None:
    """A LAN that was cut in two is whole again: one of them yields, whenever their adverts come."""
    for seed in range(60):
        lan = election(impl, [0, 0], seed)
        offset = random.Random(seed).randrange(NS)
        for number, node in enumerate(lan.nodes):
            lan.now = 100 + number * offset
            lan.carry_out(node, node.machine.force(MASTER, lan.now))
            if not number:
                lan.lose()  # not heard: the LAN was cut
        lan.run(12 * NS)
        assert sorted(lan.state) == [BACKUP, MASTER], seed


@FAMILIES
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_masters_in_lockstep(impl: Implementation, count: int, copies: int, addresses: list[str]) -> None:
    """All yield to each other; the random part brings one of them back first, and the others stay down.

    Each hears the adverts of several others, each in several copies, the rest of them as BACKUP: not one of these may
    make even again what was made random.
    """
    late = 0
    for seed in range(25):
        lan = Lan(impl, [config(1, 0, addresses=addresses)] * count, seed, lambda _: 1_000, copies)
        lan.start()
        for node in lan.nodes:
            lan.carry_out(node, node.machine.force(MASTER, 0))
        lan.run(2 * TIE_JITTER)
        late += lan.state.count(MASTER) != 1
        lan.run(12 * NS)
        assert lan.state.count(MASTER) == 1, seed
    assert late <= 1


@pytest.mark.parametrize("delay", [5_000, 20_000, 50_000, 100_000])
def test_elections_over_a_slow_lan_come_to_one_master(impl: Implementation, delay: int) -> None:
    """Within the time that an advert takes nobody can know better; how seldom that leads to a second round is bounded.

    Started together, the waits differ by up to 20 ms: a chance of about 2*delay/20ms.
    """
    tries, again = 150, 0
    for seed in range(tries):
        lan = election(impl, [0, 0, 0], seed, delay)
        lan.run(25 * NS)
        assert sorted(lan.state) == [BACKUP, BACKUP, MASTER], seed
        again += lan.leaderless_again > 0
    assert again <= 2 + tries * 6 * delay / TIE_JITTER


@pytest.mark.parametrize("delay", [0, 50_000])
def test_three_hosts_two_failures(impl: Implementation, delay: int) -> None:
    for seed in range(20):
        lan = election(impl, [0, 50, 100], seed, delay, preempt=True)
        lan.run(5 * NS)
        assert lan.state == [MASTER, BACKUP, BACKUP]
        lan.kill(lan.nodes[0])
        lan.run(10 * NS)
        assert lan.state[1:] == [MASTER, BACKUP]
        lan.kill(lan.nodes[1])
        lan.run(15 * NS)
        assert lan.state[2] is MASTER
        assert lan.leaderless_again == 2


@pytest.mark.parametrize("preempt", [False, True])
def test_better_host_comes_back(impl: Implementation, preempt: bool) -> None:
    lan = election(impl, [0, 100], 1, 20_000, preempt=preempt)
    lan.run(5 * NS)
    first = lan.nodes[0]
    lan.carry_out(first, first.machine.link(False, lan.now))
    lan.run(10 * NS)
    assert lan.state == [INIT, MASTER]
    lan.carry_out(first, first.machine.link(True, lan.now))
    lan.run(20 * NS)
    assert lan.state == ([MASTER, BACKUP] if preempt else [BACKUP, MASTER])


def test_only_masters_hold_the_address(impl: Implementation) -> None:
    for seed in range(10):
        lan = election(impl, [0, 0, 30], seed, 50_000)
        for second in range(1, 20):
            lan.run(second * NS)
            if second == 9:
                lan.carry_out(lan.nodes[1], lan.nodes[1].machine.demote(1, lan.now))
            assert [node.holds for node in lan.nodes] == [state is MASTER for state in lan.state]


@pytest.mark.parametrize("delay", [20_000, 50_000, 100_000, 1_000_000])
@pytest.mark.parametrize("count", [2, 3])
def test_no_second_round_over_a_slow_lan(impl: Implementation, count: int, delay: int) -> None:
    """Equal backups, out of a bow-out and after a power failure: one master within tens of milliseconds."""
    for seed in range(20):
        for graceful in (True, False):
            lan = Lan(impl, [config(1, 0)] * (count + 1), seed, lambda r: r.randrange(delay // 2, 2 * delay), 2)
            first = with_backups(lan, 6 * NS)
            if graceful:
                lan.carry_out(first, first.machine.stop(lan.now))
            else:
                lan.kill(first)
            lan.run(lan.now + (0 if graceful else 3 * NS) + 100_000_000)
            assert sorted(node.machine.state for node in lan.nodes[1:]) == [BACKUP] * (count - 1) + [MASTER], seed
