"""Replays: adverts that their senders did send, but not now. Clocks that go back, new hosts, hosts with one source."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import wire

from pycarp._impl import Implementation
from pycarp.protocol import NS_PER_SECOND, State
from pycarp.protocol.frames import virtual_mac

PASSPHRASE = "motdepassehalakon"
ADDRESSES = ["10.13.37.42/24"]
VHID = 101
NS = NS_PER_SECOND
START = 1_900_000 * NS
"""Where the receiver's clocks begin."""
A, B, C = "10.13.37.11", "10.13.37.12", "10.13.37.13"


@dataclass
class Sender:
    """A pycarp host whose clock is `ahead` of the receiver's."""

    impl: Implementation
    source: str = A
    ahead: int = 0
    advskew: int = 0
    vhid: int = VHID
    part: int | None = 0
    dialect: str = "bsd"

    def __post_init__(self) -> None:
        self.authenticator = self.impl.auth.Authenticator(PASSPHRASE, self.vhid, ADDRESSES, self.dialect)
        self.template = self.impl.packet.AdvertTemplate(self.vhid, virtual_mac(self.vhid), self.source)
        self.random = random.Random(1)

    def frame(self, now: int, advbase: int = 1, advskew: int | None = None) -> bytes:
        skew = self.advskew if advskew is None else advskew
        serial = (now + self.ahead) // NS & 0xFFFF
        counter = self.authenticator.counter(
            advbase, skew, self.random.getrandbits(3), self.dialect, self.part, serial
        )  # fmt: skip
        return self.template.frame(advbase, skew, counter, self.authenticator.sign(counter, self.dialect))

    def bowout(self, now: int) -> bytes:
        return self.frame(now, 255, 255)


class Receiver:
    """An input path whose clock is CLOCK_MONOTONIC from 0 on; `START` is the wall clock then."""

    def __init__(self, impl: Implementation, replay: str = "guard", wall: int = START) -> None:
        own = impl.auth.Authenticator(PASSPHRASE, VHID, ADDRESSES, "auto", replay)
        self.input = impl.input.Input()
        self.input.set_instance(VHID, own, virtual_mac(VHID), [b"\x0a\x0d\x25\x2a"])
        self.input.set_state(VHID, State.BACKUP)
        self.input.wall = wall

    def hear(self, frame: bytes, at: int) -> str:
        return self.input.receive(frame, at - START).counter


def heard(receiver: Receiver, sender: Sender, begin: int, seconds: int) -> list[bytes]:
    """Each second one advert, all of them believed."""
    frames = [sender.frame(begin + second * NS) for second in range(seconds)]
    for second, frame in enumerate(frames):
        assert receiver.hear(frame, begin + second * NS) == ""
    return frames


def test_what_was_sent_before_is_refused(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    old = heard(receiver, sender, START, 60)
    now = START + 60 * NS
    assert receiver.hear(sender.frame(now), now) == ""
    assert {receiver.hear(frame, now + NS // 2) for frame in old[:-3]} == {"replayed"}
    assert receiver.input.stats(VHID).replayed == len(old) - 3
    assert receiver.hear(sender.frame(now + NS), now + NS) == ""
    # Nor when the sender is silent, one by one or all at once, in any order.
    for at, frame in enumerate([*old, *reversed(old)]):
        assert receiver.hear(frame, now + 10 * NS + at) == "replayed"


def test_a_copy_under_another_address_is_refused(impl: Implementation) -> None:
    """Nothing proves the source: who copies an advert at once gives it another one."""
    receiver, sender = Receiver(impl), Sender(impl)
    frames = heard(receiver, sender, START, 10)
    for number, frame in enumerate(frames):
        copied = bytearray(frame)
        copied[26:30] = bytes((10, 13, 37, 100 + number))
        copied[24:26] = bytes(2)
        copied[24:26] = wire.internet_checksum(bytes(copied[14:34])).to_bytes(2, "big")
        assert receiver.hear(bytes(copied), START + 9 * NS + 1) == "replayed"
    assert receiver.hear(sender.frame(START + 10 * NS), START + 10 * NS) == ""


def test_many_late_copies_do_not_take_the_clock_along(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    late: list[bytes] = []
    for second in range(600):
        now = START + second * NS
        assert receiver.hear(sender.frame(now), now) == ""
        late.append(sender.frame(now))
        if second > 2:
            receiver.hear(late[-3], now + NS // 3)
        if second > 4:
            assert receiver.hear(late[-5], now + NS // 2) == "replayed"


@pytest.mark.parametrize("drift", [-400, 0, 400])
@pytest.mark.parametrize("ahead", [0, 40_000 * NS, -3_000 * NS])
def test_clocks_that_drift_are_followed(impl: Implementation, ahead: int, drift: int) -> None:
    """In parts of a million, over days and past the end of 16 bits; adverts come 0-200 ms late, or are lost."""
    receiver, sender, draw = Receiver(impl), Sender(impl, ahead=ahead), random.Random(3)
    for second in range(0, 90_000, 7):
        now = START + second * NS
        sender.ahead = ahead + second * drift * 1000
        if draw.random() > 0.2:
            assert receiver.hear(sender.frame(now), now + draw.randrange(200_000_000)) == ""


@pytest.mark.parametrize("advskew", [0, 50, 100, 130, 254])
@pytest.mark.parametrize("back", [3, 60, 4_000, 30_000, -3, -60, -30_000])
def test_a_clock_that_was_set_is_followed_within_a_master_down(impl: Implementation, back: int, advskew: int) -> None:
    """The host has started anew. Others are not MASTER beside it for longer than that."""
    receiver, sender = Receiver(impl), Sender(impl, advskew=advskew, ahead=77 * NS)
    heard(receiver, sender, START, 5)
    sender.ahead -= back * NS
    interval = NS + advskew * NS // 256
    for late in range(0, 1000, 111):
        now = begin = START + (10 + 40 * late) * NS + late * 1_000_000
        sender.ahead -= back * NS
        while receiver.hear(sender.frame(now), now) == "replayed":
            now += interval
            assert now - begin < 3 * NS
        assert receiver.hear(sender.frame(now + interval), now + interval) == ""


@pytest.mark.parametrize("stopped", [4, 5, 60, 20_000])
def test_a_receiver_that_stood_still_believes_its_master_within_a_master_down(
    impl: Implementation, stopped: int
) -> None:
    """All its clocks did, as those of a virtual machine that was stopped: the sender is ahead, and goes on."""
    receiver, sender = Receiver(impl), Sender(impl)
    heard(receiver, sender, START, 20)
    last = START + 19 * NS
    sender.ahead = stopped * NS
    moments = [last + second * NS - NS // 10 for second in (1, 2, 3)]
    said = [receiver.hear(sender.frame(now), now) for now in moments]
    assert said == ["replayed", "replayed", ""]
    # What it said before is of the past now.
    assert receiver.hear(sender.frame(last - stopped * NS), last + 3 * NS) == "replayed"


def test_old_streams_are_not_believed_beside_the_present_one(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    old = heard(receiver, sender, START, 40)
    for second in range(40):
        now = START + (100 + second) * NS
        if second != 20:  # one is lost
            assert receiver.hear(sender.frame(now), now) == ""
        assert receiver.hear(old[second], now + NS // 2) == "replayed"


def test_a_new_host_is_believed_at_once_if_it_has_our_time(impl: Implementation) -> None:
    receiver = Receiver(impl)
    heard(receiver, Sender(impl, ahead=50_000 * NS), START, 5)  # the first one in any case
    now = START + 5 * NS
    assert receiver.hear(Sender(impl, B, ahead=4 * NS).frame(now), now) == ""
    other = Sender(impl, C, ahead=-20 * NS)
    assert [receiver.hear(other.frame(now + n * NS), now + n * NS) for n in range(4)] == ["replayed"] * 2 + ["", ""]


def test_a_master_that_knows_nobody_believes_nobodys_past(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    receiver.input.set_state(VHID, State.MASTER)
    assert receiver.hear(sender.frame(START), START + 60 * NS) == "replayed"
    assert receiver.hear(sender.frame(START + 60 * NS), START + 60 * NS) == ""


def test_bowouts(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    heard(receiver, sender, START, 5)
    now = START + 5 * NS
    last, bowout = sender.frame(now), sender.bowout(now)
    assert receiver.hear(last, now) == receiver.hear(bowout, now + 1) == receiver.hear(bowout, now + 2) == ""
    assert receiver.hear(last, now + NS // 2) == "replayed"  # it has left
    heard(receiver, sender, START + 60 * NS, 5)
    assert receiver.hear(bowout, START + 64 * NS) == "replayed"
    assert receiver.hear(sender.frame(START + 65 * NS), START + 65 * NS) == ""


def test_a_guardians_bowout_was_signed_long_ago(impl: Implementation) -> None:
    """It is good once, from a host that is heard."""
    receiver, sender = Receiver(impl), Sender(impl)
    guardian = Sender(impl, part=None)
    bowout = guardian.bowout(START - 200_000 * NS)
    assert receiver.hear(bowout, START) == "replayed"
    heard(receiver, sender, START, 5)
    assert receiver.hear(bowout, START + 5 * NS) == ""
    heard(receiver, sender, START + 60 * NS, 5)
    assert receiver.hear(bowout, START + 65 * NS) == "replayed"
    assert receiver.hear(Sender(impl).bowout(START), START + 65 * NS) == "replayed"  # a program's own


def test_copies_under_both_keys_and_of_siblings(impl: Implementation) -> None:
    receiver = Receiver(impl)
    both = [Sender(impl, dialect=dialect) for dialect in ("bsd", "netbsd")]
    sibling = Sender(impl, B, vhid=7)
    old = []
    for second in range(20):
        now = START + second * NS
        frames = [one.frame(now) for one in both]
        assert [receiver.hear(frame, now + at) for at, frame in enumerate(frames)] == ["", ""]
        frames.append(sibling.frame(now))
        assert receiver.hear(frames[-1], now) == "sibling"
        old.append(frames)
    now = START + 20 * NS
    assert [receiver.hear(frame, now) for frame in old[5]] == ["replayed"] * 3


def test_what_has_no_serial_is_judged_as_ever(impl: Implementation) -> None:
    receiver, sender = Receiver(impl), Sender(impl)
    heard(receiver, sender, START, 5)
    first = wire.tagged_counter(wire.key(PASSPHRASE), VHID, 1, 0, 0x00BEEF)
    for counter in (bytes(8), b"\1\2\3\0\xbe\xef\1\0", first):
        frame = sender.template.frame(1, 0, counter, sender.authenticator.sign(counter, "bsd"))
        for second in range(5):
            assert receiver.hear(frame, START + (5 + second) * NS) == ""
    off = Receiver(impl, "off")
    old = heard(off, sender, START, 5)
    assert off.hear(old[0], START + 60 * NS) == ""


@settings(max_examples=40)
@given(st.data())
def test_no_bytes_upset_the_table(impl: Implementation, data: Any) -> None:
    """Senders without number, with any serials, at any time: who goes on with time is heard in the end."""
    receiver, now = Receiver(impl), START
    for _ in range(data.draw(st.integers(0, 30))):
        source = f"10.13.37.{data.draw(st.integers(100, 140))}"
        now += data.draw(st.integers(0, 3 * NS))
        receiver.hear(Sender(impl, source, data.draw(st.integers(-70_000, 70_000)) * NS).frame(now), now)
    sender = Sender(impl, A, data.draw(st.integers(-70_000, 70_000)) * NS)
    assert "" in [receiver.hear(sender.frame(now + n * NS), now + n * NS) for n in range(3)]
