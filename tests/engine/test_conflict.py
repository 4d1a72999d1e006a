"""When a BACKUP asks who answers for its addresses, what it reports, and when it refuses to take over."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from pycarp import State, VirtualHost, events
from pycarp.engine.conflict import Answer, Conflicts
from pycarp.engine.mac_path import MacPaths
from pycarp.linux.interfaces import Interface
from pycarp.linux.messages import Address
from pycarp.stats import Stats

SECOND = 1_000_000_000
START = 1_000 * SECOND
CARPDEV = Interface(7, "eth0", bytes.fromhex("020000000001"))
MAC = bytes.fromhex("020000000099")


@dataclass
class Instance:
    index: int
    host: VirtualHost
    carpdev: Interface = CARPDEV
    present: bool = True
    device: Any = field(default_factory=lambda: SimpleNamespace(index=8))
    silence: Any = None


class Probe:
    """Answers as the test says."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.asked: list[tuple[Address, ...]] = []
        self.waiting: list[Answer] = []
        self.stopped = self.closed = False
        self.broken = False

    def ask(self, _carpdev: Interface, addresses: Any) -> None:
        if self.broken:
            raise OSError("no such device")
        self.stopped = False
        self.asked.append(tuple(addresses))

    def read(self) -> list[Answer]:
        found, self.waiting = self.waiting, []
        return found

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


class Paths(Probe):
    """Nobody answers its questions."""

    def answered(self) -> set[Any]:
        return set()


@dataclass
class Scene:
    """One virtual host, its runtime and a clock, in ns since the beginning."""

    states: dict[int, State] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    refused: list[tuple[int, int]] = field(default_factory=list)
    told: list[events.AddressConflict] = field(default_factory=list)
    now: int = 0
    looks: int = 0

    def __post_init__(self) -> None:
        self.instances: list[Any] = []
        paths = MacPaths(self, self.told.append, Paths, lambda _indexes: [])  # type: ignore[arg-type]
        self.conflicts = Conflicts(self, self.told.append, lambda: START + self.now, self._make, paths)  # type: ignore[arg-type]
        self.conflicts.attach(CARPDEV.index)

    def _make(self, index: int) -> Any:
        self.probe = Probe(index)
        return self.probe

    def add(self, **changes: Any) -> Instance:
        values = {"vhid": 101, "passphrase": "", "addresses": ["10.13.37.42/24"], **changes}
        instance = Instance(len(self.instances) + 1, VirtualHost(**values))
        self.instances.append(instance)
        self.states[instance.index] = State.BACKUP
        return instance

    # The runtime

    def stats(self, index: int) -> Stats:
        return Stats()

    def state(self, index: int) -> State:
        return self.states[index]

    def heard(self, index: int) -> int:
        return self.last.get(index, 0)

    def refuse(self, index: int, until: int) -> None:
        self.refused.append((index, until - START))

    # What happens

    def hear(self) -> None:
        """A valid advert, now."""
        for instance in self.instances:
            self.last[instance.index] = START + self.now

    def until(self, seconds: float, answering: bool = False) -> list[float]:
        """Look as the supervisor does until that moment; returns when questions were asked, in seconds."""
        asked = []
        while self.now < seconds * SECOND:
            before = len(self.probe.asked)
            wait = self.conflicts.look(self.instances)
            self.looks += 1
            assert wait > 0
            if len(self.probe.asked) > before:
                asked.append(self.now / SECOND)
                if answering:
                    self.probe.waiting += [(one, MAC) for one in self.probe.asked[-1]]
            self.now += int(min(wait, 0.5) * SECOND)
        return asked


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nobody_is_asked_for_while_adverts_are_heard(scene: Scene) -> None:
    scene.add()
    for moment in range(1, 20):
        assert scene.until(moment) == []
        scene.hear()
    assert scene.probe.stopped


@pytest.mark.parametrize("advskew", [0, 100, 254])
@pytest.mark.parametrize("heard", [False, True])
def test_silence_is_asked_about_before_master_down(scene: Scene, advskew: int, heard: bool) -> None:
    """From one and a half intervals on, once in each, and the answer is read in time."""
    host = scene.add(advskew=advskew, conflict="refuse").host
    start = 0.7 if heard else 0.0
    if heard:
        scene.until(start)
        scene.hear()
    asked = scene.until(start + 10, answering=True)
    interval = host.interval / SECOND
    assert asked[0] - start == pytest.approx(1.5 * interval, abs=0.6 if heard else 0.05)
    assert all(interval <= two - one < interval + 0.51 for one, two in itertools.pairwise(asked))
    first = scene.refused[0][1] / SECOND - 2 * interval - 1
    assert first - start < 3 + advskew / 256


def test_no_question_without_need(scene: Scene) -> None:
    scene.add(advbase=0, advskew=10)
    assert scene.until(3) == []
    instance = scene.add(vhid=102, name="other")
    for state, present in ((State.MASTER, True), (State.INIT, True), (State.BACKUP, False)):
        scene.states[instance.index], instance.present = state, present
        assert scene.until(scene.now / SECOND + 5) == []
    assert scene.looks < 60


def test_one_prober_asks_for_all_on_a_carpdev(scene: Scene) -> None:
    scene.add()
    scene.add(vhid=102, addresses=["10.13.37.43/24", "2001:db8::43/64"])
    scene.until(2)
    assert [sorted(map(str, one)) for one in scene.probe.asked] == [["10.13.37.42", "10.13.37.43", "2001:db8::43"]]


def test_a_conflict_is_reported_once_after_a_whole_master_down(scene: Scene) -> None:
    scene.add()
    scene.until(2.9, answering=True)
    assert scene.told == []
    scene.until(9, answering=True)
    (told,) = scene.told
    assert (told.vhid, told.name, told.address, told.mac) == (101, "carp101", "10.13.37.42", "02:00:00:00:00:99")
    assert 3 <= (told.at - START) / SECOND < 3.6
    assert scene.refused == []


def test_a_conflict_is_reported_again_after_an_advert(scene: Scene) -> None:
    scene.add()
    scene.until(4, answering=True)
    scene.hear()
    scene.until(9, answering=True)
    assert len(scene.told) == 2


def test_a_slow_master_is_no_conflict(scene: Scene) -> None:
    """Demoted it speaks every 1.94 s, and answers as ever."""
    scene.add()
    for turn in range(1, 10):
        scene.until(turn * 1.94, answering=True)
        scene.hear()
    assert scene.probe.asked
    assert scene.told == []


def test_a_new_master_still_tells_who_answered_before(scene: Scene) -> None:
    scene.add()
    scene.until(2.99, answering=True)
    scene.states[1] = State.MASTER
    assert scene.until(6, answering=True) == []
    assert len(scene.told) == 1
    assert scene.probe.stopped


def test_a_new_master_tells_nothing_where_another_master_is_heard(scene: Scene) -> None:
    scene.add()
    scene.until(2.6, answering=True)
    scene.states[1] = State.MASTER
    scene.hear()
    scene.until(6, answering=True)
    assert scene.told == []


def test_refusal_lasts_as_long_as_somebody_answers(scene: Scene) -> None:
    scene.add(conflict="refuse")
    asked = scene.until(10, answering=True)
    assert len(asked) >= 6
    for moment in range(2, 10):
        assert any(until > (moment + 1) * SECOND for _, until in scene.refused), moment
    scene.until(10.1)
    last = max(until for _, until in scene.refused)
    scene.until(20)
    assert max(until for _, until in scene.refused) == last
    assert last < 14 * SECOND


def test_a_flood_of_conflicts_is_bounded(scene: Scene) -> None:
    instance = scene.add()
    scene.until(2)
    address = instance.host.addresses[0].ip
    scene.probe.waiting = [(address, number.to_bytes(6, "big")) for number in range(10_000)]
    scene.until(10)
    assert len(scene.told) == 64


def test_answers_for_other_addresses_are_not_ours(scene: Scene) -> None:
    scene.add()
    scene.until(2)
    other = VirtualHost(vhid=1, passphrase="", addresses=["10.13.37.1/24"]).addresses[0].ip
    scene.probe.waiting = [(other, MAC)]
    scene.until(10)
    assert scene.told == []


def test_a_carpdev_that_cannot_be_asked_on(scene: Scene) -> None:
    scene.add()
    scene.probe.broken = True
    scene.until(5)
    assert scene.looks < 40


def test_those_that_leave_are_forgotten_and_all_is_closed(scene: Scene) -> None:
    scene.add()
    scene.until(2.9, answering=True)
    scene.instances.clear()
    scene.until(5)
    assert scene.told == []
    scene.conflicts.detach(99)
    scene.conflicts.close()
    assert scene.probe.closed
