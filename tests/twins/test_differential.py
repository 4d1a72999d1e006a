"""Native and Python, driven by the same traces, say the same after every step.

State, deadline, counters, actions, emitted bytes, what they asked of the injected random, and the words of every error.
`PYCARP_DIFFERENTIAL_STEPS` sets the length of the bulk run (a million and more by hand).
"""

from __future__ import annotations

import os
import random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import IMPLEMENTATIONS, trace, wire

from pycarp import _impl
from pycarp._impl import Implementation
from pycarp.protocol import STANDINGS, Action, Reason, SiblingFound, State, Transition
from pycarp.protocol.abc import Datagram

STEPS = int(os.environ.get("PYCARP_DIFFERENTIAL_STEPS", "110000"))
TRACE = 2_000


@pytest.fixture(scope="session")
def pair() -> tuple[Implementation, Implementation]:
    """The two; where only one was asked for, that one twice: then at least the traces are tried."""
    return _impl.load(IMPLEMENTATIONS[0]), _impl.load(IMPLEMENTATIONS[-1])


def explained(pair: tuple[Implementation, Implementation], program: bytes) -> str:
    """What a person wants to see of a difference: the fewest steps to it."""
    cut = trace.shortest(lambda tried: trace.difference(pair, tried)[1] is not None, program)
    watched = trace.Pair(pair, cut[: trace.WIDTH])
    lines = [f"{watched.config}, {len(cut) // trace.WIDTH - 1} steps, program {cut.hex()}"]
    for instruction in trace.steps(cut[trace.WIDTH :]):
        lines.append(f"  {watched._decode(instruction)}")
    lines.append(str(trace.difference(pair, cut)[1]))
    return "\n".join(lines)


def assert_equal(pair: tuple[Implementation, Implementation], program: bytes) -> None:
    number, found = trace.difference(pair, program)
    if found is not None:
        pytest.fail(f"they differ after {number} steps\n{explained(pair, program)}", pytrace=False)


@pytest.mark.timeout(3600)
def test_bulk(pair: tuple[Implementation, Implementation]) -> None:
    """Many steps of seeded random programs: 110,000 unless PYCARP_DIFFERENTIAL_STEPS says otherwise."""
    for seed in range(max(1, STEPS // TRACE)):
        assert_equal(pair, random.Random(seed).randbytes(trace.WIDTH * (TRACE + 1)))


@given(program=st.binary(min_size=12, max_size=6 * 200))
@settings(max_examples=150)
def test_any_program(pair: tuple[Implementation, Implementation], program: bytes) -> None:
    assert_equal(pair, program)


INIT, BACKUP, MASTER = State
TRANSITIONS = {
    (INIT, BACKUP, Reason.STARTED), (INIT, BACKUP, Reason.LINK_UP),
    (BACKUP, MASTER, Reason.MASTER_DOWN), (BACKUP, MASTER, Reason.BOWOUT), (BACKUP, MASTER, Reason.TOO_SLOW),
    (BACKUP, MASTER, Reason.PREEMPT), (BACKUP, MASTER, Reason.FORCED),
    (MASTER, BACKUP, Reason.BETTER), (MASTER, BACKUP, Reason.TIE), (MASTER, BACKUP, Reason.FORCED),
    (MASTER, BACKUP, Reason.STALLED), (MASTER, BACKUP, Reason.WATCHDOG), (MASTER, BACKUP, Reason.HANDED_OVER),
    (MASTER, BACKUP, Reason.SIBLING),
    (MASTER, INIT, Reason.STOPPED), (BACKUP, INIT, Reason.STOPPED),
    (MASTER, INIT, Reason.LINK_DOWN), (BACKUP, INIT, Reason.LINK_DOWN),
}  # fmt: skip


def test_programs_go_everywhere(impl: Implementation) -> None:
    """The traces are worth something only if they visit all there is: states, transitions, verdicts, actions."""
    transitions, verdicts, actions, standings = set(), set(), set(), set()
    for seed in range(12):
        program = random.Random(seed).randbytes(trace.WIDTH * TRACE)
        watched = trace.Pair((impl, impl), program[: trace.WIDTH])
        for instruction in trace.steps(program[trace.WIDTH :]):
            assert watched.step(instruction) is None
            for said in watched.sides[0].said:
                if isinstance(said, list):
                    actions |= {type(action).__name__ for action in said}
                    standings |= {action.standing for action in said if isinstance(action, SiblingFound)}
                    transitions |= {
                        (action.before, action.after, action.reason)
                        for action in said
                        if isinstance(action, Transition)
                    }
                elif hasattr(said, "counter"):
                    verdicts.add(said.counter)
    assert verdicts >= {"", "ignored", "badif", "badttl", "badlen", "badsum", "badvhid", "badver", "badauth", "sibling"}
    assert actions == {cls.__name__ for cls in get_args(Action)}
    assert standings == set(STANDINGS)
    assert transitions == TRANSITIONS


def test_a_difference_is_found_and_cut_down(impl: Implementation) -> None:
    """The harness itself: an implementation with one wrong constant does not pass, and the report is short."""

    class Wrong(impl.machine.Machine):  # type: ignore[misc, name-defined]
        def sent(self, ok: bool, now: int) -> list[Any]:
            return super().sent(ok, now) if self.demotion < 3 else []

    class Module:
        Machine = Wrong

    wrong = _impl.Implementation("wrong", impl.packet, impl.input, impl.auth, Module)  # type: ignore[arg-type]
    for seed in range(50):
        program = random.Random(seed).randbytes(trace.WIDTH * TRACE)
        if trace.difference((impl, wrong), program)[1] is not None:
            break
    else:
        pytest.fail("not found")
    shown = explained((impl, wrong), program)
    assert "wrong: " in shown and len(shown.splitlines()) < 60


# What no trace does: single calls with whatever


OCTETS = st.binary(max_size=80)


@given(data=OCTETS, at=st.integers(0, 70))
def test_packet(pair: tuple[Implementation, Implementation], data: bytes, at: int) -> None:
    for good in (bytes(wire.Frame()), bytes(wire.Frame(source="fe80::1", addresses=("fe80::42",)))):
        frame = good[:at] + data + good[at + len(data) :]
        one, other = (impl.packet.dissect(frame) for impl in pair)
        assert one == other
        if one is not None:
            assert [impl.packet.advert(one) for impl in pair] == [pair[0].packet.advert(one)] * 2
            assert pair[0].packet.checksum_ok(one) == pair[1].packet.checksum_ok(one)


@given(payload=OCTETS, source=OCTETS, family=st.sampled_from([4, 6]))
def test_datagrams_made_by_hand(
    pair: tuple[Implementation, Implementation], payload: bytes, source: bytes, family: int
) -> None:
    packed = source.ljust(16, b"\0")[: 4 if family == 4 else 16]
    datagram = Datagram(family, bytes(6), bytes(6), packed, packed, 255, payload)
    assert pair[0].packet.advert(datagram) == pair[1].packet.advert(datagram)
    assert pair[0].packet.checksum_ok(datagram) == pair[1].packet.checksum_ok(datagram)


@given(
    passphrase=st.none()
    | st.text(max_size=24)
    | st.binary(max_size=24)
    | st.binary(max_size=24).map(lambda octets: "0x" + octets.hex())
    | st.text("0123456789abcdefABCDEFxX ", max_size=24).map(lambda text: "0x" + text),
    vhid=st.integers(-1, 257),
    addresses=st.lists(
        st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(v=6) | st.ip_addresses(network="fe80::/10"), max_size=20
    ),
    dialect=st.sampled_from(["auto", "auto", "bsd", "netbsd", "none"]),
    counters=st.lists(st.integers(-1, 2**64) | st.binary(min_size=7, max_size=9), min_size=1, max_size=4),
)
def test_auth(
    pair: tuple[Implementation, Implementation], passphrase: Any, vhid: int, addresses: Any, dialect: str, counters: Any
) -> None:
    outcomes = []
    for impl in pair:
        said: list[Any] = []
        outcomes.append(said)
        try:
            authenticator = impl.auth.Authenticator(passphrase, vhid, addresses, dialect)
        except ValueError as error:
            said.append((type(error), str(error)))
            continue
        said.append(repr(authenticator))
        for counter in counters:
            for under in (*authenticator.dialects, None, "netbsd"):
                try:
                    digest = authenticator.sign(counter, under)
                    said += [digest, authenticator.verify(counter, digest), authenticator.dialects]
                    said += [authenticator.verify(counter, digest[:-1]), authenticator.counter(1, 2, 3, under)]
                except ValueError as error:
                    said.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]
