"""A MASTER defends its addresses: at once, and not without end."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from pycarp import State, VirtualHost, events
from pycarp.engine.defence import Defence
from pycarp.linux.arp_listener import claim
from pycarp.protocol.frames import arp_reply, arp_request, gratuitous_arp, neighbour_advertisement, virtual_mac

SECOND = 1_000_000_000
CARPDEV_MAC, OTHER = bytes.fromhex("02000000000b"), bytes.fromhex("02000000000d")
VIP, VIP6 = ip_address("10.13.37.42"), ip_address("2001:db8::42")


class Listener:
    def __init__(self, _index: int) -> None:
        self.waiting: list[Any] = []
        self.wanted: set[Any] = set()
        self._ends = socket.socketpair()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def listen(self, addresses: Any) -> None:
        self.wanted = set(addresses)

    def read(self) -> list[Any]:
        told, self.waiting = self.waiting, []
        return told

    def flood(self) -> None:
        """There is always something to read from now on."""
        self._ends[1].send(b"x")

    def close(self) -> None:
        for end in self._ends:
            end.close()


@dataclass
class Carpdev:
    index: int = 7
    mac: bytes = CARPDEV_MAC


@dataclass(eq=False)
class Instance:
    host: VirtualHost
    index: int = 1
    carpdev: Carpdev = field(default_factory=Carpdev)
    present: bool = True


@dataclass
class Scene:
    """One MASTER and a clock; `announced` has the seconds at which it defended itself."""

    now: int = 0
    state_: State = State.MASTER
    announced: list[float] = field(default_factory=list)
    told: list[events.AddressConflict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instances: list[Any] = [
            Instance(VirtualHost(vhid=101, passphrase="", addresses=[f"{VIP}/24", f"{VIP6}/64"]))
        ]
        self.defence = Defence(self, self.told.append, lambda: self.now, self._make)  # type: ignore[arg-type]
        self.defence.attach(7)
        self.defence.look(self.instances, 0)

    def _make(self, index: int) -> Any:
        self.listener = Listener(index)
        return self.listener

    def state(self, _index: int) -> State:
        return self.state_

    def announce(self, _index: int, advertise: bool) -> None:
        assert advertise
        self.announced.append(self.now / SECOND)

    def hear(self, mac: bytes = OTHER, address: Any = VIP) -> None:
        self.listener.waiting.append((address, mac))
        self.defence.read(self.instances)

    def until(self, seconds: float, hearing: bool = False) -> None:
        while self.now < seconds * SECOND:
            if hearing:
                self.hear()
            self.defence.look(self.instances, self.now)
            self.now += SECOND // 100


@pytest.fixture
def scene() -> Any:
    made = Scene()
    yield made
    made.defence.close()


def test_a_flood_is_looked_at_now_and_then(scene: Scene) -> None:
    def ready() -> bool:
        return bool(select.select([scene.defence], [], [], 0)[0])

    scene.listener.flood()
    for _ in range(3):
        assert ready()
        scene.hear()
        assert not ready()
        assert scene.defence.look(scene.instances, scene.now) <= scene.now + SECOND // 20
        assert not ready()
        scene.now += SECOND // 20
        scene.defence.look(scene.instances, scene.now)
    scene.hear()
    scene.defence.detach(7)
    scene.defence.attach(7)
    scene.listener.flood()
    assert ready()
    scene.now += SECOND // 20
    scene.defence.look(scene.instances, scene.now)
    assert ready()


def test_it_defends_at_once_and_ever_more_rarely(scene: Scene) -> None:
    assert scene.listener.wanted == {VIP, VIP6}
    scene.until(60, hearing=True)
    pauses = [after - before for before, after in zip(scene.announced, scene.announced[1:], strict=False)]
    assert scene.announced[0] == 0
    assert pauses[:8] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4], abs=0.011)
    assert pauses[8:] == pytest.approx([10.0] * len(pauses[8:]), abs=0.011) and len(pauses) <= 13
    assert [(one.address, one.mac, one.held) for one in scene.told] == [(str(VIP), OTHER.hex(":"), True)]
    # What was heard last is answered once more, and then there is peace.
    scene.until(100)
    answered = len(scene.announced)
    scene.until(200)
    assert len(scene.announced) == answered
    # After that everything begins anew.
    scene.hear()
    assert scene.announced[-1] == scene.now / SECOND
    assert len(scene.told) == 1


@pytest.mark.parametrize("mac", [CARPDEV_MAC, virtual_mac(101), virtual_mac(7)])
def test_who_speaks_carp_is_left_to_adverts(scene: Scene, mac: bytes) -> None:
    scene.hear(mac)
    assert scene.announced == []


def test_a_backup_defends_nothing(scene: Scene) -> None:
    scene.hear()
    scene.hear()
    assert len(scene.announced) == 1
    scene.state_ = State.BACKUP
    scene.until(1, hearing=True)
    assert len(scene.announced) == 1
    scene.state_ = State.MASTER
    scene.hear(address=VIP6)
    assert len(scene.announced) == 2


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (gratuitous_arp(OTHER, str(VIP)), (VIP, OTHER)),
        (arp_request(OTHER, VIP.packed, ip_address("10.13.37.14").packed), (VIP, OTHER)),
        (arp_reply(OTHER, str(VIP), CARPDEV_MAC, "10.13.37.11"), (VIP, OTHER)),
        (neighbour_advertisement(OTHER, str(VIP6)), (VIP6, OTHER)),
        (gratuitous_arp(OTHER, str(VIP))[:41], None),
        (bytes(60), None),
    ],
)
def test_what_says_who_has_an_address(frame: bytes, told: Any) -> None:
    assert claim(frame) == told
