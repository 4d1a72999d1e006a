"""What one implementation leaves, either goes on with: machines and authenticators."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from support import IMPLEMENTATIONS
from support.elections import NS, heard

from pycarp import VirtualHost, _impl
from pycarp._impl import Implementation
from pycarp.protocol import State
from pycarp.protocol.abc import Machine

CONFIG = VirtualHost(
    vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24", "2001:db8::42/64"], advskew=9
)
PEER = "10.13.37.12"
T = 1_000 * NS


def step(machine: Machine, draw: random.Random, now: int) -> Any:
    """Something that may happen to a machine."""
    what = draw.randrange(9)
    if what == 0:
        return machine.link(draw.random() < 0.7, now)
    if what == 1:
        return machine.demote(draw.choice((1, -1)), now)
    if what == 2:
        return machine.sent(draw.random() < 0.4, now)
    if what == 3:
        return machine.force(draw.choice((State.BACKUP, State.MASTER)), now)
    if what == 4:
        return machine.sibling(draw.choice((7, 202)), heard(1, draw.choice((0, 9, 200))), PEER, now)
    if what in (5, 6):
        return machine.receive(heard(draw.choice((1, 255)), draw.choice((9, 100, 255))), PEER, now)
    return machine.timeout(now)


def life(machines: list[Machine], seed: int, steps: int, begin: int) -> list[Any]:
    """The same happens to all of them; what they did."""
    draw = random.Random(seed)
    done = []
    now = begin
    for _ in range(steps):
        now += draw.choice((1_000_000, 700_000_000, 3_500_000_000))
        choice = draw.randrange(1 << 30)
        done.append([step(one, random.Random(choice), now) for one in machines])
    return done


def first(bound: int) -> int:
    return bound // 2


@pytest.mark.parametrize("seed", range(60))
def test_a_machine_goes_on_in_either_implementation(seed: int) -> None:
    before = [_impl.load(name).machine.Machine(CONFIG, first) for name in IMPLEMENTATIONS]
    for one in before:
        one.start(T)
    life(before, seed, 25, T)
    after = []
    for former in before:
        for name in IMPLEMENTATIONS:
            heir = _impl.load(name).machine.Machine(CONFIG, first)
            heir.inherit(json.loads(json.dumps(former.bequest())))
            assert (heir.state, heir.demotion, heir.withheld) == (former.state, former.demotion, former.withheld)
            after.append(heir)
    assert {one.deadline for one in (*before, *after)} == {before[0].deadline}
    for done in life([*before, *after], seed + 1000, 25, T + 200 * NS):
        assert all(one == done[0] for one in done)


def test_an_authenticator_knows_what_the_former_one_issued_and_heard() -> None:
    implementations: list[Implementation] = [_impl.load(name) for name in IMPLEMENTATIONS]
    made = [one.auth.Authenticator(CONFIG.passphrase, 101, CONFIG.addresses) for one in implementations]
    for one in made:
        for number in range(200):
            one.counter(1, 9, number)
        for dialect in ("netbsd", "bsd"):
            assert one.verify(5, one.sign(5, dialect)) == dialect
    left = [json.loads(json.dumps(one.bequest())) for one in made]
    assert all(one == left[0] for one in left)
    assert len(left[0]["issued"]) == 128
    for one in implementations:
        heir = one.auth.Authenticator(CONFIG.passphrase, 101, CONFIG.addresses)
        heir.inherit(left[0])
        assert heir.bequest() == left[0]
        assert heir.check(made[0].counter(1, 9, 199), 1, 9, "bsd") == "echo"
        assert heir.sign(7) == made[0].sign(7)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_what_makes_no_sense_leaves_a_machine_as_it_was(name: str) -> None:
    machine = _impl.load(name).machine.Machine(CONFIG, first)
    machine.start(T)
    was = machine.bequest()
    with pytest.raises((KeyError, ValueError, TypeError)):
        machine.inherit(was | {"master_reason": "nonsense", "demotion": 3})
    assert machine.bequest() == was
