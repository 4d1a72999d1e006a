"""What the engine orders: taken, renewed and dropped, the last of several, and what is malformed."""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from support.guarded import NEXT_BEAT_MS, Engine, floating
from support.guardians import (
    ADDRESSES,
    VIP,
    VIP6,
    Notices,
    addresses,
    engine_of,
    is_bowout,
    several,
    stopped,
    until,
)
from support.linux import needs_namespaces

from pycarp._python.guardian import protocol
from pycarp.lab.namespaces import Lab
from pycarp.linux import fib, messages, netlink
from pycarp.linux import guardian_client as client
from pycarp.linux.guardian_client import Kind
from pycarp.linux.lock import held
from pycarp.linux.netlink import RouteSocket
from pycarp.protocol.timing import LATE_AFTER_TAKE

pytestmark = needs_namespaces()

SUPERSEDED = protocol.REPLY_SUPERSEDED


def test_what_a_take_leaves_for_later(program: str) -> None:
    # Fault: a take has thousands of routes, and a drop comes while they are put there.
    # Expected: the take is answered and some time passes before they come, a drop waits for none, a take has all.
    count = 4000
    with Lab() as lab, engine_of(lab, program, f"{VIP}/24") as engine:
        main, device = lab["main"], engine.devices[101]
        networks = [ip_network((0x0B000000 + (number << 8), 24)) for number in range(count)]
        with main.enter():
            requests = [messages.add_route(device.index, one, 4711, 112) for one in networks]
        device.late = netlink.batch(*requests)
        engine.add(101)

        def there() -> int:
            with main.enter(), netlink.RouteSocket() as route:
                found = map(fib.table_in, route.dump(netlink.RTM_GETROUTE, socket.AF_INET))
                return sum(table == 4711 for table in found)

        reply = engine.ask(Kind.TAKE, 101, next_beat_ms=60_000)
        assert reply.error == 0 and there() < count
        until(there)
        assert time.monotonic_ns() - reply.finished >= LATE_AFTER_TAKE
        assert engine.ask(Kind.DROP, 101).error == 0
        stopped_at = there()
        assert stopped_at < count and VIP not in addresses(main)
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=60_000).error == 0
        until(lambda: there() >= count)


def test_take_renew_and_drop(program: str) -> None:
    with Lab() as lab, engine_of(lab, program, gated=False) as engine:
        with lab["client"].ping(VIP) as ipv4, lab["client"].ping(VIP6) as ipv6:
            reply = engine.ask(Kind.TAKE, 101, lease=7, next_beat_ms=30_000)
            assert reply.error == reply.flags == 0 and reply.started < reply.finished
            assert ipv4.wait() and ipv6.wait()
        assert set(addresses(lab["main"])) == {VIP, VIP6}
        assert all(5 <= left <= 7 for left in addresses(lab["main"]).values())
        # A renewal is silent, and sets the lifetime anew.
        engine.order(Kind.RENEW, 101, lease=30)
        until(lambda: all(left > 28 for left in addresses(lab["main"]).values()))
        assert not list(engine.take_replies())
        engine.order(Kind.RENEW, 101, lease=protocol.LEASE_FOREVER)
        until(lambda: set(addresses(lab["main"]).values()) == {protocol.LEASE_FOREVER})
        assert engine.ask(Kind.TAKE, 101, lease=9).error == 0  # again
        for _turn in range(2):
            assert engine.ask(Kind.DROP, 101).error == 0
            assert not addresses(lab["main"])


def test_a_deprecated_address_stays_deprecated(program: str) -> None:
    with Lab() as lab, lab["main"].enter():
        host = floating(101, *ADDRESSES).replace(mac="interface")
        with Engine(program, host, gated=False) as engine:
            assert engine.ask(Kind.TAKE, 101, lease=9).error == 0
            shown = json.loads(lab["main"].run(["ip", "-j", "addr", "show", "dev", "eth0"]).stdout)
            lifetimes = {one["local"]: (one["preferred_life_time"] > 0) for one in shown[0]["addr_info"]}
            assert lifetimes[VIP] and not lifetimes[VIP6]
            assert engine.ask(Kind.DROP, 101).error == 0


def test_of_waiting_orders_the_last_counts(program: str) -> None:
    with Lab() as lab, engine_of(lab, program) as engine, Notices(lab["main"]) as notices:
        with stopped(engine.guardian.pid):
            sent = [
                engine.order(kind, 101)
                for kind in (Kind.TAKE, Kind.RENEW, Kind.DROP, Kind.TAKE, Kind.DROP, Kind.RENEW, Kind.TAKE)
            ]
        replies = [engine.await_reply() for _ in range(5)]
        assert [(one.number, one.flags) for one in replies] == [
            (sent[0], SUPERSEDED),
            (sent[2], SUPERSEDED),
            (sent[3], SUPERSEDED),
            (sent[4], SUPERSEDED),
            (sent[6], 0),
        ]
        assert all(one.error == 0 for one in replies)
        assert notices.changes(2) == [f"+ {VIP}", f"+ {VIP6}"]
        # A renewal gives way to a drop that waits.
        with stopped(engine.guardian.pid):
            engine.order(Kind.DROP, 101)
            engine.order(Kind.RENEW, 101)
        assert engine.await_reply(Kind.DROP, 101).error == 0
        time.sleep(0.05)
        assert [one for one in notices.read() if one[0] in "+-"] == [f"- {VIP}", f"- {VIP6}"]
        # A renewal of an instance that is not here does nothing.
        engine.order(Kind.RENEW, 101)
        time.sleep(0.05)
        assert not notices.read() and not list(engine.take_replies())


def test_drops_go_before_takes_and_links_after_both(program: str) -> None:
    """Taking a link down keeps everybody waiting who changes interfaces: it goes when others had time to take over."""
    with Lab() as lab, lab["main"].enter(), several(lab, program) as engine, Notices(lab["main"]) as notices:
        for vhid in range(2, 9):
            assert engine.ask(Kind.TAKE, vhid).error == 0
        notices.read()
        with stopped(engine.guardian.pid):
            engine.order(Kind.TAKE, 1)
            for vhid in range(2, 9):
                engine.order(Kind.DROP, vhid)
        order = [engine.await_reply() for _ in range(8)]
        assert [(one.kind, one.error) for one in order] == [(Kind.DROP, 0)] * 7 + [(Kind.TAKE, 0)]
        assert [one[0] for one in notices.read() if one[0] in "+-"] == ["-"] * 7 + ["+"]
        said: list[str] = []
        until(lambda: said.extend(notices.read()) or sum(one.endswith("down") for one in said) == 7)


def test_a_failure_is_told_and_what_is_gone_is_dropped(program: str) -> None:
    # Fault: somebody deletes the instance's device.
    # Expected: orders for it fail with ENODEV, a drop succeeds, and after ADD it can be taken again.
    with Lab() as lab, engine_of(lab, program, gated=False) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        lab["main"].run(["ip", "link", "del", "carp101"])
        number = engine.order(Kind.RENEW, 101, lease=5)
        reply = engine.await_reply(Kind.RENEW, 101)
        assert reply.error == errno.ENODEV and reply.number == number
        assert engine.ask(Kind.DROP, 101).error == 0
        assert engine.ask(Kind.TAKE, 101).error == errno.ENODEV
        assert engine.ask(Kind.REMOVE, 101).error == 0
        engine.devices[101].teardown()
        engine.devices[101].setup()
        engine.add(101)
        assert engine.ask(Kind.TAKE, 101).error == 0


def test_a_virtual_host_described_anew_is_the_same(program: str) -> None:
    with Lab() as lab, engine_of(lab, program, gated=False) as engine:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=300).error == 0
        former = engine.devices[101]
        engine.devices[101] = former.changed_to(floating(101, f"{VIP}/24", "10.13.37.43/24"))
        engine.devices[101].admit(former.host)
        with RouteSocket() as route:
            route.execute(former.parting(one for one in former.host.addresses if one.version == 6))
        engine.add(101)
        engine.order(Kind.RENEW, 101, next_beat_ms=300, lease=50)  # mastered as before
        until(lambda: set(addresses(lab["main"])) == {VIP, "10.13.37.43"})
        assert engine.await_reply(Kind.RELEASED, 101).error == 0
        assert not addresses(lab["main"])


def test_an_unknown_virtual_host(program: str) -> None:
    with Lab() as lab, engine_of(lab, program) as engine:
        for kind in (Kind.TAKE, Kind.DROP, Kind.FORGET, Kind.REMOVE, Kind.RESTORE):
            assert engine.ask(kind, 7).error == errno.ENOENT
        for kind in (Kind.RENEW, Kind.BEAT):
            engine.order(kind, 7)
        time.sleep(0.05)
        assert not list(engine.take_replies())


def test_one_that_is_forgotten(program: str) -> None:
    with Lab() as lab, engine_of(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        open_before = len(os.listdir(f"/proc/{engine.guardian.pid}/fd"))
        with stopped(engine.guardian.pid):
            engine.order(Kind.DROP, 101)
            engine.order(Kind.FORGET, 101)
        assert [engine.await_reply().kind for _ in range(2)] == [Kind.DROP, Kind.FORGET]
        assert not addresses(lab["main"])
        assert engine.ask(Kind.TAKE, 101).error == errno.ENOENT
        assert len(os.listdir(f"/proc/{engine.guardian.pid}/fd")) == open_before - 2
        engine.locks[0].close()
        assert not held(engine.carpdev.index, 101)


def test_removal_by_the_guardian(program: str) -> None:
    """For a program that gave up root: nothing is left of the device, its rules and settings."""
    with Lab() as lab:
        before = lab["main"].run("ip -br link; ip rule; ip -6 rule; sysctl net.ipv4.conf.eth0", shell=True).stdout
        with engine_of(lab, program) as engine:
            assert engine.ask(Kind.TAKE, 101).error == 0
            with stopped(engine.guardian.pid):
                for kind in (Kind.DROP, Kind.REMOVE, Kind.RESTORE):
                    engine.order(kind, 101)
            assert [engine.await_reply(kind, 101).error for kind in (Kind.DROP, Kind.REMOVE, Kind.RESTORE)] == [0] * 3
            after = lab["main"].run("ip -br link; ip rule; ip -6 rule; sysctl net.ipv4.conf.eth0", shell=True).stdout
            assert after == before
            for kind in (Kind.REMOVE, Kind.RESTORE):
                assert engine.ask(kind, 101).error == 0


def test_orders_that_are_older_than_they_may_be(program: str) -> None:
    # Fault: an order is read a second after it was decided: the engine was paused, or the machine suspended.
    # Expected: it is not carried out, and addresses that were taken are released.
    with Lab() as lab, engine_of(lab, program) as engine, Notices(lab["main"]) as notices:
        assert engine.ask(Kind.TAKE, 101, ago=1).error == errno.ETIMEDOUT
        # Only the clock that runs while the machine is suspended shows it.
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 10**9
        assert engine.ask(Kind.TAKE, 101, boot=boot).error == errno.ETIMEDOUT
        assert not [one for one in notices.read() if one[0] == "+"]
        for stale in (Kind.RENEW, Kind.BEAT, Kind.TAKE):
            assert engine.ask(Kind.TAKE, 101).error == 0
            notices.changes(2)
            number = engine.order(stale, 101, ago=1)
            if stale is Kind.TAKE:
                refused = engine.await_reply(Kind.TAKE, 101)
                assert refused.error == errno.ETIMEDOUT and refused.number == number
            released = engine.await_reply(Kind.RELEASED, 101)
            assert released.error == 0 and released.extra < 2e9
            assert [one for one in notices.read() if one[0] in "+-"] == [f"- {VIP}", f"- {VIP6}"]


def test_a_guardian_that_slept_takes_nothing_and_renews_nothing(program: str) -> None:
    # Fault: the guardian is stopped until an order is too old, or a lease may be over.
    # Expected: a take fails with ETIMEDOUT; a renewal brings nothing back that the kernel has removed.
    with Lab() as lab, engine_of(lab, program, gated=False) as engine, Notices(lab["main"]) as notices:
        with stopped(engine.guardian.pid):
            engine.order(Kind.TAKE, 101, next_beat_ms=200)
            time.sleep(0.3)
        assert engine.await_reply(Kind.TAKE, 101).error == errno.ETIMEDOUT
        assert not notices.read()
        assert engine.ask(Kind.TAKE, 101, lease=1).error == 0
        with stopped(engine.guardian.pid):
            engine.order(Kind.RENEW, 101, lease=1)
            time.sleep(0.7)
        assert engine.await_reply(Kind.RELEASED, 101).error == 0
        assert [one for one in notices.changes(4) if one[0] == "+"] == [f"+ {VIP}", f"+ {VIP6}"]


def test_it_never_waits_for_an_engine_that_does_not_read(program: str) -> None:
    # Fault: the engine reads no replies.
    # Expected: the guardian reads all orders, and releases the addresses when the next beat is overdue.
    with Lab() as lab, engine_of(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=30_000).error == 0
        room = 0
        for _order in range(100_000):
            if engine.guardian.order(Kind.DROP, 7):
                room = 0
            elif (room := room + 1) > 200:
                break
            else:
                time.sleep(0.001)
        assert room <= 200  # all were read, long after there was room for a reply
        engine.order(Kind.BEAT, 101, next_beat_ms=100, takeover_after_ms=60_000)
        assert capture.wait(is_bowout) is not None
        until(lambda: not addresses(lab["main"]))


def _message(kind: int, index: int = 101) -> bytes:
    now, boot = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return protocol.ORDER.pack(kind, 0, 0, index, now, 5, NEXT_BEAT_MS, 0, 99, boot)


@pytest.mark.slow
def test_malformed_messages(program: str) -> None:
    # Fault: messages, descriptions and descriptors are malformed.
    # Expected: each is refused or passed over; no descriptor stays open, and orders work as before.
    rng = random.Random(112)
    with Lab() as lab, engine_of(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=60_000).error == 0
        folder = f"/proc/{engine.guardian.pid}/fd"
        before = len(os.listdir(folder))
        with socket.socket(fileno=os.dup(engine.guardian.fileno())) as ours:
            for size in (0, 1, 39, 41, 80, 5000):
                ours.send(rng.randbytes(size))
                ours.sendmsg([rng.randbytes(size)], [_rights(0, 0, 0)])
            for kind in (9, 15, 16, 17, 255):
                ours.send(_message(kind))
            for count in (0, 1, 2, 4, 20, 200):
                ours.sendmsg([_message(Kind.ADD)], [_rights(*[0] * count)] if count else [])
            for kind in (Kind.BEAT, Kind.DROP, Kind.FORGET):
                ours.sendmsg([_message(kind, 7)], [_rights(0, 0, 0)])
            until(lambda: len(os.listdir(folder)) == before)
            list(engine.take_replies())
            version = protocol.DESCRIPTION_VERSION
            good = client._encode(102, engine.devices[101], [b"x" * 60])
            blobs = [
                b"",
                good[: protocol.DESCRIPTION.size - 1],
                good[: protocol.DESCRIPTION.size],
                good[:-1],
                good + b"x",
                bytes(1000),
                b"\xff" * 1000,
                protocol.DESCRIPTION.pack(version, 102, 0, 0, 0, 0xFFFFFFFF, 0, *[0] * (protocol.BATCHES + 1)),
            ]
            blobs += [_spoilt(good, rng) for _ in range(200)]
            for blob in blobs:
                with _memory(blob) as fd:
                    ours.sendmsg(
                        [_message(Kind.ADD, 102)], [_rights(fd, engine.send.fileno(), engine.locks[0].fileno())]
                    )
                reply = engine.await_reply(Kind.ADD, 102)
                assert reply.number == 99 and reply.error in (0, errno.EINVAL)
                if blob in blobs[:8]:
                    assert reply.error == errno.EINVAL
                if reply.error == 0:
                    engine.ask(Kind.FORGET, 102)
            for fd in (os.open("/dev/zero", os.O_RDONLY), os.open("/", os.O_RDONLY), os.eventfd(0)):
                ours.sendmsg([_message(Kind.ADD, 102)], [_rights(fd, fd, fd)])
                os.close(fd)
                assert engine.await_reply(Kind.ADD, 102).error != 0
            # Numbers out of this world.
            for at in (0, 2**63 - 1, -(2**63)):
                for kind in (Kind.BEAT, Kind.RENEW, Kind.TAKE):
                    ours.send(
                        protocol.ORDER.pack(
                            kind, 255, 65535, 101, at, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, at
                        )
                    )
        time.sleep(0.05)
        list(engine.take_replies())
        assert engine.ask(Kind.DROP, 101).error == 0
        assert engine.ask(Kind.TAKE, 101).error == 0 and len(addresses(lab["main"])) == 2
        assert len(os.listdir(folder)) == before


def _rights(*fds: int) -> tuple[int, int, array.array[int]]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)


def _spoilt(blob: bytes, rng: random.Random) -> bytes:
    """Headers of the description and of requests changed; none that the kernel would be asked to do."""
    spoilt = bytearray(blob)
    for _ in range(rng.randint(1, 8)):
        spoilt[rng.randrange(min(120, len(spoilt)))] = rng.randrange(256)
    return bytes(spoilt)


@contextlib.contextmanager
def _memory(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("blob", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)
