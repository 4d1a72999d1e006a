"""A stage for disasters: engines as processes of their own on a lab's hosts, and a witness that none of them can fool.

Who holds the address is computed from the kernel's notices, which one socket receives from all hosts in the order in
which they happened; who answers for it, from a client's echo requests. Nothing here asks an engine what it believes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pycarp import State
from pycarp.lab import links
from pycarp.lab.namespaces import Host, Lab
from pycarp.lab.recorder import Recorder
from pycarp.linux import messages, netlink, watch
from pycarp.linux.sockets import grow

from .lan import EventLog, wait_until
from .profiles import DEBIAN, Profile
from .wire import PASSPHRASE, VHID, VIP

PING = 0.005
"""Seconds between a client's requests: an outage is known to that, and never reported shorter than it was."""
WITHIN = 15.0
"""Seconds in which what is waited for must happen."""
GUARDIAN = "pycarp-guardian"
_HERE = Path(__file__).parent
_SOL_NETLINK, _LISTEN_ALL_NSID = 270, 8
_RTM_GETNSID, _NETNSA_NSID, _NETNSA_FD = 90, 1, 3
_LINK, _IPV4_ADDRESS, _IPV6_ADDRESS = 1, 5, 9
_ROOM = 16 << 20
_LATE = 20_000_000
"""Nanoseconds after which an answer counts as missing until it came: it had to be asked who has the address."""


@dataclass(frozen=True)
class Pace:
    """How a group is timed: its advbase, and the advskew of each host."""

    name: str
    advbase: int
    advskews: Mapping[str, int]

    def interval(self, host: str = "main") -> float:
        """Milliseconds between adverts."""
        return 1e3 * (self.advbase + self.advskews[host] / 256)

    def master_down(self, host: str = "second") -> float:
        """Milliseconds of silence until this host takes over: docs/protocol.md, Time."""
        skew = self.advskews[host] / 256
        return 1e3 * (3 * self.advbase + (skew if self.advbase else 3 * skew))


SWIFT = Pace("swift", 0, {"main": 10, "second": 25, "third": 50})
"""Adverts every 39 ms, a takeover after 293 ms."""
USUAL = Pace("usual", 1, {"main": 0, "second": 8, "third": 58})
EQUAL = Pace("equal", 0, {"main": 10, "second": 10, "third": 10})


# Who holds


@dataclass(frozen=True, slots=True)
class Change:
    """From `at` on (ns of CLOCK_REALTIME) a host holds the address, or does not; or can be reached, or cannot."""

    at: int
    host: str
    kind: str
    value: bool


class Timeline:
    """Holding is: the address is on an interface that is up. Links that nothing was told of are up."""

    def __init__(self, address: str) -> None:
        self.changes: list[Change] = []
        self._address = address
        self._down: dict[str, set[int]] = {}
        self._on: dict[str, set[int]] = {}
        self._holds: dict[str, bool] = {}
        self._let_go: dict[tuple[str, int], int] = {}
        self.locked: list[tuple[int, int]] = []
        """When a host's link was on its way down: the lab's kernel lets no other host change anything meanwhile."""

    def notice(self, at: int, host: str, data: bytes) -> None:
        for kind, _flags, _sequence, payload in netlink.messages(data):
            parsed = watch._parse(kind, payload)
            down, on = self._down.setdefault(host, set()), self._on.setdefault(host, set())
            match parsed:
                case watch.LinkNotice(index=index, present=present, up=up):
                    (down.discard if up else down.add)(index)
                    if not up and (began := self._let_go.pop((host, index), None)) is not None:
                        self.locked.append((began, at))
                    if not present:
                        on.discard(index)
                case watch.AddressNotice(index=index, address=address, present=present):
                    if str(address.ip) == self._address:
                        (on.add if present else on.discard)(index)
                        if not present:
                            self._let_go[host, index] = at
                case _:
                    continue
            if (holds := bool(on - down)) != self._holds.get(host, False):
                self._holds[host] = holds
                self.changes.append(Change(at, host, "holds", holds))

    def reach(self, host: str, value: bool) -> None:
        self.changes.append(Change(time.time_ns(), host, "reached", value))

    def holders(self) -> set[str]:
        return {host for host, holds in self._holds.items() if holds}

    def spans(self, since: int = 0, until: int | None = None) -> list[tuple[int, int, frozenset[str]]]:
        """(from, to, reachable holders), without gaps; the last one ends now, or at `until`."""
        end = time.time_ns() if until is None else until
        holds: set[str] = set()
        cut: set[str] = set()
        marks = []
        # Marks of the test's own lie between the kernel's by time; the kernel's stay in their order.
        for change in sorted(self.changes, key=lambda change: change.at):
            wanted, into = (holds, change.value) if change.kind == "holds" else (cut, not change.value)
            (wanted.add if into else wanted.discard)(change.host)
            marks.append((change.at, frozenset(holds - cut)))
        marks = [(0, frozenset()), *marks, (end, frozenset())]
        spans = ((max(one, since), min(two, end), owners) for (one, owners), (two, _next) in pairwise(marks))
        return [span for span in spans if span[0] < span[1]]

    def time_with(self, wanted: Callable[[int], bool], since: int, until: int | None = None) -> float:
        """Milliseconds in which a number of reachable hosts that `wanted` accepts held the address."""
        return sum(end - start for start, end, owners in self.spans(since, until) if wanted(len(owners))) / 1e6


def gaps(requests: Sequence[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """(from, to) of every time without an answer; none if every request had one.

    From the last answered request before the first unanswered one, to the first answer after it. What the end of the
    record leaves open does not count: wait for answers before.
    """
    found = []
    good = requests[0][0] if requests else 0
    missing = False
    for sent, answered in requests:
        if answered is None:
            missing = True
            continue
        if missing or answered - sent > _LATE:
            found.append((good, answered))
        good, missing = sent, False
    return found


def outside(gap: tuple[int, int], locked: Sequence[tuple[int, int]]) -> int:
    """What of a gap was not spent waiting for the lab's one kernel: the first millisecond of a lock always counts,
    hosts of their own would do then what they do here."""
    start, end = gap
    inside = (min(end, until) - max(start, since + 1_000_000) for since, until in locked)
    return end - start - sum(max(0, span) for span in inside)


def answers_of(capture: Recorder, since: int) -> list[tuple[str, int, int]]:
    """Who answered for the address from `since` on, by what came out of each host's cable: (host, from, to) of each
    time in which one did and no other."""
    runs: list[tuple[str, int, int]] = []
    address = socket.inet_aton(VIP)
    for frame in sorted(capture.frames, key=lambda frame: frame.at_ns):
        answers = frame.ethertype == 0x0800 and frame.data[23] == 1 and frame.data[26:30] == address
        answers |= frame.ethertype == 0x0806 and frame.data[20:22] == b"\0\2" and frame.data[28:32] == address
        if answers and not frame.outgoing and frame.at_ns >= since:
            began = runs.pop()[1] if runs and runs[-1][0] == frame.port else frame.at_ns
            runs.append((frame.port, began, frame.at_ns))
    return runs


class Witness:
    """The process of chaos_witness.py, and what it has told so far."""

    def __init__(self, lab: Lab, address: str, client: str = "client", target: str = "") -> None:
        self.timeline = Timeline(address)
        self.answers = 0
        self._reports: list[list[tuple[int, int | None]]] = []
        self._change = threading.Condition()
        names = _numbers(lab)
        with lab.switch.enter():
            notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        with notices:
            grow(notices, _ROOM)
            notices.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
            notices.bind((0, sum(1 << (group - 1) for group in (_LINK, _IPV4_ADDRESS, _IPV6_ADDRESS))))
            self._process = lab[client].popen(
                [sys.executable, str(_HERE / "chaos_witness.py"), str(notices.fileno()), target or address, str(PING)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[notices.fileno()],
            )
        self._reader = threading.Thread(target=self._read, args=(names,), name="chaos-witness")
        self._reader.start()

    def close(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(10)
        self._reader.join()

    def until(self, reached: Callable[[], bool], complaint: str, timeout: float = WITHIN) -> None:
        with self._change:
            assert self._change.wait_for(reached, timeout), f"{complaint}; {self.timeline.changes}"

    def answered(self, more: int = 10, timeout: float = WITHIN) -> None:
        """Wait for this many more answers."""
        wanted = self.answers + more
        self.until(lambda: self.answers >= wanted, "nobody answers for the address", timeout)

    def requests(self, since: int) -> list[tuple[int, int | None]]:
        with self._change:
            count = len(self._reports)
            self._process.stdin.write(f"{since}\n".encode())  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            assert self._change.wait_for(lambda: len(self._reports) > count, WITHIN)
            return self._reports[-1]

    def _read(self, names: Mapping[int, str]) -> None:
        for line in self._process.stdout or ():
            told = json.loads(line)
            with self._change:
                if isinstance(told, list):
                    at, nsid, data = told
                    if nsid in names:
                        self.timeline.notice(at, names[nsid], bytes.fromhex(data))
                elif "answers" in told:
                    self.answers = told["answers"]
                elif "requests" in told:
                    self._reports.append([(sent, answered) for sent, answered in told["requests"]])
                self._change.notify_all()


def _numbers(lab: Lab) -> dict[int, str]:
    """What the kernel calls the hosts' namespaces in that of the switch; the cables made it give them numbers."""
    found = {}
    with lab.switch.enter(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        for name, host in lab.hosts.items():
            body = bytes(4) + struct.pack("=HHI", 8, _NETNSA_FD, host.fd)
            asking.send(struct.pack("=IHHII", 16 + len(body), _RTM_GETNSID, 1, 1, 0) + body)
            attributes = netlink.attributes(asking.recv(4096)[16:], 4)
            found[int.from_bytes(attributes[_NETNSA_NSID], sys.byteorder)] = name
    return found


# Who runs


class Agent:
    """A process in a host that tells its events as lines of JSON: chaos_engine.py, or a command of pycarp."""

    def __init__(self, host: Host, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.host = host
        self.log = EventLog()
        self.errors = ""
        self.process = host.popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env}
        )
        self.log.check = self._alive
        self._readers = [threading.Thread(target=read, name="chaos-agent") for read in (self._events, self._complaints)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def state(self) -> State | None:
        changes = [event for event in list(self.log.events) if event["event"] == "StateChanged"]
        return State[changes[-1]["after"]] if changes else None

    def transitions(self) -> list[str]:
        """What `recent` events say it became, for which reason."""
        return [f"{event['after']} ({event['reason']})" for event in self.log.find("StateChanged")]

    def wait(self, kind: str, timeout: float = WITHIN, **wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.log.wait(kind, timeout, **wanted)
        return found

    def order(self, *words: object) -> None:
        """A line for chaos_engine.py."""
        self.process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def counters(self) -> dict[str, Any]:
        before = len(self.log.find("Counters"))
        self.order("counters")
        self.log.until(lambda: len(self.log.find("Counters")) > before, WITHIN, "it does not tell its counters")
        found: dict[str, Any] = self.log.find("Counters")[-1]
        return found

    def guardians(self) -> list[int]:
        return guardians(self.host)

    def guardian(self) -> int:
        """The pid of its guardian; fails the test where there is none, or more than one."""
        found = guardians(self.host)
        assert len(found) == 1, f"{len(found)} processes called {GUARDIAN} in {self.host.name}"
        return found[0]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def kill_both(self) -> None:
        """Engine and guardian, within microseconds; the guardian first, since it is the one that would act."""
        guardian = self.guardian()
        os.kill(guardian, signal.SIGKILL)
        os.kill(self.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self, both: bool = False) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end, of the engine alone or of its guardian too."""
        pids = [*([self.guardian()] if both else []), self.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def terminate(self) -> None:
        self.process.terminate()

    def end(self, timeout: float = WITHIN) -> int:
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join()
        return code

    def close(self) -> None:
        """Its end, in order where that is possible."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        for pid in guardians(self.host):
            os.kill(pid, signal.SIGCONT)
        self.process.terminate()
        try:
            self.end(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.end()

    def _alive(self) -> None:
        if self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers):
            raise AssertionError(f"the engine's process ended with {self.process.returncode}: {self.errors}")

    def _events(self) -> None:
        for line in self.process.stdout or ():
            self.log(json.loads(line))

    def _complaints(self) -> None:
        for line in self.process.stderr or ():
            self.errors += line.decode()


def guardians(host: Host) -> list[int]:
    """The processes called `GUARDIAN` in a host's network namespace."""
    wanted = os.fstat(host.fd).st_ino
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text() == GUARDIAN + "\n" and (entry / "ns/net").stat().st_ino == wanted:
                    found.append(int(entry.name))
    return found


# Where


class Stage:
    """A lab, its witness, and the engines on it; all of it ends with the context, whatever was done to it."""

    def __init__(
        self,
        impl: str,
        hosts: Sequence[str] = ("main", "second", "client"),
        pace: Pace = SWIFT,
        profile: Profile = DEBIAN,
    ) -> None:
        self.impl = impl
        self.pace = pace
        self.agents: dict[str, Agent] = {}
        self._stack = contextlib.ExitStack()
        self._since = 0
        try:
            self.lab = self._stack.enter_context(Lab(hosts))
            profile.apply(self.lab, [name for name in hosts if name not in ("client", "gw")])
            self.witness = Witness(self.lab, VIP, target=profile.target)
            self._stack.callback(self.witness.close)
            self._stack.callback(self._end_survivors)
        except BaseException:
            self._stack.close()
            raise
        self.timeline = self.witness.timeline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end_agents()
        self._stack.close()

    def __getitem__(self, name: str) -> Host:
        return self.lab[name]

    def values(self, name: str, **changes: Any) -> dict[str, Any]:
        """The virtual host of host `name` as JSON."""
        return {
            "vhid": VHID,
            "passphrase": PASSPHRASE,
            "addresses": [f"{VIP}/24"],
            "advbase": self.pace.advbase,
            "advskew": self.pace.advskews[name],
            "preempt": True,
            **({"state": "MASTER"} if name == "main" else {}),
            **changes,
        }

    def launch(
        self, name: str, told: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, **changes: Any
    ) -> Agent:
        """An engine in host `name`; `told` is for chaos_engine.py, `changes` for the virtual host. Does not wait."""
        words = json.dumps({"hosts": [self.values(name, **changes)], **(told or {})})
        argv = [sys.executable, str(_HERE / "chaos_engine.py"), words]
        return self.adopt(name, Agent(self[name], argv, {"PYCARP_IMPL": self.impl, **(env or {})}))

    def command(self, name: str, *words: str, **env: str) -> Agent:
        """A pycarp command."""
        argv = [sys.executable, "-m", "pycarp", *words, "--json"]
        return self.adopt(name, Agent(self[name], argv, {"PYCARP_IMPL": self.impl, **env}))

    def adopt(self, name: str, agent: Agent) -> Agent:
        self.agents[name] = agent
        self._stack.callback(agent.close)
        return agent

    def pair(self, names: Sequence[str] = ("main", "second"), **told: Any) -> list[Agent]:
        """Engines in these hosts, the first MASTER and holding, the others BACKUP and hearing it."""
        agents = [self.launch(name, told) for name in names]
        for agent in agents:
            agent.wait("Ready")
        self.settle(names[0])
        for agent in agents[1:]:
            agent.wait("PeerHeard")
        return agents

    # What is seen

    def settle(self, name: str, timeout: float = WITHIN) -> None:
        """Wait until this host alone holds the address and a client is answered."""
        self.witness.until(
            lambda: self.timeline.holders() == {name}, f"{name} is not the only one that holds it", timeout
        )
        self.witness.answered()

    def holds(self, name: str, timeout: float = WITHIN) -> None:
        """Wait until this host holds the address, whoever else does, and a client is answered."""
        self.witness.until(lambda: name in self.timeline.holders(), f"{name} does not hold the address", timeout)
        self.witness.answered()

    def mark(self) -> int:
        """`seen` is about what happens from now on."""
        self._since = time.time_ns()
        for agent in self.agents.values():
            agent.log.forget()
        return self._since

    def after(self, act: Callable[[], object], owner: str, prefix: str = "", alone: bool = True) -> dict[str, float]:
        """Do this, wait until this host holds the address, alone or not: what is seen meanwhile."""
        self.mark()
        act()
        (self.settle if alone else self.holds)(owner)
        return self.seen(prefix)

    def seen(self, prefix: str = "") -> dict[str, float]:
        """Milliseconds since `mark`: with two reachable owners, with none, and the client's longest outage.

        "outage" is without what only hosts that share a kernel wait for: its lock, while a link goes down. "outage in
        the lab" is with it.
        """
        found = gaps(self.witness.requests(self._since - int(4 * PING * 1e9)))
        values = {
            "two owners": self.timeline.time_with(lambda count: count > 1, self._since),
            "no owner": self.timeline.time_with(lambda count: count == 0, self._since),
            "outage": max((outside(gap, self.timeline.locked) for gap in found), default=0) / 1e6,
            "outage in the lab": max((end - start for start, end in found), default=0) / 1e6,
        }
        return {prefix + what: value for what, value in values.items()}

    # What is done

    def cut(self, name: str, seen: bool) -> None:
        self.lab.unplug(name, seen)
        self.timeline.reach(name, False)

    def mend(self, name: str) -> None:
        self.timeline.reach(name, True)
        self.lab.plug(name)

    def mute(self, name: str) -> None:
        """Nothing that the host sends gets through, but it hears all: the switch takes only sources that it knows."""
        self.lab.switch.run(["bridge", "link", "set", "dev", name, "locked", "on", "learning", "off"])
        for line in self.lab.switch.run(["bridge", "fdb", "show", "brport", name]).stdout.splitlines():
            words = line.split()
            if "permanent" not in words and "master" in words:
                self.lab.switch.run(["bridge", "fdb", "del", words[0], "dev", name, "master"])
        self.timeline.reach(name, False)

    def unmute(self, name: str) -> None:
        self.timeline.reach(name, True)
        self.lab.switch.run(["bridge", "link", "set", "dev", name, "locked", "off", "learning", "on"])

    def replace_cable(self, name: str) -> None:
        """A new eth0 where the old one was deleted, as when a driver is loaded again."""
        host = self[name]
        self.lab.switch.request(
            links.add_veth(name, bytes((2, 0, 0, 0, 1, host.mac[5])), host.ifname, host.mac, host.fd)
        )
        port, bridge = self.lab.switch.index(name), self.lab.switch.index("switch")
        self.lab._ports[name] = port
        self.lab.switch.request(links.set_master(port, bridge), messages.link_state(port, True))
        index = host.index(host.ifname)
        host.request(messages.link_state(index, True), messages.add_address(index, host.interface))
        self.lab._await_forwarding(name)

    def ucarp(self, name: str, directory: Path, *options: str) -> subprocess.Popen[Any]:
        for script, word in (("up", "add"), ("down", "del")):
            path = directory / script
            path.write_text(f"#!/bin/sh\nexec ip address {word} {VIP}/32 dev $1\n")
            path.chmod(0o755)
        words = ["-i", "eth0", "-s", self[name].address, "-v", str(VHID), "-p", PASSPHRASE, "-a", VIP]
        words += ["--upscript", str(directory / "up"), "--downscript", str(directory / "down"), *options]
        return self[name].popen(["ucarp", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def inject(self, name: str, frames: Sequence[bytes], seconds: float = 0.0) -> None:
        """Whole frames from host `name`, spread over `seconds`."""
        began = time.monotonic()
        with self[name].enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind(("eth0", 0))
            for number, frame in enumerate(frames):
                sender.send(frame)
                if number % 64 == 63:
                    time.sleep(max(0.0, began + seconds * number / len(frames) - time.monotonic()))

    def _end_agents(self) -> None:
        # All at once, in less time than one after the other.
        for agent in self.agents.values():
            with contextlib.suppress(ProcessLookupError):
                agent.process.terminate()

    def _end_survivors(self) -> None:
        """Guardians of engines that were killed with a child still alive, or that were stopped."""
        for name in self.lab.hosts:
            host = self[name]
            for pid in guardians(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(AssertionError):
                wait_until(lambda host=host: not guardians(host), 1.0)  # type: ignore[misc]
            for pid in guardians(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
