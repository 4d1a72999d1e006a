"""Hosts that run virtual hosts on a lab's switch: what the tests on the wire are made of.

Engines live in the test's own process, each inside its host's network namespace; commands (`pycarp up`, `pycarp run`)
and foreign programs run as processes of their own. The whole switch is recorded, and `audit` checks the record at the
end.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pycarp
from pycarp import Event, State, VirtualHost, events
from pycarp.lab.namespaces import Host, Lab, Pinger, Recorder
from pycarp.linux.interfaces import Interface, read_interfaces
from pycarp.stats import Stats

from .profiles import USUAL, Profile
from .wire import PASSPHRASE, VHID
from .wire import VIP as VIP

VIP6 = "2001:db8::42"
SWIFT = {"advbase": 0, "advskew": 10}
"""Adverts every 39 ms, master-down after 117 ms: for tests of what happens, not of when."""
_INPUT = ("ipackets", "ipackets6", "hdrops", *(name for name in Stats.__dataclass_fields__ if name.startswith("bad")))
WITHIN = 8.0
"""Seconds in which what is waited for must happen."""
"""Seconds until a test that waits for something gives up; nothing here takes so long on a quiet machine."""


class EventLog:
    """Events in the order of their arrival, with waiting. Callable, so that it can be an engine's `on_event`."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._since = 0
        self._change = threading.Condition()
        self.check: Callable[[], None] = lambda: None
        """Called while waiting; raises where waiting is of no use any more."""

    def __call__(self, event: Any) -> None:
        with self._change:
            self.events.append(event)
            self._change.notify_all()

    def forget(self) -> None:
        """`wait`, `find` and `recent` look only at what comes from now on."""
        with self._change:
            self._since = len(self.events)

    @property
    def recent(self) -> list[Any]:
        return self.events[self._since :]

    def find(self, kind: type[Event] | str, **wanted: Any) -> list[Any]:
        return [event for event in self.recent if _fits(event, kind, wanted)]

    def wait(self, kind: type[Event] | str, timeout: float = WITHIN, **wanted: Any) -> Any:
        """The first event of this kind with these values, as soon as there is one; fails the test after `timeout`."""
        self.until(lambda: bool(self.find(kind, **wanted)), timeout, f"no {kind} {wanted}")
        return self.find(kind, **wanted)[0]

    def until(self, reached: Callable[[], bool], timeout: float = WITHIN, complaint: str = "") -> None:
        """Wait for a condition that changes with events."""
        deadline = time.monotonic() + timeout
        with self._change:
            while not reached():
                left = deadline - time.monotonic()
                self.check()
                assert left > 0, f"{complaint or 'waited in vain'}; there were {self.recent}"
                self._change.wait(min(left, 0.05))


def _fits(event: Any, kind: type[Event] | str, wanted: dict[str, Any]) -> bool:
    if isinstance(event, dict):
        name = kind if isinstance(kind, str) else kind.__name__
        return event["event"] == name and all(event.get(key) == value for key, value in wanted.items())
    assert not isinstance(kind, str)
    return isinstance(event, kind) and all(getattr(event, key) == value for key, value in wanted.items())


class Node:
    """An engine in a host of the lab, and everything it has said."""

    def __init__(self, host: Host, hosts: Sequence[VirtualHost], **options: Any) -> None:
        self.host = host
        self.log = EventLog()
        self.ever = list(hosts)
        self.engine = pycarp.Engine(*hosts, on_event=self.log, **options)
        with host.enter():
            self.engine.start()
        self.running = True

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        return self.engine.hosts

    def reconfigure(self, *hosts: VirtualHost) -> None:
        self.ever += hosts
        self.engine.reconfigure(*hosts)

    def state(self, which: int | str | None = None) -> State:
        return self.engine.state(self.hosts[0].name if which is None else which)

    def stats(self, which: int | str | None = None) -> dict[str, int]:
        return self.engine.stats(self.hosts[0].name if which is None else which)

    def heard(self) -> dict[str, int]:
        """What the input path has counted."""
        return {name: value for name, value in self.stats().items() if name in _INPUT}

    def become(self, state: State, which: int | str | None = None, timeout: float = WITHIN) -> None:
        """Wait until it is in this state, and has the addresses if that is MASTER, or none of them if it is not."""
        name = self.hosts[0].name if which is None else which
        complaint = f"{self.host.name} {name} does not become {state.name}"
        self.log.until(lambda: self.state(name) is state, timeout, complaint)
        host = next(one for one in self.hosts if name in (one.name, one.vhid))
        wanted = {str(one.ip) for one in host.addresses}
        _poll(lambda: (held(self.host) & wanted) == (wanted if state is State.MASTER else set()), timeout, complaint)

    def wait(self, kind: type[Event], timeout: float = WITHIN, **wanted: Any) -> Any:
        return self.log.wait(kind, timeout, **wanted)

    def transitions(self, vhid: int | None = None, name: str | None = None) -> list[events.StateChanged]:
        """All changes of state, also those before `forget`."""
        return [
            event
            for event in self.log.events
            if isinstance(event, events.StateChanged) and vhid in (None, event.vhid) and name in (None, event.name)
        ]

    def stop(self) -> None:
        self.running = False
        self.engine.stop()


class Command:
    """A pycarp command in a host of the lab, run as people run it; `log` has its events as dictionaries."""

    def __init__(self, host: Host, arguments: Sequence[str], **options: Any) -> None:
        self.host = host
        self.log = EventLog()
        self.process = host.popen(
            [sys.executable, "-W", "error", "-m", "pycarp", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.errors = ""
        self.log.check = self._alive
        self._readers = [
            threading.Thread(target=self._read_events, name="command-events"),
            threading.Thread(target=self._read_errors, name="command-errors"),
        ]
        for reader in self._readers:
            reader.start()

    def wait(self, kind: type[Event] | str, timeout: float = WITHIN, **wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.log.wait(kind, timeout, **wanted)
        return found

    def become(self, state: State, timeout: float = WITHIN) -> None:
        """Wait until its last change of state was to this one, and the kernel has done what belongs to it."""
        self.log.until(lambda: self.state is state, timeout, f"{self.host.name} does not become {state.name}")
        if state is State.MASTER:
            self.log.wait("AddressesTaken", timeout)

    @property
    def state(self) -> State | None:
        changes = [event for event in self.log.events if event["event"] == "StateChanged"]
        return State[changes[-1]["after"]] if changes else None

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = WITHIN) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(timeout)
        self._join()
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._join()

    def _alive(self) -> None:
        # What it has written last may still be on its way.
        if self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers):
            raise AssertionError(f"the command ended with {self.process.returncode}: {self.errors}")

    def _join(self) -> None:
        for reader in self._readers:
            reader.join()

    def _read_events(self) -> None:
        for line in self.process.stdout or ():
            self.log(json.loads(line))

    def _read_errors(self) -> None:
        for line in self.process.stderr or ():
            self.errors += line.decode()


class Lan:
    """A lab with a recorded switch. What is started here is stopped, and its frames are audited, at the end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes: list[Node] = []
        self.tidy = True
        self.audited = True
        self._before: dict[str, set[str]] = {}
        self._stack = contextlib.ExitStack()
        self.capture: Recorder = lab.record()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._stack.close()
        self.capture.stop()
        # An engine's descriptor lives as long as the engine: nobody may hold one when the test's leaks are counted.
        nodes, self.nodes = self.nodes, []
        if kind is not None:
            return
        from .audit import audit

        assert self.capture.dropped == 0
        if self.audited:
            audit(self.capture.frames, nodes)
        if self.tidy:
            self._compare()

    def _compare(self) -> None:
        """Every host is as it was before: devices, addresses, rules, routes, settings."""
        for name in self._before:
            with contextlib.suppress(OSError, KeyError):
                self.lab.plug(name)
        for name, before in self._before.items():
            deadline = time.monotonic() + 2
            while difference := belongings(self[name]) ^ before:
                assert time.monotonic() < deadline, f"{name} is not as it was before: {sorted(difference)}"
                time.sleep(0.02)

    def __getitem__(self, name: str) -> Host:
        return self.lab[name]

    def start(self, name: str, *hosts: VirtualHost, options: dict[str, Any] | None = None, **changes: Any) -> Node:
        """An engine in host `name` with these virtual hosts, or one as `virtual_host(**changes)`."""
        self.remember(name)
        node = Node(self[name], hosts or (virtual_host(**changes),), **(options or {}))
        self.nodes.append(node)
        self._stack.callback(node.stop)
        return node

    def command(self, name: str, *arguments: str, **options: Any) -> Command:
        """``pycarp ARGUMENTS --json`` in host `name`."""
        self.remember(name)
        command = Command(self[name], arguments, **options)
        self._stack.callback(command.stop)
        return command

    def remember(self, name: str) -> None:
        """At the end host `name` must be as it is now."""
        if name not in self._before:
            self._before[name] = belongings(self[name])

    def cable(self, one: str, other: str, mtu: int = 1500) -> None:
        """A second cable, straight between two hosts: eth1 in both, 192.0.2.1/24 and 192.0.2.2/24."""
        end = ["name", "eth1", "mtu", str(mtu), "netns", self[other].path]
        self[one].run(["ip", "link", "add", "eth1", "mtu", str(mtu), "type", "veth", "peer", *end])
        for number, name in enumerate((one, other), 1):
            self[name].run(["ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth1"])
            self[name].run(["ip", "link", "set", "eth1", "up"])
        wait_until(lambda: all(_running(self[name], "eth1") for name in (one, other)))

    def ping(self, address: str = VIP, interval: float = 0.01, client: str = "client") -> Pinger:
        pinger = self[client].ping(address, interval)
        self._stack.callback(pinger.stop)
        return pinger

    def probe(self, **options: Any) -> None:
        """Have the client ask everybody for the addresses until the end; see `support.probe.Prober`."""
        from .probe import Prober

        self._stack.enter_context(Prober(self["client"], **options))

    def inject(self, name: str, *frames: bytes, ifname: str = "eth0") -> None:
        """Put whole frames on the wire from host `name`."""
        import socket

        with self[name].enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind((ifname, 0))
            for frame in frames:
                sender.send(frame)

    def forget(self) -> None:
        for node in self.nodes:
            node.log.forget()

    def masters(self) -> list[str]:
        return [node.host.name for node in self.nodes if node.running and node.state() is State.MASTER]


def virtual_host(**changes: Any) -> VirtualHost:
    """The blog's virtual host, in a hurry."""
    values: dict[str, Any] = {"vhid": VHID, "passphrase": PASSPHRASE, "addresses": [f"{VIP}/24"], **SWIFT, **changes}
    return VirtualHost(**values)


def held(host: Host) -> set[str]:
    """The addresses on a host, as text."""
    with host.enter():
        return {str(one.interface.ip) for interface in read_interfaces() for one in interface.addresses}


def interface(host: Host, name: str) -> Interface | None:
    """An interface of a host as it is now, if it is there."""
    with host.enter():
        return next((one for one in read_interfaces() if one.name == name), None)


def _running(host: Host, name: str) -> bool:
    """It has a carrier, and the link-local address that the kernel gives it a moment later."""
    found = interface(host, name)
    return found is not None and found.running and any(one.interface.ip.is_link_local for one in found.addresses)


def belongings(host: Host) -> set[str]:
    """Everything on a host that a virtual host could leave there: links, addresses, rules, routes, settings."""
    shown = host.run(["ip", "-o", "-batch", "-"], input="link\naddress\nrule\nroute show table all\n").stdout
    shown += host.run(["ip", "-6", "-o", "rule"]).stdout
    # What a cable does to a link and its routes is not ours.
    lines = (re.sub(r"linkdown|dead|NO-CARRIER,|,LOWER_UP|state \w+", "", line) for line in shown.splitlines())
    found = {" ".join(line.split()) for line in lines}
    with host.enter():
        for scope in Path("/proc/sys/net/ipv4/conf").iterdir():
            found |= {f"{scope.name} {name} {(scope / name).read_text().strip()}" for name in _SETTINGS}
    return found


_SETTINGS = ("arp_ignore", "arp_announce", "arp_filter", "rp_filter", "accept_local")


def wait_until(reached: Callable[[], bool], timeout: float = WITHIN, complaint: str = "waited in vain") -> None:
    """Poll a condition that no event tells of."""
    _poll(reached, timeout, complaint)


def _poll(reached: Callable[[], bool], timeout: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout
    while not reached():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.005)


def stays(steady: Callable[[], bool], seconds: float, complaint: str = "it did not last") -> None:
    """The one wait of fixed length: that something does not happen can be seen in no other way."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert steady(), complaint
        time.sleep(0.01)


def only(items: Iterable[Any]) -> Any:
    """The one item there is."""
    found = list(items)
    assert len(found) == 1, found
    return found[0]


@contextlib.contextmanager
def lan(hosts: Sequence[str] = ("main", "second", "client"), profile: Profile = USUAL, **options: Any) -> Iterator[Lan]:
    with Lab(hosts, **options) as lab:
        profile.apply(lab, [name for name in hosts if name != "client"])
        with Lan(lab) as built:
            yield built
