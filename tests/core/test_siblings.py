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
from pycarp.protocol import State
from pycarp.protocol.abc import Authenticator, Input
from pycarp.protocol.frames import virtual_mac

SECOND = 1_000_000_000
TRIAL = SECOND // 10
TURN = 10 * SECOND
OURS = Frame(advbase=1, advskew=0, vhid=100)
ALIEN = Frame(advbase=1, advskew=0, vhid=77, passphrase="another secret")


def add_instance(
    input_: Input, impl: Implementation, vhid: int, state: State = State.BACKUP, **changes: Any
) -> Authenticator:
    given: dict[str, Any] = {"passphrase": wire.PASSPHRASE, "addresses": [wire.VIP]} | changes
    siblings = given.pop("siblings", True)
    authenticator = impl.auth.Authenticator(given.pop("passphrase"), vhid, given["addresses"], **_rest(given))
    packed = [ip_interface(address).packed for address in given["addresses"]]
    input_.set_instance(vhid, authenticator, virtual_mac(vhid), packed, siblings)
    input_.set_state(vhid, state)
    return authenticator


def _rest(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "addresses"}


def input_of(impl: Implementation, state: State = State.BACKUP, **changes: Any) -> Input:
    input_ = impl.input.Input()
    input_.set_carpdev(wire.CARPDEV_MAC, [ip_interface(wire.CARPDEV + "/24"), ip_interface("2001:db8::b/64")])
    add_instance(input_, impl, 101, state, **changes)
    return input_


def counted(input_: Input) -> dict[str, int]:
    return {name: value for name, value in input_.stats().as_dict().items() if value}


@pytest.mark.parametrize("state", [State.BACKUP, State.MASTER], ids=lambda state: state.name)
def test_a_sibling_is_found(impl: Implementation, state: State) -> None:
    input_ = input_of(impl, state)
    for number in range(1, 4):
        verdict = input_.receive(bytes(OURS), number)
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == ("sibling", "bsd", 101)
        assert verdict.advert is not None and verdict.advert.vhid == 100
        # As a kernel counts it, and nothing of it is the host's own.
        assert counted(input_) == {"ipackets": number, "badvhid": number}


def test_in_both_families_and_dialects(impl: Implementation) -> None:
    input_ = input_of(impl, addresses=[wire.VIP, "2001:db8::42", "fe80::42"])
    for link_local, dialect in ((True, "netbsd"), (False, "bsd")):
        for source in ("10.13.37.12", "fe80::12"):
            frame = OURS.but(
                source=source, addresses=(wire.VIP, "2001:db8::42", "fe80::42"), link_local=link_local, dialect=dialect
            )
            verdict = input_.receive(bytes(frame))
            assert (verdict.counter, verdict.dialect, verdict.sibling_of) == (
                "sibling",
                dialect if link_local else "openbsd",
                101,
            )


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
    input_ = input_of(impl)
    for _ in range(2):
        verdict = input_.receive(bytes(OURS.but(**changes)))
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == (counter, None, None)
        assert input_.receive(bytes(OURS)).counter == "sibling"
    assert counted(input_).get(counter, 0) == (4 if counter == "badvhid" else 2)
    input_.allow = False
    assert input_.receive(bytes(OURS)).counter == "allow"


def test_whoever_does_not_want_to_know(impl: Implementation) -> None:
    input_ = input_of(impl, siblings=False)
    assert input_.receive(bytes(OURS)).counter == "badvhid"
    add_instance(input_, impl, 101)
    assert input_.receive(bytes(OURS)).counter == "sibling"
    input_.set_state(101, State.INIT)
    assert input_.receive(bytes(OURS)).counter == "badvhid"
    assert input_.receive(bytes(OURS.but(vhid=99))).counter == "badvhid"
    input_.set_state(101, State.BACKUP)
    assert input_.receive(bytes(OURS)).counter == "sibling"
    add_instance(input_, impl, 101, siblings=False)
    assert input_.receive(bytes(OURS)).counter == "badvhid"


def test_a_host_of_ours_is_nobody_elses_sibling(impl: Implementation) -> None:
    """Its vhid is ours, in INIT, too."""
    input_ = input_of(impl)
    add_instance(input_, impl, 100)
    assert input_.receive(bytes(OURS)).counter == ""
    input_.set_state(100, State.INIT)
    assert input_.receive(bytes(OURS)).counter == "badvhid"
    input_.remove_instance(100)
    assert input_.receive(bytes(OURS)).counter == "sibling"


def test_altered_on_the_way(impl: Implementation) -> None:
    input_ = input_of(impl)
    peer = impl.auth.Authenticator(wire.PASSPHRASE, 100, [wire.VIP])
    template = impl.packet.AdvertTemplate(100, virtual_mac(100), "10.13.37.12")
    counter = peer.counter(1, 100, 9)
    for _ in range(2):
        verdict = input_.receive(template.frame(1, 0, counter, peer.sign(counter)))
        assert (verdict.counter, verdict.dialect, verdict.sibling_of) == ("altered", None, None)
    assert input_.receive(template.frame(1, 100, counter, peer.sign(counter))).counter == "sibling"
    assert counted(input_) == {"ipackets": 3, "badvhid": 3, "altered": 2}
    add_instance(input_, impl, 101, replay="off")
    assert input_.receive(template.frame(1, 0, counter, peer.sign(counter))).counter == "sibling"


# The budget


def trials(input_: Input, now: int, frame: Frame = OURS) -> bool:
    return input_.receive(bytes(frame), now).counter == "sibling"


def test_unknown_vhids_are_tried_seldom(impl: Implementation) -> None:
    input_ = input_of(impl)
    now = 5 * SECOND
    for vhid in range(1, 21):
        assert input_.receive(bytes(ALIEN.but(vhid=vhid)), now).counter == "badvhid"
    assert not trials(input_, now)
    assert not trials(input_, now + TRIAL - 1)
    assert trials(input_, now + TRIAL)
    # Now it is known, and no flood of forged adverts hides it.
    for number in range(200):
        forged = OURS.but(digest_flip=1, vhid=100 if number % 2 else 1 + number % 90)
        assert input_.receive(bytes(forged), now + TRIAL).counter == "badvhid"
        assert trials(input_, now + TRIAL)


def test_no_more_is_saved_up_than_twenty(impl: Implementation) -> None:
    input_ = input_of(impl)
    now = 1 << 61
    for vhid in range(1, 21):
        input_.receive(bytes(ALIEN.but(vhid=vhid)), now)
    assert not trials(input_, now)
    input_.receive(bytes(ALIEN.but(vhid=21)), now - SECOND)  # a clock that goes back earns nothing
    assert not trials(input_, now)


def test_one_vhid_does_not_use_up_all(impl: Implementation) -> None:
    """A hundred adverts at once under one vhid leave trials for another."""
    input_ = input_of(impl)
    for _ in range(100):
        assert input_.receive(bytes(ALIEN), SECOND).counter == "badvhid"
    assert trials(input_, SECOND)


def test_groups_in_lockstep_all_have_their_turn(impl: Implementation) -> None:
    """Thirty other groups advertise each second, the sibling always after them all."""
    input_ = input_of(impl)
    for second in range(12):
        for vhid in range(1, 31):
            input_.receive(bytes(ALIEN.but(vhid=vhid)), second * SECOND + vhid)
        if trials(input_, second * SECOND + 100):
            break
    else:
        pytest.fail("never found")


def test_many_hosts_all_have_their_turn(impl: Implementation) -> None:
    """Forty virtual hosts, of which the one with the sibling is any."""
    for at in (1, 20, 40):
        input_ = input_of(impl, State.INIT)
        for number in range(1, 41):
            secret = wire.PASSPHRASE if number == at else f"secret {number}"
            add_instance(input_, impl, 110 + number, passphrase=secret)
        found = next((second for second in range(8) if trials(input_, second * SECOND)), None)
        assert found is not None
        assert input_.receive(bytes(OURS), found * SECOND).sibling_of == 110 + at


# What is known


def test_another_secret_ends_it(impl: Implementation) -> None:
    input_ = input_of(impl)
    assert trials(input_, 0)
    add_instance(input_, impl, 101, passphrase="another secret")
    assert not trials(input_, SECOND)
    assert trials(input_, SECOND, OURS.but(passphrase="another secret"))
    add_instance(input_, impl, 101)
    assert trials(input_, 2 * SECOND)
    assert not trials(input_, 2 * SECOND, OURS.but(passphrase="another secret"))
    input_.remove_instance(101)
    assert not trials(input_, 3 * SECOND)


def test_the_same_keys_keep_it_known(impl: Implementation) -> None:
    input_ = input_of(impl, State.INIT)
    authenticator = impl.auth.Authenticator(wire.PASSPHRASE, 101, [wire.VIP])
    for number in range(3):
        input_.set_instance(101, authenticator, bytes(6), [])
        input_.set_state(101, State.BACKUP)
        assert trials(input_, 0)
        for vhid in range(number or 1, 30):  # nothing is left
            input_.receive(bytes(ALIEN.but(vhid=vhid)), 0)
    input_.remove_instance(101)
    input_.set_instance(101, authenticator, bytes(6), [])
    input_.set_state(101, State.BACKUP)
    assert not trials(input_, 0)
    assert trials(input_, TRIAL)


def test_eight_are_known(impl: Implementation) -> None:
    input_ = input_of(impl)
    for vhid in range(1, 9):
        assert trials(input_, 0, OURS.but(vhid=vhid))
    for number in range(12):  # nothing is left
        input_.receive(bytes(ALIEN.but(vhid=60 + number)), 0)
    assert not trials(input_, 0, OURS.but(vhid=9))
    assert all(trials(input_, 0, OURS.but(vhid=vhid)) for vhid in (1, 3, 4, 5, 6, 7, 8, 2, 3))
    assert trials(input_, TRIAL, OURS.but(vhid=9))
    # The one that was heard longest ago had to go, and is found anew when there is a trial for it.
    assert not trials(input_, TRIAL, OURS.but(vhid=1))
    assert all(trials(input_, TRIAL, OURS.but(vhid=vhid)) for vhid in (2, 3, 4, 5, 6, 7, 8, 9))
    assert trials(input_, 2 * TRIAL, OURS.but(vhid=1))


def test_two_hosts_may_each_have_one_under_the_same_vhid(impl: Implementation) -> None:
    input_ = input_of(impl)
    add_instance(input_, impl, 7, passphrase="another secret")
    other = OURS.but(passphrase="another secret")
    for _ in range(3):
        assert input_.receive(bytes(OURS)).sibling_of == 101
        assert input_.receive(bytes(other)).sibling_of == 7


@pytest.mark.parametrize("seed", range(8))
def test_both_implementations_search_alike(seed: int) -> None:
    """Instances that come and go, siblings, other groups and forgeries, at times that mostly advance."""
    pair = [_impl.load(name) for name in (IMPLEMENTATIONS[0], IMPLEMENTATIONS[-1])]
    inputs = [impl.input.Input() for impl in pair]
    source, now, met = random.Random(seed), 0, set()
    for _ in range(3_000):
        now += source.choice((0, 0, 1, TRIAL // 3, TRIAL, SECOND, -TRIAL, 3 * SECOND))
        now = max(now, 0)
        step, vhid = source.random(), source.randrange(256)
        if step < 0.04:
            vhid, secret = source.choice((3, 101, 102, 250)), source.choice(("first secret", "second secret"))
            wanted, state = source.random() < 0.9, source.choice((State.INIT, State.BACKUP, State.MASTER))
            for input_, impl in zip(inputs, pair, strict=True):
                add_instance(input_, impl, vhid, state, passphrase=secret, siblings=wanted)
            continue
        if step < 0.05:
            for input_ in inputs:
                with contextlib.suppress(KeyError):
                    input_.remove_instance(101)
            continue
        frame = Frame(
            vhid=vhid if step < 0.5 else 103 + vhid % 12,
            passphrase=source.choice(("first secret", "second secret", "third secret")),
            digest_flip=int(source.random() < 0.1),
            counter=source.choice((bytes(8), b"\1" * 8)),
        )
        one, other = (input_.receive(_bytes(frame), now) for input_ in inputs)
        assert one == other
        met.add(one.counter)
    assert {"sibling", "badvhid", ""} <= met
    assert inputs[0].stats() == inputs[1].stats()


_FRAMES: dict[Frame, bytes] = {}


def _bytes(frame: Frame) -> bytes:
    """A frame takes a while to craft."""
    if frame not in _FRAMES:
        _FRAMES[frame] = bytes(frame)
    return _FRAMES[frame]
