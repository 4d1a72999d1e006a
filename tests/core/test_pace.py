"""The pace: adverts between those of the interval, and backups that obey it, on simulated time."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from support.elections import NS, Lan, heard
from support.openbsd import OpenBsd

from pycarp import ConfigError, VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import NS_PER_SKEW, Reason, SendAdvert, State
from pycarp.protocol.abc import Machine
from pycarp.protocol.timing import (
    PACE_GAPS_FORGOTTEN,
    PACE_HEARD_FIRST,
    PACE_STEP,
    PACES,
    TAKEOVER_JITTER,
)

INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER
MS = 1_000_000
T = 1000 * NS
PEER = "10.13.37.12"
CODE = PACES.index(3 * MS)
MASTER_DOWN = 3 * NS + 100 * NS_PER_SKEW


def config(advskew: int = 0, **changes: Any) -> VirtualHost:
    values = {"addresses": ["10.13.37.42/24"], "passphrase": "", "advbase": 1, "advskew": advskew} | changes
    return VirtualHost(vhid=101, **values)


def backup(impl: Implementation, **changes: Any) -> Machine:
    machine = impl.machine.Machine(config(100, **changes), lambda _most: 0)
    machine.start(T - 10 * MS)
    return machine


def hear(machine: Machine, at: int, count: int, pace: int = CODE, every: int = 3 * MS, source: str = PEER) -> int:
    """A master's adverts from `at` on; when the last one came."""
    for number in range(count):
        assert machine.receive(heard(1, 0, source), source, at + number * every, None, pace) == []
    return at + (count - 1) * every


def limit(paces: float = 3) -> int:
    return int(paces * 3 * MS) + 100 * PACE_STEP


@pytest.mark.parametrize(
    ("count", "pace", "silence"),
    [
        pytest.param(PACE_HEARD_FIRST, CODE, limit(), id="T37 a pace"),
        pytest.param(PACE_HEARD_FIRST - 1, CODE, MASTER_DOWN, id="T4 not for long enough"),
        pytest.param(PACE_HEARD_FIRST, 0, MASTER_DOWN, id="T4 none"),
    ],
)
def test_a_backup_obeys_a_pace(impl: Implementation, count: int, pace: int, silence: int) -> None:
    machine = backup(impl)
    last = hear(machine, T, count, pace)
    assert machine.deadline == last + silence and machine.silence == silence
    assert machine.timeout(last + silence - 1) == []
    assert machine.timeout(last + silence)[-1].reason is Reason.MASTER_DOWN


def test_missed_holds_for_it(impl: Implementation) -> None:
    machine = backup(impl, missed=5)
    assert hear(machine, T, 100) + limit(5) == machine.deadline


def test_only_while_the_master_says_it(impl: Implementation) -> None:
    machine = backup(impl)
    last = hear(machine, T, 100)
    last = hear(machine, last + 3 * MS, 1, pace=0)
    assert machine.deadline == last + MASTER_DOWN
    last = hear(machine, last + 3 * MS, PACE_HEARD_FIRST - 1)
    assert machine.deadline == last + MASTER_DOWN
    last = hear(machine, last + 3 * MS, 1)
    assert machine.deadline == last + limit()
    last = hear(machine, last + 3 * MS, 1, source="10.13.37.13")
    assert machine.deadline == last + MASTER_DOWN
    assert machine.receive(heard(255, 255), PEER, last + MS) == []
    assert machine.timeout(last + 4 * MS)[-1].reason is Reason.BOWOUT


def test_never_beyond_master_down(impl: Implementation) -> None:
    machine = backup(impl)
    last = hear(machine, T, 100, PACES.index(2000 * MS), 20 * MS)
    assert machine.deadline == last + MASTER_DOWN


@pytest.mark.parametrize("gap", [4, pytest.param(5, id="T38"), 6, 8, 40, 900, 2500])
def test_a_backup_waits_longer_where_adverts_come_irregularly(impl: Implementation, gap: int) -> None:
    machine = backup(impl)
    last = hear(machine, T, PACE_HEARD_FIRST - 1) + gap * MS
    hear(machine, last, 1)
    expected = min(max(9, 2 * gap) * MS + 100 * PACE_STEP, MASTER_DOWN)
    assert machine.silence == expected and machine.deadline == last + expected


def test_it_narrows_again(impl: Implementation) -> None:
    """By half, when nothing like that gap has come for a while."""
    machine = backup(impl, advbase=10)
    last = hear(machine, T, 100, PACES.index(NS), NS) + 2900 * MS
    last = hear(machine, last, PACE_GAPS_FORGOTTEN // NS, PACES.index(NS), NS)
    assert machine.silence == 5800 * MS + 100 * PACE_STEP
    hear(machine, last + NS, 1, PACES.index(NS))
    assert machine.silence == 3000 * MS + 100 * PACE_STEP


def test_arrivals_are_the_kernels(impl: Implementation) -> None:
    """A thread that reads late saw nothing irregular; one that reads in time may have."""
    machine = backup(impl)
    for number in range(100):
        due = T + number * 3 * MS
        machine.receive(heard(1, 0), PEER, due + (number % 7) * 20 * MS, None, CODE, due)
    assert machine.silence == limit()


def test_a_master_that_was_not_gone(impl: Implementation) -> None:
    machine = backup(impl)
    last = hear(machine, T, 100)
    assert machine.timeout(last + limit()) and machine.state is MASTER
    # T41: it is heard again soon: the gap counts, as any other.
    back = last + limit() + MS
    machine.receive(heard(1, 0), PEER, back, None, CODE)
    assert machine.state is BACKUP
    last = hear(machine, back + 3 * MS, PACE_HEARD_FIRST)
    assert machine.silence == 2 * (limit() + MS) + 100 * PACE_STEP
    assert machine.deadline == last + machine.silence


@pytest.mark.parametrize(
    ("late", "source", "silence"),
    [
        pytest.param(limit() + MS, PEER, 2 * (limit() + MS) + 100 * PACE_STEP, id="T41 it was there all the time"),
        pytest.param(600 * MS, PEER, limit(), id="T9 it was gone for long"),
        pytest.param(limit() + MS, "10.13.37.13", limit(), id="T9 another"),
    ],
)
def test_what_a_takeover_proves(impl: Implementation, late: int, source: str, silence: int) -> None:
    machine = backup(impl)
    last = hear(machine, T, 100)
    machine.timeout(last + limit())
    machine.receive(heard(1, 0), source, last + late, None, CODE)
    assert machine.state is BACKUP
    hear(machine, last + late + 3 * MS, 2 * PACE_HEARD_FIRST, source=source)
    assert machine.silence == silence


def master(impl: Implementation, **changes: Any) -> Machine:
    machine = impl.machine.Machine(config(**({"pace": 3} | changes)), lambda _most: 0)
    machine.start(T - machine.master_down)
    machine.timeout(T)
    assert machine.state is MASTER
    return machine


def adverts(machine: Machine, until: int, late: dict[int, int] | None = None) -> list[tuple[int, SendAdvert]]:
    sent = []
    while machine.deadline is not None and machine.deadline <= until:
        now = machine.deadline + (late or {}).get(len(sent), 0)
        sent += [(now, action) for action in machine.timeout(now) if isinstance(action, SendAdvert)]
    return sent


@pytest.mark.parametrize("pace", [pytest.param(3, id="T39")])
def test_a_master_sends_more(impl: Implementation, pace: int) -> None:
    machine = master(impl, pace=pace)
    sent = adverts(machine, T + NS)
    assert sent[-1] == (T + NS, SendAdvert(1, 0, CODE, False))
    between = [at for at, advert in sent if advert == SendAdvert(1, 0, CODE, True)]
    assert len(between) == len(sent) - 1 == NS // (pace * MS)
    # Machines of one pace send at the same moments.
    assert all(at % (pace * MS) == 0 for at in between)
    assert machine.pacing == pace * MS and machine.said_pace == CODE


def test_no_advert_between(impl: Implementation) -> None:
    """Without a pace, or with one that is not shorter than the interval; and while it leaves, or stands by."""
    for machine in (master(impl, pace=0), master(impl, pace=4, advbase=0, advskew=1)):
        assert machine.pacing == 0 and {advert.between for _, advert in adverts(machine, T + 3 * NS)} == {False}
    machine = master(impl)
    assert machine.leave(T + MS) == [SendAdvert(255, 255)]
    assert machine.deadline == T + 101 * MS
    machine = master(impl)
    machine.receive(heard(0, 9), PEER, T + MS)
    assert machine.state is BACKUP and machine.deadline == T + MS + 3 * NS


def test_never_to_peers_alone() -> None:
    with pytest.raises(ConfigError, match="a pace is for a LAN"):
        config(pace=3, peers=["10.13.37.12"])


def test_the_caller_limits_it(impl: Implementation) -> None:
    machine = master(impl)
    machine.limit_pace(20 * MS, T + MS)
    assert machine.pacing == 20 * MS and machine.said_pace == PACES.index(20 * MS)
    assert [at for at, _ in adverts(machine, T + 50 * MS)] == [T + 20 * MS, T + 40 * MS]
    machine.limit_pace(0, T + 51 * MS)
    assert machine.deadline == T + 51 * MS - (T + 51 * MS) % (3 * MS) + 3 * MS


def test_a_new_pace_is_measured_anew(impl: Implementation) -> None:
    """The gaps of a slower pace, of a limit or of a pause do not tell that it cannot keep this one."""
    machine = master(impl, pace=50)
    adverts(machine, T + 2 * NS)
    machine.reconfigure(config(pace=3), T + 2 * NS + MS)
    assert machine.said_pace == CODE
    adverts(machine, T + 3 * NS)
    machine.pause_pace(T + 3 * NS + MS)
    adverts(machine, T + 6 * NS)
    machine.limit_pace(0, T + 9 * NS)
    adverts(machine, T + 10 * NS)
    assert machine.said_pace == CODE
    # What it was late itself counts on.
    late = T + 10 * NS + 300 * MS
    machine.timeout(late)
    machine.limit_pace(5 * MS, late + MS)
    assert PACES[machine.said_pace] == 200 * MS


@pytest.mark.parametrize(
    ("late", "code"),
    [
        pytest.param(2 * MS, 3, id="T39 late"),
        pytest.param(4 * MS, 5, id="T40 later than a pace"),
        pytest.param(20 * MS, 20, id="T40 much later"),
        pytest.param(4000 * MS, 0, id="T40 not at all"),
    ],
)
def test_a_master_that_does_not_keep_its_pace_says_less(impl: Implementation, late: int, code: int) -> None:
    """It says so with the very advert that is late."""
    machine = master(impl)
    sent = adverts(machine, T + 100 * MS, {10: late})
    assert PACES[sent[9][1].pace] == 3 * MS
    assert PACES[sent[10][1].pace] == code * MS
    assert machine.pacing == 3 * MS


def test_codes(impl: Implementation) -> None:
    for pace, code in ((1, 1), (3, 3), (4, 5), (11, 20), (500, 500)):
        machine = master(impl, pace=pace, advbase=2)
        assert PACES[machine.said_pace] == code * MS


# Groups

FAST: dict[str, Any] = {"pace": 3}


def group(impl: Implementation, seed: int, others: int = 0, **changes: Any) -> Lan:
    """A master with a pace, two pycarp backups, and `others` hosts that know none; jitter on the wire."""
    configs = [config(advskew, **FAST) for advskew in (0, 50, 100)] + [config(150) for _ in range(others)]
    lan = Lan(impl, configs, seed, lambda drawn: 20_000 + drawn.randrange(100_000), **changes)
    lan.start()
    lan.run(8 * NS)
    assert lan.state[0] is MASTER and lan.masters == [(0, 0), (lan.masters[1][0], 1)]
    return lan


@pytest.mark.parametrize("both", [False, True], ids=["IPv4", "both"])
def test_a_silent_cut(impl: Implementation, both: bool) -> None:
    for seed in range(3):
        lan = group(impl, seed)
        lan.run(lan.now + 100 * MS + seed * MS)
        lan.cut(lan.nodes[0])
        since = lan.now
        lan.run(since + 30 * MS)
        # The best backup, after three of its adverts.
        assert lan.state == [MASTER, MASTER, BACKUP]
        taken = lan.nodes[1].transitions[-1].at - since
        assert taken <= 10 * MS + 50 * PACE_STEP + TAKEOVER_JITTER
        lan.run(since + 5 * NS)
        assert lan.state == [MASTER, MASTER, BACKUP]


def test_equal_backups(impl: Implementation) -> None:
    """One of them takes over, and the others hear it first."""
    again = 0
    for seed in range(12):
        lan = Lan(impl, [config(advskew, **FAST) for advskew in (0, 9, 9, 9)], seed, lambda _: 30_000)
        lan.start()
        lan.run(5 * NS)
        lan.cut(lan.nodes[0])
        since = lan.now
        lan.run(since + 60 * MS)
        assert sorted(lan.state[1:]) == [BACKUP, BACKUP, MASTER]
        again += sum(len(node.transitions) > 2 for node in lan.nodes[1:])
    assert again <= 8


def test_hosts_that_know_no_pace(impl: Implementation) -> None:
    """An OpenBSD among them sees valid adverts, is never MASTER while a faster host is, and takes 3 s and more."""
    lan = Lan(impl, [config(0, **FAST), config(150)], 1, lambda _: 50_000, others=[impl.machine.Machine, OpenBsd])
    lan.start()
    lan.run(20 * NS)
    assert lan.state == [MASTER, BACKUP]
    lan.cut(lan.nodes[0])
    since = lan.now
    lan.run(since + 2900 * MS)
    assert lan.state == [MASTER, BACKUP]
    lan.run(since + 6 * NS)
    assert lan.state == [MASTER, MASTER]


@pytest.mark.parametrize("lost", [5, 50, 200])
def test_no_takeover_without_cause(impl: Implementation, lost: int) -> None:
    """Of a thousand adverts some are lost: backups wait longer, and it happens once, if at all."""
    lan = Lan(
        impl, [config(advskew, **FAST) for advskew in (0, 100)], 3, lambda drawn: drawn.randrange(2 * MS), lost=lost
    )
    lan.start()
    lan.run(60 * NS)
    lan.masters = lan.masters[-1:]
    lan.run(120 * NS)
    assert lan.state == [MASTER, BACKUP] and len(lan.masters) == 1
    assert lan.nodes[1].machine.silence >= 9 * MS


def test_a_busy_master(impl: Implementation) -> None:
    """It is late now and then, up to 30 ms: after the first times nobody takes over."""
    drawn = random.Random(5)
    lan = Lan(impl, [config(advskew, **FAST) for advskew in (0, 100)], 3, lambda _: 50_000)
    lan.start()
    lan.run(4 * NS)
    first = lan.nodes[0]
    for second in range(4, 64):
        lan.cut(first, True)
        lan.run(lan.now + drawn.randrange(30) * MS)
        lan.cut(first, False)
        lan.run(second * NS)
    late = [at for at, _ in lan.masters if at > 20 * NS]
    assert lan.state == [MASTER, BACKUP] and not late


def test_a_lower_pace_is_told_by_its_counter() -> None:
    assert len(PACES) == 16 and sorted(PACES) == list(PACES) and replace(SendAdvert(1, 0)).pace == 0
