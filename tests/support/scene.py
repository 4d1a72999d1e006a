"""A group of two hosts on a simulated LAN, and an observer that sees all its frames."""

from __future__ import annotations

from typing import Any

from pycarp import VirtualHost
from pycarp.lab.simulation import SECOND, Lan
from pycarp.monitor.observer import Change, Observer
from pycarp.monitor.speakers import Speaker

SECRET = "motdepassehalakon"
VIP = "10.13.37.42"
GROUP = VirtualHost(vhid=101, passphrase=SECRET, addresses=[f"{VIP}/24"], preempt=True)
EPOCH = 1_795_000_000 * SECOND
MAIN, SECOND_HOST = "10.13.37.11", "10.13.37.12"


class Scene:
    """Two hosts on a simulated LAN and an observer that sees every frame."""

    def __init__(self, observer: Observer, main: dict[str, Any] | None = None, second: dict[str, Any] | None = None):
        self.observer = observer
        self.changes: list[Change] = []
        self.frames: list[tuple[int, bytes]] = []
        self.lan = Lan(seed=1)
        self.main = self.lan.host("main", "10.13.37.11/24", GROUP.replace(**(main or {})))
        self.second = self.lan.host("second", "10.13.37.12/24", GROUP.replace(**{"advskew": 100, **(second or {})}))
        self.lan.tap(self._see)
        self.main.start()
        self.second.start()

    def _see(self, at: int, _sender: str, frame: bytes) -> None:
        self.frames.append((EPOCH + at, frame))
        self.changes += self.observer.frame(frame, EPOCH + at)

    def run(self, duration: float) -> None:
        self.lan.run(int(duration * SECOND))
        self.changes += self.observer.tick(EPOCH + self.lan.now)

    def speaker(self, source: str) -> Speaker:
        return next(one for one in self.observer.speakers.values() if one.key.source == source)

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(change.kind, change.source) for change in self.changes]


def observed(observer: Observer, *frames: bytes) -> Observer:
    for number, frame in enumerate(frames):
        observer.frame(frame, EPOCH + number * SECOND)
    return observer
