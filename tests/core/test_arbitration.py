"""The rows S of docs/protocol.md, which are the ids of their tests; then two vhids on a simulated LAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.elections import NS, Lan, heard

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import (
    NS_PER_SKEW,
    Advert,
    Announce,
    Drop,
    Reason,
    SendAdvert,
    SiblingFound,
    State,
    Take,
    Transition,
)
from pycarp.protocol.abc import Machine

PEER = "10.13.37.12"
T = 1_000 * NS
MD = 3 * NS
MS = 1_000_000
INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER
LOWER, HIGHER = 100, 102
TAKEN = [Announce(), Take()]
LET_GO = [Drop(), SendAdvert(255, 255)]


def config(vhid: int = 101, **changes: Any) -> VirtualHost:
    changes = {"addresses": ["10.13.37.42/24"], "passphrase": "motdepassehalakon"} | changes
    return VirtualHost(vhid=vhid, **changes)


def machine_in(impl: Implementation, state: State, host: VirtualHost | None = None) -> Machine:
    """BACKUP since 0, MASTER since T; nothing is random."""
    machine = impl.machine.Machine(host or config(), lambda n: 0)
    if state is MASTER:
        machine.start(T - machine.master_down)
        machine.timeout(T)
    elif state is BACKUP:
        machine.start(0)
    assert machine.state is state
    return machine


def sibling(machine: Machine, vhid: int, now: int, advbase: int = 1, advskew: int = 0) -> list[Any]:
    return list(machine.sibling(vhid, heard(advbase, advskew, PEER, vhid=vhid), PEER, now))


def found(vhid: int, standing: Any) -> SiblingFound:
    return SiblingFound(vhid, standing, PEER)


# The rows: the state; what comes before; what happens; the actions; the next state

Step = Callable[[Machine], list[Any]]


def hears(vhid: int, at: int, *advert: int) -> Step:
    return lambda machine: sibling(machine, vhid, at, *advert)


def until(at: int) -> Step:
    return lambda machine: machine.timeout(at)


def yielded(at: int) -> list[Any]:
    return [*LET_GO, Transition(MASTER, BACKUP, Reason.SIBLING, PEER, at)]


ADVERT = SendAdvert(1, 0)
WITHHELD = [hears(LOWER, MD - 1), until(MD)]
ROWS: list[Any] = [
    pytest.param(MASTER, [], hears(HIGHER, T), [found(HIGHER, "yield"), *yielded(T)], BACKUP, id="S1"),
    pytest.param(BACKUP, [hears(HIGHER, MD - 1)], until(MD), [], BACKUP, id="S2"),
    pytest.param(
        BACKUP, [hears(LOWER, MD - 1)], until(MD),
        [ADVERT, Transition(BACKUP, MASTER, Reason.MASTER_DOWN, None, MD)], MASTER, id="S3",
    ),
    pytest.param(MASTER, [], hears(LOWER, T), [found(LOWER, "prefer"), ADVERT], MASTER, id="S4"),
    pytest.param(MASTER, [hears(LOWER, T)], hears(LOWER, T + NS // 2 - 1), [], MASTER, id="S4 a copy"),
    pytest.param(MASTER, [hears(LOWER, T)], hears(LOWER, T + NS // 2), [ADVERT], MASTER, id="S4 twice an interval"),
    pytest.param(BACKUP, WITHHELD, hears(LOWER, MD + 5, 255, 255), TAKEN, MASTER, id="S5"),
    pytest.param(BACKUP, WITHHELD, until(2 * MD - 1), [ADVERT, *TAKEN], MASTER, id="S6"),
    pytest.param(
        MASTER, [hears(LOWER, T + number * NS) for number in (0, 1, 2)], hears(LOWER, T + 3 * NS),
        [found(LOWER, "stalemate"), *yielded(T + 3 * NS)], BACKUP, id="S7",
    ),
    pytest.param(BACKUP, [hears(HIGHER, 5, 255, 255)], until(5),
        [ADVERT, *TAKEN, Transition(BACKUP, MASTER, Reason.BOWOUT, PEER, 5)], MASTER, id="S8",
    ),
    pytest.param(MASTER, [hears(LOWER, T)], hears(HIGHER, T), [found(HIGHER, "several")], MASTER, id="S9"),
    pytest.param(BACKUP, WITHHELD, hears(HIGHER, MD), [found(HIGHER, "several"), *TAKEN], MASTER, id="S9 withheld"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "before", "step", "actions", "after"), ROWS)
def test_row(
    impl: Implementation, state: State, before: list[Step], step: Step, actions: list[Any], after: State
) -> None:
    machine = machine_in(impl, state)
    for each in before:
        each(machine)
    assert step(machine) == actions
    assert machine.state is after


@pytest.mark.parametrize("state", [pytest.param(BACKUP, id="S10 BACKUP"), pytest.param(MASTER, id="S10 MASTER")])
def test_warn_is_a_word_and_no_more(impl: Implementation, state: State) -> None:
    machine = machine_in(impl, state, config(siblings="warn"))
    before = (machine.state, machine.deadline)
    for vhid in (LOWER, HIGHER):
        assert sibling(machine, vhid, T) == [found(vhid, "warn")]
        assert sibling(machine, vhid, T) == sibling(machine, vhid, T, 255, 255) == []
        assert (machine.state, machine.deadline) == before


# The lower vhid yields


def test_a_master_yields_to_a_higher_vhid(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    assert sibling(machine, HIGHER, T + 5, advskew=254) == [
        found(HIGHER, "yield"), *LET_GO, Transition(MASTER, BACKUP, Reason.SIBLING, PEER, T + 5)
    ]  # fmt: skip
    assert (machine.state, machine.withheld) == (BACKUP, False)
    # For as long as it is heard, and it is told once.
    for second in range(1, 60):
        assert machine.timeout(T + second * NS) == []
        assert sibling(machine, HIGHER, T + second * NS) == []
    assert machine.deadline == T + 59 * NS + MD
    assert machine.timeout(T + 59 * NS + MD)[1:3] == TAKEN


def test_priorities_do_not_matter(impl: Implementation) -> None:
    """The vhid decides, whoever is demoted."""
    machine = machine_in(impl, MASTER)
    assert sibling(machine, HIGHER, T + 5, advskew=240)[-1].after is BACKUP
    machine = machine_in(impl, MASTER, config(advskew=254))
    machine.demote(3, T)
    assert sibling(machine, LOWER, T + 5) == [found(LOWER, "prefer"), SendAdvert(1, 254)]


@pytest.mark.parametrize("own_master", [False, True])
def test_a_backup_waits_for_a_higher_vhid(impl: Implementation, own_master: bool) -> None:
    machine = machine_in(impl, BACKUP)
    for second in range(1, 10):
        now = second * NS
        assert sibling(machine, HIGHER, now) == [found(HIGHER, "yield")] * (second == 1)
        if own_master and second < 5:
            assert machine.receive(heard(1, 0), PEER, now) == []
        assert machine.timeout(now) == []
    assert machine.state is BACKUP
    assert machine.deadline == 9 * NS + MD
    assert machine.timeout(9 * NS + MD)[-1] == Transition(BACKUP, MASTER, Reason.MASTER_DOWN, None, 9 * NS + MD)


def test_its_bowout_is_as_good_as_ones_own_masters(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP, config(advskew=100))
    sibling(machine, HIGHER, NS)
    assert sibling(machine, HIGHER, 2 * NS, 255, 255) == []
    due = 2 * NS + 100 * 20_000
    assert machine.deadline == due
    assert machine.timeout(due) == [
        SendAdvert(1, 100), *TAKEN, Transition(BACKUP, MASTER, Reason.BOWOUT, PEER, due)
    ]  # fmt: skip


def test_its_advert_after_its_bowout_cancels_the_takeover(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS)
    machine.receive(heard(255, 255), PEER, NS + 1)
    assert machine.timeout(NS + 10 * MS) == []  # our own group's bow-out gives nobody here the addresses
    sibling(machine, HIGHER, 2 * NS, 255, 255)
    sibling(machine, HIGHER, 2 * NS)
    assert machine.timeout(2 * NS + 10 * MS) == []
    assert machine.deadline == 2 * NS + MD


def test_its_bowout_leaves_our_own_groups_master_alone(impl: Implementation) -> None:
    """One that does not arbitrate, say: it is the master still."""
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS)
    machine.receive(heard(1, 0), PEER, NS + 1)
    sibling(machine, HIGHER, NS + 2, 255, 255)
    assert machine.timeout(NS + 10 * MS) == []
    assert machine.deadline == NS + 1 + MD


def test_preempt_does_not_help(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP, config(preempt=True))
    sibling(machine, HIGHER, NS)
    assert machine.receive(heard(1, 100), PEER, NS + 5) == []
    assert machine.receive(heard(9, 0), PEER, NS + 5) == []
    assert machine.timeout(NS + 10 * MS) == []
    # Planned before, it is given up.
    machine = machine_in(impl, BACKUP, config(preempt=True))
    machine.receive(heard(1, 100), PEER, NS)
    sibling(machine, HIGHER, NS)
    assert machine.timeout(NS + 10 * MS) == []


def test_who_advertises_seldom_is_waited_for(impl: Implementation) -> None:
    """Or the address would change hands between any two of its adverts."""
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS, 10)
    assert machine.deadline == NS + 30 * NS


def test_silence_of_a_sibling_is_overdue_too(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS)
    assert not machine.overdue(NS + MD - 1) and machine.overdue(NS + MD)
    machine.delay_takeover(NS + MD)
    assert machine.deadline == NS + MD + NS
    machine = machine_in(impl, BACKUP)
    sibling(machine, LOWER, MD - 1)
    machine.timeout(MD)
    assert machine.withheld and not machine.overdue(2 * MD - 2) and machine.overdue(2 * MD - 1)
    machine.delay_takeover(2 * MD - 1)
    assert NS in {(machine.deadline or 0) - 2 * MD + 1, NS}
    assert Take() not in machine.timeout(2 * MD + NS - 2)
    assert machine.timeout(2 * MD + NS - 1)[-2:] == TAKEN


# The higher vhid waits until the lower has let go


def withheld(impl: Implementation) -> Machine:
    """MASTER since T, and a lower sibling was heard then."""
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0), PEER, T - MD)
    assert sibling(machine, LOWER, T - 1) == [found(LOWER, "prefer")]
    assert machine.timeout(T) == [SendAdvert(1, 0), Transition(BACKUP, MASTER, Reason.MASTER_DOWN, None, T)]
    assert machine.withheld and machine.state is MASTER
    return machine


def test_it_takes_when_the_lower_bows_out(impl: Implementation) -> None:
    machine = withheld(impl)
    assert sibling(machine, LOWER, T + 5, 255, 255) == TAKEN
    assert not machine.withheld and machine.deadline == T + NS


def test_it_takes_when_the_lower_is_silent(impl: Implementation) -> None:
    machine = withheld(impl)
    assert [machine.timeout(T + second * NS) for second in (1, 2)] == [[SendAdvert(1, 0)]] * 2
    assert machine.deadline == T - 1 + MD
    assert machine.timeout(T - 1 + MD) == TAKEN
    assert not machine.withheld
    assert machine.timeout(T + MD) == [SendAdvert(1, 0)]


def test_silence_is_by_the_lower_ones_own_times(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    sibling(machine, LOWER, MD, 5, 128)
    machine.timeout(MD)
    for second in range(4, 18):
        assert machine.timeout(second * NS) == [SendAdvert(1, 0)]
    assert machine.timeout(18 * NS + 128 * NS_PER_SKEW - 1) == [SendAdvert(1, 0)]
    assert machine.timeout(18 * NS + 128 * NS_PER_SKEW) == TAKEN


def test_a_master_tells_a_lower_vhid_at_once(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    assert sibling(machine, LOWER, T + 5) == [found(LOWER, "prefer"), SendAdvert(1, 0)]
    assert machine.state is MASTER and not machine.withheld
    assert machine.deadline == T + 5 + NS
    # Copies of the same advert, under another key or in another family, are not answered.
    assert sibling(machine, LOWER, T + 6) == sibling(machine, LOWER, T + 7) == []
    assert sibling(machine, LOWER, T + 8, 255, 255) == []
    # Once more, much later: told at once, but that is no news.
    assert sibling(machine, LOWER, 2 * T) == [SendAdvert(1, 0)]


@pytest.mark.parametrize("early", [0, 200 * MS])
@pytest.mark.parametrize("held_back", [False, True])
def test_who_does_not_arbitrate_is_left_alone(impl: Implementation, held_back: bool, early: int) -> None:
    """A BSD: after three intervals and three adverts of ours nobody here has the addresses."""
    machine = withheld(impl) if held_back else machine_in(impl, MASTER)
    start = T if held_back else T + NS
    if not held_back:
        assert sibling(machine, LOWER, start) == [found(LOWER, "prefer"), SendAdvert(1, 0)]
    for number in (1, 2):
        assert sibling(machine, LOWER, start + number * NS) == [SendAdvert(1, 0)]
    at = start + 3 * NS - early
    assert sibling(machine, LOWER, at) == [
        found(LOWER, "stalemate"), *LET_GO, Transition(MASTER, BACKUP, Reason.SIBLING, PEER, at)
    ]  # fmt: skip
    for second in range(4, 60):
        assert machine.timeout(start + second * NS) == sibling(machine, LOWER, start + second * NS) == []
    # Gone, it is forgotten.
    assert machine.timeout(start + 59 * NS + MD)[1:3] == TAKEN
    assert sibling(machine, LOWER, start + 100 * NS) == [found(LOWER, "prefer"), SendAdvert(1, 0)]


def test_one_that_comes_back_once_is_no_stalemate(impl: Implementation) -> None:
    """Its bow-out was lost, and later all our adverts while it waits: it has to be told as often as anybody."""
    machine = machine_in(impl, MASTER)
    sibling(machine, LOWER, T + 1)
    assert sibling(machine, LOWER, T + MD) == [SendAdvert(1, 0)]
    assert machine.state is MASTER


def test_a_stalemates_bowout_frees(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    for second in range(1, 5):
        sibling(machine, LOWER, T + second * NS)
    assert machine.state is BACKUP
    sibling(machine, LOWER, T + 5 * NS, 255, 255)
    assert machine.deadline == T + 5 * NS
    assert machine.timeout(T + 5 * NS)[1:3] == TAKEN


def test_a_withheld_master_stops_like_any_other(impl: Implementation) -> None:
    machine = withheld(impl)
    assert machine.stop(T + 5) == [*LET_GO, Transition(MASTER, INIT, Reason.STOPPED, None, T + 5)]
    assert not machine.withheld and machine.deadline is None
    machine = withheld(impl)
    assert machine.receive(heard(0, 255), PEER, T + 5)[0] == Drop()
    assert not machine.withheld
    machine = withheld(impl)
    assert machine.retire(Reason.STALLED, False, T + 5)[0] == Drop()
    assert not machine.withheld
    # It is as free to take over later as it was.
    assert machine.deadline == T + 5 + MD


def test_a_withheld_master_with_other_values(impl: Implementation) -> None:
    machine = withheld(impl)
    assert machine.reconfigure(config(advskew=7), T + 5) == [SendAdvert(1, 7)]
    assert machine.withheld
    assert machine.reconfigure(config(siblings="warn"), T + 6) == [SendAdvert(1, 0), *TAKEN]
    assert not machine.withheld
    assert sibling(machine, LOWER, T + 7) == [found(LOWER, "warn")]


def test_by_hand_it_becomes_master_and_waits_all_the_same(impl: Implementation) -> None:
    for vhid in (LOWER, HIGHER):
        machine = machine_in(impl, BACKUP)
        sibling(machine, vhid, NS)
        assert machine.force(MASTER, NS + 5) == [
            SendAdvert(1, 0), Transition(BACKUP, MASTER, Reason.FORCED, None, NS + 5)
        ]  # fmt: skip
        assert machine.withheld
        assert [type(action) for action in sibling(machine, vhid, NS + 600 * MS)] == (
            [SendAdvert] if vhid == LOWER else [Drop, SendAdvert, Transition]
        )


def test_a_backup_with_other_values_still_waits(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS, 20)
    machine.reconfigure(config(advskew=1), 2 * NS)
    assert machine.deadline == 61 * NS


# Several, and none of our business


def test_several_siblings_are_nobodys_to_arbitrate(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    sibling(machine, LOWER, T)
    assert sibling(machine, HIGHER, T + 5) == [found(HIGHER, "several")]
    assert sibling(machine, LOWER, T + 6) == [found(LOWER, "several")]
    assert sibling(machine, 200, T + 7) == [found(200, "several")]
    for second in range(1, 20):
        for vhid in (LOWER, HIGHER, 200):
            assert sibling(machine, vhid, T + second * NS) == []
    assert machine.state is MASTER
    # One of two is left: it is between the two of us again.
    for second in range(20, 24):
        left = sibling(machine, HIGHER, T + second * NS)
    assert machine.state is BACKUP, left


def test_the_second_sibling_gives_a_withheld_master_the_addresses(impl: Implementation) -> None:
    machine = withheld(impl)
    assert sibling(machine, HIGHER, T + 5) == [found(HIGHER, "several"), *TAKEN]
    assert sibling(machine, LOWER, T + 6, 255, 255) == []
    assert sibling(machine, HIGHER, T + 7)[0] == found(HIGHER, "yield")


def test_in_init_nothing_is_heard(impl: Implementation) -> None:
    machine = machine_in(impl, INIT)
    assert sibling(machine, HIGHER, 0) == []
    machine = machine_in(impl, BACKUP)
    sibling(machine, HIGHER, NS)
    machine.link(False, NS + 1)
    assert sibling(machine, HIGHER, NS + 2) == []
    machine.link(True, NS + 3)
    assert machine.timeout(NS + 3 + MD)[1:3] == TAKEN  # what was heard before the link went is no news of now


def test_told_anew_after_a_new_start(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    assert sibling(machine, HIGHER, 1) == [found(HIGHER, "yield")]
    machine.stop(2)
    machine.start(3)
    assert sibling(machine, HIGHER, 4) == [found(HIGHER, "yield")]


@pytest.mark.parametrize("vhid", [101, -1, 256])
def test_what_is_no_sibling(impl: Implementation, vhid: int) -> None:
    machine = machine_in(impl, MASTER)
    with pytest.raises(ValueError, match=str(vhid)):
        machine.sibling(vhid, heard(1, 0), PEER, T)
    with pytest.raises(OverflowError):
        machine.sibling(HIGHER, heard(1, 0), PEER, -1)
    assert machine.state is MASTER


def test_all_vhids_at_once(impl: Implementation) -> None:
    """Each is told of once, and no memory grows."""
    machine = machine_in(impl, MASTER)
    told = [action for vhid in range(1, 256) if vhid != 101 for action in sibling(machine, vhid, T + vhid)]
    assert len([action for action in told if isinstance(action, SiblingFound)]) == 254
    again = [action for vhid in range(2, 256) if vhid != 101 for action in sibling(machine, vhid, T + NS + vhid)]
    assert again == []


@pytest.mark.parametrize("advskew", [0, 1])
def test_a_sibling_in_a_hurry(impl: Implementation, advskew: int) -> None:
    """advbase 0, and advskew 0 that nobody of ours would send: a short time, not none."""
    machine = machine_in(impl, BACKUP)
    sibling(machine, LOWER, MD, 0, advskew)
    machine.timeout(MD)
    assert machine.withheld and machine.deadline == MD + 3 * NS_PER_SKEW


# On a LAN


def check_owners(lan: Lan, since: int, most: int = 1) -> None:
    assert max((count for at, count in lan.owners if at >= since), default=0) <= most, lan.owners


def blog(impl: Implementation, seed: int, delay: int = 50_000, **second: Any) -> Lan:
    """The main host has vhid 101 and the second one 100."""
    lan = Lan(impl, [config(101), config(100, **second)], seed, lambda _: delay)
    lan.start()
    return lan


@pytest.mark.parametrize("delay", [0, 50_000, 1_000_000])
def test_the_two_files_of_the_blog(impl: Implementation, delay: int) -> None:
    for seed in range(20):
        lan = blog(impl, seed, delay)
        main = lan.nodes[0]
        lan.run(4 * NS)
        assert lan.holders == [True, False]
        started = next(at for at, count in lan.owners if count)
        check_owners(lan, started + 2 * delay + 1)
        # The cable is pulled, and the main host sees it.
        lan.carry_out(main, main.machine.link(False, lan.now))
        cut = lan.now
        lan.run(cut + MD + 30 * MS)
        assert lan.holders == [False, True]
        # It is back, and in charge again.
        lan.carry_out(main, main.machine.link(True, lan.now))
        lan.run(lan.now + MD + 30 * MS + 4 * delay)
        assert lan.holders == [True, False]
        assert lan.state == [MASTER, BACKUP]
        back = [at for at, count in lan.owners if at > cut + MD + 30 * MS]
        assert len(back) == 2 and back[1] - back[0] <= 20 * MS
        # In good order.
        stopped = lan.now
        lan.carry_out(main, main.machine.stop(lan.now))
        lan.run(lan.now + 20 * MS)
        assert lan.holders == [False, True]
        check_owners(lan, cut)
        assert lan.owners[-1][0] - stopped <= 10 * MS


def test_a_cut_that_nobody_sees(impl: Implementation) -> None:
    for seed in range(20):
        lan = blog(impl, seed)
        main = lan.nodes[0]
        lan.run(5 * NS)
        lan.cut(main)
        lan.run(10 * NS)
        assert lan.holders == [True, True]
        lan.cut(main, False)
        lan.run(11 * NS + 5 * MS)
        assert lan.holders == [True, False]
        check_owners(lan, 11 * NS + 5 * MS)


def test_three_hosts_in_two_groups(impl: Implementation) -> None:
    for seed in range(20):
        lan = Lan(impl, [config(101), config(101, advskew=100), config(100)], seed, lambda _: 50_000)
        lan.start()
        lan.run(5 * NS)
        assert lan.holders == [True, False, False]
        first, second, _ = lan.nodes
        lan.kill(first)
        lan.run(15 * NS)
        assert lan.holders == [False, True, False]
        lan.carry_out(second, second.machine.stop(lan.now))
        lan.run(16 * NS)
        assert lan.holders == [False, False, True]
        lan.carry_out(second, second.machine.start(lan.now))
        lan.run(25 * NS)
        assert lan.holders == [False, True, False]
        check_owners(lan, 5 * NS)


class Bsd:
    """A machine that takes no notice of siblings."""

    def __init__(self, lan: Lan, number: int) -> None:
        machine = lan.nodes[number].machine
        lan.nodes[number].machine = self  # type: ignore[assignment]
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def sibling(self, vhid: int, advert: Advert, source: str | None, now: int) -> list[Any]:
        return []


@pytest.mark.parametrize("bsd", [0, 1], ids=["the higher is a BSD", "the lower is a BSD"])
def test_beside_a_bsd_nobody_of_us_holds_the_address(impl: Implementation, bsd: int) -> None:
    for seed in range(20):
        lan = blog(impl, seed)
        Bsd(lan, bsd)
        lan.run(12 * NS)
        assert lan.holders == [bsd == 0, bsd == 1]
        check_owners(lan, 8 * NS)
        lan.run(60 * NS)
        check_owners(lan, 8 * NS)
        lan.kill(lan.nodes[bsd])
        lan.run(65 * NS)
        assert lan.holders == [bsd == 1, bsd == 0]


def test_lost_frames_delay_and_do_not_divide(impl: Implementation) -> None:
    """One advert in three is lost, either way: in the end one host holds the address, as soon as the wire is whole."""
    for seed in range(40):
        lan = blog(impl, seed)
        whole = lan.delay
        lan.delay = lambda random: 50_000 if random.random() > 0.33 else 10**18
        lan.run(30 * NS)
        lan.delay = whole
        lan.run(37 * NS)
        assert sum(lan.holders) == 1, (seed, lan.state)
