"""What only the compiled implementation has to show: that it is the reference's twin where bytes are hostile and
numbers large, that it needs no interpreter where it says so, and which SHA-1 it uses.

Quick differential checks with fixed seeds; test_differential.py has the long traces.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import IMPLEMENTATIONS, wire
from support.wire import Frame

from pycarp import VirtualHost, _impl
from pycarp.errors import ConfigError
from pycarp.protocol import Advert, Reason, State, Suppress, Transition
from pycarp.protocol.abc import Authenticator, Datagram, Input, Machine, Random
from pycarp.protocol.frames import virtual_mac

ROOT = Path(__file__).resolve().parents[2]
NS = 1_000_000_000
Pair = tuple[_impl.Implementation, _impl.Implementation]


@pytest.fixture(scope="module")
def pair() -> Pair:
    """(the compiled one, the reference)."""
    if "native" not in IMPLEMENTATIONS:
        pytest.skip("the compiled implementation is not tested here")
    return _impl.load("native"), _impl.load("python")


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives, or which error with which words."""
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


# Frames


def interesting_frames() -> list[bytes]:
    """Frames that reach every check, for the instances of `input_of`."""
    v4, v6 = Frame(), Frame(vhid=7, source="fe80::12", addresses=("fe80::42", "2001:db8::42"), dialect="netbsd")
    frames = [
        v4,
        v4.but(dialect="netbsd"),
        v4.but(first=0x31),
        v4.but(vhid=102),
        v4.but(vhid=255),
        v4.but(ttl=254),
        v4.but(cut=1),
        v4.but(options=b"\x01" * 8, trailer=b"more", padding=bytes(10)),
        v4.but(fragment=0x2000),
        v4.but(destination="224.0.0.1", destination_mac=bytes.fromhex("01005e000001")),
        v4.but(destination="10.13.37.255", destination_mac=wire.BROADCAST_MAC),
        v4.but(destination=wire.VIP, destination_mac=wire.VIRTUAL_MAC),
        v4.but(destination=wire.CARPDEV, destination_mac=wire.CARPDEV_MAC),
        v4.but(destination=wire.VIP, destination_mac=wire.CARPDEV_MAC),
        v6,
        v6.but(pseudo_header=True),
        v6.but(link_local=False, dialect="bsd"),
        v6.but(ttl=64),
        v6.but(destination="ff02::1", destination_mac=bytes.fromhex("333300000001")),
        v6.but(destination="fe80::42", destination_mac=bytes.fromhex("00005e000107")),
        v6.but(destination="2001:db8::11", destination_mac=wire.CARPDEV_MAC),
        v6.but(source="::ffff:10.13.37.12"),
    ]
    return [bytes(frame) for frame in frames]


def put_checksum(frame: bytearray, place: int, start: int, end: int) -> None:
    frame[place : place + 2] = b"\0\0"
    frame[place : place + 2] = wire.internet_checksum(bytes(frame[start:end])).to_bytes(2, "big")


def hostile_frames(source: random.Random, count: int) -> Iterator[bytes]:
    """Frames with bytes altered, cut off and added; often with the checksums put right, to get past those."""
    originals = interesting_frames()
    for _ in range(count):
        frame = bytearray(source.choice(originals))
        for _ in range(source.choice((0, 1, 1, 2, 5))):
            octet = source.choice((0, 1, 4, 6, 0x45, 112, 127, 224, 254, 255, source.randrange(256)))
            frame[source.randrange(len(frame))] = octet
        if source.random() < 0.2:
            del frame[source.randrange(len(frame) + 1) :]
        if source.random() < 0.1:
            frame += source.randbytes(source.randrange(70))
        if source.random() < 0.7 and len(frame) >= 70:
            header = 34 if frame[12:14] == b"\x08\x00" else 54
            if header == 34:
                put_checksum(frame, 24, 14, 14 + 4 * max(5, frame[14] & 15))
            put_checksum(frame, header + 6, header, header + 36)
        yield bytes(frame)


def input_of(impl: _impl.Implementation) -> Input:
    input_ = impl.input.Input()
    input_.set_carpdev(wire.CARPDEV_MAC, [ip_interface(f"{wire.CARPDEV}/24"), ip_interface("2001:db8::11/64")])
    for vhid, addresses in ((101, [wire.VIP]), (7, ["fe80::42", "2001:db8::42"]), (255, ["10.13.37.43"])):
        packed = [ip_interface(address).packed for address in addresses]
        authenticator = impl.auth.Authenticator(wire.PASSPHRASE, vhid, addresses)
        input_.set_instance(vhid, authenticator, virtual_mac(vhid), packed)
        input_.set_state(vhid, State.MASTER if vhid == 7 else State.BACKUP)
    return input_


def received_alike(pair: Pair, seed: int, count: int) -> set[str]:
    """The verdicts met."""
    source = random.Random(seed)
    native, python = input_of(pair[0]), input_of(pair[1])
    met = set()
    for number, frame in enumerate(hostile_frames(source, count)):
        now = number * 10_000_000
        verdict = python.receive(frame, now)
        assert native.receive(frame, now) == verdict, frame.hex()
        met.add(verdict.counter)
        if number % 97 == 0:
            native.allow = python.allow = source.random() < 0.9
            vhid, state = source.choice((101, 7, 255)), source.choice(list(State))
            native.set_state(vhid, state)
            python.set_state(vhid, state)
            assert all(native.stats(which) == python.stats(which) for which in (None, 101, 7, 255))
    assert native.stats() == python.stats()
    return met


def test_hostile_frames_are_received_as_by_the_reference(pair: Pair) -> None:
    everything = {
        "", "ignored", "allow", "badif", "badttl", "badlen", "badsum", "badvhid", "badver", "badauth", "sibling"
    }  # fmt: skip
    assert received_alike(pair, seed=112, count=20_000) == everything


def test_hostile_frames_are_taken_apart_as_by_the_reference(pair: Pair) -> None:
    native, python = pair[0].packet, pair[1].packet
    for frame in hostile_frames(random.Random(36), 5_000):
        datagram = python.dissect(frame)
        assert native.dissect(frame) == datagram
        if datagram is not None:
            assert native.advert(datagram) == python.advert(datagram)
            assert native.checksum_ok(datagram) == python.checksum_ok(datagram)


def test_checksums_of_all_lengths(pair: Pair) -> None:
    """Of payloads cut short as well, and of IPv4 headers with any number of options."""
    source = random.Random(1071)
    for length in range(45):
        for data in (source.randbytes(length), bytes(length), b"\xff" * length):
            put_right = data[:6] + wire.internet_checksum(data[:6] + b"\0\0" + data[8:36]).to_bytes(2, "big") + data[8:]
            for family, width in ((4, 4), (6, 16)):
                ip = source.randbytes(width), source.randbytes(width)
                for payload, right in ((data, wire.internet_checksum(data[:36]) == 0), (put_right, True)):
                    datagram = Datagram(family, b"", b"", *ip, 255, payload)
                    if length >= 8 or payload is data:
                        assert pair[0].packet.checksum_ok(datagram) == pair[1].packet.checksum_ok(datagram) == right
    for length in range(0, 44, 4):
        for options in (source.randbytes(length), bytes(length), b"\xff" * length):
            for flip, handed_on in ((0, True), (1, False), (0x8000, False)):
                frame = bytes(Frame(options=options, header_checksum_flip=flip))
                datagrams = [impl.packet.dissect(frame) for impl in pair]
                assert datagrams[0] == datagrams[1] and (datagrams[0] is not None) == handed_on


def test_frames_are_built_as_by_the_reference(pair: Pair) -> None:
    source = random.Random(42)
    for _ in range(500):
        mac = source.randbytes(6)
        v4, v6 = IPv4Address(source.randbytes(4)), IPv6Address(source.randbytes(16))
        values = (source.randrange(256), source.randrange(256), source.randbytes(8), source.randbytes(20))
        vhid = source.randrange(256)
        built = [
            [
                packet.AdvertTemplate(vhid, mac, v4).frame(*values),
                packet.AdvertTemplate(vhid, mac, str(v6)).frame(*values),
            ]
            for packet in (pair[0].packet, pair[1].packet)
        ]
        assert built[0] == built[1]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_is_as_good_as_bytes(pair: Pair, kind: Callable[[bytes], Any]) -> None:
    frame = bytes(Frame())
    native = pair[0]
    assert native.packet.dissect(kind(frame)) == native.packet.dissect(frame)
    assert input_of(native).receive(kind(frame)) == input_of(native).receive(frame)


# Authenticators


def random_passphrase(source: random.Random) -> bytes:
    kind = source.randrange(6)
    if kind == 0:
        return source.choice((b"0x", b"0X")) + source.randbytes(source.randrange(12)).hex().encode()
    if kind == 1:
        return b"0x" + bytes(source.choices(b"0123456789abcdefABCDEFg \n", k=source.randrange(30)))
    if kind == 2:
        return source.randbytes(source.randrange(30)).replace(b"\0", b"x")
    if kind == 3:
        return source.randbytes(source.randrange(10)) + b"\0" + source.randbytes(source.randrange(15))
    return bytes(source.choices(b"abcdefghijklmnop", k=source.randrange(30)))


def random_addresses(source: random.Random) -> list[str]:
    def address() -> str:
        kind = source.randrange(4)
        if kind == 0:
            return str(IPv6Address(b"\xfe\x80" + source.randbytes(14)))
        if kind == 1:
            return str(IPv6Address(b"\xfe" + source.randbytes(15)))
        if kind == 2:
            return f"{IPv6Address(source.randbytes(16))}/64"
        return str(IPv4Address(source.randbytes(4)))

    # One kind of address only, or all: so the counter comes to stand everywhere in its block.
    choice = source.randrange(3)
    count = source.randrange(41)
    if choice == 0:
        return [f"10.0.0.{number + 1}/24" for number in range(count)]
    addresses = [address() for _ in range(count)]
    return addresses + addresses[: source.randrange(3)]


def authenticate_alike(native: ModuleType, python: ModuleType, source: random.Random) -> None:
    passphrase, vhid = random_passphrase(source), source.randrange(1, 256)
    addresses, dialect = random_addresses(source), source.choice(("auto", "bsd", "netbsd"))
    makers = (native.Authenticator, python.Authenticator)
    ours, theirs = (outcome(maker, passphrase, vhid, addresses, dialect) for maker in makers)
    if isinstance(theirs, tuple):
        assert ours == theirs
        return
    assert repr(ours) == repr(theirs)
    for _ in range(8):
        counter, name = source.randbytes(8), source.choice((None, "bsd", "netbsd", "openbsd"))
        signature = outcome(theirs.sign, counter, name)
        assert outcome(ours.sign, counter, name) == signature
        values = source.randrange(256), source.randrange(256), source.getrandbits(30), name
        assert outcome(ours.counter, *values) == outcome(theirs.counter, *values)
        if isinstance(signature, bytes):
            digest = signature if source.random() < 0.7 else bytes((signature[0] ^ 1,)) + signature[1:]
            # Without link-local addresses, as OpenBSD signs.
            if source.random() < 0.3:
                kept = [a for a in addresses if ip_interface(a).version == 4 or not ip_interface(a).is_link_local]
                fixed = name if name in ("bsd", "netbsd") else "bsd"
                digest = python.Authenticator(passphrase, vhid, kept, fixed).sign(counter)
            assert ours.verify(counter, digest) == theirs.verify(counter, digest)
        assert ours.dialects == theirs.dialects


def test_authenticators_agree(pair: Pair) -> None:
    source = random.Random(2104)
    native, python = pair[0].auth, pair[1].auth
    for _ in range(150):
        authenticate_alike(native, python, source)  # type: ignore[arg-type]  # modules behind protocols


@pytest.mark.parametrize("variant", ["sha-ni", "armv8", "portable"])
def test_every_variant_signs_alike(pair: Pair, variant: str) -> None:
    native: Any = pair[0].auth
    if variant not in native.sha1_variants():
        pytest.skip(f"this CPU has no {variant}")
    native.sha1_select(variant)
    try:
        assert native.sha1_variant() == variant
        source = random.Random(160)
        for _ in range(30):
            authenticate_alike(native, pair[1].auth, source)  # type: ignore[arg-type]
    finally:
        native.sha1_select("auto")


def import_pycarp(**environment: str) -> subprocess.CompletedProcess[str]:
    program = "import pycarp; print(pycarp.__impl__, pycarp._impl.load('native').auth.sha1_variant())"
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_environment_chooses_the_variant(pair: Pair) -> None:
    assert import_pycarp(PYCARP_SHA1="portable", PYCARP_IMPL="").stdout.split() == ["native", "portable"]
    fastest = pair[0].auth.sha1_variants()[0]  # type: ignore[attr-defined]
    assert import_pycarp(PYCARP_SHA1="auto", PYCARP_IMPL="").stdout.split() == ["native", fastest]


@pytest.mark.parametrize("implementation", ["", "native"])
def test_an_unknown_variant_is_an_error_and_no_fallback(pair: Pair, implementation: str) -> None:
    done = import_pycarp(PYCARP_SHA1="sha-ni512", PYCARP_IMPL=implementation)
    assert done.returncode != 0
    assert "ImplementationError" in done.stderr and "PYCARP_SHA1='sha-ni512'" in done.stderr


def test_nothing_of_a_key_can_be_copied(pair: Pair) -> None:
    import copy
    import pickle

    authenticator = pair[0].auth.Authenticator(wire.PASSPHRASE, 101, [wire.VIP])
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(authenticator)


# Inputs


class Witness:
    """An authenticator that is not this package's own: it believes what it is told to."""

    def __init__(self, dialect: str | None, finding: str = "") -> None:
        self.dialect = dialect
        self.finding = finding
        self.asked: list[tuple[bytes, bytes]] = []

    def verify(self, counter: bytes, digest: bytes) -> str | None:
        self.asked.append((counter, digest))
        return self.dialect

    def check(
        self, counter: bytes, advbase: int, advskew: int, dialect: str, demotion: int = 0, own: bool = True
    ) -> str:
        return self.finding

    def tagged(self, counter: bytes, dialect: str) -> bool:
        return False


@pytest.mark.parametrize(("dialect", "finding"), [("bsd", ""), ("bsd", "echo"), ("netbsd", "altered"), (None, "")])
def test_a_foreign_authenticator_is_asked(pair: Pair, dialect: str | None, finding: str) -> None:
    frame = Frame(vhid=9, digest=bytes(20))
    seen = []
    for impl in pair:
        input_, witness = impl.input.Input(), Witness(dialect, finding)
        input_.set_instance(9, witness, b"", [])  # type: ignore[arg-type]
        input_.set_state(9, State.BACKUP)
        seen.append((input_.receive(bytes(frame)), input_.stats(9), witness.asked))
    assert seen[0] == seen[1]
    assert seen[0][2] == [(frame.counter, bytes(20))]


def test_instances_come_and_go(pair: Pair) -> None:
    source = random.Random(255)
    inputs = [impl.input.Input() for impl in pair]
    keys: list[list[Authenticator]] = [
        [impl.auth.Authenticator("secret secret", vhid, ["10.0.0.1"]) for vhid in range(1, 256)] for impl in pair
    ]
    frames = [bytes(Frame(vhid=vhid, passphrase="secret secret", addresses=("10.0.0.1",))) for vhid in range(1, 256)]
    for _ in range(4_000):
        vhid, step = source.randrange(-1, 258), source.randrange(5)
        state = source.choice(list(State))
        addresses = [source.randbytes(source.choice((4, 16, 3))) for _ in range(source.randrange(4))]
        results = []
        for input_, authenticators in zip(inputs, keys, strict=True):
            if step == 0:
                authenticator = authenticators[vhid % 255]
                result = outcome(
                    input_.set_instance, vhid, authenticator, b"\0\0\x5e\0\1" + bytes((vhid % 256,)), addresses
                )
            elif step == 1:
                result = outcome(input_.remove_instance, vhid)
            elif step == 2:
                result = outcome(input_.set_state, vhid, state)
            elif step == 3:
                result = outcome(input_.count_sent, vhid, 4 + 2 * (vhid % 2))
            else:
                result = (outcome(input_.stats, vhid), [input_.receive(frame) for frame in frames[vhid % 255 :][:3]])
            results.append(result)
        assert results[0] == results[1]
    assert inputs[0].stats() == inputs[1].stats()


def memory(thing: Any) -> bytes:
    return ctypes.string_at(id(thing), type(thing).__basicsize__)


def keys_in(input_: Input, authenticator: Authenticator) -> int:
    """How many pieces of an authenticator's hashed keys stand in an input's own memory."""
    secret, seen = memory(authenticator), memory(input_)
    pieces = {secret[at : at + 20] for at in range(0, len(secret) - 20, 4)}
    return sum(piece in seen for piece in pieces if len(set(piece)) > 12)


@pytest.mark.parametrize("way", ["removed", "another secret", "another dialect"])
def test_keys_derived_for_a_sibling_are_wiped(pair: Pair, way: str) -> None:
    impl = pair[0]
    input_, authenticator = impl.input.Input(), impl.auth.Authenticator(wire.PASSPHRASE, 101, [wire.VIP])
    input_.set_instance(101, authenticator, bytes(6), [])
    input_.set_state(101, State.BACKUP)
    assert keys_in(input_, authenticator) == 0
    for vhid in (100, 77):
        assert input_.receive(bytes(Frame(vhid=vhid))).counter == "sibling"
    assert keys_in(input_, authenticator) >= 2
    input_.set_instance(101, authenticator, bytes(6), [wire.VIP.encode()])
    assert keys_in(input_, authenticator) >= 2
    if way == "removed":
        input_.remove_instance(101)
    else:
        given = ("another secret", "auto") if way == "another secret" else (wire.PASSPHRASE, "bsd")
        other = impl.auth.Authenticator(given[0], 101, [wire.VIP], given[1])
        input_.set_instance(101, other, bytes(6), [])
    assert keys_in(input_, authenticator) == 0


# Machines


class Dice:
    """Random(n) with a record of what was asked, and failures to order."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self.asked: list[int] = []
        self.fail = False

    def __call__(self, bound: int) -> int:
        self.asked.append(bound)
        if self.fail:
            raise OSError("no randomness")
        return self._source.randrange(bound)


def state_of(machine: Machine) -> tuple[Any, ...]:
    return (
        machine.state, machine.deadline, machine.demotion, machine.advskew, machine.interval, machine.master_down,
        machine.config,
    )  # fmt: skip


def heard(source: random.Random) -> Advert:
    advbase, advskew = source.choice(((1, 0), (1, 100), (1, 240), (2, 0), (0, 50), (255, 255), (40, 3)))
    return Advert(source.choice((4, 6)), "10.0.0.1", "224.0.0.18", b"", 2, 1, 101, advskew, 7, 0, advbase, b"", b"")


def random_config(source: random.Random) -> VirtualHost:
    return VirtualHost(
        vhid=101,
        passphrase="",
        addresses=["10.13.37.42/24"] if source.random() < 0.9 else [],
        advbase=source.choice((1, 1, 0, 3, 254)),
        advskew=source.choice((100, 1, 254)),
        preempt=source.random() < 0.5,
        up=source.random() < 0.9,
    )


def random_step(source: random.Random, now: int) -> tuple[str, tuple[Any, ...]]:
    name = source.choice(
        ("start", "start", "stop", "link", "receive", "receive", "receive", "timeout", "timeout", "timeout", "demote",
         "sent", "sent", "force", "reconfigure")
    )  # fmt: skip
    arguments: dict[str, Callable[[], tuple[Any, ...]]] = {
        "link": lambda: (source.random() < 0.6,),
        "receive": lambda: (heard(source), source.choice((None, "10.13.37.12", "somebody"))),
        "demote": lambda: (source.choice((1, -1, 3, -7, 0, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1)),),
        "sent": lambda: (source.random() < 0.4,),
        "force": lambda: (source.choice((*State, 1, 2, 3)),),
        "reconfigure": lambda: (random_config(source),),
    }
    return name, (*arguments.get(name, tuple)(), now)


def test_machines_agree(pair: Pair) -> None:
    for seed in range(150):
        source = random.Random(seed)
        config, now = random_config(source), source.choice((0, 10**12, 2**61))
        dice = (Dice(seed), Dice(seed))
        machines = [impl.machine.Machine(config, die) for impl, die in zip(pair, dice, strict=True)]
        for _ in range(80):
            due = machines[1].deadline
            now = due if due is not None and source.random() < 0.6 else now + source.randrange(2 * NS)
            for die in dice:
                die.fail = source.random() < 0.02 if die is dice[0] else dice[0].fail
            name, arguments = random_step(source, now)
            before = state_of(machines[0])
            results = [outcome(getattr(machine, name), *arguments) for machine in machines]
            assert results[0] == results[1], (seed, name, arguments)
            assert state_of(machines[0]) == state_of(machines[1]), (seed, name, arguments)
            if isinstance(results[0], tuple):
                assert state_of(machines[0]) == before
        assert dice[0].asked == dice[1].asked


def backup(impl: _impl.Implementation, random: Random) -> Machine:
    machine = impl.machine.Machine(VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"], preempt=True), random)
    machine.start(0)
    return machine


def test_a_failure_of_the_random_source_comes_through(impl: _impl.Implementation) -> None:
    """And nothing has happened: the same call succeeds once there is randomness again."""
    die = Dice(1)
    machine = impl.machine.Machine(VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"]), die)
    die.fail = True
    for _ in range(2):
        with pytest.raises(OSError, match="no randomness"):
            machine.start(5)
        assert machine.state is State.INIT and machine.deadline is None
    die.fail = False
    assert machine.start(5) == [Transition(State.INIT, State.BACKUP, Reason.STARTED, None, 5)]
    machine.link(False, 6)
    die.fail = True
    with pytest.raises(OSError, match="no randomness"):
        machine.link(True, 7)
    assert machine.state is State.INIT and machine.demotion == 1
    die.fail = False
    assert machine.link(True, 8)[0] == Suppress(-1)
    assert machine.state is State.BACKUP


@pytest.mark.parametrize("drawn", [-1, 20_000_001])
def test_a_random_source_out_of_range_is_refused(impl: _impl.Implementation, drawn: int) -> None:
    machine = impl.machine.Machine(VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"]), lambda bound: drawn)
    with pytest.raises(ValueError, match=r"random\(20000001\) gave"):
        machine.start(0)
    assert machine.state is State.INIT


@pytest.mark.parametrize("now", [-1, 2**62, 2**63, 2**64, -(2**70)])
def test_no_moment_out_of_range(impl: _impl.Implementation, now: int) -> None:
    machine = backup(impl, lambda bound: 0)
    before = state_of(machine)
    steps: list[tuple[Any, ...]] = [
        (machine.start,), (machine.stop,), (machine.link, False), (machine.receive, heard(random.Random(1)), None),
        (machine.timeout,), (machine.demote, 1), (machine.sent, True), (machine.force, State.MASTER),
        (machine.reconfigure, machine.config),
    ]  # fmt: skip
    for function, *arguments in steps:
        with pytest.raises(OverflowError):
            function(*arguments, now)
        assert state_of(machine) == before


def test_the_last_moment_of_all(impl: _impl.Implementation) -> None:
    slowest = VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"], advbase=254, advskew=254)
    machine = impl.machine.Machine(slowest, lambda bound: bound - 1)
    machine.start(2**62 - 1)
    assert machine.deadline == 2**62 - 1 + machine.master_down + 20_000_000
    machine.force(State.MASTER, 2**62 - 1)
    assert machine.deadline == 2**62 - 1 + machine.interval


def test_its_own_randomness_is_spread(pair: Pair) -> None:
    config = VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"])
    waits = set()
    for _ in range(200):
        machine = pair[0].machine.Machine(config)
        machine.start(0)
        assert machine.deadline is not None
        waits.add(machine.deadline - machine.master_down)
    assert len(waits) > 190
    assert 0 <= min(waits) < 2_000_000 and 18_000_000 < max(waits) <= 20_000_000


def test_the_peer_of_a_planned_takeover_is_not_kept_longer(pair: Pair) -> None:
    peer = "".join(["10.13.37.", "99"])
    machine = backup(pair[0], lambda bound: 0)
    references = sys.getrefcount(peer)
    machine.receive(heard(random.Random(1)), peer, 1)
    machine.receive(Advert(4, "", "", b"", 2, 1, 1, 255, 7, 0, 255, b"", b""), peer, 2)
    assert sys.getrefcount(peer) == references + 1
    assert peer in [getattr(action, "peer", None) for action in machine.timeout(NS)]
    assert sys.getrefcount(peer) == references


# The modules


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("auth.Authenticator", (1.5, 101, [])),
        ("auth.Authenticator", ("secret secret", 0, [])),
        ("auth.Authenticator", ("secret secret", True, [])),
        ("auth.Authenticator", ("secret secret", 101, ["10.0.0.256"])),
        ("auth.Authenticator", ("secret secret", 101, [], "freebsd")),
        ("auth.Authenticator", ("0xabc", 101, [], "netbsd")),
        ("auth.Authenticator", ("\ud800", 101, [])),
        ("packet.AdvertTemplate", (256, bytes(6), "10.0.0.1")),
        ("packet.AdvertTemplate", (1, bytes(5), "10.0.0.1")),
        ("packet.AdvertTemplate", (1, bytes(6), "10.0.0.256")),
    ],
)
def test_the_same_refusals(pair: Pair, what: str, arguments: tuple[Any, ...]) -> None:
    module, name = what.split(".")
    ours, theirs = (outcome(getattr(getattr(impl, module), name), *arguments) for impl in pair)
    assert ours == theirs
    assert isinstance(theirs, tuple) and issubclass(theirs[0], ValueError)


@pytest.mark.parametrize("garbage", [None, 5, "text", 1.5, []])
def test_what_is_no_frame_is_a_type_error(pair: Pair, garbage: object) -> None:
    native = pair[0]
    functions: list[Callable[[Any], Any]] = [native.packet.dissect, input_of(native).receive]
    for function in functions:
        with pytest.raises(TypeError):
            function(garbage)
    with pytest.raises(TypeError):
        native.packet.advert(Datagram(4, b"", b"", bytes(4), bytes(4), 255, garbage))  # type: ignore[arg-type]


def test_secrets_stay_out_of_errors(pair: Pair) -> None:
    for passphrase, dialect in (("0xhunter2", "netbsd"), ("hunter2\ud800", "auto"), ("hunter2", "hunter3")):
        with pytest.raises(ConfigError) as caught:
            pair[0].auth.Authenticator(passphrase, 1, [], dialect)
        assert "hunter2" not in str(caught.value) and caught.value.__cause__ is None


@pytest.mark.slow
def test_nogil_code_is_pure_c(tmp_path: Path) -> None:
    """No line of a nogil function calls into Python: zero yellow in Cython's annotation."""
    if not (ROOT / "ext").is_dir():
        pytest.skip("an installed package, without its sources")
    from Cython.Compiler import Main, Options

    package = tmp_path / "pycarp" / "_native"
    package.mkdir(parents=True)
    for declarations in (ROOT / "ext").rglob("*.pxd"):
        (package / declarations.name).write_text(declarations.read_text())
    former, Options.annotate = Options.annotate, True
    try:
        for name in ("packet", "auth", "input", "machine"):
            options = Options.CompilationOptions(
                Options.default_options,
                include_path=[str(ROOT / "ext"), str(tmp_path)],
                output_file=str(tmp_path / f"{name}.c"),
                compiler_directives={"language_level": "3"},
            )
            source = ROOT / "ext" / f"{name}.pyx"
            result = Main.compile_single(str(source), options, full_module_name=f"pycarp._native.{name}")
            assert result.num_errors == 0
            yellow = scores((tmp_path / f"{name}.html").read_text())
            functions = nogil_lines(source.read_text().splitlines())
            assert functions and len(yellow) > len(functions) / 3
            assert not [line for line in functions if yellow.get(line)], name
    finally:
        Options.annotate = former


def scores(annotation: str) -> dict[int, int]:
    """Line number -> how yellow it is."""
    line = re.compile(r'<pre class="cython line score-(\d+)"[^>]*>.*?<span class="">(\d+)</span>', re.DOTALL)
    found = line.finditer(annotation)
    return {int(match[2]): int(match[1]) for match in found}


def nogil_lines(source: list[str]) -> list[int]:
    """The numbers of the lines inside nogil functions."""
    lines, inside = [], False
    for number, line in enumerate(source, 1):
        if line[:1].isalpha() or line.startswith((") ", "@")):
            inside = line.rstrip().endswith("nogil:")
        elif inside and line.strip():
            lines.append(number)
    return lines
