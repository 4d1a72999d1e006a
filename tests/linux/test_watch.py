"""What the kernel tells about interfaces, addresses, rules and routes."""

from __future__ import annotations

import select
import struct
import time
from ipaddress import ip_interface
from typing import TypeVar

import pytest
from support.linux import carpdev, needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux import messages, netlink
from pycarp.linux import watch as watch_module
from pycarp.linux.interfaces import OWN_PROTOCOL
from pycarp.linux.routes import tables_of
from pycarp.linux.watch import AddressNotice, LinkNotice, Notice, Overrun, RouteChanges, RouteWatch, Watch
from pycarp.protocol.timing import LEASE_FOREVER

pytestmark = needs_namespaces()

Kind = TypeVar("Kind", LinkNotice, AddressNotice, Overrun)


def _settled(watch: Watch, kind: type[Kind]) -> list[Kind]:
    """All notices of a kind until none came for a while."""
    notices: list[Notice] = []
    while select.select([watch], [], [], 0.1)[0]:
        notices += watch.read()
    assert watch.read() == []
    return [one for one in notices if isinstance(one, kind)]


def test_links() -> None:
    with Lab() as lab, lab["main"].enter(), Watch() as watch:
        main, index = lab["main"], carpdev().index
        main.run("ip link set eth0 down", shell=True)
        last = _settled(watch, LinkNotice)[-1]
        assert last == LinkNotice(index, "eth0", True, False, False, main.mac)
        main.run("ip link set eth0 mtu 1400 up", shell=True)
        last = _settled(watch, LinkNotice)[-1]
        assert (last.up, last.running) == (True, True)
        lab.unplug(main)
        last = _settled(watch, LinkNotice)[-1]
        assert (last.up, last.running) == (True, False)
        lab.plug(main)
        assert _settled(watch, LinkNotice)[-1].running
        main.run("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77 name lan0", shell=True)
        last = _settled(watch, LinkNotice)[-1]
        assert (last.name, last.mac, last.index) == ("lan0", bytes.fromhex("020000000077"), index)
        main.run("ip link del lan0", shell=True)
        last = _settled(watch, LinkNotice)[-1]
        assert (last.index, last.present, last.up, last.running) == (index, False, False, False)


def test_leaving_a_bridge_is_not_going_away() -> None:
    with Lab() as lab, lab["main"].enter(), Watch() as watch:
        lab["main"].run(
            "ip link add br0 type bridge; ip link set eth0 master br0; ip link set eth0 nomaster", shell=True
        )
        assert all(one.present for one in _settled(watch, LinkNotice))


def test_addresses() -> None:
    with Lab() as lab, lab["main"].enter(), Watch() as watch:
        index = carpdev().index
        lab["main"].run("ip addr add 10.13.37.50/24 dev eth0; ip addr del 10.13.37.50/24 dev eth0", shell=True)
        lab["main"].run("ip -6 addr add 2001:db8::50/64 dev eth0 nodad proto 112", shell=True, check=False)
        notices = [(one.index, one.address, one.present) for one in _settled(watch, AddressNotice)]
        assert (index, ip_interface("10.13.37.50/24"), True) in notices
        assert (index, ip_interface("10.13.37.50/24"), False) in notices


def _told(watch: RouteWatch, seconds: float = 0.1) -> RouteChanges | None:
    """What changed, or None where it stays quiet; then it is armed again."""
    if not select.select([watch], [], [], seconds)[0]:
        return None
    changes = watch.read()
    watch.rearm()
    return changes


@pytest.mark.parametrize(
    "words",
    [
        "route add default via 10.13.37.1",
        "route add 198.51.100.0/24 via 10.13.37.2 proto bgp",
        "route add blackhole 203.0.113.0/24",
        "route add default via 10.13.37.1 table 99",
        "route add 203.0.113.0/24 dev eth0 proto 112",
        "-6 route add default via 2001:db8::1",
        "rule add from 10.13.37.0/24 lookup 99",
        "-6 rule add from 2001:db8::/64 lookup 99",
    ],
)
def test_rules_and_routes_are_told(words: str) -> None:
    with Lab() as lab, lab["main"].enter(), RouteWatch() as watch:
        for turn in ("add", "del"):
            lab["main"].run(["ip", *words.replace(" add ", f" {turn} ").split()])
            assert _told(watch) == RouteChanges(others=True)
            assert _told(watch) is None


def test_a_route_that_goes_with_its_nexthop_object_is_told() -> None:
    """The kernel tells of the object alone."""
    with Lab() as lab, lab["main"].enter(), RouteWatch() as watch:
        lab["main"].run("ip nexthop add id 7 via 10.13.37.1 dev eth0; ip route add default nhid 7", shell=True)
        assert _told(watch) == RouteChanges(others=True)
        lab["main"].run(["ip", "nexthop", "del", "id", "7"])
        assert _told(watch) == RouteChanges(others=True)


def test_of_our_own_only_what_went_is_told() -> None:
    table = tables_of(2, 101)
    with Lab() as lab, lab["main"].enter(), RouteWatch() as watch:
        main = lab["main"]
        main.run(["ip", "route", "add", "198.51.100.0/24", "dev", "eth0", "table", str(table), "proto", "112"])
        main.run(["ip", "rule", "add", "from", "10.13.37.42", "lookup", str(table), "proto", "112"])
        main.run(["ip", "address", "add", "10.13.37.42/32", "dev", "eth0"])
        assert _told(watch) is None
        main.run(["ip", "route", "flush", "table", str(table)])
        assert _told(watch) == RouteChanges(tables={table})
        main.run(["ip", "rule", "del", "from", "10.13.37.42"])
        assert _told(watch) == RouteChanges(others=True)


def test_a_storm_of_routes_wakes_once() -> None:
    """As many as a routing daemon changes: what reads them would do nothing else."""
    with Lab() as lab, lab["main"].enter(), RouteWatch() as watch:
        words = "".join(f"route add 11.0.{number}.0/24 via 10.13.37.1\n" for number in range(250))
        lab["main"].run(["ip", "route", "add", "192.0.2.0/24", "via", "10.13.37.1"])
        assert select.select([watch], [], [], 1)[0]
        assert watch.read().others
        lab["main"].run(["ip", "-batch", "-"], input=words)
        assert not select.select([watch], [], [], 0.1)[0]
        watch.rearm()
        assert not select.select([watch], [], [], 0.1)[0], watch.read()
        lab["main"].run(["ip", "route", "del", "192.0.2.0/24"])
        assert _told(watch) == RouteChanges(others=True)


def test_an_overrun_is_told_and_the_watch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_BUFFER", 4096)
    with Lab() as lab, lab["main"].enter(), Watch() as watch:
        many = "; ".join(f"ip addr add 10.13.37.{number}/24 dev eth0" for number in range(100, 140))
        lab["main"].run(many, shell=True)
        assert Overrun() in _settled(watch, Overrun)
        lab["main"].run("ip link set eth0 down", shell=True)
        assert not _settled(watch, LinkNotice)[-1].up


def test_reading_is_cheap() -> None:
    with Lab() as lab, lab["main"].enter(), Watch() as watch:
        many = "; ".join(f"ip addr add 10.13.37.{number}/24 dev eth0" for number in range(100, 140))
        lab["main"].run(many, shell=True)
        start = time.perf_counter()
        first = watch.read()
        took = time.perf_counter() - start
        # A bounded amount a call, at some ten microseconds each; a generous bound, for a slow machine that is busy.
        assert 0 < len(first) <= 64 and took / len(first) < 0.001
        assert len(first) + len(_settled(watch, AddressNotice)) >= 40


def _add(index: int, protocol: int, lifetime: int = LEASE_FOREVER, number: int = 42) -> None:
    wanted = (ip_interface(f"10.13.37.{number}/32"), ip_interface(f"2001:db8::{number}/128"))
    with netlink.RouteSocket() as route:
        for one in wanted:
            request = messages.add_address(index, one, protocol=protocol)
            route.request(
                request.replace(
                    struct.pack("=II", LEASE_FOREVER, LEASE_FOREVER), struct.pack("=II", lifetime, lifetime)
                )
            )


def test_renewals_of_our_own_addresses_wake_nobody() -> None:
    with Lab() as lab, lab["main"].enter(), Watch(own_additions=False) as watch:
        index = carpdev().index
        _add(index, OWN_PROTOCOL, 5)
        assert _settled(watch, AddressNotice) == []
        _add(index, OWN_PROTOCOL, 9)
        assert not select.select([watch], [], [], 0.2)[0]
        lab["main"].run("ip addr del 10.13.37.42/32 dev eth0; ip addr del 2001:db8::42/128 dev eth0", shell=True)
        gone = [(one.index, one.address.version, one.present) for one in _settled(watch, AddressNotice)]
        assert gone == [(index, 4, False), (index, 6, False)]


def test_the_additions_of_others_are_told_all_the_same() -> None:
    with Lab() as lab, lab["main"].enter(), Watch(own_additions=False) as watch:
        main = lab["main"]
        main.run("ip addr add 10.13.37.50/24 dev eth0", shell=True)
        _add(carpdev().index, OWN_PROTOCOL + 1, number=51)
        main.run("ip addr add 2001:db8::50/64 dev eth0 nodad; ip link set eth0 mtu 1400", shell=True)
        notices: list[Notice] = []
        while select.select([watch], [], [], 0.1)[0]:
            notices += watch.read()
        added = {str(one.address) for one in notices if isinstance(one, AddressNotice) and one.present}
        assert {"10.13.37.50/24", "10.13.37.51/32", "2001:db8::50/64", "2001:db8::51/128"} <= added
        assert LinkNotice in {type(one) for one in notices}
