"""Which interface a virtual host speaks on, and from which address; a table of machines without any kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from pycarp import VirtualHost
from pycarp.errors import InterfaceError
from pycarp.linux.interfaces import Interface, InterfaceAddress, choose_carpdev, source_address


def _address(text: str, **options: int) -> InterfaceAddress:
    return InterfaceAddress(ip_interface(text), **options)


LO = Interface(1, "lo", loopback=True, ethernet=False, addresses=(_address("127.0.0.1/8"), _address("::1/128")))
ETH0 = Interface(2, "eth0", addresses=(_address("10.13.37.11/24"), _address("2001:db8::b/64"), _address("fe80::b/64")))
ETH1 = Interface(3, "eth1", up=False, addresses=(_address("192.0.2.1/25"),))
TUN0 = Interface(4, "tun0", ethernet=False, addresses=(_address("198.51.100.1/24"),))
BARE = Interface(5, "eth2")
OURS = Interface(
    6,
    "carp7",
    alias="pycarp vhid 7 on eth0 index=2 arp_ignore=0 arp_announce=0",
    addresses=(_address("10.13.37.43/32", protocol=112),),
)
MACHINE = (LO, ETH0, ETH1, TUN0, BARE, OURS)


def _choose(*addresses: str, machine: tuple[Interface, ...] = MACHINE, carpdev: str | None = None) -> str:
    return choose_carpdev(VirtualHost(vhid=101, passphrase="", addresses=addresses, carpdev=carpdev), machine).name


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["10.13.37.42/24"], "eth0"),
        (["10.13.37.42"], "eth0"),
        (["10.13.37.42/24", "2001:db8::42/64"], "eth0"),
        (["10.13.37.42/24", "fe80::42/64"], "eth0"),
        (["192.0.2.42/24"], "eth1"),
        # Of another virtual host of ours: the wish is odd, but it is not the host's own address.
        (["10.13.37.43/24"], "eth0"),
        (["fe80::42/64"], "eth0"),
    ],
)
def test_the_subnet_decides(addresses: list[str], expected: str) -> None:
    assert _choose(*addresses) == expected


@pytest.mark.parametrize("name", ["eth0", "eth1", "eth2"])
def test_carpdev_overrides(name: str) -> None:
    assert _choose("203.0.113.7/24", carpdev=name) == name
    assert choose_carpdev(VirtualHost(vhid=1, passphrase="", carpdev=name), MACHINE).name == name


@pytest.mark.parametrize(
    ("addresses", "carpdev", "words"),
    [
        (
            ["203.0.113.7/24"],
            None,
            ["the subnet of 203.0.113.7", "eth0 (10.13.37.0/24", "eth2 (no address)", "carpdev"],
        ),
        (
            ["10.13.37.42/24", "192.0.2.42/25"],
            None,
            ["the subnets of 10.13.37.42 and 192.0.2.42", "eth1 (192.0.2.0/25)"],
        ),
        (["192.0.2.200/24"], None, ["the subnet of 192.0.2.200"]),
        (["198.51.100.7/24"], None, ["tun0", "no Ethernet"]),
        ([], None, ["neither an address nor a carpdev"]),
        (["10.13.37.42/24"], "eth9", ["there is no interface eth9", "eth0 (10.13.37.0/24"]),
        (["10.13.37.42/24"], "lo", ["carpdev lo is no Ethernet"]),
        (["10.13.37.42/24"], "tun0", ["carpdev tun0 is no Ethernet"]),
        (["10.13.37.42/24"], "carp7", ["carpdev carp7 is the device of a virtual host"]),
        (["10.13.37.11/24"], None, ["10.13.37.11 is already on eth0"]),
        (["192.0.2.1/24"], "eth0", ["192.0.2.1 is already on eth1"]),
    ],
)
def test_what_cannot_work_is_said_with_the_candidates(
    addresses: list[str], carpdev: str | None, words: list[str]
) -> None:
    with pytest.raises(InterfaceError) as raised:
        _choose(*addresses, carpdev=carpdev)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_several_that_fit_are_listed() -> None:
    twin = Interface(9, "eth9", addresses=(_address("10.13.37.12/24"), _address("fe80::c/64")))
    for address in ("10.13.37.42/24", "fe80::42/64"):
        with pytest.raises(InterfaceError, match=r"eth0 \(.*eth9 \(.*name the one"):
            _choose(address, machine=(*MACHINE, twin))
        assert _choose(address, machine=(*MACHINE, twin), carpdev="eth9") == "eth9"


def test_a_machine_without_ethernet_says_so() -> None:
    with pytest.raises(InterfaceError, match="no Ethernet interface"):
        _choose("10.13.37.42/24", machine=(LO, TUN0))
    with pytest.raises(InterfaceError, match="no Ethernet at all"):
        _choose("10.13.37.42/24", machine=(LO, TUN0), carpdev="eth0")


@pytest.mark.parametrize(
    ("addresses", "family", "expected"),
    [
        (["10.13.37.11/24"], 4, "10.13.37.11"),
        (["10.13.37.11/24"], 6, None),
        (["2001:db8::b/64", "fe80::b/64"], 6, "fe80::b"),
        (["2001:db8::b/64"], 6, "2001:db8::b"),
        ([], 4, None),
    ],
)
def test_adverts_leave_from_the_interfaces_own_address(addresses: list[str], family: int, expected: str | None) -> None:
    interface = Interface(2, "eth0", addresses=tuple(_address(one) for one in addresses))
    assert source_address(interface, family) == (None if expected is None else ip_address(expected))


def test_no_advert_leaves_from_an_address_that_floats_or_is_not_usable_yet() -> None:
    secondary, tentative, failed, deprecated = 0x01, 0x40, 0x08, 0x20
    interface = Interface(
        2,
        "eth0",
        addresses=(
            _address("10.13.37.42/32", protocol=112),
            _address("10.13.37.43/24"),
            _address("10.13.37.12/24", flags=secondary),
            _address("10.13.37.11/24"),
            _address("fe80::1/64", flags=tentative),
            _address("fe80::2/64", flags=failed),
            _address("2001:db8::1/64", flags=deprecated),
            _address("2001:db8::2/64", flags=secondary),
            _address("2001:db8::3/64"),
        ),
    )
    assert source_address(interface, 4, {ip_address("10.13.37.43")}) == ip_address("10.13.37.11")
    assert source_address(interface, 6) == ip_address("2001:db8::3")
    assert source_address(interface.replace(addresses=interface.addresses[:7]), 6) == ip_address("2001:db8::1")
    assert source_address(interface.replace(addresses=interface.addresses[:3]), 4, {ip_address("10.13.37.43")}) == (
        ip_address("10.13.37.12")
    )
