"""Adverts of other vhids with our secret and addresses: found by the digest, within a budget, and kept apart."""

from __future__ import annotations

import contextlib
import random
from ipaddress import ip_interface
from typing import Any

import pytest
from support import IMPLEMENTATIONS, wire
from support.wire import Frame

from pycarp import _impl
from pycarp._impl import Implementation
from pycarp.abc import Authenticator, Judge
from pycarp.protocol import State

SECOND = 1_000_000_000
TRIAL = SECOND // 10
REST = 10 * SECOND
OURS = Frame(advbase=1, advskew=0, vhid=100)
ALIEN = Frame(advbase=1, advskew=0, vhid=77, passphrase="another secret")


def seat(judge: Judge, impl: Implementation, vhid: int, state: State = State.BACKUP, **changes: Any) -> Authenticator:
    given: dict[str, Any] = {"passphrase": wire.PASSPHRASE, "addresses": [wire.VIP]} | changes
    siblings = given.pop("siblings", True)
    authenticator = impl.auth.Authenticator(given.pop("passphrase"), vhid, given["addresses"], **_rest(given))
    packed = [ip_interface(address).packed for address in given["addresses"]]
    judge.set_host(vhid, authenticator, impl.packet.virtual_mac(vhid), packed, siblings)
    judge.set_state(vhid, state)
    return authenticator


def _rest(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "addresses"}


def judge_of(impl: Implementation, state: State = State.BACKUP, **changes: Any) -> Judge:
    judge = impl.judge.Judge()
    judge.set_carpdev(wire.CARPDEV_MAC, [ip_interface(wire.CARPDEV + "/24"), ip_interface("2001:db8::b/64")])
    seat(judge, impl, 101, state, **changes)
    return judge


def counted(judge: Judge) -> dict[str, int]:
    return {name: value for name, value in judge.stats().as_dict().items() if value}


@pytest.mark.parametrize("state", [State.BACKUP, State.MASTER], ids=lambda state: state.name)
def test_a_sibling_is_found(impl: Implementation, state: State) -> None:
    judge = judge_of(impl, state)
    for number in range(1, 4):
        verdict = judge.judge(bytes(OURS), number)
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == ("sibling", "bsd", 101)
        assert verdict.advert is not None and verdict.advert.vhid == 100
        # As a kernel counts it, and nothing of it is the host's own.
        assert counted(judge) == {"ipackets": number, "badvhid": number}


def test_in_both_families_and_dialects(impl: Implementation) -> None:
    judge = judge_of(impl, addresses=[wire.VIP, "2001:db8::42", "fe80::42"])
    for link_local in (True, False):
        for source in ("10.13.37.12", "fe80::12"):
            frame = OURS.but(
                source=source, addresses=(wire.VIP, "2001:db8::42", "fe80::42"), link_local=link_local, dialect="netbsd"
            )
            verdict = judge.judge(bytes(frame))
            assert (verdict.counter, verdict.dialect, verdict.sibling_of) == ("sibling", "netbsd", 101)


@pytest.mark.parametrize(
    ("counter", "changes"),
    [
        ("badttl", {"ttl": 254}),
        ("badsum", {"checksum_flip": 1}),
        ("badlen", {"cut": 1}),
        ("badif", {"destination": wire.CARPDEV, "destination_mac": wire.CARPDEV_MAC}),
        ("badvhid", {"first": 0x31}),
        ("badvhid", {"first": 0x41}),
        ("badvhid", {"digest_flip": 1}),
        ("badvhid", {"passphrase": "another secret"}),
        ("badvhid", {"addresses": ("10.13.37.43",)}),
        ("badvhid", {"vhid": 0}),
        ("badvhid", {"vhid": 255, "digest": bytes(20)}),
    ],
)
def test_what_is_none(impl: Implementation, counter: str, changes: dict[str, Any]) -> None:
    """Neither at first, nor once its vhid is known for a sibling's."""
    judge = judge_of(impl)
    for _ in range(2):
        verdict = judge.judge(bytes(OURS.but(**changes)))
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == (counter, None, None)
        assert judge.judge(bytes(OURS)).counter == "sibling"
    assert counted(judge).get(counter, 0) == (4 if counter == "badvhid" else 2)
    judge.allow = False
    assert judge.judge(bytes(OURS)).counter == "allow"


def test_whoever_does_not_want_to_know(impl: Implementation) -> None:
    judge = judge_of(impl, siblings=False)
    assert judge.judge(bytes(OURS)).counter == "badvhid"
    seat(judge, impl, 101)
    assert judge.judge(bytes(OURS)).counter == "sibling"
    judge.set_state(101, State.INIT)
    assert judge.judge(bytes(OURS)).counter == "badvhid"
    assert judge.judge(bytes(OURS.but(vhid=99))).counter == "badvhid"
    judge.set_state(101, State.BACKUP)
    assert judge.judge(bytes(OURS)).counter == "sibling"
    seat(judge, impl, 101, siblings=False)
    assert judge.judge(bytes(OURS)).counter == "badvhid"


def test_a_host_of_ours_is_nobody_elses_sibling(impl: Implementation) -> None:
    """Its vhid is ours, in INIT, too."""
    judge = judge_of(impl)
    seat(judge, impl, 100)
    assert judge.judge(bytes(OURS)).counter == ""
    judge.set_state(100, State.INIT)
    assert judge.judge(bytes(OURS)).counter == "badvhid"
    judge.remove_host(100)
    assert judge.judge(bytes(OURS)).counter == "sibling"


def test_altered_on_the_way(impl: Implementation) -> None:
    judge = judge_of(impl)
    peer = impl.auth.Authenticator(wire.PASSPHRASE, 100, [wire.VIP])
    template = impl.packet.AdvertTemplate(100, impl.packet.virtual_mac(100), "10.13.37.12")
    counter = peer.counter(1, 100, 9)
    for _ in range(2):
        verdict = judge.judge(template.frame(1, 0, counter, peer.sign(counter)))
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == ("altered", None, None)
    assert judge.judge(template.frame(1, 100, counter, peer.sign(counter))).counter == "sibling"
    assert counted(judge) == {"ipackets": 3, "badvhid": 3, "altered": 2}
    seat(judge, impl, 101, replay="off")
    assert judge.judge(template.frame(1, 0, counter, peer.sign(counter))).counter == "sibling"


# The budget


def trials(judge: Judge, now: int, frame: Frame = OURS) -> bool:
    return judge.judge(bytes(frame), now).counter == "sibling"


def test_unknown_vhids_are_tried_seldom(impl: Implementation) -> None:
    judge = judge_of(impl)
    now = 5 * SECOND
    for vhid in range(1, 21):
        assert judge.judge(bytes(ALIEN.but(vhid=vhid)), now).counter == "badvhid"
    assert not trials(judge, now)
    assert not trials(judge, now + TRIAL - 1)
    assert trials(judge, now + TRIAL)
    # Now it is known, and no flood of forged adverts hides it.
    for number in range(200):
        forged = OURS.but(digest_flip=1, vhid=100 if number % 2 else 1 + number % 90)
        assert judge.judge(bytes(forged), now + TRIAL).counter == "badvhid"
        assert trials(judge, now + TRIAL)


def test_no_more_is_saved_up_than_twenty(impl: Implementation) -> None:
    judge = judge_of(impl)
    now = 1 << 61
    for vhid in range(1, 21):
        judge.judge(bytes(ALIEN.but(vhid=vhid)), now)
    assert not trials(judge, now)
    judge.judge(bytes(ALIEN.but(vhid=21)), now - SECOND)  # a clock that goes back earns nothing
    assert not trials(judge, now)


def test_one_vhid_does_not_use_up_all(impl: Implementation) -> None:
    """A hundred adverts at once under one vhid leave trials for another."""
    judge = judge_of(impl)
    for _ in range(100):
        assert judge.judge(bytes(ALIEN), SECOND).counter == "badvhid"
    assert trials(judge, SECOND)


def test_groups_in_lockstep_all_have_their_turn(impl: Implementation) -> None:
    """Thirty other groups advertise each second, the sibling always after them all."""
    judge = judge_of(impl)
    for second in range(12):
        for vhid in range(1, 31):
            judge.judge(bytes(ALIEN.but(vhid=vhid)), second * SECOND + vhid)
        if trials(judge, second * SECOND + 100):
            break
    else:
        pytest.fail("never found")


def test_many_hosts_all_have_their_turn(impl: Implementation) -> None:
    """Forty virtual hosts, of which the one with the sibling is any."""
    for at in (1, 20, 40):
        judge = judge_of(impl, State.INIT)
        for number in range(1, 41):
            secret = wire.PASSPHRASE if number == at else f"secret {number}"
            seat(judge, impl, 110 + number, passphrase=secret)
        found = next((second for second in range(8) if trials(judge, second * SECOND)), None)
        assert found is not None
        assert judge.judge(bytes(OURS), found * SECOND).sibling_of == 110 + at


# What is known


def test_another_secret_ends_it(impl: Implementation) -> None:
    judge = judge_of(impl)
    assert trials(judge, 0)
    seat(judge, impl, 101, passphrase="another secret")
    assert not trials(judge, SECOND)
    assert trials(judge, SECOND, OURS.but(passphrase="another secret"))
    seat(judge, impl, 101)
    assert trials(judge, 2 * SECOND)
    assert not trials(judge, 2 * SECOND, OURS.but(passphrase="another secret"))
    judge.remove_host(101)
    assert not trials(judge, 3 * SECOND)


def test_eight_are_known(impl: Implementation) -> None:
    judge = judge_of(impl)
    for vhid in range(1, 9):
        assert trials(judge, 0, OURS.but(vhid=vhid))
    for number in range(12):  # nothing is left
        judge.judge(bytes(ALIEN.but(vhid=60 + number)), 0)
    assert not trials(judge, 0, OURS.but(vhid=9))
    assert all(trials(judge, 0, OURS.but(vhid=vhid)) for vhid in (1, 3, 4, 5, 6, 7, 8, 2, 3))
    assert trials(judge, TRIAL, OURS.but(vhid=9))
    # The one that was heard longest ago had to go, and is found anew when there is a trial for it.
    assert not trials(judge, TRIAL, OURS.but(vhid=1))
    assert all(trials(judge, TRIAL, OURS.but(vhid=vhid)) for vhid in (2, 3, 4, 5, 6, 7, 8, 9))
    assert trials(judge, 2 * TRIAL, OURS.but(vhid=1))


def test_two_hosts_may_each_have_one_under_the_same_vhid(impl: Implementation) -> None:
    judge = judge_of(impl)
    seat(judge, impl, 7, passphrase="another secret")
    other = OURS.but(passphrase="another secret")
    for _ in range(3):
        assert judge.judge(bytes(OURS)).sibling_of == 101
        assert judge.judge(bytes(other)).sibling_of == 7


@pytest.mark.parametrize("seed", range(8))
def test_both_implementations_search_alike(seed: int) -> None:
    """Hosts that come and go, siblings, strangers and forgeries, at times that mostly advance."""
    pair = [_impl.load(name) for name in (IMPLEMENTATIONS[0], IMPLEMENTATIONS[-1])]
    judges = [impl.judge.Judge() for impl in pair]
    source, now, met = random.Random(seed), 0, set()
    for _ in range(3_000):
        now += source.choice((0, 0, 1, TRIAL // 3, TRIAL, SECOND, -TRIAL, 3 * SECOND))
        now = max(now, 0)
        step, vhid = source.random(), source.randrange(256)
        if step < 0.04:
            vhid, secret = source.choice((3, 101, 102, 250)), source.choice(("first secret", "second secret"))
            wanted, state = source.random() < 0.9, source.choice((State.INIT, State.BACKUP, State.MASTER))
            for judge, impl in zip(judges, pair, strict=True):
                seat(judge, impl, vhid, state, passphrase=secret, siblings=wanted)
            continue
        if step < 0.05:
            for judge in judges:
                with contextlib.suppress(KeyError):
                    judge.remove_host(101)
            continue
        frame = Frame(
            vhid=vhid if step < 0.5 else 103 + vhid % 12,
            passphrase=source.choice(("first secret", "second secret", "third secret")),
            digest_flip=int(source.random() < 0.1),
            counter=source.choice((bytes(8), b"\1" * 8)),
        )
        one, other = (judge.judge(_bytes(frame), now) for judge in judges)
        assert one == other
        met.add(one.counter)
    assert {"sibling", "badvhid", ""} <= met
    assert judges[0].stats() == judges[1].stats()


_FRAMES: dict[Frame, bytes] = {}


def _bytes(frame: Frame) -> bytes:
    """A frame takes a while to craft."""
    if frame not in _FRAMES:
        _FRAMES[frame] = bytes(frame)
    return _FRAMES[frame]
