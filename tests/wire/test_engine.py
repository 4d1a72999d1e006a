"""`Engine` inside a program: events, callbacks, forks, the program's end, and what is left afterwards."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lan import VIP, WITHIN, Lan, Node, belongings, held, interface, stays, virtual_host, wait_until
from support.wire import Frame

import pycarp
from pycarp import ConfigError, Engine, EngineError, Event, InterfaceError, State, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


@pytest.fixture
def collected() -> Iterator[None]:
    """The engine's descriptor goes with the engine: what holds it in a circle goes before the leaks are counted."""
    yield
    gc.collect()


@pytest.fixture
def lone(make_lan: Callable[..., Lan]) -> Lan:
    """One host and a client; whoever starts becomes master."""
    return make_lan(("main", "client"))


def test_a_context_manager_and_its_events(lone: Lan, with_impl: str) -> None:
    # Fault: None: an engine runs in a with block until it is MASTER.
    # Expected: Its events come in order, from BACKUP to INIT; it cannot start twice, and takes no calls afterwards.
    lone.remember("main")
    with lone["main"].enter(), Engine(virtual_host(name="carp0")) as engine:
        assert repr(engine) == "<pycarp.Engine carp0 running>"
        seen = []
        for event in engine.events(timeout=WITHIN):
            seen.append(event)
            if isinstance(event, events.AddressesTaken):
                break
        assert engine.state("carp0") is engine.state(101) is MASTER
        assert engine.demotion(101) == 0
    seen += engine.events()
    names = [type(event).__name__ for event in seen]
    assert names[:3] == ["StateChanged", "StateChanged", "AddressesTaken"]
    assert sorted(names[3:]) == ["AddressesDropped", "StateChanged"]
    assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [BACKUP, MASTER, INIT]
    assert all(event.vhid == 101 and event.name == "carp0" for event in seen)
    ats = [event.at for event in seen if isinstance(event, events.StateChanged)]
    assert ats == sorted(ats) and ats[-1] <= time.monotonic_ns()
    taken = next(event for event in seen if isinstance(event, events.AddressesTaken))
    assert isinstance(taken, events.AddressesTaken) and 0 < taken.took < 1_000_000_000
    assert repr(engine) == "<pycarp.Engine carp0 not running>"
    with pytest.raises(EngineError, match="an engine runs once"):
        engine.start()
    with pytest.raises(EngineError, match="not running"):
        engine.state(101)


def test_an_exception_inside_the_context_stops_it(lone: Lan) -> None:
    # Fault: The with block raises.
    # Expected: The engine stops, and its device is gone.
    lone.remember("main")
    with lone["main"].enter(), pytest.raises(ZeroDivisionError), Engine(virtual_host()):
        raise ZeroDivisionError
    assert interface(lone["main"], "carp101") is None


def test_events_end_after_a_silence(lone: Lan) -> None:
    # Fault: No event comes within the timeout.
    # Expected: The iterator ends after that time.
    main = lone.start("main")
    main.become(MASTER)
    assert len(list(main.engine.events(timeout=0.05))) >= 3
    before = time.monotonic()
    assert list(main.engine.events(timeout=0.05)) == []
    assert 0.05 <= time.monotonic() - before < 2


def test_a_stop_ends_those_who_wait(lone: Lan) -> None:
    # Fault: The engine stops while a thread waits for events.
    # Expected: The iterator delivers all events, and ends.
    main = lone.start("main")
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(main.engine.events()))
    reader.start()
    main.become(MASTER)
    main.stop()
    reader.join(WITHIN)
    assert not reader.is_alive()
    assert [event.after for event in seen if isinstance(event, events.StateChanged)] == [BACKUP, MASTER, INIT]


def test_the_descriptor_for_other_loops(collected: None, lone: Lan) -> None:
    # Fault: None: a loop waits on the engine's descriptor.
    # Expected: It is readable while `poll` has events, and after the stop.
    main = lone.start("main")
    number = main.engine.fileno()
    found: list[Event] = []
    while not any(isinstance(event, events.AddressesTaken) for event in found):
        assert select.select([number], [], [], WITHIN)[0]
        while (event := main.engine.poll()) is not None:
            found.append(event)
    assert not select.select([number], [], [], 0)[0]
    main.stop()
    assert select.select([number], [], [], 0)[0], "the end is news as well"


def test_the_wire_does_not_wait_for_a_consumer(lone: Lan, caplog: pytest.LogCaptureFixture) -> None:
    # Fault: Nobody reads events(), and the callback sleeps, then raises.
    # Expected: Adverts go out, EventsLost counts the loss, and the exception is logged.
    gate = threading.Event()
    got: list[Event] = []

    def callback(event: Event) -> None:
        gate.wait(WITHIN)
        got.append(event)
        if len(got) == 1:
            raise RuntimeError("a consumer's mistake")

    lone.remember("main")
    engine = Engine(virtual_host(), on_event=callback, queue=4)
    with lone["main"].enter():
        engine.start()
    try:
        wait_until(lambda: engine.state(101) is MASTER)
        for _ in range(5):
            engine.demote()
            engine.undemote()
        before = engine.stats(101)["opackets"]
        wait_until(lambda: engine.stats(101)["opackets"] > before + 8)  # four intervals: the events have come by now
        kept = list(engine.events(timeout=0))
        assert len(kept) == 5 and isinstance(kept[0], events.EventsLost) and kept[0].count >= 5
        with caplog.at_level(logging.ERROR, "pycarp"):
            gate.set()
            wait_until(lambda: len(got) >= 5)
        assert "on_event failed at StateChanged" in caplog.text
        assert isinstance(got[1], events.EventsLost)
    finally:
        gate.set()
        engine.stop()


def test_a_callback_may_use_the_engine(lone: Lan) -> None:
    # Fault: The callback calls the engine and stops it, also while another thread does.
    # Expected: The calls return, and the engine stops.
    stopped = threading.Event()
    states: list[State] = []
    engine: Engine

    def callback(event: Event) -> None:
        if isinstance(event, events.AddressesTaken):
            states.append(engine.state(101))
            engine.demote()
        if isinstance(event, events.Demoted):
            engine.stop()
            stopped.set()
        if isinstance(event, events.StateChanged) and event.after is INIT:
            engine.stop()

    lone.remember("main")
    engine = Engine(virtual_host(), on_event=callback)
    with lone["main"].enter():
        engine.start()
    assert stopped.wait(WITHIN)
    engine.stop()
    assert states == [MASTER]
    assert interface(lone["main"], "carp101") is None


def test_stops_that_meet(lone: Lan) -> None:
    # Fault: Four threads and the callback stop the engine at the same time.
    # Expected: All of them return, and the device is gone.
    engine: Engine
    lone.remember("main")
    engine = Engine(virtual_host(), on_event=lambda event: engine.stop() if _is_end(event) else None)
    with lone["main"].enter():
        engine.start()
    wait_until(lambda: engine.state(101) is MASTER)
    threads = [threading.Thread(target=engine.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
    assert not any(thread.is_alive() for thread in threads)
    assert interface(lone["main"], "carp101") is None


def _is_end(event: Event) -> bool:
    return isinstance(event, events.StateChanged) and event.after is INIT


@pytest.mark.parametrize(
    "hosts, error, message",
    [
        ([{"vhid": 1, "name": "one"}, {"vhid": 2, "name": "one"}], ConfigError, "two virtual hosts are called one"),
        ([{"name": "one"}, {"name": "two"}], ConfigError, "one and two both have vhid 101 on eth0"),
        ([{}, {"vhid": 7, "carpdev": "eth9"}], InterfaceError, "no interface eth9"),
        ([{"carpdev": "lo"}], InterfaceError, "carpdev lo is no Ethernet"),
        ([{"addresses": ["192.0.2.5/24"]}], InterfaceError, "no interface has the subnet of 192.0.2.5"),
    ],
)
def test_errors_at_the_start_leave_nothing(
    lone: Lan, hosts: list[dict[str, Any]], error: type[Exception], message: str
) -> None:
    # Fault: A host among the given ones cannot be run.
    # Expected: The start raises, and no device, rule or thread is left.
    before = belongings(lone["main"])
    threads = threading.active_count()
    engine = Engine(*(virtual_host(**one) for one in hosts))
    with lone["main"].enter(), pytest.raises(error, match=message):
        engine.start()
    assert belongings(lone["main"]) == before
    assert threading.active_count() == threads
    engine.stop()
    with pytest.raises(EngineError, match="not running"):
        engine.state(101)


def test_one_virtual_host_in_two_engines(lone: Lan) -> None:
    # Fault: A second engine starts a virtual host that runs.
    # Expected: It raises and names the process; the first one stays MASTER and answers.
    main = lone.start("main")
    main.become(MASTER)
    with lone["main"].enter(), pytest.raises(InterfaceError, match=f"is already run by process {os.getpid()}"):
        Engine(virtual_host(name="other")).start()
    assert main.state() is MASTER
    assert lone.ping().wait(3)


def test_a_predecessor_that_ends_is_waited_for(lone: Lan, with_impl: str) -> None:
    # Fault: An engine starts while another one has its virtual host: one that stays, and one that ends 0.3 s later.
    # Expected: With `wait` it starts as soon as that one has ended, or raises after that time; nothing is left behind.
    main = lone.start("main")
    main.become(MASTER)
    began = time.monotonic()
    with lone["main"].enter(), pytest.raises(InterfaceError, match="with wait=SECONDS waits for it"):
        Engine(virtual_host(), wait=0.2).start()
    assert 0.2 <= time.monotonic() - began < 2
    ending = threading.Timer(0.3, main.stop)
    ending.start()
    began = time.monotonic()
    again = lone.start("main", options={"wait": 10})
    assert 0.25 <= time.monotonic() - began < 5
    ending.join()
    again.become(MASTER)
    assert lone.ping().wait(3)
    for wrong in (-1, True, "1", 3601):
        with pytest.raises(ConfigError, match="give 0 to 3600 seconds"):
            Engine(virtual_host(), wait=wrong)  # type: ignore[arg-type]


def test_wrong_values_in_calls(lone: Lan) -> None:
    # Fault: Calls get values that are out of range or unknown.
    # Expected: Each raises; a following call works.
    main = lone.start("main")
    for wrong in (0, -1, True, 1.5, "1"):
        with pytest.raises(ValueError, match="a demotion of .* is none"):
            main.engine.demote(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a demotion of .* is none"):
            main.engine.undemote(wrong)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"no virtual host 'carp0' here: there is carp101 \(vhid 101\)"):
        main.engine.state("carp0")
    with pytest.raises(ValueError):
        main.engine.force(101, 7)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        main.engine.reconfigure()
    main.become(MASTER)
    assert main.engine.undemote(5) == 0
    assert main.engine.demote(3) == 3
    assert main.engine.undemote(2) == 1


def test_announcements_on_request(lone: Lan) -> None:
    # Fault: None: `announce` is called as BACKUP and as MASTER.
    # Expected: The MASTER announces again.
    main = lone.start("main")
    main.engine.announce(101)  # a BACKUP has nothing to announce
    main.become(MASTER)
    seen = len(_announcements(lone))
    main.engine.announce("carp101")
    wait_until(lambda: len(_announcements(lone)) > seen)


def _announcements(net: Lan) -> list[Any]:
    return [
        one for one in list(net.capture.frames) if one.ethertype == 0x0806 and not one.outgoing and one.port == "main"
    ]


def test_a_forked_child_has_no_engine(collected: None, lone: Lan, with_impl: str) -> None:
    # Fault: The program forks while it is MASTER.
    # Expected: The child's copies are closed, its calls say so, and it sends nothing; the parent goes on.
    main = lone.start("main")
    main.become(MASTER)
    main.engine.fileno()
    lone.capture.stop()  # it has packet sockets of its own, which a child inherits
    lone.audited = False

    def inside() -> list[str]:
        said = [str(len(_packet_sockets()))]
        try:
            main.engine.state(101)
        except EngineError as error:
            said.append(str(error))
        main.engine.stop()
        return [*said, str(list(main.engine.events()))]

    assert len(_packet_sockets()) >= 2
    assert _forked(inside) == [
        "0", "this process was forked from the one that runs the engine: it has none", "[]"
    ]  # fmt: skip
    sent = main.stats()["opackets"]
    wait_until(lambda: main.stats()["opackets"] > sent + 2)
    assert main.state() is MASTER
    assert lone.ping().wait(3)


def _forked(function: Callable[[], list[str]]) -> list[str]:
    """What `function` returns in a forked child, which is killed when it takes too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, "\n".join(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert select.select([reader], [], [], WITHIN)[0], "the child hangs"
        return os.read(reader, 1 << 16).decode().splitlines()
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _packet_sockets() -> set[int]:
    """The descriptors of this process that are AF_PACKET sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as copy:
                    if copy.family == socket.AF_PACKET:
                        found.add(int(name))
    return found


def test_a_childs_life_keeps_no_lock(lone: Lan) -> None:
    # Fault: The engine stops while a forked child lives on.
    # Expected: The virtual host can be started again.
    main = lone.start("main")
    main.become(MASTER)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        main.stop()
        again = lone.start("main")
        again.become(MASTER)
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def _script(lone: Lan, text: str, **options: Any) -> subprocess.Popen[bytes]:
    lone.remember("main")
    head = f"""
        import pycarp, sys, threading, time
        from pycarp import State, events
        host = pycarp.VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["{VIP}/24"],
                                  advbase=0, advskew=10)
        engine = pycarp.Engine(host)
        engine.start()
        for event in engine.events(timeout=5):
            if isinstance(event, events.AddressesTaken):
                break
        """
    program = textwrap.dedent(head) + textwrap.dedent(text)
    paths = [str(Path(pycarp.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return lone["main"].popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        **options,
    )


@pytest.mark.parametrize(
    "end, code",
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('a program that fails')", 1),
        ("threading.Thread(target=time.sleep, args=(0.3,)).start()", 0),
    ],
    ids=["falls-off", "exits", "raises", "with-a-thread"],
)
def test_a_program_that_ends_without_a_stop(lone: Lan, end: str, code: int) -> None:
    # Fault: The program ends, exits or raises without a stop.
    # Expected: It ends with its own exit code, after a bow-out and the removal of the address.
    process = _script(lone, end)
    _out, errors = process.communicate(timeout=15)
    assert process.returncode == code
    assert errors == b"" or "raise" in end
    bowouts = [one for one in lone.capture.frames if one.data[36:37] == b"\xff" and one.data[39:40] == b"\xff"]
    assert bowouts
    assert VIP not in held(lone["main"])


@pytest.mark.usefixtures("interruptible")
def test_a_keyboard_interrupt(lone: Lan) -> None:
    # Fault: SIGINT comes while the program reads events.
    # Expected: KeyboardInterrupt ends it, and the device is gone.
    process = _script(lone, "print('ready', flush=True)\nfor event in engine.events():\n    pass")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _out, errors = process.communicate(timeout=15)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert interface(lone["main"], "carp101") is None


def test_a_guest_is_no_burden(lone: Lan) -> None:
    # Fault: None: an engine runs and stops.
    # Expected: It leaves no signal handler, child to reap, logging handler or thread.
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    root = list(logging.getLogger().handlers)
    main = lone.start("main")
    main.become(MASTER)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    main.stop()
    assert list(logging.getLogger().handlers) == root
    assert [one.name for one in threading.enumerate() if one.name.startswith("pycarp-")] == ["pycarp-recorder"]


def test_many_engines_one_after_the_other(lone: Lan, with_impl: str) -> None:
    # Fault: None: ten engines run one after the other.
    # Expected: Threads, descriptors and interfaces do not accumulate.
    def counted() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    things, (descriptors, threads) = belongings(lone["main"]), counted()
    for _ in range(10):
        Node(lone["main"], [virtual_host(), virtual_host(vhid=7, addresses=["10.13.37.47/24"])]).stop()
    # A thread that has been joined may take a moment to go.
    wait_until(lambda: counted() <= (descriptors, threads))
    assert belongings(lone["main"]) == things


def test_a_virtual_host_that_is_down(lone: Lan) -> None:
    # Fault: The virtual host is configured down, then up, then down.
    # Expected: It is INIT while it is down, and MASTER while it is up.
    main = lone.start("main", up=False)
    assert main.state() is INIT
    main.reconfigure(virtual_host())
    main.become(MASTER)
    main.reconfigure(virtual_host(up=False))
    main.become(INIT)


def test_a_hung_program_takes_no_address_even_alone(lone: Lan, with_impl: str) -> None:
    # Fault: The program gives no sign of life. No other host is there, or another one has just bowed out.
    # Expected: The engine stays BACKUP until the program is back, and is MASTER within a master-down then.
    main = lone.start("main", advskew=10, options={"watchdog": 0.3})
    deadline = time.monotonic() + 8
    while main.state() is not MASTER:
        assert time.monotonic() < deadline
        main.engine.alive()
        time.sleep(0.05)
    main.wait(events.WatchdogExpired)
    main.become(BACKUP)
    stays(lambda: main.state() is BACKUP, 0.5)
    lone.inject("client", bytes(Frame(advbase=255, advskew=255, source=lone["client"].address)))
    stays(lambda: main.state() is BACKUP, 0.5)
    main.engine.alive()
    main.become(MASTER, timeout=0.25)


def test_an_address_of_the_carpdev_comes_and_nothing_is_taken_twice(lone: Lan, with_impl: str) -> None:
    # Fault: The carpdev gets another address while this host is MASTER, as its link-local one comes late after a start.
    # Expected: One event says that the addresses are held. They stay, and are announced with what changed.
    main = lone.start("main", advskew=10)
    main.become(MASTER)
    main.wait(events.AddressesTaken)
    before = len(_announcements(lone))
    lone["main"].run(["ip", "address", "add", "10.13.37.77/24", "dev", "eth0"])
    wait_until(lambda: len(_announcements(lone)) > before + 3)
    assert len(main.log.find(events.AddressesTaken)) == 1 and not main.log.find(events.AddressesDropped)
    assert VIP in held(lone["main"])
    lone["main"].run(["ip", "address", "del", "10.13.37.77/24", "dev", "eth0"])


def test_many_that_start_and_stop_one_after_another(net: Lan, with_impl: str) -> None:
    # Fault: Many virtual hosts start beside a MASTER of each, and stop one after another.
    # Expected: None of them is reported as a vhid that nobody here has.
    hosts = [
        [virtual_host(vhid=n, addresses=[f"10.13.37.{100 + n}/24"], advskew=skew) for n in range(1, 31)]
        for skew in (10, 99)
    ]
    main = net.start("main", *hosts[0])
    wait_until(lambda: all(main.state(host.vhid) is MASTER for host in hosts[0]))
    second = net.start("second", *hosts[1])
    wait_until(lambda: len(second.log.find(events.PeerHeard)) >= 30)
    second.stop()
    main.stop()
    assert not [event for node in (main, second) for event in node.log.find(events.AdvertRejected)]


def test_events_come_in_the_order_of_their_time(make_lan: Callable[..., Lan], with_impl: str) -> None:
    # Fault: The cable goes six times, while the program demotes and undemotes.
    # Expected: Events of all threads come in order: INIT first, then the interface's change that made it so.
    lone = make_lan(("main", "client"))
    main = lone.start("main")
    for _turn in range(6):
        main.become(MASTER)
        main.log.forget()
        lone.lab.unplug("main")
        main.engine.demote(1, "a reason")
        main.wait(events.CarpdevChanged)
        kinds = [type(event) for event in main.log.recent]
        assert kinds.index(events.StateChanged) < kinds.index(events.CarpdevChanged)
        lone.lab.plug("main")
        main.engine.undemote(1, "a reason")
    times = [event.at for event in main.log.events]
    assert times == sorted(times)
