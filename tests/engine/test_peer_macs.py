"""How the MACs of peers are followed: not more often than is good, however much news the kernel has."""

from __future__ import annotations

import contextlib
import selectors
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from pycarp.engine import peer_macs
from pycarp.engine.peer_macs import PeerMacs


def test_a_flood_of_news_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, others = socket.socketpair()
    watch = SimpleNamespace(fileno=ours.fileno, read=lambda: None, restrict=lambda _wanted: None, close=lambda: None)
    clock = SimpleNamespace(now=100.0)
    looked: list[float] = []
    monkeypatch.setattr(peer_macs, "NeighbourWatch", lambda: watch)
    monkeypatch.setattr(peer_macs, "RouteSocket", contextlib.nullcontext)
    monkeypatch.setattr(peer_macs, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(PeerMacs, "_look", lambda *_: looked.append(clock.now))
    monkeypatch.setattr(PeerMacs, "_take_up", lambda *_: None)
    peer = SimpleNamespace(peer=True, address="10.13.37.12")
    plan = SimpleNamespace(destinations=[peer])
    instances: Any = [SimpleNamespace(present=True, index=0, carpdev=SimpleNamespace(index=7), plan=plan)]
    with ours, others, selectors.DefaultSelector() as selector:
        macs = PeerMacs(instances, lambda _event: None)
        others.send(b"news without end")
        turns = 0
        while clock.now < 101:
            macs.run(selector)
            for key, _ in selector.select(0):
                turns += 1
                key.data()
            clock.now += 0.001
        assert 15 <= len(looked) <= 22 and turns <= 22
        instances.clear()
        macs.run(selector)
        assert not selector.get_map()
        macs.close()
