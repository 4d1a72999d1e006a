"""Who holds the addresses when the guardian fails, or somebody else has them."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.chaos import guardians
from support.lan import VIP, Lan, Node, held, stays, wait_until
from support.wire import Frame

from pycarp import State, events
from pycarp.linux import gate

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
CLIENT = "10.13.37.13"
RUNTIMES = {"native": "pycarp._native.runtime", "python": "pycarp._python.runtime.guardian"}


@pytest.fixture
def lone(make_lan: Callable[..., Lan]) -> Lan:
    return make_lan(("main", "client"))


def kill_guardian(node: Node, number: int = signal.SIGKILL) -> int:
    (pid,) = guardians(node.host)
    os.kill(pid, number)
    return pid


def test_another_one_takes_its_place(lone: Lan, with_impl: str) -> None:
    main = lone.start("main", advskew=10)
    main.become(MASTER)
    pinger = lone.ping()
    assert pinger.wait(3)
    for _turn in range(3):
        main.log.forget()
        former = kill_guardian(main)
        main.wait(events.GuardianReplaced)
        assert guardians(main.host) != [former]
    assert pinger.wait(3)
    assert main.state() is MASTER and [change.after for change in main.transitions()] == [BACKUP, MASTER]
    # It was told what to do: the addresses go with the engine.
    main.stop()
    assert VIP not in held(lone["main"])


def test_none_can_be_had(lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could drop the address any more: while we still may, we do; and come back when there is one."""
    main = lone.start("main", advskew=10)
    main.become(MASTER)

    def refuse(*_arguments: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module(RUNTIMES[with_impl]), "Guardian", refuse)
        main.log.forget()
        kill_guardian(main)
        wait_until(lambda: len(main.log.find(events.GuardianLost)) >= 2)
        wait_until(lambda: main.state() is INIT and VIP not in held(lone["main"]))
        stays(lambda: main.state() is INIT and VIP not in held(lone["main"]), 0.3)
    main.become(MASTER)
    assert lone.ping().wait(3)


@pytest.mark.slow
def test_it_hangs(lone: Lan, with_impl: str) -> None:
    """It renews nothing and says nothing: it is asked, and replaced."""
    main = lone.start("main", advbase=1, advskew=0)
    main.become(MASTER)
    hanging = kill_guardian(main, signal.SIGSTOP)
    main.wait(events.GuardianReplaced)
    wait_until(lambda: VIP in held(lone["main"]))
    assert hanging not in guardians(main.host)
    assert main.state() is MASTER and lone.ping().wait(3)


@pytest.fixture
def sibling(lone: Lan) -> Iterator[None]:
    """A host of vhid 100 with our secret and addresses, which does not let go."""
    ended = threading.Event()

    def advertise() -> None:
        while not ended.wait(0.03):
            lone.inject("client", bytes(Frame(advbase=0, advskew=10, vhid=100, source=CLIENT)))

    thread = threading.Thread(target=advertise)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_who_preempts_takes_nothing_that_a_sibling_has(lone: Lan, with_impl: str, sibling: None) -> None:
    main = lone.start("main", advskew=10, preempt=True)
    assert main.wait(events.SiblingHeard).sibling == 100
    for _turn in range(5):
        lone.inject("client", bytes(Frame(advbase=0, advskew=60, source=CLIENT)))
        stays(lambda: VIP not in held(lone["main"]), 0.06)


def test_without_a_gate_the_addresses_have_a_lifetime(
    lone: Lan, with_impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fault: The kernel makes no gates.
    # Expected: It is said once; the addresses have a lifetime that is renewed, and go with the engine.
    class Refusing(gate.FilterSocket):
        def execute(self, transaction: bytes) -> OSError | None:
            return OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(gate, "FilterSocket", Refusing)
    main = lone.start("main", advbase=1, advskew=0)
    main.become(MASTER)
    assert "Operation not supported" in main.wait(events.GateUnavailable).text
    wait_until(lambda: VIP in held(lone["main"]))
    pinger = lone.ping()

    def left() -> int:
        (link,) = json.loads(lone["main"].run(["ip", "-j", "addr", "show", "dev", "carp101"]).stdout)
        return next(int(one["valid_life_time"]) for one in link["addr_info"] if one["local"] == VIP)

    for _turn in range(3):
        assert 0 < left() <= 2
        time.sleep(0.9)
    assert pinger.wait(3)
    assert len(main.log.find(events.GateUnavailable)) == 1
    main.stop()
    assert VIP not in held(lone["main"])
