"""For tests on Linux's own ground: when they can run, and one virtual host to work with."""

from __future__ import annotations

import functools
import os

import pytest

from pycarp import VirtualHost
from pycarp.lab.namespaces import Host, Lab, available
from pycarp.lab.recorder import Frame
from pycarp.linux import netlink
from pycarp.linux.device import Device
from pycarp.linux.interfaces import Interface, read_interfaces

VHID = 101
VIRTUAL_MAC = bytes.fromhex("00005e000165")
VIP, VIP6 = "10.13.37.42", "2001:db8::42"


@functools.cache
def _where() -> str | None:
    return available()


def needs_namespaces() -> list[pytest.MarkDecorator]:
    """For `pytestmark`: real sockets, and this process may make network namespaces."""
    here = os.geteuid() == 0 and _where() == "root"
    reason = "no network namespaces here: run as root, or under unshare --user --map-root-user"
    return [pytest.mark.wire, pytest.mark.skipif(not here, reason=reason)]


def floating(*addresses: str, **options: object) -> VirtualHost:
    return VirtualHost(
        vhid=VHID, addresses=addresses or (f"{VIP}/24", f"{VIP6}/64"), **{"name": "carp0", "passphrase": "", **options}
    )


def carpdev(name: str = "eth0") -> Interface:
    """The interface of that name in the calling thread's namespace."""
    return next(one for one in read_interfaces() if one.name == name)


def order(host: Host, requests: bytes) -> list[OSError | None]:
    """Send a device's batch inside a host."""
    with host.enter(), netlink.RouteSocket() as route:
        return route.execute(requests)


def set_up(host: Host, virtual: VirtualHost) -> Device:
    """Without a gate: nobody is there to open it."""
    with host.enter():
        device = Device(virtual, carpdev(), gated=False)
        device.setup()
    return device


def from_host(frames: list[Frame], host: Host, source: bytes) -> list[Frame]:
    """What came out of a host with this source MAC."""
    return [frame for frame in frames if frame.port == host.name and not frame.outgoing and frame.source == source]


def arp_answers(frames: list[Frame], address: str) -> list[tuple[str, bytes]]:
    """(port it came in by, MAC it tells) of every ARP reply for an address."""
    wanted = bytes(int(part) for part in address.split("."))
    return [
        (frame.port, frame.data[22:28])
        for frame in frames
        if not frame.outgoing
        and frame.ethertype == 0x0806
        and frame.data[20:22] == b"\0\2"
        and frame.data[28:32] == wanted
    ]


__all__ = [
    "VHID",
    "VIP",
    "VIP6",
    "VIRTUAL_MAC",
    "Lab",
    "arp_answers",
    "carpdev",
    "floating",
    "from_host",
    "needs_namespaces",
    "order",
    "set_up",
]
