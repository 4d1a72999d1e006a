"""The core against itself and against the alternatives: parse, verify, sign, machine step, the whole receive path.

    python -m pytest benchmarks            # or --quick

"native" is measured twice: in a loop without the interpreter (what the native runtime pays), and called from Python.
Everything works on the same adverts, under one key, for one IPv4 address.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import frames
import pytest
from targets import FIGURES, Measure

from pycarp import VirtualHost, _impl
from pycarp.protocol import State
from pycarp.protocol.abc import Input, Machine
from pycarp.protocol.frames import virtual_mac
from pycarp.protocol.keys import bsd_key

TURNS = 20_480
"""Whole batches: of 32."""
COUNT = 256
KEY = bsd_key(frames.PASSPHRASE.encode())
PREFIX = bytes((2, 1, frames.VHID)) + bytes((10, 13, 37, 42))
RECORDS = frames.records(COUNT)
PACKED = b"".join(counter + digest for counter, digest in RECORDS)
VALID = frames.valid(COUNT)
FORGED = frames.forged(COUNT)
HOST = VirtualHost(vhid=frames.VHID, passphrase=frames.PASSPHRASE, addresses=frames.ADDRESSES, advskew=100)


@pytest.fixture(params=["native", "python"])
def impl(request: pytest.FixtureRequest) -> _impl.Implementation:
    return _impl.load(request.param)


def over(function: Callable[..., Any], arguments: Iterator[tuple[Any, ...]]) -> Callable[[], Any]:
    """The function on one after the other, so that no call repeats the arguments of the one before."""
    return lambda: function(*next(arguments))


# One block: what all is measured by


@pytest.mark.benchmark(group="SHA-1")
def test_one_block(measure: Measure, loops: Any) -> None:
    assert measure("sha1 block", loops.block, turns=TURNS)


# Parse


@pytest.mark.benchmark(group="parse: from a frame to an advert with a right checksum")
class TestParse:
    def test_native_loop(self, measure: Measure, loops: Any) -> None:
        assert measure("parse native", loops.parse, VALID[0], turns=TURNS)

    def test_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        packet = impl.packet

        def parse(frame: bytes) -> bool:
            datagram = packet.dissect(frame)
            assert datagram is not None
            return packet.advert(datagram) is not None and packet.checksum_ok(datagram)

        assert measure(f"parse {impl.name} called", over(parse, cycle((frame,) for frame in VALID)))

    def test_scapy(self, measure: Measure) -> None:
        ether, _carp = scapy()
        assert measure("parse scapy", over(lambda frame: ether(frame), cycle((f,) for f in VALID)), calls=50)


# Verify


@pytest.mark.benchmark(group="verify: is the digest of an advert right")
class TestVerify:
    def test_one_block_beside_it(self, measure: Measure, loops: Any) -> None:
        """Once more, close to what it is compared with: the clock of a processor is not the same all day."""
        assert measure("sha1 block", loops.block, turns=TURNS)

    def test_native_loop(self, measure: Measure, loops: Any) -> None:
        native = _impl.load("native")
        assert measure("verify native one", loops.verify_one, frames.authenticator(native), PACKED, turns=TURNS) > 0

    def test_native_batch(self, measure: Measure, loops: Any) -> None:
        native = _impl.load("native")
        verifier = frames.authenticator(native)
        assert measure("verify native of many", loops.verify_many, verifier, PACKED, turns=TURNS) > 0

    def test_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        verify = frames.authenticator(impl).verify
        assert measure(f"verify {impl.name} called", over(verify, cycle(RECORDS))) == "bsd"

    def test_hmac_digest(self, measure: Measure) -> None:
        def verify(counter: bytes, digest: bytes) -> bool:
            return hmac.compare_digest(hmac.digest(KEY, PREFIX + counter, "sha1"), digest)

        assert measure("verify hmac.digest", over(verify, cycle(RECORDS)))

    def test_hmac_copy(self, measure: Measure) -> None:
        prepared = hmac.new(KEY, PREFIX, "sha1")

        def verify(counter: bytes, digest: bytes) -> bool:
            mac = prepared.copy()
            mac.update(counter)
            return hmac.compare_digest(mac.digest(), digest)

        assert measure("verify hmac copy", over(verify, cycle(RECORDS)))

    def test_hashlib(self, measure: Measure) -> None:
        padded = KEY.ljust(64, b"\0")
        inner_pad, outer_pad = (bytes(byte ^ pad for byte in padded) for pad in (0x36, 0x5C))
        inner, outer = hashlib.sha1(inner_pad + PREFIX), hashlib.sha1(outer_pad)

        def verify(counter: bytes, digest: bytes) -> bool:
            first, second = inner.copy(), outer.copy()
            first.update(counter)
            second.update(first.digest())
            return hmac.compare_digest(second.digest(), digest)

        assert measure("verify hashlib", over(verify, cycle(RECORDS)))

    def test_model_of_the_kernels_way(self, measure: Measure, model: Any) -> None:
        model.model_verify.restype = ctypes.c_size_t
        model.model_prepare(KEY, ctypes.c_size_t(len(KEY)), PREFIX, ctypes.c_size_t(len(PREFIX)))

        def verify(turns: int) -> int:
            right: int = model.model_verify(PACKED, ctypes.c_size_t(COUNT), ctypes.c_size_t(turns))
            return turns - right

        assert measure("verify model", verify, turns=TURNS) == 0

    def test_scapy_building_the_same(self, measure: Measure) -> None:
        """Scapy's own digest is not CARP's, but the same amount of work; it then compares the whole CARP header."""
        _ether, carp = scapy()
        address = frames.ADDRESSES[0].partition("/")[0]

        def build(counter: bytes, digest: bytes) -> bytes:
            packet = carp(
                version=2,
                type=1,
                vhid=frames.VHID,
                advskew=100,
                authlen=7,
                advbase=1,
                counter1=int.from_bytes(counter[:4], "big"),
                counter2=int.from_bytes(counter[4:], "big"),
            )
            own = packet.build_hmac_sha1(KEY, [address])
            packet.hmac1, packet.hmac2, packet.hmac3, packet.hmac4, packet.hmac5 = (
                int.from_bytes(own[at : at + 4], "big") for at in range(0, 20, 4)
            )
            return bytes(packet)

        assert len(measure("verify scapy", over(build, cycle(RECORDS)), calls=50)) == 36


# Sign


@pytest.mark.benchmark(group="sign: the digest of an advert")
class TestSign:
    def test_native_loop(self, measure: Measure, loops: Any) -> None:
        measure("sign native", loops.sign, frames.authenticator(_impl.load("native")), turns=TURNS)

    def test_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        sign = frames.authenticator(impl).sign
        assert len(measure(f"sign {impl.name} called", over(sign, cycle((r[0],) for r in RECORDS)))) == 20

    def test_whole_advert_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        """Counter, digest and frame: what a MASTER makes for each advert."""
        signer = frames.authenticator(impl)
        template = impl.packet.AdvertTemplate(frames.VHID, virtual_mac(frames.VHID), frames.PEER)

        def build(nonce: int) -> bytes:
            counter = signer.counter(1, 100, nonce)
            return template.frame(1, 100, counter, signer.sign(counter))

        nonces = cycle((nonce,) for nonce in range(1000))
        assert len(measure(f"advert {impl.name} called", over(build, nonces))) == 14 + 20 + 36


# Machine


@pytest.mark.benchmark(group="machine: an advert for a BACKUP, an advert's time for a MASTER")
class TestMachine:
    def test_receive_native_loop(self, measure: Measure, loops: Any) -> None:
        assert measure("receive native", loops.receive, backup(_impl.load("native")), 1, 0, 10**9, turns=TURNS)

    def test_receive_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        machine, now = backup(impl), 10**9
        datagram = impl.packet.dissect(VALID[0])
        assert datagram is not None
        advert = impl.packet.advert(datagram)
        assert advert is not None
        assert measure(f"receive {impl.name} called", machine.receive, advert, frames.PEER, now) == []

    def test_timeout_native_loop(self, measure: Measure, loops: Any) -> None:
        assert measure("timeout native", loops.timeout, master(_impl.load("native")), turns=TURNS)

    def test_timeout_called(self, measure: Measure, impl: _impl.Implementation) -> None:
        machine = master(impl)

        def timeout() -> int:
            due = machine.deadline
            assert due is not None
            return len(machine.timeout(due))

        assert measure(f"timeout {impl.name} called", timeout)


def backup(impl: _impl.Implementation) -> Machine:
    machine = impl.machine.Machine(HOST)
    machine.start(0)
    return machine


def master(impl: _impl.Implementation) -> Machine:
    machine = backup(impl)
    machine.force(State.MASTER, 0)
    return machine


# The receive path


@pytest.mark.benchmark(group="receive path: from a frame to a verdict")
class TestInput:
    @pytest.mark.parametrize(("kind", "sent"), [("valid", VALID), ("forged", FORGED)])
    def test_native_loop(self, measure: Measure, loops: Any, kind: str, sent: list[bytes]) -> None:
        path = frames.input_of_backup(_impl.load("native"))
        measure(f"input native {kind}", loops.input_frames, path, b"".join(sent), len(sent[0]), turns=TURNS)
        assert counted(path, kind)

    @pytest.mark.parametrize(("kind", "sent"), [("valid", VALID), ("forged", FORGED)])
    def test_native_batch(self, measure: Measure, loops: Any, kind: str, sent: list[bytes]) -> None:
        path = frames.input_of_backup(_impl.load("native"))
        measure(f"input native {kind} of many", loops.input_batches, path, b"".join(sent), len(sent[0]), turns=TURNS)
        assert counted(path, kind)

    @pytest.mark.parametrize(("kind", "sent"), [("valid", VALID), ("forged", FORGED)])
    def test_called(self, measure: Measure, impl: _impl.Implementation, kind: str, sent: list[bytes]) -> None:
        path = frames.input_of_backup(impl)
        verdict = measure(f"input {impl.name} {kind} called", over(path.receive, cycle((frame,) for frame in sent)))
        assert verdict.counter == ("" if kind == "valid" else "badauth")
        assert counted(path, kind)


def counted(path: Input, kind: str) -> bool:
    stats = path.stats(frames.VHID)
    return stats.ipackets > 0 and stats.badauth == (stats.ipackets if kind == "forged" else 0)


def scapy() -> tuple[Any, Any]:
    """Scapy's classes; it is slow to load, and rearranges its own layers for CARP."""
    from scapy.contrib.carp import CARP
    from scapy.layers.l2 import Ether

    return Ether, CARP


def test_ratios_hold_by_far() -> None:
    """Not the targets, which need a quiet machine: what no noise can explain."""
    if "verify native one" not in FIGURES:
        pytest.skip("nothing was measured")
    native = FIGURES["verify native one"]
    assert FIGURES["verify model"] > 2 * native
    assert FIGURES["verify hmac.digest"] > 4 * native
    assert FIGURES["verify scapy"] > 25 * native
    assert FIGURES["verify python called"] > FIGURES["verify native called"]
