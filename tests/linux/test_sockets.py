"""What gets through the kernel's filter, and what does not."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from support.linux import carpdev, needs_namespaces

from pycarp.lab import links
from pycarp.lab.namespaces import Lab, Namespace
from pycarp.linux.sockets import FRAME_LIMIT, Sockets, join_groups, receive_socket, send_socket

pytestmark = needs_namespaces()

GROUP, GROUP6 = bytes.fromhex("01005e000012"), bytes.fromhex("333300000012")
VIRTUAL = bytes.fromhex("00005e000165")


def _ipv4(protocol: int = 112, destination: bytes = GROUP, ttl: int = 255) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 16, 56, 0, 0, ttl, protocol, 0, bytes((10, 13, 37, 12)), bytes((224, 0, 0, 18))
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return destination + VIRTUAL + b"\x08\x00" + head + bytes(36)


def _ipv6(next_header: int = 112) -> bytes:
    source, group = socket.inet_pton(socket.AF_INET6, "fe80::c"), socket.inet_pton(socket.AF_INET6, "ff02::12")
    return (
        GROUP6
        + VIRTUAL
        + b"\x86\xdd"
        + struct.pack("!IHBB", 0x60000000, 36, next_header, 255)
        + source
        + group
        + bytes(36)
    )


def _tag(frame: bytes, *tags: int) -> bytes:
    return frame[:12] + b"".join(struct.pack("!I", tag) for tag in tags or (0x81000005,)) + frame[12:]


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(from another host, what the host under test hears)."""
    with Lab() as lab:
        with lab["second"].enter():
            sending = send_socket(carpdev().index)
        with lab["main"].enter():
            hearing = receive_socket(carpdev().index)
        with sending, hearing:
            yield sending, hearing


def _heard(sending: socket.socket, hearing: socket.socket, frame: bytes) -> bool:
    """Whether a frame arrives; one that surely does follows, so that silence needs no waiting."""
    marker = _ipv4(ttl=77)
    sending.send(frame)
    sending.send(marker)
    heard = False
    while select.select([hearing], [], [], 2)[0]:
        data = hearing.recv(FRAME_LIMIT)
        if data[: len(marker)] == marker:
            return heard
        # The kernel takes the outer tag out of the bytes.
        outer = 4 * (frame[12:14] in (b"\x81\x00", b"\x88\xa8"))
        assert data[: len(frame) - outer] == frame[:12] + frame[12 + outer :]
        heard = True
    raise AssertionError("nothing arrives at all")


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(_ipv4(), True, id="IPv4"),
        pytest.param(_ipv6(), True, id="IPv6"),
        pytest.param(_ipv4(ttl=1), True, id="TTL is judged by us"),
        pytest.param(_ipv4(destination=b"\xff" * 6), True, id="broadcast"),
        pytest.param(_ipv4(destination=bytes((2, 0, 0, 0, 0, 11))), True, id="unicast to us"),
        pytest.param(_ipv4(protocol=17), False, id="UDP"),
        pytest.param(_ipv6(next_header=58), False, id="ICMPv6"),
        pytest.param(_tag(_ipv4()), False, id="IPv4 in a VLAN"),
        pytest.param(_tag(_ipv6()), False, id="IPv6 in a VLAN"),
        pytest.param(_tag(_ipv4(), 0x8100E000), True, id="IPv4 with a priority"),
        pytest.param(_tag(_ipv6(), 0x8100F000), True, id="IPv6 with a priority, drop eligible"),
        pytest.param(_tag(_ipv4(), 0x88A80000), True, id="802.1ad, VLAN id 0"),
        pytest.param(_tag(_ipv4(), 0x88A80005), False, id="802.1ad, VLAN 5"),
        pytest.param(_tag(_ipv4(), 0x81000000, 0x81000000), True, id="VLAN id 0 twice"),
        pytest.param(_tag(_ipv6(), 0x88A80000, 0x81002000, 0x81000000), True, id="VLAN id 0 three times"),
        pytest.param(_tag(_ipv4(), 0x81000000, 0x81000005), False, id="VLAN 5 with a priority"),
        pytest.param(_tag(_ipv4(), 0x81000005, 0x81000000), False, id="a priority in VLAN 5"),
        pytest.param(_tag(_ipv4(), 0x81000000, 0x81000000, 0x81000FFF), False, id="VLAN 4095, third"),
        pytest.param(_tag(_ipv4(protocol=17), 0x81000000), False, id="UDP with a priority"),
        pytest.param(GROUP + VIRTUAL + b"\x88\xb5" + bytes(9) + b"\x70" * 20, False, id="another ethertype"),
    ],
)
def test_only_adverts_of_this_lan_arrive(
    wire: tuple[socket.socket, socket.socket], frame: bytes, expected: bool
) -> None:
    assert _heard(*wire, frame) is expected


def test_what_this_host_sends_does_not_come_back() -> None:
    with Lab() as lab, lab["main"].enter():
        index = carpdev().index
        with receive_socket(index) as hearing, send_socket(index) as sending, send_socket(index) as other:
            with lab.record() as capture:
                sending.send(_ipv4())
                other.send(_ipv6())
                assert capture.wait(lambda frame: frame.data == _ipv6() and frame.outgoing) is not None
            assert not select.select([hearing, sending, other], [], [], 0)[0]
        assert sum(frame.data == _ipv4() and frame.port == "main" for frame in capture.frames) == 1


def test_big_frames_are_read_whole() -> None:
    with Namespace() as one, Namespace() as other:
        one.request(links.add_veth("eth0", b"\2\0\0\0\0\1", "eth0", b"\2\0\0\0\0\2", other.fd))
        for host in (one, other):
            host.run("ip link set eth0 mtu 65535 up; sysctl -w net.ipv6.conf.all.disable_ipv6=1", shell=True)
        frame = _ipv4() + bytes(65000)
        with one.enter():
            sending = send_socket(carpdev().index)
        with other.enter():
            hearing = receive_socket(carpdev().index)
        with sending, hearing:
            sending.send(frame)
            assert select.select([hearing], [], [], 2)[0]
            assert hearing.recv(FRAME_LIMIT) == frame


def test_the_memberships_last_as_long_as_their_sockets() -> None:
    with Lab() as lab, lab["main"].enter():
        index = carpdev().index
        groups = lambda: lab["main"].run(["ip", "maddr", "show", "dev", "eth0"]).stdout  # noqa: E731
        before = groups()
        assert "224.0.0.18" not in before and "ff02::12" not in before
        joined = join_groups(index, (4, 6))
        assert len(joined) == 2 and "224.0.0.18" in groups() and "ff02::12" in groups()
        for one in joined:
            one.close()
        assert groups() == before
        with receive_socket(index):
            # The card's own filter is opened by the packet socket too.
            assert "01:00:5e:00:00:12" in groups() and "33:33:00:00:00:12" in groups()


def test_a_family_that_the_interface_lacks_is_left_out() -> None:
    with Lab(subnet6=None) as lab, lab["main"].enter():
        joined = join_groups(carpdev().index, (4, 6))
        for one in joined:
            one.close()
        assert 1 <= len(joined) <= 2


def test_a_missing_interface_is_an_error_and_leaves_no_descriptor() -> None:
    with Lab() as lab, lab["main"].enter():
        for opening in (receive_socket, send_socket):
            with pytest.raises(OSError):
                opening(4711)
        assert join_groups(4711, (4, 6)) == []


def test_the_age_of_a_frame() -> None:
    """Of the one that was read last, however late that was."""
    with Lab() as lab, lab["main"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        lab["main"].run(["ip", "link", "set", "lo", "up"])
        opened.bind(("127.0.0.1", 0))
        both = Sockets(opened, opened)
        assert both.age() == 0
        opened.sendto(b"1", opened.getsockname())
        time.sleep(0.05)
        assert opened.recv(1) == b"1"
        assert 40_000_000 < both.age() < 1_000_000_000
