"""Where threads meet and resources end: no deadlock, no thread that dies, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import queue
import resource
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import Any

import pytest
from support.lan import SWIFT, WITHIN, Lan, belongings, interface, virtual_host, wait_until
from support.wire import PASSPHRASE, VIP, Frame

from pycarp import Engine, EngineError, State, VirtualHost, _impl, events
from pycarp._python.guardian import protocol
from pycarp.engine.plan import make_plan
from pycarp.linux import messages, netlink
from pycarp.linux.device import Device
from pycarp.linux.guardian_client import Guardian
from pycarp.linux.sockets import Sockets, receive_socket

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


@pytest.fixture
def lone(make_lan: Callable[..., Lan]) -> Lan:
    """One host and a client; whoever starts becomes master."""
    return make_lan(("main", "client"))


def test_calls_that_meet_a_stop(lone: Lan, with_impl: str) -> None:
    """A call that comes while the engine ends is answered or refused; none waits for ever, nor does the stop."""

    def ask() -> None:
        with contextlib.suppress(EngineError):
            while True:
                engine.stats(101)

    for _turn in range(8):
        engine = Engine(virtual_host())
        with lone["main"].enter():
            engine.start()
        asking = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.005)
        stopping = threading.Thread(target=engine.stop, daemon=True)
        stopping.start()
        for thread in (stopping, *asking):
            thread.join(WITHIN)
            assert not thread.is_alive()


def test_loops_that_wait_on_the_descriptor_see_the_end(lone: Lan) -> None:
    for _turn in range(4):
        engine = Engine(virtual_host())
        with lone["main"].enter():
            engine.start()
        while engine.poll() is not None:
            pass
        ends: list[events.Event] = []

        def wait(engine: Engine = engine, ends: list[events.Event] = ends) -> None:
            with selectors.DefaultSelector() as selector:
                selector.register(engine.fileno(), selectors.EVENT_READ)
                while selector.select():
                    if (event := engine.poll()) is None and ends:
                        return
                    if isinstance(event, events.StateChanged) and event.after is INIT:
                        ends.append(event)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        time.sleep(0.01)
        engine.stop()
        thread.join(WITHIN)
        assert not thread.is_alive()


@pytest.mark.parametrize("name", ["events", "runtime", "supervisor", "callback"])
def test_a_thread_that_cannot_be_had(lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The start fails and leaves nothing: neither device nor thread nor descriptor."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == f"pycarp-{name}":
            raise RuntimeError("can't start new thread")
        start(thread)

    before = belongings(lone["main"])
    engine = Engine(virtual_host(), on_event=lambda event: None)
    with monkeypatch.context() as patch, lone["main"].enter():
        patch.setattr(threading.Thread, "start", refuse)
        try:
            engine.start()
        except RuntimeError:
            assert belongings(lone["main"]) == before
        else:
            # The other implementation has no such thread, or one that Python does not start.
            assert name in (("events",) if with_impl == "python" else ("runtime",))
    engine.stop()


def test_running_out_of_descriptors(lone: Lan, with_impl: str) -> None:
    """It says so and goes on; what changed meanwhile is seen later, and the stop leaves nothing."""
    main = lone.start("main", **SWIFT)
    main.become(MASTER)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    with contextlib.ExitStack() as undo:
        command = lone["main"].popen(
            ["sh", "-c", "read line; ip addr add 10.13.37.99/24 dev eth0"], stdin=subprocess.PIPE
        )
        undo.callback(command.communicate)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            command.stdin.write(b"\n")
            command.stdin.flush()
            failed = main.wait(events.Failed)
        finally:
            for one in held:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "the interfaces could not be read" in failed.what
    assert main.state() is MASTER
    supervisor = main.engine._supervisor
    assert supervisor is not None
    wait_until(
        lambda: any(str(one.interface.ip) == "10.13.37.99" for one in supervisor.instances.find(101).carpdev.addresses)
    )
    lone["main"].run(["ip", "addr", "del", "10.13.37.99/24", "dev", "eth0"])


def test_a_fault_in_the_supervisors_thread_ends_the_engine(
    lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather no virtual host than one that nobody looks after."""
    faults: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    main = lone.start("main", **SWIFT)
    main.become(MASTER)
    supervisor = main.engine._supervisor
    assert supervisor is not None
    monkeypatch.setattr(supervisor._reconciler, "survey", lambda: 1 / 0)
    lone["main"].run(["ip", "addr", "add", "10.13.37.99/24", "dev", "eth0"])
    wait_until(lambda: interface(lone["main"], main.hosts[0].name) is None)
    main.stop()
    assert [fault.exc_type for fault in faults] == [ZeroDivisionError]
    lone["main"].run(["ip", "addr", "del", "10.13.37.99/24", "dev", "eth0"])


@pytest.mark.slow
def test_who_cannot_take_the_addresses_rests(net: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better host with preempt whose takes fail (a program that gave up root) must not depose the other for ever."""
    second = net.start("second", advskew=100, advbase=1)
    second.become(MASTER)
    refresh = Device.refresh

    def spoil(device: Device, *arguments: Any) -> None:
        refresh(device, *arguments)
        device.take, device.essential, device.leading = netlink.batch(messages.link_state(999_999, True)), 1, 0

    with monkeypatch.context() as patch:
        patch.setattr(Device, "refresh", spoil)
        main = net.start("main", preempt=True)
        failed = main.wait(events.Failed)
        assert "could not be taken" in failed.what
        time.sleep(2.5)
    assert len([one for one in main.transitions() if one.after is MASTER]) <= 3
    second.become(MASTER)
    main.stop()


def test_more_addresses_than_acknowledgements_fit_a_socket(lone: Lan, with_impl: str) -> None:
    main = lone.start("main", addresses=tuple(f"10.13.37.{20 + number}/24" for number in range(160)), **SWIFT)
    main.become(MASTER)
    assert not main.log.find(events.Failed)
    main.engine.force(101, BACKUP)
    main.become(BACKUP)


NOTHING: Any = SimpleNamespace(
    **dict.fromkeys(("take", "renew", "drop", "remove", "restore", "late"), b""),
    mute=(),
    essential=0,
    leading=0,
    gate=None,
    index=0,
    host=SimpleNamespace(mac="virtual", families=(4,)),
)
"""The device of an instance whose addresses are nobody's business."""


@contextlib.contextmanager
def bare_runtime(lone: Lan, told: list[events.Event]) -> Iterator[tuple[Any, int, socket.socket]]:
    """A runtime of the chosen implementation on main's eth0, that carpdev, and the socket that it sends with, which is
    bound to no interface: every send fails."""
    with lone["main"].enter():
        runtime = _impl.current.runtime(told.append, "auto")
        carpdev = socket.if_nametoindex("eth0")
        send = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        runtime.add_carpdev(carpdev, Sockets(receive_socket(carpdev), send), bytes(6), (), True)
    try:
        yield runtime, carpdev, send
    finally:
        runtime.close()


class Stub(Guardian):
    """A guardian that carries out nothing. It answers all but the orders that are `kept` for the test."""

    def __init__(self, *_arguments: object) -> None:
        self.pid, self.pidfd = 0, -1
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kept: tuple[int, ...] = ()
        self.orders: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def add(self, *_arguments: object, **_options: object) -> None:
        pass

    def _read(self) -> None:
        with self._theirs:
            while raw := self._theirs.recv(protocol.ORDER.size):
                order = protocol.ORDER.unpack(raw)
                if order[0] in self.kept:
                    self.orders.put(order)
                elif order[0] not in (protocol.ORDER_RENEW, protocol.ORDER_BEAT):
                    self.answer(order, time.monotonic_ns(), time.monotonic_ns())

    def answer(self, order: tuple[int, ...], started: int, finished: int) -> None:
        kind, _flags, _zero, index, *_times, number, _boot = order
        self.reply(kind, index, 0, number, started, finished)

    def reply(self, kind: int, index: int, error: int, number: int = 0, started: int = 0, finished: int = 0) -> None:
        self._theirs.send(protocol.REPLY.pack(kind, 0, 0, index, error, number, started, finished, 0))


def stub_guardians(impl: str, monkeypatch: pytest.MonkeyPatch) -> list[Stub]:
    """From now on a runtime gets one of these."""
    made: list[Stub] = []
    room = {"native": "pycarp._native.runtime", "python": "pycarp._python.runtime.handle"}[impl]
    monkeypatch.setattr(importlib.import_module(room), "Guardian", lambda *_given: made.append(Stub()) or made[-1])
    return made


def test_replies_to_former_orders(lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the latest decision did not follow from it, and takes nothing away from it."""
    made = stub_guardians(with_impl, monkeypatch)
    told: list[events.Event] = []
    host = VirtualHost(vhid=101, passphrase=PASSPHRASE, addresses=[f"{VIP}/24"])
    plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("10.13.37.11").ip})
    with bare_runtime(lone, told) as (runtime, carpdev, send):
        (guardian,) = made
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        runtime.start_instance(1)
        guardian.kept = (protocol.ORDER_TAKE, protocol.ORDER_DROP)
        orders, answered = [], []
        for state in (MASTER, BACKUP, MASTER):
            runtime.force(1, state)
            orders.append(guardian.orders.get(timeout=WITHIN))
            time.sleep(0.002)
        guardian.kept = ()
        decided = [order[4] for order in orders]
        for order, at in zip(orders, decided, strict=True):
            guardian.answer(order, at + 400_000, at + 1_000_000)
        answered = (events.AddressesTaken, events.AddressesDropped)
        wait_until(lambda: sum(isinstance(event, answered) for event in told) == 3)
        took = [event.took for event in told if isinstance(event, answered)]
        assert took == [600_000, 600_000, 1_000_000]
        assert sum(runtime.measures().takeover) == 1


def test_a_hand_over_is_asked_for_again_when_somebody_is_at_it(
    lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that takes over is told once that the addresses are gone, and nobody else is."""
    stub_guardians(with_impl, monkeypatch)
    told: list[events.Event] = []
    host = VirtualHost(vhid=101, passphrase=PASSPHRASE, addresses=[f"{VIP}/24"])
    plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("10.13.37.11").ip})
    heir = Frame(advskew=50, source_mac=bytes.fromhex("020000000042"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, bare_runtime(lone, told) as (runtime, carpdev, send):
        os.dup2(ours.fileno(), send.fileno())
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        runtime.start_instance(1)
        runtime.force(1, MASTER)
        wait_until(lambda: runtime.owns(1))
        runtime.hand_over(1)
        lone.inject("client", bytes(heir))
        wait_until(lambda: bool(runtime.reading(1).peers))
        runtime.hand_over(1)
        wait_until(lambda: runtime.state(1) is BACKUP)
        time.sleep(0.05)
        sent = []
        with contextlib.suppress(BlockingIOError):
            while True:
                sent.append(theirs.recv(2048, socket.MSG_DONTWAIT))
        runtime.force(1, MASTER)
        wait_until(lambda: runtime.owns(1))
    assert {frame[:6] for frame in sent if not frame[0] & 1} == {heir.source_mac}


def test_an_order_that_was_refused_at_once(lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guardian has not begun it, so its reply has no times: it failed when that was heard."""
    made = stub_guardians(with_impl, monkeypatch)
    told: list[events.Event] = []
    host = VirtualHost(vhid=101, passphrase=PASSPHRASE, addresses=[f"{VIP}/24"])
    plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("10.13.37.11").ip})
    with bare_runtime(lone, told) as (runtime, carpdev, send):
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        before = time.monotonic_ns()
        made[0].reply(protocol.ORDER_ADD, 1, errno.EPERM)
        wait_until(lambda: bool(told))
    (failed,) = told
    assert isinstance(failed, events.Failed) and before < failed.at <= time.monotonic_ns()


def test_addresses_that_a_sibling_had_are_announced_once_for_each_advert(
    lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken between two adverts, when the sibling has fallen silent: the repetitions come with the next adverts."""
    stub_guardians(with_impl, monkeypatch)
    told: list[events.Event] = []
    host = VirtualHost(vhid=101, passphrase=PASSPHRASE, addresses=[f"{VIP}/24"])
    plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("10.13.37.11").ip})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, bare_runtime(lone, told) as (runtime, carpdev, send):
        os.dup2(ours.fileno(), send.fileno())
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        runtime.start_instance(1)
        lone.inject("client", bytes(Frame(vhid=100, advbase=0, advskew=30)))
        wait_until(lambda: any(isinstance(event, events.SiblingHeard) for event in told))
        runtime.force(1, MASTER)
        assert not runtime.owns(1)
        wait_until(lambda: runtime.owns(1))
        time.sleep(0.1)
        sent = []
        with contextlib.suppress(BlockingIOError):
            while True:
                sent.append(theirs.recv(2048, socket.MSG_DONTWAIT))
        assert [frame for frame in sent if frame in plan.announce_frames] == list(plan.announce_frames)


@pytest.mark.slow
def test_sends_that_fail_for_hundreds_at_once(lone: Lan, with_impl: str) -> None:
    """Each demotes all others, which advertise, and fail, and demote: no recursion, and no more events than hosts."""
    told: list[events.Event] = []
    count = 255
    with bare_runtime(lone, told) as (runtime, carpdev, send):
        for vhid in range(1, count + 1):
            host = VirtualHost(vhid=vhid, passphrase=PASSPHRASE, addresses=["192.0.2.1/32"], advbase=1, state=MASTER)
            plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("192.0.2.2").ip})
            # In the place of a lock, any descriptor.
            runtime.add_instance(vhid, carpdev, plan, NOTHING, send)
        for vhid in range(1, count + 1):
            runtime.start_instance(vhid)
        wait_until(lambda: runtime.demotion(1) == count)
        wait_until(lambda: sum(isinstance(event, events.Demoted) for event in told) >= count)
        assert runtime.demote(-1) == count - 1
    demoted = [event for event in told if isinstance(event, events.Demoted)]
    assert count <= len(demoted) <= 8 * count
    assert not any(isinstance(event, events.EventsLost) for event in told)


def test_what_was_derived_from_a_removed_instance_is_forgotten(lone: Lan, with_impl: str) -> None:
    """A sibling that was known has to prove anew what it is, though the instance comes back with the same plan."""
    told: list[events.Event] = []
    host = VirtualHost(vhid=101, passphrase=PASSPHRASE, addresses=[f"{VIP}/24"])
    plan = make_plan(_impl.current, host, bytes(6), {4: ip_interface("10.13.37.11").ip})
    sibling = bytes(Frame(vhid=100))

    def recognised() -> int:
        return sum(isinstance(event, events.SiblingHeard) for event in told)

    def hear(*frames: bytes) -> None:
        before = runtime.stats(1).badvhid
        lone.inject("client", *frames)
        wait_until(lambda: runtime.stats(1).badvhid == before + len(frames))

    def others(first: int) -> list[bytes]:
        """Each costs a trial. When all are spent, only a sibling that is known is recognised."""
        return [bytes(Frame(vhid=vhid, passphrase="another")) for vhid in range(first, first + 30)]

    with bare_runtime(lone, told) as (runtime, carpdev, send):
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        runtime.start_instance(1)
        hear(sibling)
        hear(*others(1), sibling)
        wait_until(lambda: recognised() == 1)
        runtime.remove_instance(1)
        runtime.add_instance(1, carpdev, plan, NOTHING, send)
        runtime.start_instance(1)
        hear(*others(31), sibling)
        assert recognised() == 1
        wait_until(lambda: hear(sibling) or recognised() == 2)


def test_the_carpdev_goes_to_another_namespace_and_comes_back(lone: Lan) -> None:
    """With its number: the lock of before must not be in the way."""
    main = lone.start("main", carpdev="eth0", **SWIFT)
    main.become(MASTER)
    lone.audited = lone.tidy = False
    away = subprocess.Popen(["unshare", "--net", "sleep", "30"])
    try:
        wait_until(lambda: os.readlink(f"/proc/{away.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        lone["main"].run(["ip", "link", "set", "eth0", "netns", str(away.pid)])
        main.wait(events.CarpdevChanged, present=False)
        back = f"nsenter -t {away.pid} --net ip link set eth0 netns $$"
        lone["main"].run(["sh", "-c", f"{back}; ip addr add 10.13.37.11/24 dev eth0; ip link set eth0 up"])
        main.become(MASTER)
        assert not main.log.find(events.Failed)
    finally:
        away.kill()
        away.wait()


def test_a_masters_gateway_changes(lone: Lan, with_impl: str) -> None:
    """Answers to clients off the link take the new way at once, not after the next takeover."""

    def ways() -> str:
        shown = lone["main"].run(["ip", "route", "show", "table", "all"], capture_output=True, text=True).stdout
        return "".join(line for line in shown.splitlines() if line.startswith("default") and "carp101" in line)

    lone.tidy = False  # the gateway is the test's own doing
    lone["main"].run(["ip", "route", "add", "default", "via", "10.13.37.1"])
    main = lone.start("main", **SWIFT)
    main.become(MASTER)
    wait_until(lambda: "via 10.13.37.1 " in ways())
    lone["main"].run(["ip", "route", "replace", "default", "via", "10.13.37.2"])
    wait_until(lambda: "via 10.13.37.2 " in ways())
