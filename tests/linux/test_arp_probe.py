"""Who answers for an address, asked and heard from below the IP stack."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest
from support.linux import VIP, VIP6, VIRTUAL_MAC, carpdev, needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux.arp_probe import ArpProbe, answer, question
from pycarp.linux.interfaces import Interface, InterfaceAddress
from pycarp.linux.messages import Address

BOTH: tuple[Address, ...] = (ip_address(VIP), ip_address(VIP6))
MAC = bytes.fromhex("020000000001")


def _answers(probe: ArpProbe, enough: int = 99, timeout: float = 0.3) -> list[tuple[Address, bytes]]:
    found: list[tuple[Address, bytes]] = []
    give_up = time.monotonic() + (3 if enough < 99 else timeout)
    while len(found) < enough and time.monotonic() < give_up:
        select.select([probe], [], [], 0.05)
        found += probe.read()
    return found


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(["main", "second", "client"]) as made:
        yield made


class TestOnTheWire:
    pytestmark = needs_namespaces()

    @pytest.mark.parametrize("own", [True, False], ids=["from the carpdev's address", "without one"])
    def test_who_has_the_addresses_answers(self, lab: Lab, own: bool) -> None:
        lab["second"].run(f"ip addr add {VIP}/32 dev eth0; ip addr add {VIP6}/128 dev eth0 nodad", shell=True)
        with lab["main"].enter():
            if not own:
                lab["main"].run(["ip", "address", "flush", "dev", "eth0"])
            with ArpProbe(carpdev().index) as probe:
                probe.ask(carpdev(), BOTH)
                assert set(_answers(probe, 2)) == {(one, lab["second"].mac) for one in BOTH}

    def test_the_virtual_mac_of_a_silent_master_is_told_as_well(self, lab: Lab) -> None:
        make = f"ip link add v0 link eth0 address {VIRTUAL_MAC.hex(':')} type macvlan mode bridge; ip link set v0 up"
        lab["second"].run(
            f"{make}; ip addr add {VIP}/32 dev v0; sysctl -qw net.ipv4.conf.eth0.arp_ignore=1", shell=True
        )
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            probe.ask(carpdev(), BOTH)
            assert _answers(probe, 1) == [(BOTH[0], VIRTUAL_MAC)]

    def test_nobody_answers_for_what_nobody_has(self, lab: Lab) -> None:
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            probe.ask(carpdev(), BOTH)
            assert _answers(probe) == []

    def test_it_hears_only_what_it_asked_for_and_nothing_after_a_stop(self, lab: Lab) -> None:
        frames = [
            _reply(lab["second"].mac, MAC, VIP),
            _reply(lab["second"].mac, MAC, "10.13.37.99"),
            _advertisement(lab["second"].mac, VIP6),
            _advertisement(lab["second"].mac, "2001:db8::99"),
        ]
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            here = carpdev()
            with lab["second"].enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
                sending.bind(("eth0", 0))

                def say() -> None:
                    for frame in frames:
                        sending.send(frame)

                say()
                assert not select.select([probe], [], [], 0.1)[0]
                probe.ask(here, BOTH)
                say()
                assert set(_answers(probe, 2)) == {(one, lab["second"].mac) for one in BOTH}
                probe.stop()
                say()
                assert not select.select([probe], [], [], 0.1)[0]
                probe.ask(here, BOTH[:1])
                say()
                assert _answers(probe, 1) == [(BOTH[0], lab["second"].mac)]
                assert _answers(probe) == []

    def test_more_addresses_than_a_filter_holds(self, lab: Lab) -> None:
        lab["second"].run(f"ip addr add {VIP}/32 dev eth0", shell=True)
        many = [ip_address(f"10.13.38.{number}") for number in range(256)] + [BOTH[0]]
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            probe.ask(carpdev(), many)
            assert _answers(probe, 1) == [(BOTH[0], lab["second"].mac)]

    def test_a_program_that_gave_up_root_asks_on(self, lab: Lab) -> None:
        lab["second"].run(f"ip addr add {VIP}/32 dev eth0", shell=True)
        program = f"""
import os, select
from ipaddress import ip_address
from pycarp.linux.interfaces import read_interfaces
from pycarp.linux.arp_probe import ArpProbe
carpdev = next(one for one in read_interfaces() if one.name == "eth0")
with ArpProbe(carpdev.index) as probe:
    os.setuid(65534)
    for turn in range(2):
        probe.ask(carpdev, [ip_address("{VIP}")])
        assert select.select([probe], [], [], 5)[0]
        print(*(mac.hex(":") for _, mac in probe.read()))
        probe.stop()
"""
        said = lab["main"].run([sys.executable, "-c", program]).stdout
        assert said.split() == [lab["second"].mac.hex(":")] * 2

    def test_our_own_mac_is_no_conflict(self, lab: Lab) -> None:
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            probe.ask(carpdev(), BOTH)
            with lab["second"].enter(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
                sending.bind(("eth0", 0))
                sending.send(_reply(lab["main"].mac, lab["main"].mac, VIP))
                sending.send(_reply(lab["second"].mac, lab["main"].mac, VIP, says=lab["main"].mac))
            assert _answers(probe) == []

    def test_a_carpdev_that_goes_down_or_away(self, lab: Lab) -> None:
        with lab["main"].enter(), ArpProbe(carpdev().index) as probe:
            interface = carpdev()
            probe.ask(interface, BOTH)
            lab["main"].run(["ip", "link", "set", "eth0", "down"])
            probe.ask(interface, BOTH)
            assert probe.read() == []
            lab["main"].run(["ip", "link", "delete", "eth0"])
            probe.ask(interface, BOTH)
            assert probe.read() == []
            probe.stop()
            with pytest.raises(OSError):
                probe.ask(interface, BOTH)


def _reply(source: bytes, to: bytes, address: str, says: bytes | None = None) -> bytes:
    header = bytes.fromhex("0001080006040002")
    body = (says or source) + IPv4Address(address).packed + to + bytes((10, 13, 37, 1))
    return to + source + b"\x08\x06" + header + body


def _advertisement(source: bytes, address: str, option: bool = True) -> bytes:
    """Nobody here looks at its checksum."""
    packed = IPv6Address(address).packed
    icmp = bytes.fromhex("8800000060000000") + packed + (b"\x02\x01" + source if option else b"")
    ip = bytes.fromhex("60000000") + len(icmp).to_bytes(2, "big") + bytes((58, 255)) + packed + packed
    return MAC + source + b"\x86\xdd" + ip + icmp


def _interface(*addresses: str) -> Interface:
    return Interface(2, "eth0", MAC, addresses=tuple(InterfaceAddress(ip_interface(one)) for one in addresses))


def test_a_question_in_ipv4() -> None:
    frame = question(_interface("192.0.2.1/24", "10.13.37.1/24"), ip_address(VIP))
    assert frame.hex(" ", 6).startswith("ffffffffffff 020000000001")
    assert frame[12:22] == bytes.fromhex("08060001080006040001")
    assert frame[22:] == MAC + bytes((10, 13, 37, 1)) + bytes(6) + bytes((10, 13, 37, 42))
    assert question(_interface("192.0.2.1/24"), ip_address(VIP))[28:32] == bytes((192, 0, 2, 1))
    assert question(_interface(), ip_address(VIP))[28:32] == bytes(4)


def test_a_floating_address_asks_nothing() -> None:
    """On the carpdev itself it may stand beside the host's own."""
    other = ip_address("10.13.37.43")
    frame = question(_interface("10.13.37.43/32", "10.13.37.1/24"), ip_address(VIP), [other])
    assert frame[28:32] == bytes((10, 13, 37, 1))
    assert question(_interface("10.13.37.43/32"), ip_address(VIP), [other])[28:32] == bytes(4)


@pytest.mark.parametrize(
    ("addresses", "source"), [(("2001:db8::1/64", "fe80::1/64"), "fe80::1"), (("2001:db8::1/64",), "2001:db8::1")]
)
def test_a_question_in_ipv6(addresses: tuple[str, ...], source: str) -> None:
    scapy = pytest.importorskip("scapy.layers.inet6")
    ether = pytest.importorskip("scapy.layers.l2").Ether
    raw = question(_interface(*addresses), ip_address(VIP6))
    frame = ether(raw)
    assert (frame.dst, frame.src) == ("33:33:ff:00:00:42", MAC.hex(":"))
    ip = frame[scapy.IPv6]
    assert (ip.src, ip.dst, ip.hlim) == (source, "ff02::1:ff00:42", 255)
    assert frame[scapy.ICMPv6ND_NS].tgt == VIP6
    assert frame[scapy.ICMPv6NDOptSrcLLAddr].lladdr == MAC.hex(":")
    del ip[scapy.ICMPv6ND_NS].cksum
    assert bytes(frame) == raw


def test_a_question_of_a_host_without_ipv6() -> None:
    frame = question(_interface(), ip_address(VIP6))
    assert frame[22:38] == bytes(16)
    assert len(frame) == 78  # no option: RFC 4861 forbids it here


def test_answers() -> None:
    assert answer(_reply(MAC, MAC, VIP)) == (BOTH[0], MAC)
    assert answer(_advertisement(MAC, VIP6)) == (BOTH[1], MAC)
    assert answer(_advertisement(VIRTUAL_MAC, VIP6, option=False)) == (BOTH[1], VIRTUAL_MAC)


def test_frames_that_are_no_answers() -> None:
    good = [_reply(MAC, MAC, VIP), _advertisement(MAC, VIP6, option=False)]
    for frame in good:
        for length in range(len(frame)):
            assert answer(frame[:length]) is None
    assert answer(good[0][:21] + b"\1" + good[0][22:]) is None
    assert answer(good[1][:21] + b"\x40" + good[1][22:]) is None
    assert answer(question(_interface(), BOTH[0])) is None
    assert answer(question(_interface(), BOTH[1])) is None
