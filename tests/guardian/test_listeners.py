"""Takes of many, and other programs that hear of addresses: those that read are not overrun, others hold nobody up."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator

from support.guarded import Engine, floating
from support.guardians import stopped, until
from support.lan import held as addresses_of
from support.linux import needs_namespaces

from pycarp._python.guardian import clocks, protocol
from pycarp.lab.namespaces import Host, Lab
from pycarp.linux import messages
from pycarp.linux.guardian_client import Kind

pytestmark = needs_namespaces()

COUNT, EACH, ROOM = 26, 8, 96 << 10
"""Takes of so many addresses each, whose notices, 832 octets an address, find no room in a socket of this size."""
SPACED = (COUNT - 3) * clocks.TAKE_WAITS_AT_MOST / 1e9
"""Seconds that those beyond the first would take if each waited as long as it may."""
STUCK = clocks.LISTENER_STUCK_AFTER / 1e9
SO_RCVBUFFORCE = 33
LINKS, ADDRESSES = 0x1, 0x10
"""RTMGRP_LINK and RTMGRP_IPV4_IFADDR."""


@contextlib.contextmanager
def many(program: str) -> Iterator[tuple[Host, Engine]]:
    hosts = [
        floating(vhid, *(f"10.13.37.{20 + vhid * EACH + number}/24" for number in range(EACH)))
        for vhid in range(1, COUNT + 1)
    ]
    with Lab(("main",)) as lab, lab["main"].enter(), Engine(program, *hosts) as engine:
        yield lab["main"], engine


def listener(port: int = 0, room: int = ROOM, groups: int = LINKS) -> socket.socket:
    """In this thread's network namespace."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, room // 2)
    opened.bind((port, groups))
    return opened


def held(opened: socket.socket) -> tuple[int, int]:
    """Octets in its queue, and how many notices it has lost."""
    with open("/proc/thread-self/net/netlink") as file:
        lines = [line.split() for line in file]
    return next((int(one[4]), int(one[8])) for one in lines if one[1:3] == ["0", str(opened.getsockname()[0])])


def fill(host: Host, opened: socket.socket, octets: int) -> None:
    up = False
    while held(opened)[0] < octets:
        up = not up
        host.request(messages.link_state(1, up))


def order_all(engine: Engine, next_beat_ms: int = 60_000) -> None:
    with stopped(engine.guardian.pid):
        for vhid in range(1, COUNT + 1):
            engine.order(Kind.TAKE, vhid, next_beat_ms=next_beat_ms, lease=60_000)


def seconds_for_all(engine: Engine) -> float:
    order_all(engine)
    replies = [engine.await_reply() for _ in range(COUNT)]
    assert [one.index for one in replies] == list(range(1, COUNT + 1)) and not any(one.error for one in replies)
    return (replies[-1].finished - replies[0].started) / 1e9


class Slow:
    """A program that needs some seconds for each notice."""

    def __init__(self, opened: socket.socket, pause: float = 0.003) -> None:
        self.heard = 0
        self._pause = pause
        self.overrun = False
        self._opened = opened
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Slow:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self._opened.recv(1 << 16, socket.MSG_DONTWAIT)
                self.heard += 1
            except OSError as error:
                self.overrun = self.overrun or error.errno == errno.ENOBUFS


def test_takes_wait_for_nobody_who_needs_none(program: str) -> None:
    # Fault: nobody listens for addresses; then an engine does that is behind, a program that is further behind than
    # most have room, and one that has stopped reading.
    # Expected: no take waits for the first three. For the last they wait until it is known to be stuck, once.
    with many(program) as (host, engine):
        assert seconds_for_all(engine) < SPACED / 2
        for port, octets in ((protocol.WATCH_PORT + 7, 60 << 10), (0, 260 << 10)):
            with listener(port, 4 << 20) as opened:
                fill(host, opened, octets)
                with Slow(opened, 0.012):
                    assert seconds_for_all(engine) < SPACED / 2
        with listener() as opened:
            fill(host, opened, 50 << 10)
            assert SPACED / 2 < seconds_for_all(engine) < SPACED + STUCK
            assert seconds_for_all(engine) < SPACED / 2


def test_one_that_reads_slowly_hears_of_every_address(program: str) -> None:
    # Fault: a program needs longer for each notice than a take needs, as bind's named does. All are taken twice.
    # Expected: it loses no notice. A drop waits for nobody, and cancels a take that waits.
    with many(program) as (_host, engine), listener(groups=ADDRESSES) as opened, Slow(opened) as slow:
        order_all(engine)
        assert engine.ask(Kind.DROP, COUNT).error == 0
        dropped = engine.ask(Kind.DROP, 1)
        last = engine.await_reply(Kind.TAKE, COUNT - 1)
        assert dropped.error == last.error == 0 and dropped.finished < last.started
        order_all(engine)
        for vhid in range(1, COUNT + 1):
            assert engine.await_reply(Kind.TAKE, vhid).error == 0
        until(lambda: held(opened)[0] == 0)
        assert not slow.overrun and held(opened)[1] == 0
        assert slow.heard == 2 * COUNT * EACH


def test_a_take_that_waits_is_withdrawn_when_the_engine_is_silent(program: str) -> None:
    # Fault: the engine gives no sign of life while takes wait.
    # Expected: what has come is released; what has not come never does. The LAN is told of both.
    with many(program) as (host, engine), listener(groups=ADDRESSES) as opened, Slow(opened, 0.01):
        order_all(engine, next_beat_ms=300)
        replies = [engine.await_reply() for _ in range(2 * COUNT)]
        assert sorted(one.index for one in replies if one.kind is Kind.RELEASED) == list(range(1, COUNT + 1))
        assert any(one.flags for one in replies if one.kind is Kind.TAKE)
        assert not [one for one in addresses_of(host) if one.startswith("10.13.37.") and one != host.address]
