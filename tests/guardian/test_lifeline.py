"""The engine ends, in whatever way: the guardian releases its addresses, and who starts next waits for that."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time

import pytest
from support.guarded import bowout
from support.guardians import (
    VIP,
    Child,
    addresses,
    bowouts,
    engine_of,
    is_bowout,
    lives,
    stopped,
    until,
)
from support.linux import carpdev, needs_namespaces

from pycarp.errors import InterfaceError
from pycarp.lab.namespaces import Lab
from pycarp.linux.guardian_client import Kind
from pycarp.linux.lock import VirtualHostLock

pytestmark = needs_namespaces()


def test_sigkill(program: str) -> None:
    # Fault: the engine is killed, while a client pings the address.
    # Expected: a bow-out within 100 ms; this host sends nothing after it; the link goes down, and the guardian ends.
    with Lab() as lab, lab["client"].ping(VIP, 0.002) as pinger:
        with lab.record() as capture:
            child = Child(lab["main"], program, f"{VIP}/24")
            assert pinger.wait(10)
            child.ask("grow 64")
            killed = child.kill()
            frame = capture.wait(is_bowout)
            assert frame is not None and frame.data == bowout(101)
            assert frame.at_ns - killed < 100e6
            until(lambda: not lives(child.guardian))
        # Nobody answers once the others may have heard of it.
        answers = [one for one in capture.frames if one.source == frame.source and one.ethertype in (0x0800, 0x0806)]
        assert answers and not [one for one in answers if not one.outgoing and one.at_ns > frame.at_ns]
        assert (
            not addresses(lab["main"])
            and "down" in lab["main"].run("ip -br link show carp101", shell=True).stdout.lower()
        )


@pytest.mark.parametrize("how", ["exec", "end-thread", "fork"])
def test_other_ways_to_die(program: str, how: str) -> None:
    # Fault: the engine's process executes another program, its thread ends, or it is killed with a child left behind.
    # Expected: a bow-out, no address, no guardian.
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        assert len(addresses(lab["main"])) == 2
        left = child.ask("fork") if how == "fork" else 0
        try:
            if how == "fork":
                child.kill()
            else:
                child.tell(how)
            assert capture.wait(is_bowout) is not None
            until(lambda: not addresses(lab["main"]))
            until(lambda: not lives(child.guardian))
            if how == "exec":
                assert child.process.poll() is None
            elif how == "fork":
                assert lives(left)
        finally:
            if left:
                os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("unread", [False, True])
def test_a_socket_that_is_closed(program: str, unread: bool) -> None:
    # Fault: the engine closes its end of the socket, with a drop unread or not.
    # Expected: no address; a bow-out unless the drop was ordered, for then the engine sends its own.
    with Lab() as lab, engine_of(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101).error == 0
        if unread:
            # The kernel then says "connection reset" first, and what waits must still be read.
            engine.order(Kind.DROP, 7)
            time.sleep(0.05)
            with stopped(engine.guardian.pid):
                engine.order(Kind.DROP, 101)
                engine.guardian._socket.close()
        engine.guardian.close()
        assert not lives(engine.guardian.pid) and not addresses(lab["main"])
        assert unread or capture.wait(is_bowout) is not None
        assert not unread or not bowouts(capture)  # the drop was the engine's own


def test_an_orderly_end(program: str) -> None:
    with Lab() as lab, engine_of(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=50).error == 0
        assert engine.ask(Kind.QUIET).error == 0
        engine.end_thread()
        time.sleep(0.15)
        # Neither the lifeline nor the beats mean anything now.
        assert len(addresses(lab["main"])) == 2 and lives(engine.guardian.pid)
        engine.guardian.close()
        assert not lives(engine.guardian.pid) and not addresses(lab["main"])
        time.sleep(0.05)
        assert not bowouts(capture)


def test_a_lifeline_passes_on_when_its_thread_ends(program: str) -> None:
    # Fault: the thread that holds the lifeline ends.
    # Expected: another thread can lock it.
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    lifeline = spawn.Lifeline()
    assert os.fstat(lifeline.fileno()).st_size >= 40
    for _turn in range(3):
        holder = threading.Thread(target=lifeline.lock)
        holder.start()
        holder.join(5)
        assert not holder.is_alive()
    lifeline.close()
    lifeline.close()


def test_a_restarted_engine_waits_for_the_guardian_of_the_one_before(program: str) -> None:
    # Fault: the engine is killed, and its guardian is stopped for 0.3 s.
    # Expected: the next engine waits for the lock until the address has gone.
    with Lab() as lab:
        main = lab["main"]
        child = Child(main, program)
        with main.enter():
            eth0 = carpdev()
            with pytest.raises(InterfaceError, match=f"process {child.pid}"):
                VirtualHostLock("carp101", eth0, 101)
            with stopped(child.guardian):
                child.kill()
                child.process.wait()
                opener = threading.Timer(0.3, os.kill, (child.guardian, signal.SIGCONT))
                opener.start()
                started = time.monotonic()
                with VirtualHostLock("carp101", eth0, 101):
                    assert time.monotonic() - started > 0.2
                    assert not addresses(main)
                opener.join()


def test_a_program_that_starts_anew_in_its_process_waits_as_well(program: str) -> None:
    # Fault: a program with an engine executes itself anew.
    # Expected: the former guardian ends, and the new engine takes its addresses.
    with Lab() as lab:
        child = Child(lab["main"], program)
        former = child.guardian
        again = child.ask(f"retry virtual,101,{VIP}/24")
        assert again["guardian"] != former and not lives(former)
        assert set(addresses(lab["main"])) == {VIP}
