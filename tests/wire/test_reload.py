"""A reconfiguration is all or nothing: whatever fails at whatever step, what ran runs on."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.lan import Lan, Node, belongings, held, interface, virtual_host, wait_until

from pycarp import InterfaceError, State, VirtualHost, events
from pycarp.engine.instances import Instances
from pycarp.linux import guardian_client, netlink
from pycarp.linux.lock import VirtualHostLock

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


def one(**changes: Any) -> VirtualHost:
    return virtual_host(**{"vhid": 1, "name": "carp0", "addresses": ["10.13.37.51/24"], **changes})


def two(**changes: Any) -> VirtualHost:
    values = {"vhid": 2, "name": "carp1", "addresses": ["10.13.37.52/24", "10.13.37.62/24"]}
    return virtual_host(**{**values, **changes})


def three(**changes: Any) -> VirtualHost:
    return virtual_host(**{"vhid": 3, "name": "carp2", "addresses": ["10.13.37.53/24"], **changes})


RELOADS: dict[str, tuple[VirtualHost, ...]] = {
    "more": (one(), two(), three()),
    "less": (two(),),
    "another vhid": (one(vhid=5), two()),
    "another name": (one(name="carp7"), two()),
    "names swapped": (one(name="carp1"), two(name="carp0")),
    "vhids swapped": (one(vhid=2), two(vhid=1)),
    "an address moves": (one(addresses=["10.13.37.51/24", "10.13.37.62/24"]), two(addresses=["10.13.37.52/24"])),
    "addresses swapped": (one(addresses=["10.13.37.52/24"]), two(addresses=["10.13.37.51/24"])),
    "kind of MAC": (one(mac="interface"), two()),
    "the name of one that goes": (two(name="carp0", vhid=9),),
    "all": (one(mac="interface", passphrase="uneautrephrase"), three(name="carp1"), two(name="carp9", advskew=20)),
}


def running(net: Lan, *hosts: VirtualHost) -> Node:
    main = net.start("main", *(hosts or (one(), two())))
    for host in main.hosts:
        main.become(MASTER, host.name)
    net.audited = False  # addresses change their MAC here
    # The look at the host opens descriptors.
    wait_until(lambda: all(thread.name != "pycarp-findings" for thread in threading.enumerate()))
    return main


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def as_many(before: int) -> None:
    """The supervisor opens and closes one from time to time."""
    wait_until(lambda: descriptors() == before, complaint=f"{descriptors()} descriptors, {before} before")


def settled(net: Lan) -> set[str]:
    return belongings(net["main"])


def same(net: Lan, wanted: set[str], what: str, seen: Callable[[set[str]], set[str]] = lambda lines: lines) -> None:
    wait_until(lambda: seen(settled(net)) == wanted, complaint=f"{what}: {seen(settled(net)) ^ wanted}")


def unnumbered(lines: set[str]) -> set[str]:
    """Without the interfaces' numbers: a device that is made anew has another."""
    return {re.sub(r"^\d+: ", "", line) for line in lines}


class Fault:
    """The `at`-th call that touches the kernel, from the supervisor or on its behalf, fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.calls = 0, 0
        self.error: Callable[[], BaseException] = lambda: OSError(errno.ENOBUFS, "no room")
        for owner, name in (
            (netlink.RouteSocket, "execute"),
            (netlink.RouteSocket, "dump"),
            (guardian_client.Guardian, "add"),
            (VirtualHostLock, "_take"),
            (Instances, "open_carpdev"),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.at and threading.current_thread().name in ("pycarp-supervisor", "pycarp-runtime"):
                self.calls += 1
                if self.calls == self.at:
                    raise self.error()
            return function(*arguments, **options)

        return counted


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    made = Fault(monkeypatch)
    yield made
    made.at = 0


@pytest.mark.parametrize("name", RELOADS)
def test_whatever_fails_the_old_configuration_runs(with_impl: str, net: Lan, fault: Fault, name: str) -> None:
    # Fault: Each call that touches the kernel, one after the other, fails once in a reconfiguration.
    # Expected: It raises, and addresses, devices, rules, states, descriptors are as before; without a fault it works.
    main = running(net)
    hosts, before, open_before = main.engine.hosts, settled(net), descriptors()
    errors = [lambda: OSError(errno.EMFILE, "no descriptors left"), MemoryError, lambda: InterfaceError("not there")]
    at = 0
    while True:
        at += 1
        fault.calls, fault.error = 0, errors[at % len(errors)]
        fault.at = at
        try:
            main.reconfigure(*RELOADS[name])
        except (OSError, MemoryError):
            fault.at = 0
            assert main.engine.hosts == hosts
            assert [main.state(host.name) for host in hosts] == [MASTER] * len(hosts), at
            same(net, before, f"call {at}")
            as_many(open_before)
            continue
        finally:
            fault.at = 0
        if fault.calls < at:
            break
        # What failed came after the change: it is reported, and the new configuration runs.
        main.reconfigure(*hosts)
        for host in hosts:
            main.become(MASTER, host.name)
        same(net, unnumbered(before), f"call {at} and back", unnumbered)
        before, open_before = settled(net), descriptors()
    assert at > 1 or name == "less"
    assert main.engine.hosts == RELOADS[name]
    for host in main.hosts:
        main.become(MASTER, host.name)
        assert (interface(net["main"], host.name) is not None) == (host.mac == "virtual")
    wanted = {str(ip.ip) for host in main.hosts for ip in host.addresses}
    wait_until(lambda: {ip for ip in held(net["main"]) if ip.startswith(("10.13.37.5", "10.13.37.6"))} == wanted)
    for address in sorted(wanted):
        assert net.ping(address).wait(3), address
    # All of it goes again.
    main.stop()


def test_failed_reloads_lose_no_ping(net: Lan, secret: str) -> None:
    # Fault: Reloads that fail because a name is taken, a vhid busy, an address another's, an interface missing.
    # Expected: Each says why; the pings through all of them are answered, and no state changes.
    main = running(net)
    swift = ["advbase", "0", "advskew", "10"]
    net.command("main", "up", "carp2", "vhid", "3", "passfile", secret, *swift, "10.13.37.53/24").become(MASTER)
    net["main"].run(["ip", "link", "add", "carp8", "type", "veth", "peer", "name", "far"])
    pingers = [net.ping(f"10.13.37.{number}") for number in (51, 52, 62)]
    assert all(pinger.wait(10) for pinger in pingers)
    net.forget()
    wrong = {
        "an interface carp8 already": (two(name="carp8"), three(vhid=4, name="carp4", addresses=["10.13.37.54/24"])),
        "an interface carp2 already": (one(), two(name="carp2", vhid=7)),
        "is already run by": (one(advskew=20), two(name="carp5"), three(name="carp4", addresses=["10.13.37.54/24"])),
        "is already an address of vhid 3": (one(addresses=["10.13.37.51/24", "10.13.37.53/24"]),),
        "no interface eth9": (one(advskew=20), two(carpdev="eth9")),
        "no interface has the subnets? of 203": (one(addresses=["203.0.113.9/24"]), two()),
    }
    hosts = main.engine.hosts
    for sentence, given in wrong.items():
        with pytest.raises(InterfaceError, match=sentence):
            main.engine.reconfigure(*given)
        assert main.engine.hosts == hosts
    received = [pinger.received for pinger in pingers]
    for pinger, before in zip(pingers, received, strict=True):
        assert pinger.wait(before + 10)
        pinger.stop()
        assert pinger.received >= pinger.sent - 1
    assert main.log.find(events.StateChanged) == []
    net["main"].run(["ip", "link", "delete", "carp8"])
