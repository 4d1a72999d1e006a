"""A LAN on which old adverts are sent again, and hosts whose clocks are wrong: who owns the address."""

from __future__ import annotations

import random

import pytest

from pycarp import VirtualHost, _impl
from pycarp.lab.hosts import Host
from pycarp.lab.simulation import MILLISECOND, SECOND, Lan
from pycarp.protocol import BOWOUT, SendAdvert
from pycarp.protocol.frames import checksum

VIP = "10.13.37.42"
GROUP = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=[f"{VIP}/24"], preempt=True)
BOUND = 3 * SECOND + 200 * SECOND // 256
HOUR = 3600 * SECOND


@pytest.fixture(autouse=True)
def both(impl: _impl.Implementation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every simulation runs on each implementation."""
    monkeypatch.setattr(_impl, "current", impl)


class Other(Host):
    """A host whose counters are a BSD's, or an earlier pycarp's: they have no serial."""

    def _advertise(self, instance, order: SendAdvert) -> None:
        plan = instance.plan
        for dialect in plan.authenticator.dialects:
            counter = self.lan.random.randbytes(6) + bytes((order.advbase, order.advskew))
            digest = plan.authenticator.sign(counter, dialect)
            for _family, template in plan.templates:
                self.send(template.frame(order.advbase, order.advskew, counter, digest))
        self._do(instance, instance.machine.sent(True, self.lan.now))


def group(lan: Lan, *skews: int, preempt: bool = True) -> list[Host]:
    hosts = []
    for number, advskew in enumerate(skews):
        config = GROUP.replace(advskew=advskew, preempt=preempt)
        hosts.append(lan.host(f"host{number}", f"10.13.37.{11 + number}/24", config))
        hosts[-1].start()
    return hosts


def under(frame: bytes, last: int) -> bytes:
    """The same advert under another address."""
    copied = bytearray(frame)
    copied[29] = last
    copied[24:26] = bytes(2)
    copied[24:26] = checksum(bytes(copied[14:34])).to_bytes(2, "big")
    return bytes(copied)


@pytest.mark.parametrize("preempt", [True, False])
def test_no_advert_that_was_ever_sent_changes_who_owns(preempt: bool) -> None:
    """An hour in which every host was MASTER, left, crashed and came back; then all of it again, a thousand times."""
    lan = Lan(seed=7)
    hosts = group(lan, 0, 100, 200, preempt=preempt)
    recorded: list[bytes] = []
    lan.tap(lambda at, sender, frame: recorded.append(frame) if frame[12:14] == b"\x08\x00" else None)
    draw = random.Random(11)
    for _ in range(12):
        lan.run(draw.randrange(20, 60) * SECOND)
        gone = draw.choice(hosts)
        gone.stop() if draw.random() < 0.5 else gone.crash()
        lan.run(draw.randrange(8) * SECOND)
        gone.start()
    lan.run(30 * SECOND)
    old, probe = list(recorded), lan.probe("probe")
    assert any(frame[36] == frame[39] == BOWOUT for frame in old) and len(old) > 400
    owner = lan.holders(VIP)
    assert len(owner) == 1 == len(lan.masters(101))
    for number in range(1000):
        frame = draw.choice(old) if number % 3 else old[number % len(old)]
        probe.send(frame if number % 2 else under(frame, draw.randrange(10, 250)))
        lan.run(draw.randrange(200) * MILLISECOND)
        assert lan.holders(VIP) == owner and lan.masters(101) == owner
    # All at once, and then the owner dies: the others take over as ever.
    for frame in old:
        probe.send(frame)
    lan.run(SECOND)
    assert lan.masters(101) == owner
    lan.hosts[owner[0]].crash()
    for _ in range(40):
        probe.send(draw.choice(old))
        lan.run(BOUND // 40)
    assert len(lan.masters(101)) == 1 and lan.masters(101) != owner


def two_masters(lan: Lan, ns: int) -> int:
    """For how long there was more than one at the longest, while that much time goes by."""
    longest = since = 0
    for _ in range(ns // (10 * MILLISECOND)):
        lan.run(10 * MILLISECOND)
        since = since + 10 * MILLISECOND if len(lan.masters(101)) > 1 else 0
        longest = max(longest, since)
    return longest


@pytest.mark.parametrize("seed", range(12))
def test_wrong_clocks_never_make_two_masters_for_long(seed: int) -> None:
    """Hosts start with any clock, crash, and come back with another one, beside hosts that have no serials."""
    lan, draw = Lan(seed=seed), random.Random(seed)
    hosts = group(lan, 0, draw.randrange(20, 120), preempt=bool(seed % 3))
    config = GROUP.replace(advskew=draw.randrange(140, 200))
    other = Other(lan, "other", "10.13.37.20/24", (config,))
    lan.hosts["other"] = other
    other.start()
    lan.run(10 * SECOND)
    for _ in range(6):
        gone = draw.choice([*hosts, other])
        gone.stop() if draw.random() < 0.5 else gone.crash()
        assert two_masters(lan, draw.randrange(8) * SECOND) < 3 * SECOND
        gone.clock = draw.choice((0, -2 * SECOND, -60 * SECOND, -HOUR, 9 * HOUR, HOUR, draw.randrange(-HOUR, HOUR)))
        gone.start()
        assert two_masters(lan, 12 * SECOND) < 3 * SECOND
        assert len(lan.masters(101)) == 1 == len(lan.holders(VIP))
