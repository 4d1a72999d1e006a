"""`pycarp.Owner`: the program decides who has the addresses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from support.chaos import guardians
from support.lan import VIP, VIP6, WITHIN, EventLog, Lan, held, interface, wait_until
from support.wire import VHID, Frame

import pycarp
from pycarp import State, events
from pycarp.lab.namespaces import Host

MAC = bytes.fromhex("00005e000165")
PROGRAM = """
import sys, time, pycarp
with pycarp.Owner(sys.argv[1], vhid=101) as owner:
    print(owner.take(float(sys.argv[2]) if sys.argv[2] else None), flush=True)
    for event in owner.events():
        if isinstance(event, pycarp.events.TenureEnded):
            print("ended", owner.renew(5), owner.held, flush=True)
"""


@contextmanager
def owner(host: Host, *addresses: str, **options: Any) -> Iterator[tuple[pycarp.Owner, EventLog]]:
    log = EventLog()
    made = pycarp.Owner(*(addresses or (f"{VIP}/24",)), vhid=VHID, on_event=log, **options)
    with host.enter():
        made.start()
    try:
        yield made, log
    finally:
        made.stop()


@pytest.fixture
def lone(make_lan: Callable[..., Lan]) -> Lan:
    lan = make_lan(("main", "client"))
    lan.remember("main")
    return lan


@contextmanager
def program(host: Host, impl: str, seconds: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that takes for so long, and does not renew."""
    with ExitStack() as stack:
        environment = {**os.environ, "PYCARP_IMPL": impl}
        argv = [sys.executable, "-W", "error", "-c", PROGRAM, f"{VIP}/24", seconds]
        process = stack.enter_context(host.popen(argv, stdout=subprocess.PIPE, env=environment))
        stack.callback(process.kill)
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        yield process


def frames(lan: Lan, ethertype: int) -> list[bytes]:
    return [one.data for one in lan.capture.frames if one.port == "main" and one.ethertype == ethertype]


def announced(lan: Lan) -> list[bytes]:
    return [one for one in frames(lan, 0x0806) if one[6:12] == MAC and one[28:32] == one[38:42]]


@pytest.mark.figures
def test_it_takes_and_releases(lone: Lan, with_impl: str) -> None:
    # Fault: None: a program takes, renews and releases, in both families; the carpdev's cable goes and comes.
    # Expected: It answers within ms of the call, is announced, and falls silent with the release. No advert
    # is sent. With the cable back, before the tenure's end, the addresses are there again.
    with owner(lone["main"], f"{VIP}/24", f"{VIP6}/64") as (mine, log):
        assert repr(mine) == "<pycarp.Owner carp101 running>" and not mine.held and VIP not in held(lone["main"])
        assert not mine.renew(5), "there is nothing to renew"
        pinger = lone.ping()
        began = time.monotonic()
        assert mine.take(20)
        assert time.monotonic() - began < 0.3 and {VIP, VIP6} <= held(lone["main"])
        assert mine.held and mine.state is State.MASTER and pinger.wait(3)
        assert log.wait(events.AddressesTaken).took < 200_000_000
        assert mine.renew(30) and mine.take(30), "to take what is here moves its end on"
        lone.lab.unplug("main")
        log.until(lambda: mine.state is State.INIT)
        assert not mine.held
        log.forget()
        lone.lab.plug("main")
        log.wait(events.AddressesTaken)
        assert pinger.wait(3)
        began = time.monotonic()
        mine.release()
        assert time.monotonic() - began < 0.3
        pinger.stop()
        assert not mine.held and not mine.renew(5) and mine.state is State.INIT
        assert not {VIP, VIP6} & held(lone["main"])
        assert lone["client"].ping(VIP, 0.01).wait(1, 0.1) is False
        assert not log.find(events.TenureEnded) and not log.find(events.Demoted)
        changes = [one.text for one in log.events if isinstance(one, events.StateChanged)]
        went = ["INIT -> MASTER: forced", "MASTER -> INIT: link down", "INIT -> MASTER: forced"]
        assert changes == [*went, "MASTER -> INIT: administratively down"]
    assert interface(lone["main"], "carp101") is None
    assert len(announced(lone)) >= 2
    assert not [one for one in frames(lone, 0x0800) if one[23] == 112]


@pytest.mark.figures
def test_a_tenure_that_is_not_renewed_ends(lone: Lan, with_impl: str) -> None:
    # Fault: A program takes for 0.6 s, renews once, and then no more.
    # Expected: The address goes just before the end of the tenure, with an event, and can be taken again.
    with owner(lone["main"]) as (mine, log):
        assert mine.take(0.6)
        pinger = lone.ping(interval=0.002)
        time.sleep(0.3)
        ends = time.time_ns() + 600_000_000
        assert mine.renew(0.6)
        log.wait(events.TenureEnded)
        wait_until(lambda: VIP not in held(lone["main"]))
        assert not mine.renew(5)
        pinger.stop()
        last = max(answer for _sent, answer in pinger.requests() if answer is not None)
        assert -100_000_000 < last - ends <= 0
        assert mine.take(5) and VIP in held(lone["main"])


@pytest.mark.figures
@pytest.mark.parametrize("fault", ["stopped", "stopped with its guardian", "killed"])
def test_a_program_that_does_not_run(lone: Lan, with_impl: str, fault: str) -> None:
    # Fault: The program is stopped (1.5 s of its tenure are left), its guardian too, or it is killed.
    # Expected: Stopped: the address answers for most of the tenure, and not after its end; when the program goes on, it
    # is told so. Killed: the address is gone at once.
    with program(lone["main"], with_impl, "1.5") as process:
        began = time.time_ns()
        pinger = lone.ping(interval=0.002)
        assert pinger.wait(3)
        stopped = [process.pid, *(guardians(lone["main"]) if fault == "stopped with its guardian" else ())]
        for one in stopped:
            os.kill(one, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        wait_until(
            lambda: time.time_ns() - began > 1_600_000_000 or (fault == "killed" and VIP not in held(lone["main"]))
        )
        assert len(stopped) == 2 or VIP not in held(lone["main"])
        pinger.stop()
        last = max(answer for _sent, answer in pinger.requests() if answer is not None)
        lone.tidy = False  # the device is left to the next start
        if fault == "killed":
            assert last - began < 800_000_000
            return
        assert 900_000_000 < last - began <= 1_500_000_000
        os.kill(stopped[-1], signal.SIGCONT)
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None and process.stdout.readline() == b"ended False False\n"
        process.kill()
        process.wait()


def test_without_an_end_it_is_as_a_master(lone: Lan, with_impl: str) -> None:
    # Fault: The guardian is killed; then the program, which has taken without an end, is stopped.
    # Expected: Another guardian is there at once, and the address is announced three times. The address goes within
    # 2 s, as an engine's does.
    with owner(lone["main"]) as (mine, log):
        assert mine.take()
        (former,) = guardians(lone["main"])
        os.kill(former, signal.SIGKILL)
        log.wait(events.GuardianReplaced)
        assert mine.held and lone.ping().wait(3)
        wait_until(lambda: len(announced(lone)) >= 3)
    with program(lone["main"], with_impl, "") as process:
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: VIP not in held(lone["main"]), 3)
        process.kill()
        process.wait()
    lone.tidy = False


@pytest.mark.figures
@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_two_hand_over(net: Lan, with_impl: str, mac: Any) -> None:
    # Fault: Three times one program releases, and another on the next host takes at once.
    # Expected: Clients are without an answer for less than 30 ms, more only where the machine is busy; nobody reports a
    # conflict.
    net.remember("main")
    net.remember("second")
    with owner(net["main"], mac=mac) as (one, log), owner(net["second"], mac=mac) as (other, other_log):
        assert one.take(30)
        pinger = net.ping(interval=0.002)
        assert pinger.wait(10)
        outages = []
        for _turn in range(3):
            began = time.time_ns()
            one.release()
            assert other.take(30)
            assert pinger.wait(50)
            outages.append(sum(end - start for start, end in pinger.outages(0.003) if end > began))
            one, other = other, one
        assert min(outages) < 30_000_000 and max(outages) < 1_000_000_000, outages
        assert not log.find(events.AddressConflict) and not other_log.find(events.AddressConflict)


def test_another_host_that_answers_is_told(net: Lan, with_impl: str) -> None:
    # Fault: A host that knows nothing of all this has the address; then a second owner takes it while the first has it;
    # a group has the owner's vhid.
    # Expected: Each that takes says who answers beside it, although two owners have the same MAC. That group is told
    #           of, and no other.
    net.audited = False
    net["second"].run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0"])
    with owner(net["main"]) as (mine, log):
        assert mine.take(30)
        conflict = log.wait(events.AddressConflict, held=True)
        assert conflict.address == VIP and conflict.text.endswith("though this host has it")
    net["second"].run(["ip", "address", "delete", f"{VIP}/24", "dev", "eth0"])
    with owner(net["main"]) as (mine, log), owner(net["second"]) as (other, other_log):
        assert mine.take(30) and other.take(30)
        for vhid in (7, VHID):
            net.inject("client", bytes(Frame(vhid=vhid, source="10.13.37.13")))
        told = log.wait(events.AdvertRejected)
        assert (told.vhid, told.counter) == (VHID, "badauth") and "same virtual MAC" in told.text and mine.held
        assert len(log.find(events.AdvertRejected)) == 1
        assert other_log.wait(events.AddressConflict, held=True, timeout=WITHIN).mac == MAC.hex(":")


def test_an_interface_that_comes_later(lone: Lan, with_impl: str) -> None:
    # Fault: There is no such interface when the program takes; then there is.
    # Expected: The take says that the address is not here. It is here as soon as the interface is, for the time given.
    with owner(lone["main"], "192.0.2.42/24", carpdev="eth1", missing="wait") as (mine, log):
        assert mine.take(20) is False and mine.renew(20) and not mine.held
        assert mine.snapshot().instances[0].waiting
        lone.cable("main", "client")
        log.wait(events.AddressesTaken)
        assert mine.held and "192.0.2.42" in held(lone["main"])
        wait_until(lambda: mine.snapshot().instances[0].well)
        mine.release()
        assert mine.snapshot().instances[0].well and mine.snapshot().instances[0].state is State.INIT
    lone["main"].run(["ip", "link", "delete", "eth1"])
