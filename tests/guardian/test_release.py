"""Addresses are released without an order when the engine is silent: the drop first, then the bow-out."""

from __future__ import annotations

import time

import pytest
from support.guarded import NEXT_BEAT_MS, bowout
from support.guardians import (
    VIP,
    VIP6,
    Child,
    Notices,
    addresses,
    bowouts,
    engine_of,
    is_bowout,
    is_gone,
    lives,
    several,
    stopped,
    until,
)
from support.linux import needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux.guardian_client import GuardianGone, Kind

pytestmark = needs_namespaces()


def test_a_beat_that_is_overdue(program: str) -> None:
    # Fault: the engine lives, but its beats end.
    # Expected: the addresses are dropped within 60 ms of the limit; a bow-out unless others may have taken over.
    with Lab() as lab, engine_of(lab, program) as engine, lab.record() as capture:
        for takeover_after, expected in ((2000, 1), (100, 0)):
            before = len(bowouts(capture))
            assert engine.ask(Kind.TAKE, 101, next_beat_ms=250, takeover_after_ms=takeover_after).error == 0
            for _beat in range(10):
                time.sleep(0.05)
                beaten = time.monotonic_ns()
                engine.order(Kind.BEAT, 101, next_beat_ms=250, takeover_after_ms=takeover_after)
            assert len(addresses(lab["main"])) == 2
            released = engine.await_reply(Kind.RELEASED, 101)
            assert not addresses(lab["main"])
            late = released.started - beaten - 250e6
            assert 0 <= late < 60e6 and abs(released.extra - 250e6) < 60e6
            time.sleep(0.05)
            frames = bowouts(capture)[before:]
            # One that comes when others have taken over would promote a third host.
            assert len(frames) == expected
            if frames:
                assert frames[0].data == bowout(101)
        # Now neither a beat nor a renewal brings anything back.
        engine.order(Kind.RENEW, 101)
        time.sleep(0.05)
        assert not addresses(lab["main"]) and not list(engine.take_replies())


def test_a_bowout_comes_after_the_drop(program: str) -> None:
    # Fault: the engine's beats end.
    # Expected: the bow-out is on the wire after the drop has started, within 50 ms.
    with Lab() as lab, engine_of(lab, program, f"{VIP}/24") as engine:
        for _turn in range(5):
            with lab.record() as capture:
                assert engine.ask(Kind.TAKE, 101, next_beat_ms=30).error == 0
                released = engine.await_reply(Kind.RELEASED, 101)
                frame = capture.wait(is_bowout)
            assert frame is not None
            at = frame.at_ns - time.time_ns() + time.monotonic_ns()
            # The address goes first, in a request of its own.
            assert 0 < at - released.started < 50e6


def test_a_bowout_waits_until_ipv6_is_silent(program: str) -> None:
    # Fault: the beats for an IPv6 address end, while a client pings it.
    # Expected: after the bow-out this host sends no frame.
    with Lab() as lab, engine_of(lab, program, f"{VIP6}/64") as engine:
        with lab["client"].ping(VIP6, 0.001) as pinger, lab.record() as capture:
            # Nobody has to look for the neighbour first.
            assert engine.ask(Kind.TAKE, 101, next_beat_ms=30_000).error == 0
            assert pinger.wait(20)
            engine.order(Kind.BEAT, 101, next_beat_ms=100)
            frame = capture.wait(is_bowout)
            assert frame is not None
            time.sleep(0.05)
        ours = [one for one in capture.frames if one.source == frame.source and not one.outgoing]
        assert ours[-1] is frame and len(ours) > 20


@pytest.mark.slow
def test_every_address_is_gone_before_the_first_link_is_down(program: str) -> None:
    # Fault: the engine's thread ends, with eight instances taken.
    # Expected: all addresses go before the first link, and there are eight bow-outs.
    with (
        Lab() as lab,
        lab["main"].enter(),
        lab.record() as capture,
        Notices(lab["main"]) as notices,
        several(lab, program) as engine,
    ):
        for vhid in range(1, 9):
            assert engine.ask(Kind.TAKE, vhid, next_beat_ms=10_000).error == 0
        notices.read()
        engine.end_thread()
        until(lambda: not lives(engine.guardian.pid))
        said = [one for one in notices.read() if one[0] == "-" or one.endswith("down")]
        assert [one[0] for one in said[:8]] == ["-"] * 8
        until(lambda: len(bowouts(capture)) == 8)
        assert {frame.data for frame in bowouts(capture)} == {bowout(vhid) for vhid in range(1, 9)}
        # Its threads end one by one, and the socket with the last.
        until(lambda: is_gone(engine))
        with pytest.raises(GuardianGone):
            while True:
                engine.guardian.replies()
        engine.guardian.close()


@pytest.mark.slow
def test_a_stopped_engine_and_a_stopped_pair(program: str) -> None:
    # Fault: the engine is stopped; then engine and guardian are, for longer than until others take over.
    # Expected: the addresses are released, with a bow-out for the first and without one for the second.
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        since = time.time_ns()
        with stopped(child.pid):
            frame = capture.wait(is_bowout)
            assert frame is not None and frame.at_ns - since < (NEXT_BEAT_MS + 100) * 1e6
            until(lambda: not addresses(lab["main"]))
            assert lives(child.guardian)
        # It goes on, and what it does not know yet changes nothing.
        time.sleep(0.1)
        assert not addresses(lab["main"])
        released = [one for one in child.ask("replies") if one[0] == Kind.RELEASED]
        assert len(released) == 1 and released[0][2] == 0
        assert child.ask("take") == 0
        assert len(addresses(lab["main"])) == 2
        # Both: nobody can act, and the guardian wakes up too late for a bow-out.
        before = len(bowouts(capture))
        with stopped(child.pid):
            with stopped(child.guardian):
                time.sleep(2.2)
            until(lambda: not addresses(lab["main"]), 0.2)
        time.sleep(0.05)
        assert len(bowouts(capture)) == before


def test_a_guardian_that_was_paused_gives_the_engine_a_moment(program: str) -> None:
    # Fault: the guardian alone is stopped for longer than until the next beat.
    # Expected: it keeps the addresses: the engine has beaten meanwhile.
    with Lab() as lab:
        child = Child(lab["main"], program)
        with stopped(child.guardian):
            time.sleep(NEXT_BEAT_MS / 1000 + 0.2)
        time.sleep(0.1)
        # The beats of meanwhile were waiting.
        assert len(addresses(lab["main"])) == 2
        assert not child.ask("replies")
