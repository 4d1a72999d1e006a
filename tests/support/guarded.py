"""An engine as its guardian sees it: a thread with a lifeline, orders, beats. In this process, or one to be killed.

As a program, `python guarded.py IMPLEMENTATION MAC VHID ADDRESS...`, it takes the addresses at once and then does
what it reads, a word a line, answering each by a line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from pycarp import VirtualHost
from pycarp.linux import netlink
from pycarp.linux.device import Device
from pycarp.linux.guardian_client import Guardian, Kind, Reply
from pycarp.linux.interfaces import read_interfaces
from pycarp.linux.lock import VirtualHostLock
from pycarp.linux.sockets import send_socket

BOWOUT = bytes.fromhex("01005e000012") + bytes.fromhex("00005e0001") + b"%c\x88\xb5bow-out %d"
"""Of an ethertype that is nobody else's; the LAN's switch forwards it to all."""
NEXT_BEAT_MS, TAKEOVER_AFTER_MS, LEASE_MS = 600, 2000, 1900


def floating(vhid: int, *addresses: str) -> VirtualHost:
    return VirtualHost(vhid=vhid, name=f"carp{vhid}", passphrase="", addresses=addresses)


def bowout(vhid: int) -> bytes:
    return (BOWOUT % (vhid, vhid)).ljust(60, b"\0")


class Engine:
    """Virtual hosts on eth0 of the calling thread's namespace, known to a guardian; the index of each is its vhid."""

    def __init__(self, impl: str, *hosts: VirtualHost, gated: bool = True) -> None:
        spawn = importlib.import_module(f"pycarp._{impl}.spawn")
        self._numbers = itertools.count(1)
        self._heard: deque[Reply] = deque()
        self.gated = gated
        self.locks: list[VirtualHostLock] = []
        self.devices: dict[int, Device] = {}
        self._stack = contextlib.ExitStack()
        self.lifeline = spawn.Lifeline()
        self._stack.callback(self.lifeline.close)
        self._rest = threading.Event()
        self._begun = threading.Event()
        self._heart = threading.Thread(target=self._beat)
        self._heart.start()
        self._begun.wait()
        self._stack.callback(self._heart.join)
        self._stack.callback(self._rest.set)
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self.guardian = Guardian(self.lifeline, False, spawn)
            self._stack.callback(self.guardian.close)
            self.carpdev = next(one for one in read_interfaces() if one.name == "eth0")
            self.send = self._stack.enter_context(send_socket(self.carpdev.index))
            for host in hosts:
                lock = self._stack.enter_context(VirtualHostLock(host.name, self.carpdev, host.vhid))
                self.locks.append(lock)
                device = Device(host, self.carpdev, gated)
                device.setup()
                self.devices[host.vhid] = device
                self._stack.callback(device.teardown)
                self.add(host.vhid)
            undo.pop_all()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_exc: object) -> None:
        # In the namespace where it was made: devices are torn down.
        self._stack.close()

    def _beat(self) -> None:
        self.lifeline.lock()
        self._begun.set()
        self._rest.wait()

    def end_thread(self) -> None:
        """The thread with the lifeline ends, as after a fault in it."""
        self._rest.set()
        self._heart.join()

    def add(self, vhid: int) -> None:
        self.hand_over(vhid)
        reply = self.await_reply(Kind.ADD, vhid)
        assert reply.error == 0, reply

    def hand_over(self, vhid: int) -> None:
        lock = self.locks[list(self.devices).index(vhid)]
        self.guardian.add(vhid, self.devices[vhid], [bowout(vhid)], self.send, lock)

    def order(self, kind: Kind, vhid: int = 0, ago: float = 0, **options: int) -> int:
        """Give an order as of `ago` seconds before now; its number."""
        number = next(self._numbers)
        options.setdefault("next_beat_ms", NEXT_BEAT_MS)
        options.setdefault("takeover_after_ms", TAKEOVER_AFTER_MS)
        options.setdefault("lease", LEASE_MS if self.gated else 0xFFFFFFFF)
        options.setdefault("at", time.monotonic_ns() - round(ago * 1e9))
        options.setdefault("boot", time.clock_gettime_ns(time.CLOCK_BOOTTIME) - round(ago * 1e9))
        assert self.guardian.order(kind, vhid, number=number, **options)
        return number

    def ask(self, kind: Kind, vhid: int = 0, **options: Any) -> Reply:
        """Give an order and wait for its reply."""
        number = self.order(kind, vhid, **options)
        while (reply := self.await_reply(kind, vhid)).number != number:
            pass
        return reply

    def await_reply(self, kind: Kind | None = None, vhid: int = 0, seconds: float = 5) -> Reply:
        """The next reply, of this kind and for this instance if they are given; others are passed over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for reply in self.take_replies():
                if kind is None or (reply.kind is kind and reply.index == vhid):
                    return reply
            time.sleep(0.0005)
        raise AssertionError(f"no {kind!r} for {vhid} within {seconds} s")

    def take_replies(self) -> Iterator[Reply]:
        """One after the other, so that what is not wanted yet stays for the next."""
        self._heard += self.guardian.replies()
        while self._heard:
            yield self._heard.popleft()


def _serve(impl: str, hosts: list[VirtualHost]) -> None:
    with Engine(impl, *hosts) as engine:
        beating = threading.Event()
        ballast: list[bytes] = []

        def beat() -> None:
            while True:
                if beating.is_set():
                    for host in hosts:
                        engine.order(Kind.RENEW, host.vhid)
                time.sleep(0.02)

        threading.Thread(target=beat, daemon=True).start()
        for host in hosts:
            assert engine.ask(Kind.TAKE, host.vhid).error == 0
        beating.set()
        print(json.dumps({"guardian": engine.guardian.pid}), flush=True)
        for line in sys.stdin:
            answer: Any = None
            match line.split():
                case ["setuid"]:
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                case ["add"]:
                    engine.hand_over(hosts[0].vhid)
                    answer = engine.await_reply(Kind.ADD, hosts[0].vhid).error
                case [("take" | "drop" | "remove" | "restore" | "forget") as word]:
                    answer = engine.ask(Kind[word.upper()], hosts[0].vhid).error
                case ["configure"]:
                    with netlink.RouteSocket() as route:
                        answer = [error and error.errno for error in route.execute(engine.devices[hosts[0].vhid].renew)]
                case ["stop-beats"]:
                    beating.clear()
                case ["replies"]:
                    answer = []
                    for one in engine.take_replies():
                        answer.append([int(one.kind), one.index, one.error, one.extra])
                case ["end-thread"]:
                    engine.end_thread()
                case ["exec"]:
                    os.execv("/bin/sleep", ["sleep", "60"])
                case ["fork"]:
                    child = os.fork()
                    if child == 0:
                        # Nothing is closed here, as in a child that C code made.
                        time.sleep(60)
                        os._exit(0)
                    answer = child
                case ["wait"]:
                    try:
                        answer = os.waitpid(-1, os.WNOHANG)
                    except ChildProcessError:
                        answer = "no child"
                case ["grow", megabytes]:
                    # Bit by bit: the thread with the beats must have its turn.
                    ballast += [b"x" * (1 << 20) + b"%d" % number for number in range(int(megabytes))]
                case ["retry", wanted]:
                    # The program anew in the same process.
                    os.execv(sys.executable, [sys.executable, __file__, impl, *wanted.split(",")])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], [floating(int(sys.argv[3]), *sys.argv[4:]).replace(mac=sys.argv[2])])
