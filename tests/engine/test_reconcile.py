"""What is repaired after others changed it, on real interfaces; the runtime is one that does as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.linux import VIP, VIRTUAL_MAC, carpdev, floating, needs_namespaces

from pycarp import State, VirtualHost, _impl, events
from pycarp.engine import backoff, supervisor
from pycarp.engine.instances import Instances
from pycarp.engine.reconcile import Reconciler
from pycarp.errors import EngineError
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux import device, netlink
from pycarp.linux.interfaces import Interface, read_interfaces
from pycarp.linux.routes import EARLY
from pycarp.stats import Stats

pytestmark = needs_namespaces()


class Runtime:
    """Takes and drops by itself, in the namespace of whoever calls; no machine, no wire."""

    latest: Runtime

    def __init__(self, emit: Any, _realtime: object) -> None:
        self.emit = emit
        self.calls: list[tuple[Any, ...]] = []
        self.devices: dict[int, Any] = {}
        self.states: dict[int, State] = {}
        self.sockets: dict[int, Any] = {}
        Runtime.latest = self

    def order(self, index: int, requests: bytes) -> None:
        with netlink.RouteSocket() as route:
            route.execute(requests)

    def add_carpdev(self, carpdev: int, sockets: Any, *_rest: object) -> None:
        self.sockets[carpdev] = sockets

    def update_carpdev(self, carpdev: int, *_rest: object) -> None:
        self.calls.append(("update_carpdev", carpdev))

    def remove_carpdev(self, carpdev: int) -> None:
        self.sockets.pop(carpdev).close()

    def add_instance(self, index: int, _carpdev: int, _plan: object, device: Any, _lock: object) -> None:
        self.devices[index], self.states[index] = device, State.INIT

    def move_instance(self, index: int, carpdev: int, plan: object, device: Any, lock: object) -> None:
        self.devices[index] = device
        self.calls.append(("move", index))

    def remove_instance(self, index: int, restore: bool = False) -> None:
        raise EngineError("no guardian: the supervisor does it itself")

    def replan(self, index: int, _plan: object, device: Any, _lock: object = None, _entrust: bool = True) -> None:
        self.devices[index] = device
        self.calls.append(("replan", index))

    def start_instance(self, index: int) -> None:
        self.calls.append(("start", index))
        self.states[index] = State.BACKUP

    def stop_instance(self, index: int) -> None:
        self.calls.append(("stop", index))
        self.states[index] = State.INIT
        self.order(index, self.devices[index].drop)

    def expect(self, vhids: Any) -> None:
        pass

    def stats(self, _index: int) -> Stats:
        return Stats()

    def tell(self, event: events.Event) -> None:
        self.emit(event)

    def retake(self, index: int, quiet: bool = False) -> None:
        self.calls.append(("retake", index))
        if self.states[index] is State.MASTER:
            self.order(index, self.devices[index].take)

    def become(self, index: int, state: State) -> None:
        self.states[index] = state
        self.order(index, self.devices[index].take if state is State.MASTER else self.devices[index].drop)

    def link(self, index: int, up: bool) -> None:
        self.calls.append(("link", index, up))

    def state(self, index: int) -> State:
        return self.states[index]

    def owns(self, index: int) -> bool:
        return self.states[index] is State.MASTER

    def heard(self, _index: int) -> int:
        return time.monotonic_ns()

    def stop_all(self) -> None:
        for index in self.devices:
            self.become(index, State.INIT)

    def close(self) -> None:
        for index in tuple(self.sockets):
            self.remove_carpdev(index)

    def done(self, what: str) -> int:
        return sum(call[0] == what for call in self.calls)


class Scene:
    """A supervisor in `main`, with everything that it says."""

    def __init__(self, main: Host) -> None:
        self.main = main
        self.told: list[events.Event] = []
        self.supervisor: supervisor.Supervisor | None = None
        self.surveys = 0

    def start(self, *hosts: VirtualHost) -> None:
        with self.main.enter():
            self.supervisor = supervisor.Supervisor(hosts or (floating(f"{VIP}/24"),), self.told.append, True, False, 0)
        self.runtime = Runtime.latest

    def become(self, state: State, index: int = 1) -> None:
        with self.main.enter():
            self.runtime.become(index, state)

    def by_hand(self, *words: str) -> None:
        self.main.run(["ip", *" ".join(words).split()])

    def interface(self, name: str = "carp0") -> Interface | None:
        with self.main.enter():
            return next((one for one in read_interfaces() if one.name == name), None)

    def held(self) -> bool:
        """Whether the address is here and answers."""
        with self.main.enter():
            return any(str(one.interface.ip) == VIP and two.up for two in read_interfaces() for one in two.addresses)

    def steal_the_name(self) -> None:
        """Another interface is called carp0 now, and was so in no time."""
        self.by_hand("link add foreign0 type veth peer name far0")
        batch = "link set carp0 name mine0\nlink set foreign0 name carp0\n"
        self.main.run(["ip", "-batch", "-"], input=batch)

    def waits(self) -> list[str]:
        return [one.what for one in self.told if isinstance(one, events.Waiting)]

    def failures(self) -> list[str]:
        return [one.what for one in self.told if isinstance(one, events.Failed)]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    class Implementation:
        packet, auth, runtime = _impl.current.packet, _impl.current.auth, Runtime

    monkeypatch.setattr(_impl, "current", Implementation)
    survey = Reconciler.survey
    # Without IPv6: the link-local addresses would make news of their own, when their duplicate detection ends.
    with Lab(["main", "client"], subnet6=None) as lab:
        made = Scene(lab["main"])

        def counted(self: Reconciler) -> None:
            made.surveys += 1
            survey(self)

        monkeypatch.setattr(Reconciler, "survey", counted)
        try:
            yield made
        finally:
            if made.supervisor is not None:
                made.supervisor.stop()
                assert made.interface() is None


def until(reached: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def quiet(scene: Scene, seconds: float = 0.4) -> int:
    """How many surveys there are in that time."""
    before = scene.surveys
    time.sleep(seconds)
    return scene.surveys - before


class TestRepair:
    @pytest.mark.parametrize(
        "words",
        [
            "address delete 10.13.37.42/32 dev carp0",
            "link set carp0 down",
            "link delete carp0",
            "link set carp0 address 02:00:00:00:00:66",
            "link set carp0 name mine0",
        ],
    )
    def test_what_a_master_has_lost(self, scene: Scene, words: str) -> None:
        scene.start()
        scene.become(State.MASTER)
        until(lambda: quiet(scene, 0.1) == 0)
        if "name" in words:
            # Older kernels rename only what is down.
            scene.by_hand("link set carp0 down")
        scene.by_hand(words)

        def well() -> bool:
            found = scene.interface()
            return scene.held() and found is not None and found.mac == VIRTUAL_MAC and found.up

        until(well)
        assert scene.interface("mine0") is None
        assert scene.failures() == []
        until(lambda: quiet(scene) == 0)

    def test_a_macvlan_that_is_moved_to_another_namespace(self, scene: Scene) -> None:
        scene.start()
        scene.become(State.MASTER)
        with Lab(["other"]) as elsewhere:
            scene.by_hand("link set carp0 netns", elsewhere["other"].path)
            until(lambda: scene.held())
            assert scene.interface() is not None

    @pytest.mark.parametrize("words", ["link delete carp0", "link set carp0 address 02:00:00:00:00:66"])
    def test_what_a_backup_has_lost(self, scene: Scene, words: str) -> None:
        scene.start()
        index = scene.interface().index  # type: ignore[union-attr]
        scene.by_hand(words)
        until(lambda: scene.runtime.devices[1].index not in (0, index) and scene.runtime.done("retake") == 1)
        found = scene.interface()
        assert found is not None
        assert (found.index, found.mac, found.up) == (scene.runtime.devices[1].index, VIRTUAL_MAC, False)

    def test_a_backups_macvlan_is_set_up_by_hand(self, scene: Scene) -> None:
        scene.start()
        scene.by_hand("link set carp0 up")
        until(lambda: not scene.interface().up)  # type: ignore[union-attr]
        until(lambda: quiet(scene) == 0)

    def test_a_backup_is_given_the_address_by_hand(self, scene: Scene) -> None:
        scene.start()
        scene.by_hand(f"address add {VIP}/32 dev carp0")
        scene.by_hand("link set carp0 up")
        until(lambda: not scene.held())
        assert scene.runtime.done("retake") == 0

    def test_a_backup_without_a_mac_of_its_own_is_given_the_address_by_hand(self, scene: Scene) -> None:
        scene.start(floating(f"{VIP}/24", mac="interface"))
        scene.by_hand(f"address add {VIP}/32 dev eth0")
        assert scene.held()
        until(lambda: not scene.held())
        until(lambda: quiet(scene) == 0)

    def test_a_carpdev_that_goes_away_and_comes_back_as_it_was(self, scene: Scene) -> None:
        """Through another namespace: it keeps its number, and so the lock its name."""
        scene.start()
        scene.become(State.MASTER)
        with Lab(["other"]) as elsewhere:
            scene.by_hand("link set eth0 name lan7 down")
            scene.by_hand("link set lan7 netns", elsewhere["other"].path)
            until(lambda: scene.interface() is None)
            elsewhere["other"].run(["ip", "link", "set", "lan7", "netns", scene.main.path])
        scene.become(State.INIT)
        scene.by_hand("link set lan7 up")
        scene.by_hand("address add 10.13.37.1/24 dev lan7")
        until(lambda: scene.runtime.done("move") == 1)
        assert scene.failures() == []


class TestWithoutNeed:
    @pytest.mark.parametrize("mac", ["virtual", "interface"])
    @pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "old kernel"])
    def test_no_survey_for_takes_and_renewals(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, mac: str, filtered: bool
    ) -> None:
        if not filtered:
            plain = supervisor.Watch
            monkeypatch.setattr(supervisor, "Watch", lambda own_additions: plain())
        scene.start(floating(f"{VIP}/24", mac=mac))
        until(lambda: quiet(scene) == 0)
        before = scene.surveys
        scene.become(State.MASTER)
        for _ in range(5):
            with scene.main.enter():
                scene.runtime.order(1, scene.runtime.devices[1].renew)
            time.sleep(0.03)
        assert quiet(scene) + scene.surveys - before <= 1
        assert scene.runtime.done("retake") == 0

    def test_a_drop_is_no_loss(self, scene: Scene) -> None:
        scene.start(
            floating(f"{VIP}/24", mac="interface"),
            VirtualHost(vhid=9, passphrase="", addresses=["10.13.37.43/24"], mac="interface"),
        )
        for _ in range(10):
            scene.become(State.MASTER)
            scene.become(State.MASTER, 2)
            scene.become(State.BACKUP)
            scene.become(State.BACKUP, 2)
        until(lambda: quiet(scene) == 0)
        assert scene.runtime.done("retake") == 0
        assert scene.failures() == []

    def test_a_flood_of_foreign_changes_causes_no_backoff(self, scene: Scene) -> None:
        scene.start()
        scene.become(State.MASTER)
        for number in range(100, 120):
            scene.by_hand(f"address add 10.13.37.{number}/24 dev eth0")
        until(lambda: quiet(scene) == 0)
        assert scene.failures() == []
        assert scene.held()


class TestBackingOff:
    @pytest.fixture(autouse=True)
    def swift(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backoff, "_PAUSE_FIRST", 1.0)

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            ("address delete 10.13.37.42/32 dev carp0", "removing the addresses of carp0"),
            ("link set carp0 down", "removing the addresses of carp0"),
            ("link delete carp0", "removing or changing the interface carp0"),
        ],
    )
    def test_somebody_who_does_not_give_up(self, scene: Scene, words: str, what: str) -> None:
        scene.start()
        scene.become(State.MASTER)
        over = threading.Event()

        def fight() -> None:
            while not over.is_set():
                scene.main.run(["ip", *words.split()], check=False)
                over.wait(0.03)

        fighter = threading.Thread(target=fight)
        fighter.start()
        try:
            until(lambda: scene.failures() != [])
            assert scene.failures() == [f"another program keeps {what}: backing off for 1 s"]
            assert scene.runtime.state(1) is State.INIT
            assert 5 <= scene.runtime.done("retake") <= 6
            calls = len(scene.runtime.calls)
            time.sleep(0.5)
            assert len(scene.runtime.calls) == calls
        finally:
            over.set()
            fighter.join()
        until(lambda: scene.runtime.done("start") == 2)
        scene.become(State.MASTER)
        until(lambda: scene.held())
        assert scene.interface().mac == VIRTUAL_MAC  # type: ignore[union-attr]
        assert len(scene.failures()) == 1

    @pytest.mark.slow
    def test_somebody_took_the_name(self, scene: Scene) -> None:
        """What cannot be put back is handed over, and tried again."""
        scene.start()
        scene.steal_the_name()
        until(lambda: scene.failures() != [])
        assert "there is an interface carp0 already" in scene.failures()[0]
        assert scene.failures()[0].endswith("backing off for 1 s")
        assert scene.runtime.done("stop") == 1
        until(lambda: len(scene.failures()) == 2)
        assert scene.failures()[1].endswith("backing off for 2 s")
        assert quiet(scene) == 0
        scene.by_hand("link delete carp0")
        until(lambda: scene.runtime.done("start") == 2)
        scene.become(State.MASTER)
        assert scene.held()

    def test_an_instance_that_backs_off_follows_its_carpdev(self, scene: Scene) -> None:
        scene.start()
        scene.steal_the_name()
        until(lambda: scene.failures() != [])
        scene.by_hand("address add 10.13.37.77/24 dev eth0")
        until(lambda: scene.runtime.done("update_carpdev") == 1)
        scene.by_hand("link delete carp0")
        until(lambda: scene.runtime.done("start") == 2)
        device = scene.runtime.devices[1]
        assert "10.13.37.77" in {str(one.interface.ip) for one in device.carpdev.addresses}

    def test_a_reconfiguration_ends_it(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backoff, "_PAUSE_FIRST", 60.0)
        scene.start()
        scene.steal_the_name()
        until(lambda: scene.failures() != [])
        scene.by_hand("link delete carp0")
        assert scene.supervisor is not None
        scene.supervisor.reconfigure((floating(f"{VIP}/24", advskew=7),))
        until(lambda: scene.runtime.done("start") == 2)
        assert scene.interface() is not None

    def test_a_stop_while_it_lasts(self, scene: Scene) -> None:
        scene.start()
        scene.steal_the_name()
        until(lambda: scene.failures() != [])
        assert scene.supervisor is not None
        scene.supervisor.stop()
        scene.supervisor = None
        with scene.main.enter():
            assert carpdev().ipv4["arp_filter"] == 0
        assert "112" not in scene.main.run(["ip", "rule"]).stdout

    def test_a_carpdev_that_cannot_be_taken_is_not_tried_without_end(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each attempt makes and removes a device, which is told like any other news."""
        scene.start()
        scene.become(State.INIT)
        tried = []

        def refuse(_self: object, carpdev: Interface) -> None:
            tried.append(carpdev.name)
            raise OSError("no descriptors left")

        possible = Instances.open_carpdev
        monkeypatch.setattr(Instances, "open_carpdev", refuse)
        scene.by_hand("link delete eth0")
        until(lambda: scene.interface() is None)
        scene.main.run(
            "ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up;"
            "ip address add 10.13.37.1/24 dev eth0",
            shell=True,
        )
        until(lambda: "no descriptors left" in scene.waits())
        assert quiet(scene, 0.5) <= 3
        assert len(tried) == 1 and scene.waits().count("no descriptors left") == 1
        assert scene.failures() == []
        monkeypatch.setattr(Instances, "open_carpdev", possible)
        until(lambda: scene.runtime.done("move") == 1)


def test_routes_for_which_the_guardian_has_no_room(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault: the host has more routes by the carpdev than the guardian has room for.
    # Expected: a take leaves them to the survey, which adds them each time; that is told once, and blamed on nobody.
    monkeypatch.setattr(device, "_ROOM", 2000)
    count = EARLY + 1
    scene.main.run(
        ["ip", "-batch", "-"], input="".join(f"route add 11.0.{n}.0/24 via 10.13.37.9\n" for n in range(count))
    )
    scene.start()
    mine = scene.runtime.devices[1]
    assert mine.unfit >= count and mine.late == b""

    def added() -> bool:
        return scene.main.run(["ip", "route", "show", "table", str(mine.tables)]).stdout.count("via") >= count

    for _turn in range(2):
        scene.become(State.MASTER)
        until(scene.held)
        until(added)
        scene.become(State.BACKUP)
        until(lambda: not added())
    assert [f"{mine.unfit} routes by eth0" in one for one in scene.failures()] == [True]
    assert not [one for one in scene.told if isinstance(one, events.ChangedByOthers)]
    monkeypatch.setattr(device, "_ROOM", 1 << 20)
    with scene.main.enter():
        mine.refresh(mine.carpdev)
    assert not mine.unfit and mine.late
