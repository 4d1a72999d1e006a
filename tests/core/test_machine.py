"""The rows T of docs/protocol.md, which are the ids of their tests, and what else a machine has to do."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.elections import NS, heard

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import (
    NS_PER_SKEW,
    Announce,
    Drop,
    FamilySilent,
    Reason,
    SendAdvert,
    State,
    Suppress,
    Take,
    Transition,
)
from pycarp.protocol.abc import Machine

PEER = "10.13.37.12"
TIE = 20_000_000
TIE_COPIES = 2_000_000
STEP, JITTER = 20_000, 500_000
HEIR, READY = 100_000_000, 20_000_000
ERRORS_FORGOTTEN = 30 * NS
T = 1_000 * NS
INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER


def config(advbase: int = 1, advskew: int = 100, **changes: Any) -> VirtualHost:
    changes = {"addresses": ["10.13.37.42/24"], "passphrase": "motdepassehalakon"} | changes
    return VirtualHost(vhid=101, advbase=advbase, advskew=advskew, **{"passphrase": ""} | changes)


class Draws:
    """An injected `random`: gives what it is told to, and remembers what it was asked."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)
        self.asked: list[int] = []

    def __call__(self, n: int) -> int:
        self.asked.append(n)
        value = self.values.pop(0) if self.values else 0
        assert 0 <= value < n
        return value


def machine_in(
    impl: Implementation, state: State, host: VirtualHost | None = None, draw: Draws | None = None
) -> Machine:
    """A machine brought into a state the ordinary way: BACKUP at 0, MASTER at T."""
    host = config() if host is None else host
    machine = impl.machine.Machine(host, draw or Draws())
    if state is INIT:
        return machine
    if state is BACKUP:
        machine.start(0)
    else:
        machine.start(T - machine.master_down)
        machine.timeout(T)
    assert machine.state is state
    return machine


def snapshot(machine: Machine) -> tuple[Any, ...]:
    return (
        machine.state, machine.deadline, machine.demotion, machine.advskew, machine.interval, machine.master_down,
        machine.config,
    )  # fmt: skip


def became_master(
    reason: Reason, at: int, peer: str | None = None, advbase: int = 1, advskew: int = 100
) -> list[object]:
    return [SendAdvert(advbase, advskew), Announce(), Take(), Transition(BACKUP, MASTER, reason, peer, at)]


MD = 3 * NS + 100 * NS_PER_SKEW
INTERVAL = NS + 100 * NS_PER_SKEW


# The rows that no parametrised test below has: the state; what comes before; what happens; the actions, of which a
# transition tells the next state; the next deadline

Step = Callable[[Machine], list[Any]]


def failures(count: int) -> list[Step]:
    return [lambda m: m.sent(False, T)] * count


def change(before: State, after: State, reason: Reason, at: int, peer: str | None = None) -> Transition:
    return Transition(before, after, reason, peer, at)


TAKEN = [Announce(), Take()]
BOWED_OUT = SendAdvert(255, 255)
IPV4, IPV6 = heard(1, 0), heard(1, 0, family=6)
NO_ADDRESS = config(addresses=[])
ROWS: list[Any] = [
    pytest.param(INIT, [], lambda m: m.start(T), [change(INIT, BACKUP, Reason.STARTED, T)], T + MD, id="T1"),
    pytest.param(
        BACKUP, [lambda m: m.receive(heard(255, 255), PEER, 0)], lambda m: m.timeout(100 * STEP),
        became_master(Reason.BOWOUT, 100 * STEP, PEER), 100 * STEP + INTERVAL, id="T5",
    ),
    pytest.param(BACKUP, [], lambda m: m.timeout(MD), became_master(Reason.MASTER_DOWN, MD), MD + INTERVAL, id="T6"),
    pytest.param(
        BACKUP, [lambda m: m.receive(IPV6, PEER, 0), lambda m: m.receive(IPV4, PEER, 1000), lambda m: m.timeout(MD)],
        lambda m: m.receive(IPV4, PEER, MD), [FamilySilent(6)], 2 * MD, id="T7",
    ),
    pytest.param(BACKUP, [lambda m: m.delay_takeover(MD)], lambda m: m.timeout(MD), [], MD + INTERVAL, id="T8"),
    pytest.param(
        MASTER, [], lambda m: m.receive(heard(1, 100), PEER, T + TIE),
        [Drop(), change(MASTER, BACKUP, Reason.TIE, T + TIE, PEER)], T + TIE + TIE_COPIES, id="T11",
    ),
    pytest.param(
        MASTER, [], lambda m: m.timeout(T + INTERVAL), [SendAdvert(1, 100)], T + 2 * INTERVAL, id="T13"
    ),
    pytest.param(
        MASTER, [], lambda m: m.retire(Reason.STALLED, False, T),
        [Drop(), change(MASTER, BACKUP, Reason.STALLED, T)], T + MD, id="T14 no bow-out",
    ),
    pytest.param(
        MASTER, [], lambda m: m.retire(Reason.HANDED_OVER, True, T),
        [Drop(), BOWED_OUT, change(MASTER, BACKUP, Reason.HANDED_OVER, T)], T + MD, id="T14 bow-out",
    ),
    pytest.param(
        MASTER, [lambda m: m.retire(Reason.HANDED_OVER, True, T)], lambda m: m.receive(heard(200, 0), PEER, T + NS), [],
        T + NS + MD, id="T26",
    ),
    pytest.param(
        BACKUP, [lambda m: m.stand_aside(True)], lambda m: m.receive(heard(200, 0), PEER, NS), [], NS + MD,
        id="T26 aside",
    ),
    pytest.param(MASTER, [], lambda m: m.leave(T), [BOWED_OUT], T + HEIR, id="T27"),
    pytest.param(
        MASTER, [lambda m: m.leave(T)], lambda m: m.receive(heard(200, 0), PEER, T + 5),
        [Drop(), change(MASTER, BACKUP, Reason.HANDED_OVER, T + 5, PEER)], T + 5 + MD, id="T28",
    ),
    pytest.param(
        MASTER, [lambda m: m.leave(T), lambda m: m.heir(4, PEER, T + 5)], lambda m: m.timeout(T + 5 + READY),
        [Drop(), change(MASTER, BACKUP, Reason.HANDED_OVER, T + 5 + READY, PEER)], T + 5 + READY + MD, id="T28 late",
    ),
    pytest.param(
        MASTER, [lambda m: m.leave(T)], lambda m: m.timeout(T + HEIR), [SendAdvert(1, 100), Announce()],
        T + HEIR + INTERVAL, id="T29",
    ),
    pytest.param(
        MASTER, [], lambda m: m.stop(T), [Drop(), BOWED_OUT, change(MASTER, INIT, Reason.STOPPED, T)], None, id="T15"
    ),
    pytest.param(
        MASTER, [], lambda m: m.reconfigure(NO_ADDRESS, T),
        [Drop(), BOWED_OUT, change(MASTER, INIT, Reason.STOPPED, T)], None, id="T15 no address",
    ),
    pytest.param(BACKUP, [], lambda m: m.stop(T), [change(BACKUP, INIT, Reason.STOPPED, T)], None, id="T16"),
    pytest.param(
        BACKUP, [], lambda m: m.reconfigure(NO_ADDRESS, T), [change(BACKUP, INIT, Reason.STOPPED, T)], None,
        id="T16 no address",
    ),
    pytest.param(INIT, [lambda m: m.link(False, 0)], lambda m: m.start(T), [Suppress(1)], None, id="T17 INIT"),
    pytest.param(
        BACKUP, [], lambda m: m.link(False, T), [change(BACKUP, INIT, Reason.LINK_DOWN, T), Suppress(1)], None,
        id="T17 BACKUP",
    ),
    pytest.param(
        MASTER, [], lambda m: m.link(False, T),
        [Drop(), change(MASTER, INIT, Reason.LINK_DOWN, T), Suppress(1)], None, id="T17 MASTER",
    ),
    pytest.param(
        BACKUP, [lambda m: m.link(False, 1)], lambda m: m.link(True, T),
        [Suppress(-1), change(INIT, BACKUP, Reason.LINK_UP, T)], T + MD, id="T18",
    ),
    pytest.param(
        BACKUP, [], lambda m: m.force(MASTER, T), became_master(Reason.FORCED, T), T + INTERVAL, id="T19"
    ),
    pytest.param(
        MASTER, [], lambda m: m.force(BACKUP, T), [Drop(), change(MASTER, BACKUP, Reason.FORCED, T)], T + MD, id="T20"
    ),
    pytest.param(
        MASTER, [], lambda m: m.reconfigure(config(2, 0), T), [SendAdvert(2, 0), *TAKEN], T + 2 * NS, id="T21"
    ),
    pytest.param(BACKUP, [], lambda m: m.reconfigure(config(2, 0), T), [], T + 6 * NS, id="T22"),
    pytest.param(
        MASTER, [], lambda m: m.demote(1, T), [SendAdvert(1, 240)], T + NS + 240 * NS_PER_SKEW, id="T23"
    ),
    pytest.param(
        MASTER, failures(2), lambda m: m.sent(False, T), [Suppress(1), SendAdvert(1, 240)],
        T + NS + 240 * NS_PER_SKEW, id="T24",
    ),
    pytest.param(
        MASTER, [*failures(3), *[lambda m: m.sent(True, T)] * 2], lambda m: m.sent(True, T), [Suppress(-1)],
        T + NS + 240 * NS_PER_SKEW, id="T25",
    ),
    pytest.param(
        BACKUP, [*failures(3), lambda m: m.receive(IPV4, PEER, T + 29 * NS)],
        lambda m: m.timeout(T + ERRORS_FORGOTTEN), [Suppress(-1)], T + 29 * NS + MD, id="T25 BACKUP",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("state", "before", "step", "actions", "deadline"), ROWS)
def test_row(
    impl: Implementation, state: State, before: list[Step], step: Step, actions: list[Any], deadline: int | None
) -> None:
    machine = machine_in(impl, state)
    for each in before:
        each(machine)
    state = machine.state
    assert step(machine) == actions
    changes = [action for action in actions if isinstance(action, Transition)]
    assert (machine.state, machine.deadline) == (changes[0].after if changes else state, deadline)


# Start and stop


def test_before_the_start(impl: Implementation) -> None:
    machine = machine_in(impl, INIT)
    assert snapshot(machine) == (INIT, None, 0, 100, INTERVAL, MD, config())
    assert machine.timeout(10**18) == []
    assert machine.receive(heard(1, 0), PEER, 5) == []
    assert machine.stop(5) == []
    assert snapshot(machine) == (INIT, None, 0, 100, INTERVAL, MD, config())


@pytest.mark.parametrize("jitter", [0, 1, 7_654_321, TIE])
def test_start_arms_master_down_up_to_20_ms_late(impl: Implementation, jitter: int) -> None:
    draw = Draws(jitter)
    machine = impl.machine.Machine(config(), draw)
    assert machine.start(1000) == [Transition(INIT, BACKUP, Reason.STARTED, None, 1000)]
    assert draw.asked == [TIE + 1]
    assert (machine.state, machine.deadline) == (BACKUP, 1000 + MD + jitter)
    before = snapshot(machine)
    assert machine.start(2000) == []  # started is started
    assert snapshot(machine) == before


def test_without_an_injected_random_it_draws_its_own(impl: Implementation) -> None:
    deadlines = set()
    for _ in range(50):
        machine = impl.machine.Machine(config())
        machine.start(0)
        assert machine.deadline is not None
        deadlines.add(machine.deadline - MD)
    assert len(deadlines) > 40
    assert all(0 <= late <= TIE for late in deadlines)


@pytest.mark.parametrize("host", [config(addresses=[]), config(up=False)], ids=["no address", "down"])
def test_start_without_what_it_needs(impl: Implementation, host: VirtualHost) -> None:
    machine = impl.machine.Machine(host, Draws())
    assert machine.start(0) == []
    assert (machine.state, machine.deadline) == (INIT, None)
    # What is missing comes later.
    assert machine.reconfigure(config(), 7) == [Transition(INIT, BACKUP, Reason.STARTED, None, 7)]
    assert machine.deadline == 7 + MD


def test_stop(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    assert machine.stop(T + 50) == [
        Drop(),
        SendAdvert(255, 255),
        Transition(MASTER, INIT, Reason.STOPPED, None, T + 50),
    ]
    assert (machine.state, machine.deadline) == (INIT, None)
    assert machine.stop(T + 60) == []
    assert machine.timeout(10**18) == []
    assert machine.start(T + 70) == [Transition(INIT, BACKUP, Reason.STARTED, None, T + 70)]
    assert machine.stop(T + 80) == [
        Transition(BACKUP, INIT, Reason.STOPPED, None, T + 80)
    ]  # a BACKUP has nobody to tell
    assert machine.deadline is None


# BACKUP


def test_master_down_expires_on_the_nanosecond(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    for early in (1, MD - 1):
        before = snapshot(machine)
        assert machine.timeout(early) == []
        assert snapshot(machine) == before
    assert machine.timeout(MD) == became_master(Reason.MASTER_DOWN, MD)
    assert machine.deadline == MD + INTERVAL


# own, its preempt, the advert; whether the BACKUP takes over and why (None: it stays down)
BACKUP_HEARS = [
    pytest.param((1, 100), False, (1, 0), None, id="T4 better"),
    pytest.param((1, 100), True, (1, 0), None, id="T4 better, preempt"),
    pytest.param((1, 100), False, (1, 100), None, id="T4 equal"),
    pytest.param((1, 100), True, (1, 100), None, id="T4 equal, preempt: strictly"),
    pytest.param((1, 100), False, (1, 101), None, id="T4 slower by one"),
    pytest.param((1, 100), True, (1, 101), Reason.PREEMPT, id="T2 slower by one, preempt"),
    pytest.param((1, 100), True, (0, 255), None, id="T4 0/255, preempt"),
    pytest.param((1, 100), False, (3, 99), None, id="T4 just below master-down"),
    pytest.param((1, 100), False, (3, 100), None, id="T4 as long as master-down"),
    pytest.param((1, 100), False, (3, 101), Reason.TOO_SLOW, id="T3 longer than master-down by one"),
    pytest.param((1, 100), False, (4, 0), Reason.TOO_SLOW, id="T3 too slow"),
    pytest.param((1, 100), True, (4, 0), Reason.PREEMPT, id="T2 too slow, preempt"),
    pytest.param((1, 100), False, (255, 254), Reason.TOO_SLOW, id="T3 nearly a bow-out"),
    pytest.param((1, 100), False, (255, 255), Reason.BOWOUT, id="T3 bow-out"),
    pytest.param((1, 100), True, (255, 255), Reason.BOWOUT, id="T2 bow-out, preempt"),
    pytest.param((85, 254), False, (255, 255), Reason.BOWOUT, id="T3 bow-out, advbase 85"),
    pytest.param((86, 0), False, (255, 255), None, id="T4 bow-out, advbase 86"),
    pytest.param((254, 254), False, (255, 255), None, id="T4 bow-out, advbase 254"),
    pytest.param((86, 0), True, (255, 255), Reason.BOWOUT, id="T2 bow-out, advbase 86, preempt"),
    pytest.param((254, 254), True, (255, 255), Reason.BOWOUT, id="T2 bow-out, advbase 254, preempt"),
    pytest.param((0, 100), False, (0, 100), None, id="T4 advbase 0: equal"),
    pytest.param((0, 100), False, (1, 44), None, id="T4 advbase 0: as long as 300/256"),
    pytest.param((0, 100), False, (1, 45), Reason.TOO_SLOW, id="T3 advbase 0: longer than 300/256"),
    pytest.param((0, 1), False, (0, 4), Reason.TOO_SLOW, id="T3 advbase 0, advskew 1"),
    pytest.param((0, 254), False, (255, 255), Reason.BOWOUT, id="T3 advbase 0: bow-out"),
    pytest.param((1, 100), False, (0, 0), None, id="T4 advbase 0 and advskew 0 from a peer"),
]


@pytest.mark.parametrize(("own", "preempt", "advert", "reason"), BACKUP_HEARS)
@pytest.mark.parametrize("family", [4, 6])
def test_backup_hears(
    impl: Implementation,
    own: tuple[int, int],
    preempt: bool,
    advert: tuple[int, int],
    reason: Reason | None,
    family: int,
) -> None:
    advbase, advskew = own
    draw = Draws(0, 123_456)
    machine = machine_in(impl, BACKUP, config(advbase, advskew, preempt=preempt), draw=draw)
    assert machine.receive(heard(*advert, family=family), PEER, 1000) == []
    assert machine.state is BACKUP
    if reason is None:
        assert draw.asked == [TIE + 1]  # that of the start
        assert machine.deadline == 1000 + machine.master_down
        return
    assert draw.asked == [TIE + 1, JITTER + 1]
    wait = min(1000 + advskew * STEP + 123_456, machine.master_down)
    assert machine.deadline == wait
    assert machine.timeout(wait - 1) == []
    if wait < machine.master_down:
        assert machine.timeout(wait) == became_master(reason, wait, PEER, advbase, advskew)


def test_short_wait_grows_with_advskew(impl: Implementation) -> None:
    for advskew in (0, 1, 50, 254):
        for jitter in (0, JITTER):
            machine = machine_in(impl, BACKUP, config(1, advskew), draw=Draws(0, jitter))
            machine.receive(heard(255, 255), PEER, 0)
            assert machine.deadline == advskew * STEP + jitter


def test_short_wait_is_cancelled_by_a_master(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(255, 255), PEER, 0)
    assert machine.receive(heard(1, 50), "10.13.37.13", 400) == []
    assert machine.deadline == 400 + MD
    assert machine.timeout(MD) == []


def test_short_wait_is_not_prolonged(impl: Implementation) -> None:
    """A bow-out comes once for each family and each key; the first one counts, and its sender."""
    draw = Draws(0, 300_000, 400_000)
    machine = machine_in(impl, BACKUP, draw=draw)
    machine.receive(heard(255, 255), "10.13.37.13", 0)
    machine.receive(heard(255, 255, family=6), "fe80::13", 5)
    machine.receive(heard(4, 0), PEER, 6)
    due = 100 * STEP + 300_000
    assert machine.deadline == due
    assert machine.timeout(due)[-1] == Transition(BACKUP, MASTER, Reason.BOWOUT, "10.13.37.13", due)


def test_master_down_within_the_short_wait(impl: Implementation) -> None:
    """The wait never delays what silence alone would bring."""
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(255, 255), PEER, MD - 1000)
    assert machine.deadline == MD
    assert machine.timeout(MD) == became_master(Reason.MASTER_DOWN, MD)


def test_replays_hold_it_down(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    advert = heard(1, 0)
    for number in range(1, 6):
        assert machine.receive(advert, PEER, number * 2 * NS) == []
        assert machine.deadline == number * 2 * NS + MD


# MASTER


MASTER_HEARS = [
    pytest.param((1, 100), (1, 99), Reason.BETTER, id="T9 better by one"),
    pytest.param((1, 100), (0, 255), Reason.BETTER, id="T9 0/255"),
    pytest.param((1, 100), (0, 0), Reason.BETTER, id="T9 0/0"),
    pytest.param((1, 100), (1, 100), Reason.TIE, id="T10 equal: ties yield"),
    pytest.param((1, 100), (1, 101), None, id="T12 worse by one"),
    pytest.param((1, 100), (2, 0), None, id="T12 slower"),
    pytest.param((1, 100), (255, 255), None, id="T12 bow-out"),
    pytest.param((254, 254), (255, 255), None, id="T12 bow-out to the slowest"),
    pytest.param((254, 254), (254, 254), Reason.TIE, id="T10 equal, slowest"),
    pytest.param((0, 1), (0, 0), Reason.BETTER, id="T9 advbase 0, better"),
    pytest.param((0, 1), (0, 1), Reason.TIE, id="T10 advbase 0, equal"),
]


@pytest.mark.parametrize(("own", "advert", "reason"), MASTER_HEARS)
@pytest.mark.parametrize("preempt", [False, True], ids=["", "preempt"])
@pytest.mark.parametrize("family", [4, 6])
def test_master_hears(
    impl: Implementation,
    own: tuple[int, int],
    preempt: bool,
    advert: tuple[int, int],
    reason: Reason | None,
    family: int,
) -> None:
    draw = Draws(0, 11_111_111)
    machine = machine_in(impl, MASTER, config(*own, preempt=preempt), draw=draw)
    before = snapshot(machine)
    # Long after it became MASTER, and before its next advert.
    at = T + machine.interval - 1
    actions = machine.receive(heard(*advert, family=family), PEER, at)
    if reason is None:
        assert actions == [] and snapshot(machine) == before and len(draw.asked) == 1
        return
    assert actions == [Drop(), Transition(MASTER, BACKUP, reason, PEER, at)]
    extra = 11_111_111 if reason is Reason.TIE else 0
    assert draw.asked == [TIE + 1] * (2 if extra else 1)
    assert machine.deadline == at + machine.master_down + extra


def test_adverts_at_every_interval(impl: Implementation) -> None:
    """The schedule is absolute: late wake-ups do not add up, and what was missed altogether is not made up for."""
    machine = machine_in(impl, MASTER)
    for number in range(1, 50):
        assert machine.deadline == T + number * INTERVAL
        assert machine.timeout(T + number * INTERVAL - 1) == []
        assert machine.timeout(T + number * INTERVAL + number * 1000) == [SendAdvert(1, 100)]
    late = T + 60 * INTERVAL + 5
    assert machine.timeout(late) == [SendAdvert(1, 100)]
    assert machine.deadline == late + INTERVAL


@pytest.mark.parametrize("state", [BACKUP, MASTER], ids=lambda state: state.name)
def test_link_goes_and_comes(impl: Implementation, state: State) -> None:
    machine = machine_in(impl, state, draw=Draws(0, 4_000_000))
    before = state is MASTER
    actions: list[object] = [Drop()] * before
    assert machine.link(False, T + 10) == [
        *actions,
        Transition(state, INIT, Reason.LINK_DOWN, None, T + 10),
        Suppress(1),
    ]
    assert (machine.state, machine.deadline, machine.demotion) == (INIT, None, 1)
    assert machine.link(False, T + 20) == []
    assert machine.receive(heard(255, 255), PEER, T + 25) == []
    assert machine.force(MASTER, T + 26) == []
    assert machine.timeout(10**15) == []
    assert machine.link(True, T + 30) == [Suppress(-1), Transition(INIT, BACKUP, Reason.LINK_UP, None, T + 30)]
    assert (machine.state, machine.deadline, machine.demotion) == (BACKUP, T + 30 + MD + 4_000_000, 0)
    assert machine.link(True, T + 40) == []


def test_started_without_link(impl: Implementation) -> None:
    machine = machine_in(impl, INIT)
    assert machine.link(False, 0) == []  # nobody's business before the start
    assert machine.demotion == 0
    assert machine.start(1) == [Suppress(1)]
    assert (machine.state, machine.deadline, machine.demotion) == (INIT, None, 1)
    assert machine.link(True, 2) == [Suppress(-1), Transition(INIT, BACKUP, Reason.LINK_UP, None, 2)]


def test_stopped_without_link(impl: Implementation) -> None:
    """Who is administratively down demotes nobody; the link's coming back starts nothing."""
    machine = machine_in(impl, MASTER)
    machine.link(False, T)
    assert machine.stop(T + 1) == [Suppress(-1)]
    assert machine.demotion == 0
    assert machine.link(True, T + 2) == []
    assert machine.state is INIT
    assert machine.start(T + 3) == [Transition(INIT, BACKUP, Reason.STARTED, None, T + 3)]


# Demotion


def test_demotion_is_advertised_at_once(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    assert machine.demote(1, T + 1000) == [SendAdvert(1, 240)]
    assert (machine.advskew, machine.interval, machine.master_down) == (240, NS + 240 * NS_PER_SKEW, MD)
    assert machine.deadline == T + 1000 + NS + 240 * NS_PER_SKEW
    assert machine.demote(1, T + 2000) == []  # hundreds may rise together: not before half an interval has passed
    assert machine.demote(1, T + 2000 + NS) == [SendAdvert(1, 240)]
    assert machine.demote(-1, T + 2500) == []
    assert machine.sent_demotion == machine.demotion == 2
    assert machine.demote(-1, T + 3000) == [] and machine.demotion == 1
    due = machine.deadline
    assert machine.demote(-1, T + 4000) == []
    assert (machine.demotion, machine.advskew, machine.deadline) == (0, 100, due)
    assert due is not None and machine.timeout(due) == [SendAdvert(1, 100)]
    assert machine.deadline == due + INTERVAL


def test_demotion_does_not_fall_below_zero(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    assert machine.demote(-5, 0) == []
    assert machine.demotion == 0
    assert machine.demote(3, 0) == []  # a BACKUP has nothing to say
    assert machine.demotion == 3
    assert machine.demote(-7, 0) == [] and machine.demotion == 0


def test_demotion_never_makes_more_eager(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP, config(1, 250))
    machine.demote(1, 0)
    assert machine.advskew == 250


def test_demoted_it_compares_with_240(impl: Implementation) -> None:
    for advert, state in (((1, 239), BACKUP), ((1, 240), BACKUP), ((1, 241), MASTER)):
        machine = machine_in(impl, MASTER)
        machine.demote(1, T)
        machine.receive(heard(*advert), PEER, T + 1000)
        assert machine.state is state, advert
    machine = machine_in(impl, BACKUP, config(preempt=True))
    machine.demote(1, 0)
    machine.receive(heard(1, 239), PEER, 5)
    assert machine.deadline == 5 + MD  # master-down is of one's own configured values
    machine.receive(heard(1, 241), PEER, 6)
    assert machine.deadline == 6 + 240 * STEP


def test_three_send_errors_and_three_successes(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    assert machine.sent(False, T + 1) == machine.sent(False, T + 2) == []
    assert machine.sent(True, T + 3) == []  # in a row
    assert machine.sent(False, T + 4) == machine.sent(False, T + 5) == []
    assert machine.sent(False, T + 6) == [Suppress(1), SendAdvert(1, 240)]
    assert machine.demotion == 1
    for now in range(7, 20):
        assert machine.sent(False, T + now) == []  # once
    assert machine.sent(True, T + 21) == machine.sent(True, T + 22) == []
    assert machine.sent(False, T + 23) == []
    assert machine.sent(True, T + 24) == machine.sent(True, T + 25) == []
    assert machine.demotion == 1
    assert machine.sent(True, T + 26) == [Suppress(-1)]
    assert machine.demotion == 0
    assert machine.sent(True, T + 27) == []
    # And over again.
    assert machine.sent(False, T + 28) == machine.sent(False, T + 29) == []
    assert machine.sent(False, T + 30) == [Suppress(1), SendAdvert(1, 240)]


def trouble(machine: Machine, now: int) -> None:
    for _ in range(3):
        machine.sent(False, now)
    assert machine.demotion == 1


def test_send_errors_of_a_backup_are_forgotten_after_a_time(impl: Implementation) -> None:
    """Pushed to BACKUP it sends nothing that could succeed: time is the way out."""
    machine = machine_in(impl, MASTER)
    trouble(machine, T)
    machine.receive(heard(1, 0), PEER, T + 1000)
    assert machine.state is BACKUP and machine.demotion == 1
    for second in range(1, 30):
        machine.receive(heard(1, 0), PEER, T + second * NS)
        assert machine.timeout(T + second * NS) == []
    assert machine.deadline == T + 1000 + ERRORS_FORGOTTEN
    assert machine.timeout(T + 1000 + ERRORS_FORGOTTEN) == [Suppress(-1)]
    assert machine.demotion == 0
    assert machine.deadline == T + 29 * NS + MD


def test_send_errors_across_a_link_failure_are_forgotten_after_a_time(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    trouble(machine, T)
    machine.link(False, T + 1000)
    assert machine.demotion == 2
    machine.link(True, T + 2000)
    assert machine.state is BACKUP and machine.demotion == 1
    for second in range(1, 31):
        machine.receive(heard(1, 0), PEER, T + second * NS)
    assert machine.timeout(T + 2000 + ERRORS_FORGOTTEN) == [Suppress(-1)]
    assert machine.demotion == 0


def test_send_errors_of_a_backup_that_becomes_master(impl: Implementation) -> None:
    """As MASTER it sends again: only successes count then."""
    machine = machine_in(impl, MASTER)
    trouble(machine, T)
    machine.receive(heard(1, 0), PEER, T)
    machine.timeout(T + MD)
    assert machine.state is MASTER and machine.demotion == 1
    assert SendAdvert(1, 240) in machine.timeout(T + 2 * ERRORS_FORGOTTEN)
    assert machine.demotion == 1
    assert machine.sent(True, T + 2 * ERRORS_FORGOTTEN) == machine.sent(True, T + 2 * ERRORS_FORGOTTEN) == []
    assert machine.sent(True, T + 2 * ERRORS_FORGOTTEN) == [Suppress(-1)]


def test_stopping_ends_what_demoted_the_others(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    trouble(machine, T)
    assert machine.stop(T + 5)[-1] == Suppress(-1)
    assert machine.demotion == 0
    # What its owner demoted stays demoted.
    machine.demote(2, T + 6)
    machine.start(T + 7)
    machine.stop(T + 8)
    assert machine.demotion == 2


# By hand


def test_force(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    assert machine.force(BACKUP, 5) == [] and machine.deadline == MD
    assert machine.force(MASTER, 10) == became_master(Reason.FORCED, 10)
    assert machine.deadline == 10 + INTERVAL
    assert machine.force(MASTER, 11) == [] and machine.deadline == 10 + INTERVAL
    assert machine.force(BACKUP, 20) == [Drop(), Transition(MASTER, BACKUP, Reason.FORCED, None, 20)]
    assert machine.deadline == 20 + MD
    assert machine.force(INIT, 30) == [] and machine.state is BACKUP


def test_force_in_init_changes_nothing(impl: Implementation) -> None:
    machine = machine_in(impl, INIT)
    for state in State:
        assert machine.force(state, 0) == []
    assert (machine.state, machine.deadline) == (INIT, None)


@pytest.mark.parametrize("state", [-1, 3, "MASTER", None])
def test_force_to_what_is_no_state(impl: Implementation, state: Any) -> None:
    machine = machine_in(impl, BACKUP)
    before = snapshot(machine)
    with pytest.raises(ValueError):
        machine.force(state, 0)
    assert snapshot(machine) == before


# Letting go, for whatever reason


@pytest.mark.parametrize("bowout", [False, True])
@pytest.mark.parametrize("reason", [Reason.STALLED, Reason.WATCHDOG, Reason.HANDED_OVER])
def test_a_master_retires(impl: Implementation, reason: Reason, bowout: bool) -> None:
    machine = machine_in(impl, MASTER)
    bowed_out: list[object] = [SendAdvert(255, 255)] * bowout
    assert machine.retire(reason, bowout, T + 9) == [
        Drop(), *bowed_out, Transition(MASTER, BACKUP, reason, None, T + 9)
    ]  # fmt: skip
    assert (machine.state, machine.deadline) == (BACKUP, T + 9 + MD)
    # It stands by like any other.
    assert machine.retire(reason, bowout, T + 10) == []
    machine.receive(heard(255, 255), PEER, T + 11)
    assert machine.deadline == T + 11 + 100 * STEP


@pytest.mark.parametrize("state", [INIT, BACKUP], ids=lambda state: state.name)
def test_who_is_not_master_does_not_retire(impl: Implementation, state: State) -> None:
    machine = machine_in(impl, state)
    before = snapshot(machine)
    assert machine.retire(Reason.STALLED, True, 7) == []
    assert snapshot(machine) == before


def test_who_has_handed_over_takes_nothing_back_from_a_living_master(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER, config(preempt=True, advskew=0))
    machine.retire(Reason.HANDED_OVER, True, T)
    for second in (1, 2, 3):
        assert machine.receive(heard(2, 254), PEER, T + second * NS) == []
        assert machine.deadline == T + second * NS + machine.master_down
    # Slower than master-down, but no bow-out.
    machine.receive(heard(200, 0), PEER, T + 4 * NS)
    assert machine.deadline == T + 4 * NS + machine.master_down
    # Silence makes it MASTER; from then on all is as ever.
    machine.timeout(T + 4 * NS + machine.master_down)
    assert machine.state is MASTER
    machine.retire(Reason.STALLED, False, T + 9 * NS)
    machine.receive(heard(2, 254), PEER, T + 10 * NS)
    assert machine.deadline == T + 10 * NS


@pytest.mark.parametrize("end", ["bow-out", "restart"])
def test_standing_back_ends(impl: Implementation, end: str) -> None:
    machine = machine_in(impl, MASTER, config(preempt=True, advskew=0))
    machine.retire(Reason.HANDED_OVER, True, T)
    if end == "restart":
        machine.stop(T + 1)
        machine.start(T + 2)
    machine.receive(heard(255, 255) if end == "bow-out" else heard(2, 0), PEER, T + 3)
    assert machine.deadline == T + 3


def test_retiring_in_trouble_waits_for_better_times(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    trouble(machine, T)
    machine.retire(Reason.HANDED_OVER, True, T)
    for second in range(1, 31):
        machine.receive(heard(1, 0), PEER, T + second * NS)
    assert machine.timeout(T + ERRORS_FORGOTTEN) == [Suppress(-1)]


# Silence that may be one's own deafness


def test_a_takeover_for_silence_is_delayed(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    assert not machine.overdue(MD - 1) and machine.overdue(MD)
    machine.delay_takeover(MD - 1)
    assert machine.deadline == MD  # nothing was overdue
    machine.delay_takeover(MD + 5)
    assert machine.deadline == MD + 5 + INTERVAL
    assert machine.timeout(MD + 5) == [] and not machine.overdue(MD + 5)
    # Not for ever: how often is the caller's to know.
    assert machine.timeout(MD + 5 + INTERVAL) == became_master(Reason.MASTER_DOWN, MD + 5 + INTERVAL)
    assert not machine.overdue(10 * MD)


def test_families_are_delayed_together(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 0)
    machine.receive(heard(1, 0, family=4), PEER, 5000)
    assert not machine.overdue(MD + 4999) and machine.overdue(MD + 5000)
    machine.delay_takeover(MD + 5000)
    assert machine.deadline == MD + 5000 + INTERVAL
    # Heard after all: no family is missed, and nobody takes over.
    assert machine.receive(heard(1, 0, family=4), PEER, MD + 6000) == []
    assert machine.timeout(MD + 5000 + INTERVAL) == [] and machine.state is BACKUP


def test_a_bowout_is_no_silence(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(255, 255), PEER, MD - 100 * STEP)
    assert machine.deadline == MD
    assert not machine.overdue(MD)
    machine.delay_takeover(MD)
    assert machine.timeout(MD) == became_master(Reason.BOWOUT, MD, PEER)


@pytest.mark.parametrize("state", [INIT, MASTER], ids=lambda state: state.name)
def test_only_a_backup_waits_for_silence(impl: Implementation, state: State) -> None:
    machine = machine_in(impl, state)
    before = snapshot(machine)
    assert not machine.overdue(10 * T)
    machine.delay_takeover(10 * T)
    assert snapshot(machine) == before


# Other values while it runs


def test_reconfigure_a_master(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    new = config(2, 7, addresses=["10.13.37.42/24", "10.13.37.43/24"])
    assert machine.reconfigure(new, T + 500) == [SendAdvert(2, 7), Announce(), Take()]
    assert machine.config == new and machine.state is MASTER
    assert machine.deadline == T + 500 + 2 * NS + 7 * NS_PER_SKEW


def test_reconfigure_a_backup(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0), PEER, 0)
    machine.receive(heard(1, 0, family=6), PEER, 0)
    assert machine.reconfigure(config(2, 7), 500) == []
    assert machine.state is BACKUP and machine.deadline == 500 + 6 * NS + 7 * NS_PER_SKEW


@pytest.mark.parametrize("host", [config(addresses=[]), config(up=False)], ids=["no address", "down"])
def test_reconfigure_to_nothing_to_run(impl: Implementation, host: VirtualHost) -> None:
    machine = machine_in(impl, MASTER)
    assert machine.reconfigure(host, T + 9) == [
        Drop(), SendAdvert(255, 255), Transition(MASTER, INIT, Reason.STOPPED, None, T + 9)
    ]  # fmt: skip
    assert machine.deadline is None
    assert machine.reconfigure(config(), T + 10) == [Transition(INIT, BACKUP, Reason.STARTED, None, T + 10)]


def test_reconfigure_before_the_start_and_without_link(impl: Implementation) -> None:
    machine = machine_in(impl, INIT)
    assert machine.reconfigure(config(2), 0) == []
    machine.link(False, 0)
    machine.start(0)
    assert machine.reconfigure(config(3), 0) == []
    assert machine.state is INIT and machine.config == config(3)


def test_reconfigure_to_another_vhid(impl: Implementation) -> None:
    machine = machine_in(impl, MASTER)
    before = snapshot(machine)
    with pytest.raises(ValueError, match="102"):
        machine.reconfigure(dataclasses.replace(config(), vhid=102), T + 5)
    assert snapshot(machine) == before


# advbase 0


@pytest.mark.parametrize("advskew", [1, 100, 254])
def test_advbase_zero(impl: Implementation, advskew: int) -> None:
    """OpenBSD's: failover in a fraction of a second."""
    machine = machine_in(impl, BACKUP, config(0, advskew))
    assert machine.master_down == 3 * advskew * NS_PER_SKEW == machine.deadline
    assert machine.interval == advskew * NS_PER_SKEW
    machine.timeout(machine.master_down)
    assert machine.deadline == machine.master_down + advskew * NS_PER_SKEW


# Families


def test_a_family_that_was_never_heard_does_not_matter(impl: Implementation) -> None:
    """NetBSD sends no IPv6 adverts: a host with both families must not take over for that."""
    machine = machine_in(impl, BACKUP, config(addresses=["10.13.37.42/24", "2001:db8::42/64"]))
    for second in range(60):
        assert machine.receive(heard(1, 0), PEER, second * NS) == []
        assert machine.timeout(second * NS) == []
        assert machine.deadline == second * NS + MD


def test_silence_in_one_family_is_an_event(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 0)
    for second in range(10):
        assert machine.timeout(second * NS) == []
        # IPv6 was due at MD, between the 3rd and the 4th second; IPv4 was heard after that.
        expected = [FamilySilent(6)] if second == 4 else []
        assert machine.receive(heard(1, 0, family=4), PEER, second * NS) == expected
        assert machine.state is BACKUP
    # Heard again and silent again: told again.
    assert machine.receive(heard(1, 0, family=6), "fe80::12", 10 * NS) == []
    for second in range(10, 20):
        assert machine.timeout(second * NS) == []
        expected = [FamilySilent(6)] if second == 14 else []
        assert machine.receive(heard(1, 0, family=4), PEER, second * NS) == expected


def test_silence_in_both_families_is_a_takeover(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 0)
    machine.receive(heard(1, 0, family=4), PEER, 5000)
    assert machine.deadline == MD
    assert machine.timeout(MD) == []
    assert machine.deadline == MD + 5000
    assert machine.timeout(MD + 5000) == became_master(Reason.MASTER_DOWN, MD + 5000)


def test_silence_in_both_families_seen_late(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 0)
    machine.receive(heard(1, 0, family=4), PEER, 5000)
    assert machine.timeout(MD + 10_000) == became_master(Reason.MASTER_DOWN, MD + 10_000)


def test_only_ipv6_is_heard(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 1 * NS)
    assert machine.timeout(MD) == []  # the timer of a host without a master stopped with the first advert
    assert machine.timeout(NS + MD) == became_master(Reason.MASTER_DOWN, NS + MD)


def test_families_are_forgotten_with_the_master(impl: Implementation) -> None:
    machine = machine_in(impl, BACKUP)
    machine.receive(heard(1, 0, family=6), "fe80::12", 0)
    machine.receive(heard(1, 0, family=4), PEER, 0)
    machine.timeout(MD)
    assert machine.state is MASTER
    machine.receive(heard(1, 0, family=4), PEER, 2 * MD)
    assert machine.deadline == 3 * MD
    assert machine.timeout(3 * MD)[-1] == Transition(BACKUP, MASTER, Reason.MASTER_DOWN, None, 3 * MD)


def test_an_equal_advert_keeps_the_random_part(impl: Implementation) -> None:
    """That of the tie, in every copy of the rival's adverts; a better or a worse one ends it."""
    machine = machine_in(impl, MASTER, draw=Draws(0, 9_999_999))
    tie = T + TIE + 1
    machine.receive(heard(1, 100), PEER, tie)
    for family in (4, 6):
        machine.receive(heard(1, 100, family=family), PEER, tie + 1000)
        assert machine.deadline == tie + 1000 + MD + 9_999_999
    machine.receive(heard(1, 101), PEER, tie + 2000)
    machine.receive(heard(1, 100, family=6), PEER, tie + 3000)
    assert machine.deadline == tie + 2000 + MD
    machine.receive(heard(1, 100, family=4), PEER, tie + 4000)
    assert machine.deadline == tie + 3000 + MD


def test_a_young_master_tries_again(impl: Implementation) -> None:
    """Equals that took over at the same time yield to each other and try again at once, at different times."""
    machine = machine_in(impl, MASTER, draw=Draws(0, 5_000_000))
    tie = T + 50_000
    assert machine.receive(heard(1, 100), PEER, tie) == [Drop(), Transition(MASTER, BACKUP, Reason.TIE, PEER, tie)]
    # Copies of the rival's advert, under another key and in the other family.
    assert machine.receive(heard(1, 100), PEER, tie + 100) == []
    assert machine.receive(heard(1, 100, family=6), PEER, tie + 200) == []
    due = tie + TIE_COPIES + 5_000_000
    assert machine.deadline == due
    assert machine.timeout(due) == became_master(Reason.MASTER_DOWN, due)


@pytest.mark.parametrize(("advert", "after"), [((1, 100), TIE_COPIES), ((1, 99), 10)])
def test_who_comes_back_first_ends_the_tie(impl: Implementation, advert: tuple[int, int], after: int) -> None:
    """An equal one that took over again, or a better one at any time."""
    machine = machine_in(impl, MASTER, draw=Draws(0, 5_000_000))
    machine.receive(heard(1, 100), PEER, T)
    machine.receive(heard(*advert), PEER, T + after)
    assert machine.deadline == T + after + MD + (5_000_000 if advert == (1, 100) else 0)


# Whatever happens


CALLS = st.one_of(
    st.tuples(st.just("start")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("timeout")),
    st.tuples(st.just("demote"), st.integers(-3, 3)),
    st.tuples(st.just("sent"), st.booleans()),
    st.tuples(st.just("force"), st.sampled_from(State)),
    st.tuples(
        st.just("receive"),
        st.builds(
            heard,
            st.sampled_from([0, 1, 2, 4, 255]),
            st.sampled_from([0, 99, 100, 101, 255]),
            family=st.sampled_from([4, 6]),
        ),
        st.just(PEER),
    ),
    st.tuples(
        st.just("reconfigure"),
        st.sampled_from(
            [config(), config(2, 50), config(0, 9), config(up=False), config(preempt=True), config(addresses=[])]
        ),
    ),
)


@given(
    calls=st.lists(st.tuples(CALLS, st.integers(0, 5 * NS)), max_size=60),
    preempt=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whatever_happens(impl: Implementation, calls: Any, preempt: bool, seed: int) -> None:
    """Transitions join up, addresses are held by a MASTER and nobody else, and time never runs in circles."""
    machine = impl.machine.Machine(config(preempt=preempt), random.Random(seed).randrange)
    now, state, holds, suppressing = 0, INIT, False, 0
    for (name, *arguments), passed in calls:
        now += passed
        actions = getattr(machine, name)(*arguments, now)
        for action in actions:
            if isinstance(action, Transition):
                assert action.before is state and action.after is not state and action.at == now
                state = action.after
                assert holds == (state is MASTER)
            elif isinstance(action, Take):
                holds = True
            elif isinstance(action, Drop):
                assert holds
                holds = False
            elif isinstance(action, Suppress):
                suppressing += action.by
        assert machine.state is state
        assert holds == (state is MASTER)
        assert suppressing in (0, 1, 2)  # for its link, and for its sending
        assert machine.demotion >= 0
        if machine.deadline is not None and machine.deadline <= now:
            machine_actions = machine.timeout(now)
            assert machine.deadline is None or machine.deadline > now
            for action in machine_actions:
                if isinstance(action, Transition):
                    state = action.after
                elif isinstance(action, Take):
                    holds = True
                elif isinstance(action, Suppress):
                    suppressing += action.by
        if state is not INIT:
            assert machine.deadline is not None


# What other BSDs make of adverts, and delays

# own demotion, state, the advert's values and demotion, ns after the start; state and why, once a short wait is over
OTHERS = [
    pytest.param(0, BACKUP, (255, 255), None, (1, 150), None, MASTER, id="T30 worse, after a bow-out"),
    pytest.param(0, BACKUP, (255, 255), None, (1, 50), None, BACKUP, id="T4 better, after a bow-out"),
    pytest.param(1, BACKUP, (255, 255), None, (1, 250), 0, BACKUP, id="T4 worse and less demoted, after a bow-out"),
    pytest.param(0, BACKUP, None, None, (1, 50), 1, MASTER, id="T31 better, more demoted"),
    pytest.param(1, BACKUP, None, None, (1, 50), 1, BACKUP, id="T4 better, as much demoted"),
    pytest.param(0, BACKUP, None, None, (1, 50), None, BACKUP, id="T4 better, nothing is known of demotion"),
    pytest.param(0, MASTER, None, None, (1, 50), 1, MASTER, id="T32 better, more demoted"),
    pytest.param(1, MASTER, None, None, (1, 250), 0, BACKUP, id="T33 slower, less demoted"),
    pytest.param(1, MASTER, None, None, (1, 250), 1, MASTER, id="T12 slower, as much demoted"),
    pytest.param(1, MASTER, None, None, (255, 255), 0, MASTER, id="T12 a bow-out, less demoted"),
]


@pytest.mark.parametrize(("demoted", "state", "first", "said_first", "advert", "said", "after"), OTHERS)
def test_others_adverts(
    impl: Implementation, demoted: int, state: State, first: Any, said_first: Any, advert: Any, said: Any, after: State
) -> None:
    machine = machine_in(impl, state)
    machine.demote(demoted, T + 1)
    if first is not None:
        machine.receive(heard(*first), PEER, T + 2, said_first)
    machine.receive(heard(*advert), PEER, T + 100, said)
    machine.timeout(T + 10_000_000)
    assert machine.state is after


@pytest.mark.parametrize(
    ("state", "age", "answers"),
    [
        pytest.param(MASTER, 20_000_000, True, id="T42"),
        pytest.param(MASTER, 20_000_001, False, id="T42 not any more"),
        pytest.param(BACKUP, 0, False, id="T42 not as BACKUP"),
    ],
)
def test_an_equal_with_the_same_counter(impl: Implementation, state: State, age: int, answers: bool) -> None:
    machine = machine_in(impl, BACKUP)
    now = machine.deadline or T
    if state is MASTER:
        machine.timeout(now)
    actions = machine.echo(now + age)
    assert actions == ([SendAdvert(machine.config.advbase, machine.advskew)] if answers else [])
    assert machine.echo(now + age) == []


@pytest.mark.parametrize("state", [pytest.param(MASTER, id="T36"), pytest.param(BACKUP, id="T36 not as BACKUP")])
def test_it_defends_its_addresses(impl: Implementation, state: State) -> None:
    machine = machine_in(impl, state)
    before = machine.deadline
    actions = machine.defend(T + 5)
    if state is not MASTER:
        assert actions == [] and machine.deadline == before
        return
    assert actions == [SendAdvert(machine.config.advbase, machine.advskew), Announce()]
    assert machine.deadline == T + 5 + machine.interval
    machine.leave(T + 6)
    assert machine.defend(T + 7) == []


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param({"start_delay": 1}, BACKUP, id="T34 start_delay"),
        pytest.param({"preempt_delay": 1}, BACKUP, id="T35 preempt_delay"),
        pytest.param({}, MASTER, id="T2 neither"),
    ],
)
def test_delays(impl: Implementation, changes: dict[str, int], state: State) -> None:
    machine = impl.machine.Machine(config(1, 100, preempt=True, **changes), lambda _most: 0)
    machine.start(0)
    for second in (0, 1):
        machine.receive(heard(1, 150), PEER, second * NS + 1)
        machine.timeout(second * NS + 10_000_000)
        assert machine.state is (MASTER if second else state)
