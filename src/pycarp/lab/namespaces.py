"""A small LAN inside this machine: a switch and hosts in anonymous network namespaces.

Only descriptors of this process keep the namespaces: when it ends, however it ends, the kernel removes them.
`pycarp demo` and the tests on the wire run here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_interface, ip_network
from typing import Any, Literal, NoReturn, Self

from ..config import Address
from ..errors import CapabilityError, InterfaceError
from ..linux import messages, netlink, sysctl
from . import links
from .pinger import Pinger
from .recorder import Frame, Recorder

__all__ = ["Frame", "Host", "Lab", "Namespace", "Pinger", "Recorder", "available", "enter_user_namespace"]

_CLONE_NEWNET = 0x40000000
# A port that is set to "blocking" without spanning tree goes back to forwarding at once; "disabled" stays.
_FORWARDING, _DISABLED = 3, 0
_IFLA_LINKINFO, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_STATE = 18, 5, 1
_FLOODS = ("unicast_flood", "mcast_flood", "bcast_flood")


class Namespace:
    """A network namespace of its own, empty but for a loopback that is up. Lives until `close`."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[Any]] = []
        with _returning():
            try:
                _call("unshare", _CLONE_NEWNET)
            except PermissionError:
                raise CapabilityError(
                    "a network namespace needs root, or a user namespace (unshare --user --map-root-user)"
                ) from None
            self.fd = _here()
            with netlink.RouteSocket() as route:
                route.request(messages.link_state(1, True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def path(self) -> str:
        """For `ip link ... netns PATH` and `nsenter --net=PATH`, while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """The calling thread is in this namespace inside the ``with``: its new sockets and children belong there."""
        with _returning():
            _call("setns", self.fd, _CLONE_NEWNET)
            yield

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; options as of `subprocess.Popen`. What still runs at `close` is killed."""
        with self.enter():
            process = subprocess.Popen(argv, **options)
        self._processes.append(process)
        return process

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program inside and wait; by default its output is captured as text and a failure raises."""
        for name, value in {"check": True, "capture_output": True, "text": True, "timeout": 30}.items():
            options.setdefault(name, value)
        if "stdout" in options or "stderr" in options:
            options["capture_output"] = False
        with self.enter():
            return subprocess.run(argv, **options)

    def request(self, *requests: bytes) -> None:
        """Send netlink requests inside; raises `OSError` for the first that fails."""
        with self.enter(), netlink.RouteSocket() as route:
            route.request(*requests)

    def index(self, ifname: str) -> int:
        with self.enter():
            return socket.if_nametoindex(ifname)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Host(Namespace):
    """A host on the lab's switch. `address` and `address6` are text without prefix (`address6` is "" without IPv6)."""

    ifname = "eth0"

    def __init__(self, name: str, number: int, address: Address, address6: Address | None = None) -> None:
        self.name = name
        self.interface = address
        self.address = str(address.ip)
        self.address6 = "" if address6 is None else str(address6.ip)
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self._pingers: list[Pinger] = []
        super().__init__()

    def ping(self, address: str, interval: float = 0.01) -> Pinger:
        """A `Pinger` that asks from this host, until it is stopped or the host closed."""
        with self.enter():
            pinger = Pinger(address, interval)
        self._pingers.append(pinger)
        return pinger

    def close(self) -> None:
        for pinger in self._pingers:
            pinger.stop()
        self._pingers.clear()
        super().close()


class Lab:
    """A switch and hosts, each in its own namespace, a cable from each host's eth0 to the port of its name.

    The hosts get consecutive addresses of `subnet` (and `subnet6`, None for no IPv6) from number `first` on.
    `snooping` makes the switch forward multicast only to ports that asked for it (IGMP and MLD, with a querier).
    """

    def __init__(
        self,
        hosts: Sequence[str] = ("main", "second", "client"),
        subnet: str = "10.13.37.0/24",
        subnet6: str | None = "2001:db8::/64",
        first: int = 11,
        *,
        snooping: bool = False,
    ) -> None:
        self.hosts: dict[str, Host] = {}
        self._ports: dict[str, int] = {}
        self._recorders: list[Recorder] = []
        self._stack = contextlib.ExitStack()
        try:
            self.switch = self._stack.enter_context(Namespace())
            with self.switch.enter():
                if not snooping:
                    # The switch sends nothing of its own; a querier needs a link-local address.
                    sysctl.try_write("ipv6/conf/all/disable_ipv6", 1)
                    sysctl.try_write("ipv6/conf/default/disable_ipv6", 1)
                for tables in ("iptables", "ip6tables", "arptables"):
                    # Where the module is loaded these are on, and drop what the tests forge.
                    sysctl.try_write(f"bridge/bridge-nf-call-{tables}", 0)
                with netlink.RouteSocket() as route:
                    route.request(links.add_bridge("switch", snooping))
                    self._bridge = socket.if_nametoindex("switch")
                    route.request(messages.link_state(self._bridge, True))
            for number, name in enumerate(hosts, first):
                self._add(name, number, subnet, subnet6)
            for name in self.hosts:
                self._await_forwarding(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def close(self) -> None:
        """Kill what runs inside, stop the recorders, close the namespaces: the kernel takes the rest apart."""
        for recorder in self._recorders:
            recorder.stop()
        self._recorders.clear()
        self._stack.close()
        self.hosts.clear()

    def add(self, namespace: Namespace) -> Namespace:
        """Another namespace, which is closed with the lab."""
        return self._stack.enter_context(namespace)

    def unplug(self, host: Host | str, seen: bool = True) -> None:
        """Cut a host's cable. `seen`: it loses carrier; not seen: the switch drops its frames both ways."""
        if seen:
            self.switch.request(messages.link_state(self._port(host), False))
        else:
            self._set(host, {"state": _DISABLED})

    def plug(self, host: Host | str) -> None:
        """Mend it, whichever way it was cut; returns when the switch forwards."""
        self.switch.request(messages.link_state(self._port(host), True))
        self._await_forwarding(host)

    def deafen(self, host: Host | str) -> None:
        """The host no longer hears broadcast, multicast or unknown unicast, but all hear it."""
        self._set(host, dict.fromkeys(_FLOODS, 0))

    def undeafen(self, host: Host | str) -> None:
        self._set(host, dict.fromkeys(_FLOODS, 1))

    def record(self) -> Recorder:
        """Record every frame on every port of the switch from now on; `outgoing` is towards the host."""
        with self.switch.enter():
            recorder = Recorder(self._ports)
        self._recorders.append(recorder)
        return recorder

    def _add(self, name: str, number: int, subnet: str, subnet6: str | None) -> None:
        addresses = [_numbered(each, number) for each in (subnet, subnet6) if each is not None]
        host = self._stack.enter_context(Host(name, number, *addresses))
        self.hosts[name] = host
        with host.enter():
            # The same on every machine: new namespaces inherit IPv4 settings from the machine's own.
            for scope in ("all", "default"):
                for setting in ("rp_filter", "arp_ignore", "arp_announce", "arp_filter"):
                    sysctl.write(f"ipv4/conf/{scope}/{setting}", 0)
                if subnet6 is None:
                    sysctl.try_write(f"ipv6/conf/{scope}/disable_ipv6", 1)
                for setting in ("accept_dad", "accept_ra"):
                    sysctl.try_write(f"ipv6/conf/{scope}/{setting}", 0)
            sysctl.write("ipv4/ip_forward", 0)
        port_mac = bytes((2, 0, 0, 0, 1, number))
        self.switch.request(links.add_veth(name, port_mac, Host.ifname, host.mac, host.fd))
        self._ports[name] = port = self.switch.index(name)
        self.switch.request(links.set_master(port, self._bridge), messages.link_state(port, True))
        index = host.index(Host.ifname)
        host.request(messages.link_state(index, True), *(messages.add_address(index, one) for one in addresses))

    def _port(self, host: Host | str) -> int:
        return self._ports[_name(host)]

    def _set(self, host: Host | str, options: dict[str, int]) -> None:
        self.switch.request(links.bridge_port(self._port(host), options))

    def _state(self, port: int) -> int:
        with self.switch.enter(), netlink.RouteSocket() as route:
            for payload in route.dump(netlink.RTM_GETLINK):
                if netlink.LINK.unpack_from(payload)[2] == port:
                    info = netlink.attributes(netlink.attributes(payload, netlink.LINK.size).get(_IFLA_LINKINFO, b""))
                    return netlink.attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")).get(_IFLA_BRPORT_STATE, b"\0")[0]
        raise InterfaceError(f"the lab's switch has lost its port {port}")

    def _await_forwarding(self, host: Host | str) -> None:
        # The kernel notices carrier in a worker of its own, a moment after the link came up.
        deadline = time.monotonic() + 5
        while self._state(self._port(host)) != _FORWARDING:
            with contextlib.suppress(OSError):
                self._set(host, {"state": _FORWARDING})
            if time.monotonic() > deadline:
                raise InterfaceError(f"the lab's switch does not forward to {_name(host)}: is the host's link down?")
            time.sleep(0.002)


def available() -> Literal["root", "user"] | None:
    """How a lab can be built here: "root" in this process, "user" after `enter_user_namespace`, None not at all.

    It tries: capabilities, sysctls, security modules and kernel modules all decide.
    """
    if _works():
        return "root"
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    probe = "import sys; from pycarp.lab import namespaces; sys.exit(not namespaces._works())"
    try:
        done = subprocess.run(_unshared([sys.executable, "-c", probe]), capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "user" if done.returncode == 0 else None


def enter_user_namespace(argv: Sequence[str]) -> NoReturn:
    """Replace this program by `argv`, run as root of a new user namespace, where labs work.

    `OSError` where there is no unshare(1); where the kernel forbids it, unshare says so and the exit code is 1.
    """
    command = _unshared(argv)
    os.execvp(command[0], command)


def _unshared(argv: Sequence[str]) -> list[str]:
    # A /run of its own, so that `ip netns` works inside as well.
    script = 'mount -t tmpfs tmpfs /run 2>/dev/null; exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--net", "--mount", "--", "sh", "-c", script, "sh", *argv]


def _works() -> bool:
    """Whether this process can build a switch, a cable and a macvlan."""
    try:
        with Namespace() as one, one.enter():
            sysctl.write("ipv4/ip_forward", 0)
            with netlink.RouteSocket() as route:
                route.request(
                    links.add_bridge("switch", False),
                    links.add_veth("one", bytes((2, 0, 0, 0, 1, 1)), "other", bytes((2, 0, 0, 0, 0, 1)), one.fd),
                )
                other = socket.if_nametoindex("other")
                route.request(messages.add_macvlan("carp1", other, bytes((0, 0, 0x5E, 0, 1, 1))))
    except OSError:
        return False
    return True


def _name(host: Host | str) -> str:
    return host if isinstance(host, str) else host.name


def _numbered(subnet: str, number: int) -> Address:
    network = ip_network(subnet)
    return ip_interface(f"{network[number]}/{network.prefixlen}")


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(function: str, *arguments: int) -> None:
    """A system call that Python has only from 3.12 on."""
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


@contextlib.contextmanager
def _returning() -> Iterator[None]:
    """After the block, however it ends, the thread is back in its network namespace."""
    before = _here()
    thread = threading.get_ident()
    try:
        yield
    finally:
        # Contexts of one thread may end in another order, but no other thread may be moved.
        assert thread == threading.get_ident()
        try:
            _call("setns", before, _CLONE_NEWNET)
        finally:
            os.close(before)
