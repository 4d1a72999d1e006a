"""Frames that wait are judged together: each as it would be alone, in order, by both implementations and each SHA-1."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import Any

import pytest
from support import IMPLEMENTATIONS, wire

from pycarp import _impl
from pycarp.protocol import State
from pycarp.protocol.abc import Input, Verdict
from pycarp.protocol.frames import virtual_mac

GROUPS = {
    # vhid: passphrase, addresses; one key, two of them, and two with two forms of the addresses under one of them
    101: ("correct horse battery staple", ("10.13.37.42",)),
    102: ("motdepassehalakon", ("10.13.37.43",)),
    103: ("motdepassehalakon", ("10.13.37.44", "fe80::44", "2001:db8::44")),
    # What precedes the counter leaves no room for the padding: the digest takes a block more.
    104: ("correct horse battery staple", tuple(f"10.13.37.{number}" for number in range(50, 63))),
}
SIBLING = 77
ROUNDS = 40


def variants() -> tuple[str, ...]:
    if "native" not in IMPLEMENTATIONS:
        return ()
    from pycarp._native import auth

    return tuple(auth.sha1_variants())


@pytest.fixture(params=variants() or ("hashlib",))
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "hashlib":
        yield request.param
        return
    from pycarp._native import auth

    auth.sha1_select(request.param)
    yield request.param
    auth.sha1_select("auto")


class Host:
    """An input path with four groups, whose verdicts come one by one or together."""

    def __init__(self, impl: _impl.Implementation, together: bool) -> None:
        self.name = f"{impl.name}, {'together' if together else 'one by one'}"
        self._together = together
        self.input: Input = impl.input.Input()
        self.input.set_carpdev(wire.CARPDEV_MAC, [ip_interface("10.13.37.11/24")])
        self.authenticators: dict[int, Any] = {}
        for vhid, (passphrase, addresses) in GROUPS.items():
            made = self.authenticators[vhid] = impl.auth.Authenticator(passphrase, vhid, addresses)
            packed = [ip_interface(one).packed for one in addresses]
            self.input.set_instance(vhid, made, virtual_mac(vhid), packed)
            self.input.set_state(vhid, State.BACKUP)

    def hear(self, frames: list[bytes], now: int) -> list[Verdict]:
        if self._together:
            return self.input.receive_many(frames, now)
        return [self.input.receive(frame, now) for frame in frames]

    def hear_as_a_runtime(self, frames: list[bytes], now: int) -> list[Verdict | None]:
        """By the reference's shortcut: None for what it says is a forgery as before."""
        from pycarp._python.forgeries import forged_again

        return [None if forged_again(self.input, one) else self.input.receive(one, now) for one in frames]

    def learned(self) -> dict[int, Any]:
        """Counters, and who was heard: of the dialects only the last one's place counts."""
        heard = {vhid: made.bequest()["heard"] for vhid, made in self.authenticators.items()}
        return {vhid: (self.input.stats(vhid), sorted(known), known[-1:]) for vhid, known in heard.items()}


def frame(numbers: random.Random) -> bytes:
    """Mostly a forgery."""
    vhid = numbers.choice((101, 101, 101, *GROUPS))
    passphrase, addresses = GROUPS[vhid]
    source = numbers.choice((wire.PEER, wire.PEER, "fe80::99"))
    counter = numbers.randbytes(8)
    right = wire.Frame(
        vhid=vhid, passphrase=passphrase, addresses=addresses, source=source, counter=counter,
        dialect=numbers.choice(("bsd", "netbsd")), link_local=numbers.random() < 0.5,
    )  # fmt: skip
    forged = right.but(digest=numbers.randbytes(20))
    made = numbers.choice(
        [forged] * 12
        + [right] * 3
        + [
            right.but(digest_flip=1 << numbers.randrange(8)),
            right.but(checksum_flip=1),
            right.but(ttl=254),
            right.but(first=0x31),
            right.but(cut=numbers.randrange(1, 36)),
            right.but(vhid=SIBLING),
            forged.but(vhid=SIBLING),
            forged.but(destination_mac=wire.CARPDEV_MAC),
            right.but(destination="10.13.37.11", destination_mac=wire.CARPDEV_MAC, source=wire.PEER),
            right.but(destination_mac=virtual_mac(vhid)),
        ]
    )
    whole = bytes(made)
    return whole[: numbers.randrange(len(whole))] if numbers.random() < 0.05 else whole


def test_together_as_one_by_one(variant: str) -> None:
    """Verdicts, counters and what was learned, after floods of any length, in groups that change their states."""
    numbers = random.Random(f"flood {variant}")
    hosts = [Host(_impl.load(name), together) for name in IMPLEMENTATIONS for together in (False, True)]
    seen: set[str] = set()
    for turn in range(ROUNDS):
        frames = [frame(numbers) for _ in range(numbers.choice((0, 1, 2, 3, 12, 31, 32, 33, 64, 100)))]
        expected = hosts[0].hear(frames, turn * 1_000_000)
        seen |= {verdict.counter for verdict in expected}
        for host in hosts[1:]:
            found = host.hear(frames, turn * 1_000_000)
            assert found == expected, host.name
            assert host.learned() == hosts[0].learned(), host.name
        vhid, state = numbers.choice(tuple(GROUPS)), numbers.choice((State.BACKUP, State.BACKUP, *State))
        for host in hosts:
            host.input.set_state(vhid, state)
            host.input.allow = turn % 7 > 0
    assert seen >= {"", "badauth", "badsum", "badttl", "badver", "badlen", "badvhid", "badif", "ignored"}


@pytest.mark.skipif("python" not in IMPLEMENTATIONS, reason="the compiled twin has no such shortcut")
def test_forged_again() -> None:
    """The shortcut says the same and counts the same, while states, authenticators and instances change under it."""
    numbers = random.Random("again")
    plain, quick = (Host(_impl.load("python"), False) for _ in range(2))
    known = 0
    for turn in range(2 * ROUNDS):
        # Some are of the past: what was forged may be right by now, or its group gone.
        frames = [frame(numbers) for _ in range(40)]
        expected = plain.hear(frames, turn * 1_000_000)
        found = quick.hear_as_a_runtime(frames, turn * 1_000_000)
        for wanted, said in zip(expected, found, strict=True):
            assert said == wanted or (said is None and wanted.counter == "badauth" and wanted.vrrp is None)
        known += found.count(None)
        assert quick.learned() == plain.learned()
        for host in (plain, quick):
            host.input.allow = turn % 7 > 0
        if turn % 5 == 0:
            vhid, state = numbers.choice(tuple(GROUPS)), numbers.choice(tuple(State))
            for host in (plain, quick):
                host.input.set_state(vhid, state)
        if turn % 11 == 0:
            for host in (plain, quick):
                made = host.authenticators[102] = _impl.load("python").auth.Authenticator(
                    f"pass {turn}", 102, ["10.0.0.1"]
                )
                host.input.set_instance(102, made, virtual_mac(102), [])
    assert known > 300


def test_the_valid_one_among_forgeries(variant: str) -> None:
    """At each place of a full batch, and it alone."""
    passphrase, addresses = GROUPS[101]
    right = wire.Frame(vhid=101, passphrase=passphrase, addresses=addresses)
    numbers = random.Random(5)
    forged = [bytes(right.but(digest=numbers.randbytes(20), counter=numbers.randbytes(8))) for _ in range(40)]
    for name in IMPLEMENTATIONS:
        host = Host(_impl.load(name), True)
        for place in range(len(forged) + 1):
            verdicts = host.hear([*forged[:place], bytes(right), *forged[place:]], 0)
            assert [verdict.counter for verdict in verdicts] == ["badauth"] * place + [""] + ["badauth"] * (40 - place)
        stats = host.input.stats(101)
        assert (stats.ipackets, stats.badauth) == (41 * 41, 41 * 40)


@pytest.mark.skipif("python" not in IMPLEMENTATIONS, reason="the compiled twin reads the whole ring")
@pytest.mark.parametrize("advert_at", [300, 900, None])
def test_an_advert_behind_forgeries_is_read_before_a_takeover(
    monkeypatch: pytest.MonkeyPatch, advert_at: int | None
) -> None:
    """A backup is overdue, and its socket holds more than a turn reads: all is read, until an advert is found."""
    from pycarp._python.runtime import loop, state

    overdue, read = [True], []
    instance = SimpleNamespace(machine=SimpleNamespace(overdue=lambda _now: overdue[0]), timers=SimpleNamespace(due=1))
    # Another one is due before it, for an advert.
    other = SimpleNamespace(
        machine=SimpleNamespace(overdue=lambda _now: False),
        timers=SimpleNamespace(due=0),
        carpdev=SimpleNamespace(behind=False),
    )
    runtime = SimpleNamespace(heap=[(0, 5), (1, 0)], instances={5: other, 0: instance})

    def receive(_runtime: Any, _carpdev: Any, frame: bytes, _now: int) -> None:
        read.append(frame)
        overdue[0] = overdue[0] and frame != b"advert"

    monkeypatch.setattr(loop, "receive", receive)
    monkeypatch.setattr(loop, "forged_again", lambda _input, _frame: False)
    ours, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, others:
        ours.setblocking(False)
        # A stream, so that a thousand fit: each turn's reads are of one frame's length.
        queue = [b"advert" if number == advert_at else b"forged" for number in range(1000)]
        others.sendall(b"".join(queue))
        sockets = SimpleNamespace(receive=SimpleNamespace(recv_into=lambda _buffer: ours.recv_into(_buffer, 6)))
        carpdev = instance.carpdev = state.Carpdev(sockets, SimpleNamespace())  # type: ignore[arg-type]
        buffer = bytearray(64)
        loop._read_frames(runtime, carpdev, buffer)  # type: ignore[arg-type]
        assert carpdev.behind and len(read) < 300
        loop._catch_up(runtime, buffer)  # type: ignore[arg-type]
    assert (b"advert" in read) == (advert_at is not None)
    if advert_at is None:
        assert len(read) == 1000 and not carpdev.behind
