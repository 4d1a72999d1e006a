"""An engine and its guardian in a lab: what the tests of the guardian share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycarp.lab.namespaces import Host, Lab
from pycarp.lab.recorder import Frame, Recorder
from pycarp.linux import netlink
from pycarp.linux.guardian_client import GuardianGone, Kind
from support import guarded as guarded_module
from support.guarded import Engine, floating

VIP, VIP6 = "10.13.37.42", "2001:db8::42"
ADDRESSES = (f"{VIP}/24", f"{VIP6}/64")


@contextlib.contextmanager
def engine_of(lab: Lab, program: str, *addresses: str, gated: bool = True) -> Iterator[Engine]:
    with lab["main"].enter(), Engine(program, floating(101, *(addresses or ADDRESSES)), gated=gated) as engine:
        yield engine


def several(lab: Lab, program: str) -> Engine:
    return Engine(program, *(floating(vhid, f"10.13.37.{100 + vhid}/24") for vhid in range(1, 9)))


class Child:
    """An engine in a process of its own, that has taken its addresses and beats every 20 ms."""

    def __init__(self, host: Host, program: str, *addresses: str, mac: str = "virtual") -> None:
        argv = [sys.executable, guarded_module.__file__, program, mac, "101", *(addresses or ADDRESSES)]
        self.process = host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.guardian: int = self._read()["guardian"]

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> Any:
        self.tell(word)
        return self._read()

    def kill(self) -> int:
        """SIGKILL; the time just before, CLOCK_REALTIME in ns."""
        at = time.time_ns()
        self.process.kill()
        return at

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the engine has ended"
        return json.loads(line)


class Notices:
    """What the kernel says of addresses and links in a namespace, in its order."""

    def __init__(self, host: Host) -> None:
        with host.enter():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, 0x1 | 0x10 | 0x100))

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def read(self) -> list[str]:
        """ "+ address", "- address", "index up" or "index down" since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                for kind, _flags, _sequence, payload in netlink.messages(
                    self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
                ):
                    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
                        address = netlink.attributes(payload, netlink.ADDRESS.size)[1]
                        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
                        sign = "+" if kind == netlink.RTM_NEWADDR else "-"
                        found.append(f"{sign} {socket.inet_ntop(family, address)}")
                    elif kind == netlink.RTM_NEWLINK:
                        _family, _type, index, flags, _change = netlink.LINK.unpack_from(payload)
                        found.append(f"{index} {'up' if flags & 1 else 'down'}")
        return found

    def changes(self, count: int) -> list[str]:
        """The next additions and removals of addresses: the kernel tells of an IPv6 address a little later."""
        found: list[str] = []
        until(lambda: found.extend(one for one in self.read() if one[0] in "+-") or len(found) >= count)
        return found


def addresses(host: Host, name: str = "carp101") -> dict[str, int]:
    """The device's addresses, and how many seconds they are still valid."""
    shown = json.loads(host.run(["ip", "-j", "addr", "show", "dev", name]).stdout)
    return {one["local"]: one["valid_life_time"] for link in shown for one in link.get("addr_info", [])}


def until(condition: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_gone(engine: Engine) -> bool:
    try:
        engine.order(Kind.BEAT, 7)
    except GuardianGone:
        return True
    return False


def is_bowout(frame: Frame) -> bool:
    return not frame.outgoing and frame.data[12:14] == b"\x88\xb5"


def bowouts(capture: Recorder) -> list[Frame]:
    return [frame for frame in capture.frames if is_bowout(frame)]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
