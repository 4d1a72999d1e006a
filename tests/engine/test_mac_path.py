"""Whether the virtual MAC passes the LAN: whom a MASTER asks, and what it concludes."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from pycarp import State, VirtualHost, events
from pycarp.engine.mac_path import MacPaths
from pycarp.linux.interfaces import Interface
from pycarp.stats import Stats

SECOND = 1_000_000_000
OWN, VIRTUAL = bytes.fromhex("020000000001"), bytes.fromhex("00005e000165")
CARPDEV = Interface(7, "eth0", OWN)
GATEWAY, OTHER = ip_address("10.13.37.254"), ip_address("10.13.37.9")


class Probe:
    def __init__(self, index: int) -> None:
        self.asked: list[Any] = []
        self.answers: set[Any] = set()
        self.stopped = self.closed = False

    def ask_both(self, carpdev: Interface, neighbour: Any, mac: bytes, address: Any) -> None:
        assert (carpdev, mac, str(address)) == (CARPDEV, VIRTUAL, "10.13.37.42")
        self.stopped = False
        self.asked.append(neighbour)

    def answered(self) -> set[Any]:
        found, self.answers = self.answers, set()
        return found

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


class Scene:
    def __init__(self, **changes: Any) -> None:
        values = {"vhid": 101, "passphrase": "", "addresses": ["10.13.37.42/24"], **changes}
        self.instance: Any = SimpleNamespace(
            index=1, host=VirtualHost(**values), carpdev=CARPDEV, present=True, device=SimpleNamespace(index=8)
        )
        self.refused = 0
        self.now_state, self.told, self.known = State.MASTER, [], [GATEWAY]  # type: ignore[var-annotated]
        self.paths = MacPaths(self, self.told.append, self._make, lambda _indexes: list(self.known))  # type: ignore[arg-type]
        self.paths.attach(7)
        self.now = 1000 * SECOND

    def _make(self, index: int) -> Any:
        self.probe = Probe(index)
        return self.probe

    def state(self, index: int) -> State:
        return self.now_state

    def stats(self, index: int) -> Stats:
        return Stats(ipackets=self.refused, badauth=self.refused)

    def run(self, seconds: float, *reached: bytes) -> None:
        """Looks as they are due; each question is answered to these MACs."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            due = self.paths.look([self.instance], self.now)
            if self.probe.asked:
                self.probe.answers = {(self.probe.asked[-1], mac) for mac in reached}
            self.now = min(max(due, self.now + SECOND // 10), end)


def test_an_answer_to_the_virtual_mac_ends_it() -> None:
    scene = Scene()
    scene.run(120, OWN, VIRTUAL)
    assert (scene.probe.asked, scene.told, scene.probe.stopped) == ([GATEWAY], [], True)


def test_answers_to_our_own_mac_alone_are_told_once() -> None:
    scene = Scene()
    scene.run(300, OWN)
    (told,) = scene.told
    assert isinstance(told, events.VirtualMacFiltered)
    assert (told.neighbour, told.mac, told.carpdev, told.name) == (str(GATEWAY), VIRTUAL.hex(":"), "eth0", "carp101")
    assert "mac interface" in told.text
    assert len(scene.probe.asked) == 3
    scene.now_state = State.BACKUP
    scene.run(2, OWN)
    scene.now_state = State.MASTER
    scene.run(60, OWN)
    assert len(scene.told) == 2


def test_silence_proves_nothing_and_is_asked_for_ever_less() -> None:
    scene = Scene()
    scene.known = [GATEWAY, OTHER]
    scene.run(60)
    assert not scene.told and set(scene.probe.asked) == {GATEWAY, OTHER}
    asked = len(scene.probe.asked)
    scene.run(600)
    assert not scene.told and len(scene.probe.asked) - asked <= 10


def test_a_rival_with_another_secret_has_the_same_mac() -> None:
    """The switch sends it the answers: that is no filter. When it is gone, a filter is told."""
    scene = Scene()
    for _second in range(60):
        scene.refused += 1
        scene.run(1, OWN)
    assert not scene.told
    scene.run(30, OWN)
    assert len(scene.told) == 1


def test_nobody_to_ask() -> None:
    scene = Scene()
    scene.known = [ip_address("10.13.37.42"), ip_address("fe80::1")]
    scene.run(10)
    assert not scene.probe.asked
    scene.known.append(OTHER)
    scene.run(6, OWN)
    assert scene.told and set(scene.probe.asked) == {OTHER}


@pytest.mark.parametrize("changes", [{"mac": "interface"}, {}])
def test_who_has_no_virtual_mac_or_is_backup_asks_nobody(changes: dict[str, Any]) -> None:
    scene = Scene(**changes)
    if not changes:
        scene.now_state = State.BACKUP
    scene.run(20, OWN)
    assert not scene.probe.asked and not scene.told
    scene.paths.detach(7)
    assert scene.probe.closed
