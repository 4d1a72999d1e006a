"""The guardian, both programs: it does what it is told, and lets go of the addresses whatever becomes of its engine."""

from __future__ import annotations

import array
import contextlib
import errno
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import IMPLEMENTATIONS
from support import guarded as guarded_module
from support.guarded import BOWOUT, NEXT_BEAT_MS, Engine, bowout, floating
from support.linux import carpdev, needs_namespaces

from pycarp._python.guardian import protocol
from pycarp.errors import CapabilityError, EngineError, InterfaceError
from pycarp.lab.namespaces import Host, Lab
from pycarp.lab.recorder import Frame, Recorder
from pycarp.linux import guardian_client as client
from pycarp.linux import netlink
from pycarp.linux.guardian_client import Guardian, GuardianGone, Kind, Reply
from pycarp.linux.lock import VirtualHostLock, held

pytestmark = needs_namespaces()

VIP, VIP6 = "10.13.37.42", "2001:db8::42"
ADDRESSES = (f"{VIP}/24", f"{VIP6}/64")
SUPERSEDED = protocol.REPLY_SUPERSEDED


def _users() -> int:
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())


@pytest.fixture(params=IMPLEMENTATIONS)
def program(request: pytest.FixtureRequest) -> str:
    """Each program, started by its own implementation."""
    if importlib.util.find_spec(f"pycarp._{request.param}.spawn") is None:
        pytest.skip("the compiled guardian was not built")
    return str(request.param)


@contextlib.contextmanager
def _engine(lab: Lab, program: str, *addresses: str) -> Iterator[Engine]:
    with lab["main"].enter(), Engine(program, floating(101, *(addresses or ADDRESSES))) as engine:
        yield engine


class Child:
    """An engine in a process of its own, that has taken its addresses and beats every 20 ms."""

    def __init__(self, host: Host, program: str, *addresses: str) -> None:
        argv = [sys.executable, guarded_module.__file__, program, "101", *(addresses or ADDRESSES)]
        self.process = host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.guardian: int = self._read()["guardian"]

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> Any:
        self.tell(word)
        return self._read()

    def kill(self) -> int:
        """SIGKILL; the time just before, CLOCK_REALTIME in ns."""
        at = time.time_ns()
        self.process.kill()
        return at

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the engine has ended"
        return json.loads(line)


class Notices:
    """What the kernel says of addresses and links in a namespace, in its order."""

    def __init__(self, host: Host) -> None:
        with host.enter():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, 0x1 | 0x10 | 0x100))

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def read(self) -> list[str]:
        """ "+ address", "- address", "index up" or "index down" since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                for kind, _flags, _sequence, payload in netlink.messages(
                    self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
                ):
                    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
                        address = netlink.attributes(payload, netlink.ADDRESS.size)[1]
                        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
                        sign = "+" if kind == netlink.RTM_NEWADDR else "-"
                        found.append(f"{sign} {socket.inet_ntop(family, address)}")
                    elif kind == netlink.RTM_NEWLINK:
                        _family, _type, index, flags, _change = netlink.LINK.unpack_from(payload)
                        found.append(f"{index} {'up' if flags & 1 else 'down'}")
        return found


def _addresses(host: Host, name: str = "carp101") -> dict[str, int]:
    """The device's addresses, and how many seconds they are still valid."""
    shown = json.loads(host.run(["ip", "-j", "addr", "show", "dev", name]).stdout)
    return {one["local"]: one["valid_life_time"] for link in shown for one in link.get("addr_info", [])}


def _until(condition: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _is_gone(engine: Engine) -> bool:
    try:
        engine.order(Kind.BEAT, 7)
    except GuardianGone:
        return True
    return False


def _is_bowout(frame: Frame) -> bool:
    return not frame.outgoing and frame.data[12:14] == b"\x88\xb5"


def _bowouts(capture: Recorder) -> list[Frame]:
    return [frame for frame in capture.frames if _is_bowout(frame)]


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    _until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# Orders


def test_take_renew_and_drop(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        with lab["client"].ping(VIP) as ipv4, lab["client"].ping(VIP6) as ipv6:
            reply = engine.ask(Kind.TAKE, 101, lease=7, next_beat_ms=30_000)
            assert reply.error == reply.flags == 0 and reply.started < reply.finished
            assert ipv4.wait() and ipv6.wait()
        assert set(_addresses(lab["main"])) == {VIP, VIP6}
        assert all(5 <= left <= 7 for left in _addresses(lab["main"]).values())
        # A renewal is silent, and sets the lifetime anew.
        engine.order(Kind.RENEW, 101, lease=30)
        _until(lambda: all(left > 28 for left in _addresses(lab["main"]).values()))
        assert not list(engine.take_replies())
        engine.order(Kind.RENEW, 101, lease=protocol.LEASE_FOREVER)
        _until(lambda: set(_addresses(lab["main"]).values()) == {protocol.LEASE_FOREVER})
        assert engine.ask(Kind.TAKE, 101, lease=9).error == 0  # again
        for _turn in range(2):
            assert engine.ask(Kind.DROP, 101).error == 0
            assert not _addresses(lab["main"])


def test_a_deprecated_address_stays_deprecated(program: str) -> None:
    with Lab() as lab, lab["main"].enter():
        host = floating(101, *ADDRESSES).replace(mac="interface")
        with Engine(program, host) as engine:
            assert engine.ask(Kind.TAKE, 101, lease=9).error == 0
            shown = json.loads(lab["main"].run(["ip", "-j", "addr", "show", "dev", "eth0"]).stdout)
            lifetimes = {one["local"]: (one["preferred_life_time"] > 0) for one in shown[0]["addr_info"]}
            assert lifetimes[VIP] and not lifetimes[VIP6]
            assert engine.ask(Kind.DROP, 101).error == 0


def test_of_waiting_orders_the_last_counts(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, Notices(lab["main"]) as notices:
        with _stopped(engine.guardian.pid):
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
        assert [one for one in notices.read() if one[0] in "+-"] == [f"+ {VIP}", f"+ {VIP6}"]
        # A renewal gives way to a drop that waits.
        with _stopped(engine.guardian.pid):
            engine.order(Kind.DROP, 101)
            engine.order(Kind.RENEW, 101)
        assert engine.await_reply(Kind.DROP, 101).error == 0
        time.sleep(0.05)
        assert [one for one in notices.read() if one[0] in "+-"] == [f"- {VIP}", f"- {VIP6}"]
        # And one of a virtual host that is not here is nothing.
        engine.order(Kind.RENEW, 101)
        time.sleep(0.05)
        assert not notices.read() and not list(engine.take_replies())


def _several(lab: Lab, program: str) -> Engine:
    return Engine(program, *(floating(vhid, f"10.13.37.{100 + vhid}/24") for vhid in range(1, 9)))


def test_drops_go_before_takes_and_links_after_both(program: str) -> None:
    """Taking a link down keeps everybody waiting who changes interfaces: it goes when others had time to take over."""
    with Lab() as lab, lab["main"].enter(), _several(lab, program) as engine, Notices(lab["main"]) as notices:
        for vhid in range(2, 9):
            assert engine.ask(Kind.TAKE, vhid).error == 0
        notices.read()
        with _stopped(engine.guardian.pid):
            engine.order(Kind.TAKE, 1)
            for vhid in range(2, 9):
                engine.order(Kind.DROP, vhid)
        order = [engine.await_reply() for _ in range(8)]
        assert [(one.kind, one.error) for one in order] == [(Kind.DROP, 0)] * 7 + [(Kind.TAKE, 0)]
        assert [one[0] for one in notices.read() if one[0] in "+-"] == ["-"] * 7 + ["+"]
        time.sleep(0.2)
        assert sum(one.endswith("down") for one in notices.read()) == 7


def test_a_failure_is_told_and_what_is_gone_is_dropped(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        lab["main"].run(["ip", "link", "del", "carp101"])
        number = engine.order(Kind.RENEW, 101)
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
    with Lab() as lab, _engine(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=300).error == 0
        engine.devices[101].change(floating(101, f"{VIP}/24", "10.13.37.43/24"))
        engine.add(101)
        engine.order(Kind.RENEW, 101, next_beat_ms=300, lease=50)  # mastered as before
        _until(lambda: set(_addresses(lab["main"])) == {VIP, "10.13.37.43"})
        assert engine.await_reply(Kind.RELEASED, 101).error == 0
        assert not _addresses(lab["main"])


def test_an_unknown_virtual_host(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        for kind in (Kind.TAKE, Kind.DROP, Kind.FORGET, Kind.REMOVE, Kind.RESTORE):
            assert engine.ask(kind, 7).error == errno.ENOENT
        for kind in (Kind.RENEW, Kind.BEAT):
            engine.order(kind, 7)
        time.sleep(0.05)
        assert not list(engine.take_replies())


def test_one_that_is_forgotten(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101).error == 0
        open_before = len(os.listdir(f"/proc/{engine.guardian.pid}/fd"))
        with _stopped(engine.guardian.pid):
            engine.order(Kind.DROP, 101)
            engine.order(Kind.FORGET, 101)
        assert [engine.await_reply().kind for _ in range(2)] == [Kind.DROP, Kind.FORGET]
        assert not _addresses(lab["main"])
        assert engine.ask(Kind.TAKE, 101).error == errno.ENOENT
        assert len(os.listdir(f"/proc/{engine.guardian.pid}/fd")) == open_before - 2
        engine.locks[0].close()
        assert not held(engine.carpdev.index, 101)


def test_removal_by_the_guardian(program: str) -> None:
    """For a program that gave up root: nothing is left of the device, its rules and settings."""
    with Lab() as lab:
        before = lab["main"].run("ip -br link; ip rule; ip -6 rule; sysctl net.ipv4.conf.eth0", shell=True).stdout
        with _engine(lab, program) as engine:
            assert engine.ask(Kind.TAKE, 101).error == 0
            with _stopped(engine.guardian.pid):
                for kind in (Kind.DROP, Kind.REMOVE, Kind.RESTORE):
                    engine.order(kind, 101)
            assert [engine.await_reply(kind, 101).error for kind in (Kind.DROP, Kind.REMOVE, Kind.RESTORE)] == [0] * 3
            after = lab["main"].run("ip -br link; ip rule; ip -6 rule; sysctl net.ipv4.conf.eth0", shell=True).stdout
            assert after == before
            for kind in (Kind.REMOVE, Kind.RESTORE):
                assert engine.ask(kind, 101).error == 0


# Pauses


def test_orders_that_are_older_than_they_may_be(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, Notices(lab["main"]) as notices:
        assert engine.ask(Kind.TAKE, 101, ago=1).error == errno.ETIMEDOUT
        # Only the clock that runs while the machine is suspended shows it.
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 10**9
        assert engine.ask(Kind.TAKE, 101, boot=boot).error == errno.ETIMEDOUT
        assert not [one for one in notices.read() if one[0] == "+"]
        for stale in (Kind.RENEW, Kind.BEAT, Kind.TAKE):
            assert engine.ask(Kind.TAKE, 101).error == 0
            notices.read()
            number = engine.order(stale, 101, ago=1)
            if stale is Kind.TAKE:
                refused = engine.await_reply(Kind.TAKE, 101)
                assert refused.error == errno.ETIMEDOUT and refused.number == number
            released = engine.await_reply(Kind.RELEASED, 101)
            assert released.error == 0 and released.extra < 2e9
            assert [one for one in notices.read() if one[0] in "+-"] == [f"- {VIP}", f"- {VIP6}"]


def test_a_guardian_that_slept_takes_nothing_and_renews_nothing(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, Notices(lab["main"]) as notices:
        with _stopped(engine.guardian.pid):
            engine.order(Kind.TAKE, 101, next_beat_ms=200)
            time.sleep(0.3)
        assert engine.await_reply(Kind.TAKE, 101).error == errno.ETIMEDOUT
        assert not notices.read()
        assert engine.ask(Kind.TAKE, 101, lease=1).error == 0
        with _stopped(engine.guardian.pid):
            engine.order(Kind.RENEW, 101, lease=1)
            time.sleep(0.7)
        assert engine.await_reply(Kind.RELEASED, 101).error == 0
        assert [one for one in notices.read() if one.startswith("+")] == [f"+ {VIP}", f"+ {VIP6}"]


def test_a_beat_that_is_overdue(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, lab.record() as capture:
        for patience, expected in ((2000, 1), (100, 0)):
            before = len(_bowouts(capture))
            assert engine.ask(Kind.TAKE, 101, next_beat_ms=250, takeover_after_ms=patience).error == 0
            for _beat in range(10):
                time.sleep(0.05)
                beaten = time.monotonic_ns()
                engine.order(Kind.BEAT, 101, next_beat_ms=250, takeover_after_ms=patience)
            assert len(_addresses(lab["main"])) == 2
            released = engine.await_reply(Kind.RELEASED, 101)
            assert not _addresses(lab["main"])
            late = released.started - beaten - 250e6
            assert 0 <= late < 60e6 and abs(released.extra - 250e6) < 60e6
            time.sleep(0.05)
            frames = _bowouts(capture)[before:]
            # One that comes when others have taken over would promote a third host.
            assert len(frames) == expected
            if frames:
                assert frames[0].data == bowout(101)
        # Not master any more: neither a beat nor a renewal brings anything back.
        engine.order(Kind.RENEW, 101)
        time.sleep(0.05)
        assert not _addresses(lab["main"]) and not list(engine.take_replies())


def test_a_bowout_comes_after_the_drop(program: str) -> None:
    with Lab() as lab, _engine(lab, program, f"{VIP}/24") as engine:
        for _turn in range(5):
            with lab.record() as capture:
                assert engine.ask(Kind.TAKE, 101, next_beat_ms=30).error == 0
                released = engine.await_reply(Kind.RELEASED, 101)
                frame = capture.wait(_is_bowout)
            assert frame is not None
            at = frame.at_ns - time.time_ns() + time.monotonic_ns()
            # The address goes first, in a request of its own.
            assert 0 < at - released.started < 50e6


def test_a_bowout_waits_until_ipv6_is_silent(program: str) -> None:
    with Lab() as lab, _engine(lab, program, f"{VIP6}/64") as engine:
        with lab["client"].ping(VIP6, 0.001) as pinger, lab.record() as capture:
            # Nobody has to look for the neighbour first.
            assert engine.ask(Kind.TAKE, 101, next_beat_ms=30_000).error == 0
            assert pinger.wait(20)
            engine.order(Kind.BEAT, 101, next_beat_ms=100)
            frame = capture.wait(_is_bowout)
            assert frame is not None
            time.sleep(0.05)
        ours = [one for one in capture.frames if one.source == frame.source and not one.outgoing]
        assert ours[-1] is frame and len(ours) > 20


# The engine dies


def test_sigkill(program: str) -> None:
    with Lab() as lab, lab["client"].ping(VIP, 0.002) as pinger:
        with lab.record() as capture:
            child = Child(lab["main"], program, f"{VIP}/24")
            assert pinger.wait(10)
            child.ask("grow 64")
            killed = child.kill()
            frame = capture.wait(_is_bowout)
            assert frame is not None and frame.data == bowout(101)
            assert frame.at_ns - killed < 100e6
            _until(lambda: not _lives(child.guardian))
        # Nobody answers once the others may have heard of it.
        answers = [one for one in capture.frames if one.source == frame.source and one.ethertype in (0x0800, 0x0806)]
        assert answers and not [one for one in answers if not one.outgoing and one.at_ns > frame.at_ns]
        assert (
            not _addresses(lab["main"])
            and "down" in lab["main"].run("ip -br link show carp101", shell=True).stdout.lower()
        )


@pytest.mark.slow
def test_every_address_is_gone_before_the_first_link_is_down(program: str) -> None:
    with (
        Lab() as lab,
        lab["main"].enter(),
        lab.record() as capture,
        Notices(lab["main"]) as notices,
        _several(lab, program) as engine,
    ):
        for vhid in range(1, 9):
            assert engine.ask(Kind.TAKE, vhid, next_beat_ms=10_000).error == 0
        notices.read()
        engine.end_thread()
        _until(lambda: not _lives(engine.guardian.pid))
        said = [one for one in notices.read() if one[0] == "-" or one.endswith("down")]
        assert [one[0] for one in said[:8]] == ["-"] * 8
        _until(lambda: len(_bowouts(capture)) == 8)
        assert {frame.data for frame in _bowouts(capture)} == {bowout(vhid) for vhid in range(1, 9)}
        # Its threads end one by one, and the socket with the last.
        _until(lambda: _is_gone(engine))
        with pytest.raises(GuardianGone):
            while True:
                engine.guardian.replies()
        engine.guardian.close()


@pytest.mark.parametrize("how", ["exec", "end-thread", "fork"])
def test_other_ways_to_die(program: str, how: str) -> None:
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        assert len(_addresses(lab["main"])) == 2
        left = child.ask("fork") if how == "fork" else 0
        try:
            if how == "fork":
                child.kill()
            else:
                child.tell(how)
            assert capture.wait(_is_bowout) is not None
            _until(lambda: not _addresses(lab["main"]))
            _until(lambda: not _lives(child.guardian))
            if how == "exec":
                assert child.process.poll() is None
            elif how == "fork":
                assert _lives(left)
        finally:
            if left:
                os.kill(left, signal.SIGKILL)


@pytest.mark.root
@pytest.mark.skipif(_users() < 65535, reason="this user namespace has no nobody")
def test_a_program_that_gave_up_root(program: str) -> None:
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        child.ask("setuid")
        # It still moves its addresses, and nothing else: neither by itself nor by a description of its own.
        assert errno.EPERM in child.ask("configure")
        assert child.ask("add") == errno.EPERM
        assert child.ask("drop") == 0 and not _addresses(lab["main"])
        assert child.ask("take") == 0 and len(_addresses(lab["main"])) == 2
        child.kill()
        assert capture.wait(_is_bowout) is not None
        _until(lambda: not _addresses(lab["main"]))
        # Another of them, that ends in order.
        _until(lambda: not _lives(child.guardian))
        child.process.wait()
        child = Child(lab["main"], program)
        child.ask("setuid")
        for word in ("drop", "remove", "restore", "forget"):
            assert child.ask(word) == 0
        assert "carp101" not in lab["main"].run(["ip", "link"]).stdout


@pytest.mark.slow
def test_a_stopped_engine_and_a_stopped_pair(program: str) -> None:
    with Lab() as lab, lab.record() as capture:
        child = Child(lab["main"], program)
        stopped = time.time_ns()
        with _stopped(child.pid):
            frame = capture.wait(_is_bowout)
            assert frame is not None and frame.at_ns - stopped < (NEXT_BEAT_MS + 100) * 1e6
            _until(lambda: not _addresses(lab["main"]))
            assert _lives(child.guardian)
        # It goes on, and what it does not know yet changes nothing.
        time.sleep(0.1)
        assert not _addresses(lab["main"])
        released = [one for one in child.ask("replies") if one[0] == Kind.RELEASED]
        assert len(released) == 1 and released[0][2] == 0
        assert child.ask("take") == 0
        assert len(_addresses(lab["main"])) == 2
        # Both: nobody can act, and who wakes up late lets go without calling others to take over.
        before = len(_bowouts(capture))
        with _stopped(child.pid):
            with _stopped(child.guardian):
                time.sleep(2.2)
            _until(lambda: not _addresses(lab["main"]), 0.2)
        time.sleep(0.05)
        assert len(_bowouts(capture)) == before


def test_a_guardian_that_was_paused_gives_the_engine_a_moment(program: str) -> None:
    with Lab() as lab:
        child = Child(lab["main"], program)
        with _stopped(child.guardian):
            time.sleep(NEXT_BEAT_MS / 1000 + 0.2)
        time.sleep(0.1)
        # The beats of meanwhile were waiting.
        assert len(_addresses(lab["main"])) == 2
        assert not child.ask("replies")


def test_signals_of_an_orderly_stop_are_the_engines_affair(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=20_000).error == 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(engine.guardian.pid, number)
        os.kill(engine.guardian.pid, signal.SIGUSR2)
        time.sleep(0.05)
        assert engine.ask(Kind.TAKE, 101).error == 0


@pytest.mark.parametrize("unread", [False, True])
def test_a_socket_that_is_closed(program: str, unread: bool) -> None:
    with Lab() as lab, _engine(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101).error == 0
        if unread:
            # The kernel then says "connection reset" first, and what waits must still be read.
            engine.order(Kind.DROP, 7)
            time.sleep(0.05)
            with _stopped(engine.guardian.pid):
                engine.order(Kind.DROP, 101)
                engine.guardian._socket.close()
        engine.guardian.close()
        assert not _lives(engine.guardian.pid) and not _addresses(lab["main"])
        assert unread or capture.wait(_is_bowout) is not None
        assert not unread or not _bowouts(capture)  # the drop was the engine's own


def test_an_orderly_end(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=50).error == 0
        assert engine.ask(Kind.QUIET).error == 0
        engine.end_thread()
        time.sleep(0.15)
        # Neither the lifeline nor the beats mean anything now.
        assert len(_addresses(lab["main"])) == 2 and _lives(engine.guardian.pid)
        engine.guardian.close()
        assert not _lives(engine.guardian.pid) and not _addresses(lab["main"])
        time.sleep(0.05)
        assert not _bowouts(capture)


# The process


def test_it_is_nobodys_child_and_inherits_nothing(program: str) -> None:
    with Lab() as lab:
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
        with _engine(lab, program) as engine:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            os.close(reading)
            os.close(writing)
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
            folder = Path(f"/proc/{engine.guardian.pid}")
            opened = {int(one.name): os.readlink(one) for one in (folder / "fd").iterdir()}
            assert all(opened[number] == "/dev/null" for number in range(3))
            assert "socket" in opened[3] and "pycarp-lifeline" in opened[4] and "pidfd" in opened[5]
            assert not [one for one in opened.values() if "pipe:" in one]
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            assert {status[name].strip() for name in ("CapEff", "CapPrm")} == {f"{1 << 12:016x}"}
            assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == int(status["SigBlk"], 16) == 0
            assert status["NoNewPrivs"].strip() == "1"
            assert (folder / "comm").read_text() == "pycarp-guardian\n"
            assert os.readlink(folder / "cwd") == "/" and (folder / "environ").read_bytes() == b""
            assert os.getsid(engine.guardian.pid) == engine.guardian.pid
            assert os.readlink(folder / "ns/net") == os.readlink("/proc/thread-self/ns/net")
            private = sum(
                int(line.split()[1])
                for line in (folder / "smaps_rollup").read_text().splitlines()
                if line.startswith(("Private_Clean", "Private_Dirty"))
            )
            assert private < {"native": 2 << 10, "python": 40 << 10}[program]
        assert not _lives(engine.guardian.pid)


def test_an_engine_sees_no_child(program: str) -> None:
    with Lab() as lab:
        child = Child(lab["main"], program)
        assert child.ask("wait") == "no child"


def test_it_starts_fast(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    took = []
    for _turn in range(5):
        lifeline = spawn.Lifeline()
        started = time.monotonic()
        guardian = Guardian(lifeline, True, spawn)
        took.append(time.monotonic() - started)
        guardian.close()
        assert not _lives(guardian.pid)
        lifeline.close()
    # 25 ms of computing for the interpreted one; the machine may have more to do.
    assert min(took) < 0.25


def test_it_never_waits_for_an_engine_that_does_not_read(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine, lab.record() as capture:
        assert engine.ask(Kind.TAKE, 101, next_beat_ms=30_000).error == 0
        room = 0
        for _order in range(100_000):
            if engine.guardian.order(Kind.DROP, 7):
                room = 0
            elif (room := room + 1) > 200:
                break
            else:
                time.sleep(0.001)
        assert room <= 200  # all were read, long after there was no more room for a reply
        engine.order(Kind.BEAT, 101, next_beat_ms=100, takeover_after_ms=60_000)
        assert capture.wait(_is_bowout) is not None
        _until(lambda: not _addresses(lab["main"]))


def _message(kind: int, index: int = 101) -> bytes:
    now, boot = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return protocol.ORDER.pack(kind, 0, 0, index, now, 5, NEXT_BEAT_MS, 0, 99, boot)


@pytest.mark.slow
def test_malformed_messages(program: str) -> None:
    rng = random.Random(112)
    with Lab() as lab, _engine(lab, program) as engine:
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
            _until(lambda: len(os.listdir(folder)) == before)
            list(engine.take_replies())
            good = client._encode(102, engine.devices[101], [b"x" * 60])
            blobs = [
                b"",
                good[: protocol.DESCRIPTION.size - 1],
                good[: protocol.DESCRIPTION.size],
                good[:-1],
                good + b"x",
                bytes(1000),
                b"\xff" * 1000,
                protocol.DESCRIPTION.pack(2, 102, 0, 0, 0, 0xFFFFFFFF, *[0] * 7),
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
        assert engine.ask(Kind.TAKE, 101).error == 0 and len(_addresses(lab["main"])) == 2
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


# How it is started


def test_a_program_that_is_started(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    reading, writing = os.pipe()
    try:
        script = b"echo $0 $1; cat /proc/$$/environ; exec ls -l /proc/self/fd"
        # Their numbers cross those that the program shall see.
        pid = spawn.spawn("/bin/sh", [b"sh", b"-c", script, b"name", b"first"], [-1, writing, -1, writing, reading])
        assert pid > 1 and pid != os.getpid()
    finally:
        os.close(writing)
    with open(reading) as output:
        first, _total, *listed = output.read().splitlines()
        assert first == "name first"
        links = {int(line.split()[-3]): line.split()[-1] for line in listed}
        # The last is the directory that is listed.
        assert set(links) == set(range(6)) and links[0] == links[2] == "/dev/null"
        assert all(links[number].startswith("pipe:") for number in (1, 3, 4))
        _until(lambda: not _lives(pid))
        with pytest.raises(FileNotFoundError):
            spawn.spawn("/nonexistent/guardian", [b"x"], [-1, -1, -1])
        with pytest.raises(OSError):
            spawn.spawn("/bin/true", [b"true"], [-1, -1, -1, 4711])


@pytest.mark.slow
def test_it_is_started_while_other_threads_are_busy(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            json.loads(json.dumps(list(range(100))))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for one in workers:
        one.start()
    try:
        for _turn in range(20):
            pid = spawn.spawn("/bin/true", [b"true"], [-1, -1, -1])
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
        _until(lambda: not _lives(pid))
    finally:
        done.set()
        for one in workers:
            one.join()


def test_a_pulse_passes_on_when_its_thread_ends(program: str) -> None:
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


# The client


def test_a_guardian_that_dies(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        engine.order(Kind.DROP, 7)
        time.sleep(0.05)
        os.kill(engine.guardian.pid, signal.SIGKILL)
        _until(lambda: _is_gone(engine))
        # What it said before is still heard.
        assert [one.error for one in engine.guardian.replies()] == [errno.ENOENT]
        with pytest.raises(GuardianGone):
            engine.guardian.replies()
        with pytest.raises(GuardianGone):
            engine.order(Kind.BEAT, 101)
        with pytest.raises(GuardianGone):
            engine.hand_over(101)


def test_no_room_for_orders(program: str) -> None:
    with Lab() as lab, _engine(lab, program) as engine:
        with _stopped(engine.guardian.pid):
            sent = 0
            while engine.guardian.order(Kind.BEAT, 101):
                sent += 1
            assert sent > 250
        _until(lambda: engine.guardian.order(Kind.BEAT, 101))
        assert engine.ask(Kind.TAKE, 101).error == 0


class Spawner:
    """Starts something else in the guardian's place."""

    def __init__(self, file: str, *argv: str) -> None:
        self.__file__ = file
        self._argv = argv

    def spawn(self, path: str, argv: list[bytes], fds: list[int]) -> int:
        from pycarp._python.spawn import spawn

        return spawn(self._argv[0], [os.fsencode(one) for one in self._argv], fds)


def test_one_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycarp._python.spawn import Lifeline

    native = tmp_path / "_native" / "spawn.so"
    native.parent.mkdir()
    with contextlib.closing(Lifeline()) as lifeline:
        with pytest.raises(EngineError, match="guardian is not there, or not executable"):
            Guardian(lifeline, False, Spawner(str(native)))
        native.with_name("guardian").touch(mode=0o755)
        assert client.program(Spawner(str(native))) == [str(native.with_name("guardian"))]
        with pytest.raises(EngineError, match="ended before it was ready"):
            Guardian(lifeline, False, Spawner(str(native), "/bin/true"))
        with pytest.raises(FileNotFoundError, match="/nonexistent cannot be started"):
            Guardian(lifeline, False, Spawner(str(native), "/nonexistent"))
        for error, expected in ((errno.EPERM, CapabilityError), (errno.EMFILE, OSError)):
            hello = protocol.REPLY.pack(Kind.HELLO, 0, 0, 0, error, 0, 0, 0, 0)
            script = f"import os, time; os.write(3, {hello!r}); time.sleep(60)"
            with pytest.raises(expected, match="may not change addresses" if error == errno.EPERM else "cannot work"):
                Guardian(lifeline, False, Spawner(str(native), sys.executable, "-c", script))
        monkeypatch.setattr(client, "_READY_WITHIN", 0.2)
        with pytest.raises(EngineError, match="not ready within"):
            Guardian(lifeline, False, Spawner(str(native), "/bin/sleep", "60"))
    monkeypatch.setattr(sys, "executable", "/opt/app/bin/happy")
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    with pytest.raises(EngineError, match="interpreter of its own"):
        client.program(Spawner("/x/_python/spawn.py"))


def test_without_capabilities(program: str) -> None:
    script = f"""
import ctypes, importlib
from pycarp._python.guardian import protocol
from pycarp.errors import CapabilityError
from pycarp.linux.guardian_client import Guardian
spawn = importlib.import_module("pycarp._{program}.spawn")
libc = ctypes.CDLL(None)
assert libc.prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_ADMIN
lifeline = spawn.Lifeline()
try:
    Guardian(lifeline, False, spawn)
except CapabilityError as error:
    print(error)
"""
    with Lab() as lab:
        done = lab["main"].run([sys.executable, "-c", script])
        assert "the guardian may not change addresses" in done.stdout


@pytest.mark.slow
def test_close_and_abandon_may_be_repeated(program: str) -> None:
    spawn = importlib.import_module(f"pycarp._{program}.spawn")
    with contextlib.closing(spawn.Lifeline()) as lifeline:
        guardian = Guardian(lifeline, False, spawn)
        for _turn in range(2):
            guardian.close()
        guardian.abandon()
        with pytest.raises(GuardianGone):
            guardian.order(Kind.BEAT, 1)
        with pytest.raises(GuardianGone):
            guardian.replies()


def test_replies_are_plain() -> None:
    assert protocol.ORDER.size == protocol.REPLY.size == 40
    assert Reply(Kind.TAKE, 0, 1, 0, 0, 0, 0, 0) == Reply(Kind.TAKE, 0, 1, 0, 0, 0, 0, 0)
    assert BOWOUT.endswith(b"%d")
    batches = {"take": b"ab", "renew": b"", "drop": b"", "mute": (), "remove": b"", "restore": b""}
    device = SimpleNamespace(index=9, essential=1, host=floating(101, *ADDRESSES), **batches)
    blob = client._encode(5, device, [b"xyz", b""])  # type: ignore[arg-type]
    assert protocol.DESCRIPTION.unpack_from(blob) == (2, 5, 1, 9, True, 2, 2, 0, 0, 0, 0, 0, 7)
    assert blob[protocol.DESCRIPTION.size :] == b"ab\3\0xyz\0\0"


# The lock


def test_a_restarted_engine_waits_for_the_guardian_of_the_one_before(program: str) -> None:
    with Lab() as lab:
        main = lab["main"]
        child = Child(main, program)
        with main.enter():
            eth0 = carpdev()
            with pytest.raises(InterfaceError, match=f"process {child.pid}"):
                VirtualHostLock("carp101", eth0, 101)
            with _stopped(child.guardian):
                child.kill()
                child.process.wait()
                opener = threading.Timer(0.3, os.kill, (child.guardian, signal.SIGCONT))
                opener.start()
                started = time.monotonic()
                with VirtualHostLock("carp101", eth0, 101):
                    assert time.monotonic() - started > 0.2
                    assert not _addresses(main)
                opener.join()


def test_a_program_that_starts_anew_in_its_process_waits_as_well(program: str) -> None:
    with Lab() as lab:
        child = Child(lab["main"], program)
        former = child.guardian
        again = child.ask(f"retry 101,{VIP}/24")
        assert again["guardian"] != former and not _lives(former)
        assert set(_addresses(lab["main"])) == {VIP}
