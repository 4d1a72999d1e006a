"""The gate: who passes, for how long, and what becomes of it when nobody renews it, or somebody removes it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest
from support.guarded import Engine, floating
from support.guardians import ADDRESSES, VIP, VIP6, Child, Notices, addresses, engine_of, lives, stopped, until
from support.linux import needs_namespaces

from pycarp.lab.namespaces import Host, Lab
from pycarp.lab.pinger import Pinger
from pycarp.linux import gate
from pycarp.linux.guardian_client import Kind

pytestmark = [*needs_namespaces(), pytest.mark.usefixtures("gates")]

TICK = 0.01
MACS = ["virtual", "interface"]


@pytest.fixture
def gates() -> None:
    with Lab(("main",)) as lab, lab["main"].enter():
        try:
            with gate.FilterSocket() as filters:
                if filters.execute(gate.Table(1, 1, False, "eth0", "", 100).create) is None:
                    return
        except OSError:
            pass
    pytest.skip("this kernel makes no gates")


def one(lab: Lab, program: str, mac: str, *wanted: str) -> contextlib.AbstractContextManager[Engine]:
    return Engine(program, floating(101, *(wanted or ADDRESSES)).replace(mac=mac))


def device_of(mac: str) -> str:
    return "carp101" if mac == "virtual" else "eth0"


def tables(host: Host) -> set[str]:
    return set(re.findall(r"pycarp-[0-9-]+", host.run(["nft", "list", "tables"]).stdout))


def last_answer(pinger: Pinger) -> float:
    """When the last answer came, CLOCK_REALTIME s."""
    return max(answered for _sent, answered in pinger.requests() if answered is not None) / 1e9


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("lease", [60, 400, 1500])
def test_it_shuts_by_itself_in_time_and_never_late(program: str, mac: str, lease: int) -> None:
    # Fault: renewals end, and no drop comes (the guardian expects the next beat much later).
    # Expected: nobody is answered after the lease; the addresses are still there.
    with Lab() as lab, lab["main"].enter(), one(lab, program, mac) as engine:
        with lab["client"].ping(VIP, 0.002) as ipv4, lab["client"].ping(VIP6, 0.002) as ipv6:
            for _turn in range(3):
                assert engine.ask(Kind.TAKE, 101, lease=2000, next_beat_ms=30_000).error == 0
                assert ipv4.wait() and ipv6.wait()
            began = time.time()
            engine.order(Kind.RENEW, 101, lease=lease, next_beat_ms=30_000)
            time.sleep(lease / 1000 + 0.3)
        for pinger in (ipv4, ipv6):
            after = last_answer(pinger) - began
            assert lease / 1000 * 0.6 - 0.02 < after < lease / 1000 + TICK, after
        assert {VIP, VIP6} <= set(addresses(lab["main"], device_of(mac)))
        # A renewal opens it again.
        with lab["client"].ping(VIP) as ipv4, lab["client"].ping(VIP6) as ipv6:
            engine.order(Kind.RENEW, 101, lease=2000, next_beat_ms=30_000)
            assert ipv4.wait() and ipv6.wait()


@pytest.mark.parametrize("mac", MACS)
def test_renewals_are_told_to_nobody(program: str, mac: str) -> None:
    """Neither on netlink nor, for IPv6, as a report of group memberships on the link."""
    with Lab() as lab, lab["main"].enter(), one(lab, program, mac) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        time.sleep(2.5)  # the kernel's own reports after a new address
        with Notices(lab["main"]) as notices, lab.record() as capture:
            for _turn in range(50):
                engine.order(Kind.RENEW, 101)
                time.sleep(0.02)
            assert not notices.read()
            assert not [frame for frame in capture.frames if frame.port == "main" and not frame.outgoing]


@pytest.mark.parametrize("mac", MACS)
def test_a_flushed_ruleset_is_put_back(program: str, mac: str) -> None:
    # Fault: an administrator flushes the ruleset; engine and guardian stop later.
    # Expected: the next renewal makes the gate anew, without an unanswered request, and it shuts as before.
    with Lab() as lab, lab["main"].enter(), one(lab, program, mac) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        before = tables(lab["main"])
        assert len(before) == 1
        with lab["client"].ping(VIP, 0.002) as pinger:
            assert pinger.wait()
            lab["main"].run(["nft", "flush", "ruleset"])
            assert not tables(lab["main"])
            engine.order(Kind.RENEW, 101, lease=300, next_beat_ms=30_000)
            until(lambda: tables(lab["main"]) == before)
            began = time.time()
            time.sleep(0.6)
        assert last_answer(pinger) < began + 0.3 + TICK
        # Flushed while it is nobody's: the take makes it.
        assert engine.ask(Kind.DROP, 101).error == 0
        lab["main"].run(["nft", "flush", "ruleset"])
        assert engine.ask(Kind.TAKE, 101).error == 0
        assert tables(lab["main"]) == before


def test_a_key_is_never_on_the_wire(program: str) -> None:
    with Lab() as lab, lab.record() as capture, engine_of(lab, program) as engine:
        for _turn in range(3):
            for kind in (Kind.TAKE, Kind.RENEW, Kind.DROP):
                engine.order(kind, 101)
            time.sleep(0.1)
        assert not [frame for frame in capture.frames if frame.ethertype == gate.KEY_TYPE and frame.source == bytes(6)]


@pytest.mark.parametrize("mac", MACS)
def test_both_die_and_both_stop(program: str, mac: str) -> None:
    # Fault: SIGSTOP of engine and guardian for longer than the lease, SIGCONT; then SIGKILL of both.
    # Expected: no answer from the end of the lease on, none after SIGCONT; the next start removes what is left.
    with Lab() as lab:
        child = Child(lab["main"], program, *ADDRESSES, mac=mac)
        with lab["client"].ping(VIP, 0.002) as pinger:
            assert pinger.wait()
            began = time.time()
            with stopped(child.pid):
                with stopped(child.guardian):
                    time.sleep(2.3)
                time.sleep(0.2)
        assert began + 1 < last_answer(pinger) < began + 1.9 + TICK
        assert child.ask("take") == 0
        with lab["client"].ping(VIP, 0.002) as pinger:
            assert pinger.wait()
            began = time.time()
            os.kill(child.guardian, signal.SIGKILL)
            child.kill()
            until(lambda: not lives(child.guardian))
            time.sleep(2.1)
        assert last_answer(pinger) < began + 1.9 + TICK
        assert len(tables(lab["main"])) == 1 and addresses(lab["main"], device_of(mac))
        child.process.wait()
        with lab["main"].enter(), one(lab, program, mac, "10.13.37.99/24") as engine:
            assert VIP not in addresses(lab["main"], device_of(mac))
            assert engine.ask(Kind.TAKE, 101).error == 0
        assert not tables(lab["main"])


def test_the_carpdev_keeps_its_own_traffic(program: str) -> None:
    """With the interface's MAC the gate concerns the addresses alone, and only from the take to the drop."""
    with Lab() as lab, lab["main"].enter(), one(lab, program, "interface") as engine:
        own = lab["main"].address
        assert engine.ask(Kind.TAKE, 101, lease=100, next_beat_ms=30_000).error == 0
        time.sleep(0.2)
        with lab["client"].ping(own) as host, lab["client"].ping(VIP) as shut:
            assert host.wait(20) and not shut.received
        assert engine.ask(Kind.DROP, 101).error == 0
        # Somebody else's address now: this host, too, reaches who has it.
        lab["second"].run(["ip", "addr", "add", f"{VIP}/32", "dev", "eth0"])
        with lab["main"].ping(VIP) as pinger:
            assert pinger.wait()


def test_a_drop_shuts_it_before_anything_else(program: str) -> None:
    """Also for IPv6, whose addresses leave with their link: which waits for whoever changes interfaces."""
    with Lab() as lab, engine_of(lab, program) as engine, lab["client"].ping(VIP6, 0.001) as pinger:
        for _turn in range(5):
            assert engine.ask(Kind.TAKE, 101, next_beat_ms=30_000).error == 0
            assert pinger.wait()
            reply = engine.ask(Kind.DROP, 101)
            assert reply.error == 0
            began = reply.started - time.monotonic_ns() + time.time_ns()
            late = [one for one in pinger.requests() if one[0] > began + 1_000_000 and one[1] is not None]
            assert not late


def test_removal_by_the_guardian_takes_the_table_along(program: str) -> None:
    with Lab() as lab, engine_of(lab, program) as engine:
        assert tables(lab["main"])
        assert engine.ask(Kind.REMOVE, 101).error == 0
        assert not tables(lab["main"])
        assert engine.ask(Kind.REMOVE, 101).error == 0


def test_other_addresses_while_it_is_open(program: str) -> None:
    """Described anew, it is made anew, and open at once."""
    with Lab() as lab, lab["main"].enter(), one(lab, program, "interface", f"{VIP}/24") as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        changed = floating(101, f"{VIP}/24", "10.13.37.43/24").replace(mac="interface")
        with lab["client"].ping(VIP, 0.002) as pinger:
            assert pinger.wait()
            engine.devices[101] = engine.devices[101].changed_to(changed)
            engine.add(101)
            assert pinger.wait(50)
        assert pinger.received >= pinger.sent - 2
        assert "10.13.37.43" in lab["main"].run("nft list ruleset", shell=True).stdout
