"""The virtual host's place on the machine, each claim about who answers and who is silent seen from the switch."""

from __future__ import annotations

import random
import socket
import struct
import time
from ipaddress import ip_interface

import pytest
from support.linux import (
    VHID,
    VIP,
    VIP6,
    VIRTUAL_MAC,
    arp_answers,
    carpdev,
    floating,
    from_host,
    needs_namespaces,
    order,
    set_up,
)

from pycarp.errors import InterfaceError
from pycarp.lab import links
from pycarp.lab.namespaces import Host, Lab, Namespace
from pycarp.linux import device as device_module
from pycarp.linux import messages, sysctl
from pycarp.linux.device import Device
from pycarp.linux.fib import Snapshot
from pycarp.linux.interfaces import Interface, Mark, read_interfaces
from pycarp.linux.lock import VirtualHostLock
from pycarp.linux.routes import EARLY, TABLES, tables_of

pytestmark = needs_namespaces()


def _state(host: Host) -> str:
    """Everything of a host that a virtual host may touch."""
    return str(
        host.run(
            "ip -br link; ip -br addr; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all;"
            "ip link show eth0; sysctl net.ipv4.conf.eth0",
            shell=True,
        ).stdout
    )


def _given(interface: Interface) -> tuple[int, int]:
    """What a carpdev is given, where an administrator has set nothing."""
    return interface.ipv4["arp_filter"], interface.ipv4["arp_announce"]


def _fine(outcome: list[OSError | None]) -> bool:
    return all(
        error is None or error.errno in device_module.GONE or isinstance(error, FileExistsError) for error in outcome
    )


def _neighbour(client: Host, address: str) -> str:
    """Ask anew and tell the MAC that the client then believes in."""
    client.run(["ip", "neigh", "flush", "dev", "eth0"])
    client.run(["ping", "-c1", "-W1", address])
    return str(client.run(["ip", "neigh", "show", address]).stdout)


def test_a_backup_neither_answers_nor_sends() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        with lab.record() as capture:
            device = set_up(main, floating())
            with client.ping(VIP) as ipv4, client.ping(VIP6) as ipv6:
                time.sleep(0.3)
            assert ipv4.received == ipv6.received == 0
        assert not [frame for frame in capture.frames if frame.source == VIRTUAL_MAC]
        assert not arp_answers(capture.frames, VIP)
        with main.enter():
            assert not any(one.ours for interface in read_interfaces() for one in interface.addresses)
            device.teardown()


def test_a_master_answers_from_the_virtual_mac_alone() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        device = set_up(main, floating())
        assert _fine(order(main, device.take))
        with lab.record() as capture:
            assert VIRTUAL_MAC.hex(":") in _neighbour(client, VIP)
            assert VIRTUAL_MAC.hex(":") in _neighbour(client, VIP6)
            assert main.mac.hex(":") in _neighbour(client, main.address)
            assert main.mac.hex(":") in _neighbour(client, main.address6)
            # The other way: the host asks for the client, from each of its addresses.
            for address in (VIP, main.address):
                main.run(["ip", "neigh", "flush", "all"])
                main.run(["ping", "-c1", "-W1", "-I", address, client.address])
        assert set(arp_answers(capture.frames, VIP)) == {("main", VIRTUAL_MAC)}
        assert set(arp_answers(capture.frames, main.address)) == {("main", main.mac)}
        vip = socket.inet_aton(VIP)
        mixed = [one for one in from_host(capture.frames, main, main.mac) if one.data[26:30] == vip]
        asked_for = [
            one
            for one in from_host(capture.frames, main, main.mac)
            if one.ethertype == 0x0806 and one.data[28:32] == vip
        ]
        assert not mixed and not asked_for
        with main.enter():
            device.teardown()


def test_after_a_drop_nothing_comes_from_the_virtual_mac() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        device = set_up(main, floating())
        with lab.record() as capture, client.ping(VIP, 0.002) as ipv4, client.ping(VIP6, 0.002) as ipv6:
            for _turn in range(3):
                assert _fine(order(main, device.take))
                # The routes of the table vanish with the addresses: they must come back each time.
                assert ipv4.wait(10) and ipv6.wait(10)
                ordered = time.time_ns()
                assert _fine(order(main, device.drop))
                dropped = time.time_ns()
                time.sleep(0.2)
                late = [one for one in from_host(capture.frames, main, VIRTUAL_MAC) if one.at_ns > ordered]
                assert not [one for one in late if one.at_ns > dropped]
                # Nor does the leave-taking itself say anything but last answers: no multicast reports.
                assert not [one for one in late if one.destination[0] & 1]
                with main.enter():
                    carp = carpdev("carp0")
                assert not carp.up and not carp.addresses
        with main.enter():
            device.teardown()


def test_a_client_beyond_the_gateway_is_answered_through_it() -> None:
    with Lab(hosts=("main", "client", "gateway")) as lab, Namespace() as outside:
        main, gateway = lab["main"], lab["gateway"]
        gateway.run("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", shell=True)
        with gateway.enter():
            gateway.request(links.add_veth("out", b"\2\0\0\0\2\1", "eth0", b"\2\0\0\0\2\2", outside.fd))
        gateway.run(
            "ip addr add 192.0.2.1/24 dev out; ip -6 addr add 2001:db8:2::1/64 dev out nodad; ip link set out up",
            shell=True,
        )
        outside.run(
            "ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add 2001:db8:2::2/64 dev eth0 nodad; ip link set eth0 up;"
            "ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:2::1",
            shell=True,
        )
        main.run(
            f"ip route add default via {gateway.address}; ip -6 route add default via {gateway.address6}", shell=True
        )
        main.run("ip -6 route add 2001:db8:3::/64 via fe80::ff:fe00:d dev eth0", shell=True)
        device = set_up(main, floating())
        assert _fine(order(main, device.take))
        with lab.record() as capture:
            for address in (VIP, VIP6):
                outside.run(["ping", "-c2", "-W2", address])
        echoes = [one for one in from_host(capture.frames, main, VIRTUAL_MAC) if one.destination == gateway.mac]
        assert len([one for one in echoes if one.ethertype in (0x0800, 0x86DD)]) >= 4
        assert not [
            one for one in from_host(capture.frames, main, main.mac) if one.data[26:30] == socket.inet_aton(VIP)
        ]
        # Of many routes those by gateways follow the take: until then they are the host's own, by its own MAC.
        many = "".join(f"route add 11.0.{one}.0/24 via {gateway.address}\n" for one in range(EARLY))
        main.run(["ip", "-batch", "-"], input=many)
        with main.enter():
            device.refresh(carpdev())
        order(main, device.drop)
        order(main, device.take)
        with lab.record() as capture:
            for address in (VIP, VIP6):
                outside.run(["ping", "-c3", "-i0.2", "-W2", address])
        assert not [one for one in from_host(capture.frames, main, VIRTUAL_MAC) if one.destination == gateway.mac]
        order(main, device.late)
        with lab.record() as capture:
            outside.run(["ping", "-c3", "-i0.2", "-W2", VIP])
        assert [one for one in from_host(capture.frames, main, VIRTUAL_MAC) if one.destination == gateway.mac]
        main.run(["ip", "-batch", "-"], input=many.replace("add", "del"))
        # A gateway that comes later is used from the next refresh and take on.
        main.run("ip route del default; ip -6 route del default", shell=True)
        with main.enter():
            device.refresh(carpdev())
        order(main, device.drop)
        order(main, device.take)
        table = main.run(
            f"ip route show table {device.tables}; ip -6 route show table {device.tables}", shell=True
        ).stdout
        assert "default" not in table and "2001:db8:3::/64 via fe80::ff:fe00:d dev carp0" in table
        with main.enter():
            device.teardown()


def test_rp_filter_does_not_hurt() -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run("sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1", shell=True)
        device = set_up(main, floating())
        order(main, device.take)
        with lab["client"].ping(VIP) as pinger:
            assert pinger.wait(3)
        with main.enter():
            device.teardown()


def test_teardown_leaves_the_host_as_it_was_and_may_be_repeated() -> None:
    with Lab() as lab:
        main = lab["main"]
        before = _state(main)
        device = set_up(main, floating())
        order(main, device.take)
        assert _state(main) != before
        with main.enter():
            device.teardown()
            device.teardown()
        assert _state(main) == before
        with main.enter():
            device.setup()
            device.teardown()
        assert _state(main) == before


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_the_batches_of_the_end_do_what_teardown_does(mac: str) -> None:
    with Lab() as lab:
        main = lab["main"]
        before = _state(main)
        device = set_up(main, floating(mac=mac))
        assert device.remove and (device.restore == b"") == (mac == "interface")
        order(main, device.take)
        with main.enter():
            # What is removed follows the addresses.
            former, device = device, device.changed_to(floating(f"{VIP}/24", "10.13.37.50/24", mac=mac))
        order(main, former.parting([ip_interface(VIP6)]))
        order(main, device.take)
        for batch in (device.drop, device.remove, device.restore):
            assert _fine(order(main, batch))
        assert _state(main) == before
        for batch in (device.drop, device.remove, device.restore):
            assert _fine(order(main, batch))
        with main.enter():
            device.teardown()
        assert device.remove == device.restore == b""
        assert _state(main) == before


@pytest.mark.parametrize("gone", ["ip link del carp0", "ip link del eth0", "ip rule flush; ip link del carp0"])
def test_teardown_tolerates_what_is_gone(gone: str) -> None:
    with Lab() as lab:
        device = set_up(lab["main"], floating())
        order(lab["main"], device.take)
        lab["main"].run(gone, shell=True)
        with lab["main"].enter():
            device.teardown()
        assert "proto 112" not in lab["main"].run("ip rule; ip -6 rule", shell=True).stdout


def test_the_settings_of_the_carpdev_come_back_with_the_last_virtual_host() -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run("sysctl -w net.ipv4.conf.eth0.arp_announce=1", shell=True)
        before = _state(main)
        with main.enter():
            eth0 = carpdev()
            others = floating("10.13.37.43/24", name="carp1").replace(vhid=7)
            with VirtualHostLock("carp1", eth0, 7):
                first, second = Device(floating(), eth0), Device(others, eth0)
                with VirtualHostLock("carp0", eth0, VHID):
                    first.setup()
                    # Whoever comes second sees the carpdev as the first changed it, yet remembers what was before.
                    second.setup()
                    assert _given(carpdev()) == (1, 2)
                    first.teardown()
                assert _given(carpdev()) == (1, 2)
                second.teardown()
        assert _state(main) == before


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_a_start_after_a_crash_removes_what_the_former_run_left_and_only_that(mac: str) -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run(
            "ip rule add from 10.13.37.200 lookup 99 priority 98; ip link add mine link eth0 type macvlan;"
            "ip link add inner type veth peer name guest; ip addr add 172.17.0.1/16 dev inner; ip link set inner up;"
            "ip link set guest up; ip route add default via 10.13.37.12; ip -6 route add default via 2001:db8::c",
            shell=True,
        )
        before = _state(main)
        crashed = set_up(main, floating(mac=mac))
        if mac == "virtual":
            # Somebody takes the device away after a crash: what does not go by it stays.
            main.run(["ip", "link", "del", "carp0"])
            assert f"throw 172.17.0.0/16 table {crashed.tables} proto 112" in _state(main)
        other = set_up(main, floating("10.13.37.43/24", name="carp9", mac=mac).replace(vhid=9))
        for one in (crashed, other):
            order(main, one.take)
        # Another configuration now: neither of the two has a counterpart with its name and address.
        device = set_up(main, floating("10.13.37.44/24", name="carp5", mac=mac))
        text = _state(main)
        assert "carp0" not in text and "carp9" not in text and VIP not in text and "10.13.37.43" not in text
        with main.enter():
            device.teardown()
        assert _state(main) == before


@pytest.mark.parametrize("mac", ["virtual", "interface"])
def test_a_start_after_a_crash_has_its_rules_from_the_first_moment(mac: str) -> None:
    """What is removed are the former run's, which are the same; the survey would blame another program."""
    rules = "ip rule; ip -6 rule; ip route show table all proto 112; ip -6 route show table all proto 112"
    with Lab() as lab:
        main = lab["main"]
        order(main, set_up(main, floating(mac=mac)).take)
        device = set_up(main, floating(mac=mac))
        after_the_crash = main.run(rules, shell=True).stdout
        with main.enter():
            device.teardown()
        device = set_up(main, floating(mac=mac))
        assert main.run(rules, shell=True).stdout == after_the_crash
        with main.enter():
            device.teardown()


def test_a_living_virtual_host_is_left_alone() -> None:
    with Lab() as lab:
        main = lab["main"]
        with main.enter(), VirtualHostLock("carp0", carpdev(), 7):
            living = Device(floating().replace(vhid=7), carpdev(), gated=False)
            living.setup()
            order(main, living.take)
            with pytest.raises(InterfaceError, match="already, and it is that of vhid 7 on eth0"):
                Device(floating("10.13.37.43/24"), carpdev()).setup()
            with pytest.raises(InterfaceError, match=f"{VIP} is already on carp0, vhid 7"):
                Device(floating(name="carp1"), carpdev()).setup()
            neighbour = Device(floating("10.13.37.43/24", name="carp1"), carpdev())
            neighbour.setup()
            neighbour.teardown()
            with lab["client"].ping(VIP) as pinger:
                assert pinger.wait()
            living.teardown()


def test_a_foreign_interface_of_the_name_is_refused_and_untouched() -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run(["ip", "link", "add", "carp0", "type", "bridge"])
        before = _state(main)
        with pytest.raises(InterfaceError, match="carp0 already, and it is not ours"):
            set_up(main, floating())
        assert _state(main) == before


def test_a_port_of_a_bridge_cannot_be_a_carpdev() -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run("ip link add br0 type bridge; ip link set eth0 master br0", shell=True)
        before = _state(main)
        with pytest.raises(InterfaceError, match="a port of a bridge"):
            set_up(main, floating())
        assert _state(main) == before


def test_a_vanished_carpdev_is_an_interface_error() -> None:
    with Lab() as lab, lab["main"].enter():
        ghost = carpdev().replace(index=4711, name="eth7")
        with pytest.raises(InterfaceError, match="eth7 has gone"):
            Device(floating(), ghost).setup()


def test_a_setup_that_fails_half_way_takes_back_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    with Lab() as lab:
        before = _state(lab["main"])
        with monkeypatch.context() as patch:
            patch.setattr(messages, "delete_address", broken)
            with pytest.raises(OSError, match="Input/output"):
                set_up(lab["main"], floating())
        assert _state(lab["main"]) == before


def test_a_read_only_proc_does_not_make_the_device_talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: what is set through netlink must do."""
    monkeypatch.setattr(sysctl, "try_write", lambda *_arguments: False)
    with Lab() as lab:
        main = lab["main"]
        device = set_up(main, floating(f"{VIP}/24"))
        with lab.record() as capture:
            for _turn in range(2):
                order(main, device.take)
                assert VIRTUAL_MAC.hex(":") in _neighbour(lab["client"], VIP)
                order(main, device.drop)
                time.sleep(0.1)
        spoken = {frame.ethertype for frame in from_host(capture.frames, main, VIRTUAL_MAC)}
        assert spoken == {0x0806, 0x0800}
        with main.enter():
            device.teardown()


def test_the_alias_says_whose_the_device_is() -> None:
    with Lab() as lab:
        device = set_up(lab["main"], floating())
        with lab["main"].enter():
            carp = carpdev("carp0")
            assert carp.mark == Mark(VHID, "eth0", carpdev().index, {"arp_announce": 0, "arp_filter": 0}) and carp.ours
            assert carp.mac == device.mac == VIRTUAL_MAC and not carp.up
            shown = lab["main"].run(["ip", "-d", "link", "show", "carp0"]).stdout
            # Of 1,000, the kernel's own length, a storm of ARP requests at 250 macvlans lost a third.
            assert "macvlan mode bridge bcqueuelen 10000" in shown
            assert Mark.parse(str(carp.mark)) == carp.mark
            assert Mark.parse("uplink to rack 7") is None
            device.teardown()


def test_the_interfaces_own_mac() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        before = _state(main)
        device = set_up(main, floating(mac="interface"))
        # Until it is MASTER nothing is sent from the IPv6 address.
        backup = _state(main)
        assert [one for one in backup.splitlines() if one not in before.splitlines()] == [
            f"32764:\tfrom {VIP6} iif lo lookup {device.tables} unreachable proto 112"
        ]
        assert device.name == "eth0"
        order(main, device.take)
        with main.enter():
            ours = [one for one in carpdev().addresses if one.ours]
        assert sorted(str(one.interface) for one in ours) == [f"{VIP}/32", f"{VIP6}/128"]
        with lab.record() as capture:
            assert main.mac.hex(":") in _neighbour(client, VIP)
            assert main.mac.hex(":") in _neighbour(client, VIP6)
            # The host's own connections keep the host's own addresses.
            for address, own in ((client.address, main.address), (client.address6, main.address6)):
                route = main.run(["ip", "route", "get", address]).stdout
                assert f"src {own}" in route
        assert not [one for one in capture.frames if one.source == VIRTUAL_MAC]
        order(main, device.drop)
        assert _state(main) == backup
        order(main, device.take)
        with main.enter():
            device.teardown()
        assert _state(main) == before


def test_other_addresses_without_a_gap_for_those_that_stay() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        before = _state(main)
        device = set_up(main, floating(f"{VIP}/24", "10.13.37.50/24"))
        order(main, device.take)
        with client.ping(VIP, 0.005) as stays, client.ping("10.13.37.50") as goes, client.ping(VIP6) as comes:
            assert stays.wait() and goes.wait()
            with main.enter():
                former, device = device, device.changed_to(floating(f"{VIP}/24", f"{VIP6}/64"))
                device.admit(former.host)
            order(main, former.parting([ip_interface("10.13.37.50/24")]))
            assert _fine(order(main, device.take))
            assert comes.wait(3)
            gone = goes.received
            assert stays.wait(10) and goes.received <= gone + 1
        assert stays.received >= stays.sent - 1
        with main.enter():
            device.teardown()
        assert _state(main) == before


def test_an_address_on_loan_is_renewed_without_losing_a_ping() -> None:
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        device = set_up(main, floating())

        # What the guardian does with a lease: IFA_CACHEINFO says for ever, and then two seconds. IPv6 is deprecated.
        def lent(requests: bytes) -> bytes:
            for_ever, lent6 = b"\xff" * 4, struct.pack("=II", 0, 2)
            requests = requests.replace(b"\xff" * 8, struct.pack("=II", 2, 2))
            return requests.replace(bytes(4) + for_ever, lent6)

        order(main, lent(device.take))
        assert main.run(["ip", "addr", "show", "carp0"]).stdout.count("valid_lft 2sec") == 2
        with client.ping(VIP, 0.002) as ipv4, client.ping(VIP6, 0.002) as ipv6:
            for _turn in range(20):
                assert order(main, lent(device.renew)) == [None, None]
                time.sleep(0.01)
        assert ipv4.received >= ipv4.sent - 1 and ipv6.received >= ipv6.sent - 1
        with main.enter():
            device.teardown()


def test_a_rule_that_somebody_swept_away_is_back_with_the_next_take() -> None:
    with Lab() as lab:
        main = lab["main"]
        device = set_up(main, floating())
        rules = _state(main)
        main.run(f"ip rule del from {VIP}; ip -6 rule del from {VIP6}", shell=True)
        assert _state(main) != rules
        order(main, device.take)
        order(main, device.drop)
        assert _state(main) == rules
        with main.enter():
            device.teardown()


def test_a_rivals_frames_are_heard_while_master() -> None:
    """A macvlan in private mode would hide from us every frame that bears the virtual MAC as source."""
    from pycarp.linux.sockets import receive_socket, send_socket

    with Lab() as lab:
        main, second = lab["main"], lab["second"]
        device = set_up(main, floating())
        order(main, device.take)
        frame = _advert()
        with main.enter(), receive_socket(carpdev().index) as hearing:
            hearing.setblocking(True)
            hearing.settimeout(2)
            with second.enter(), send_socket(carpdev().index) as sending:
                sending.send(frame)
            assert hearing.recv(2048)[: len(frame)] == frame
        with main.enter():
            device.teardown()


def _advert() -> bytes:
    """Enough of one for the kernel: from the virtual MAC, protocol 112."""
    header = bytes.fromhex("4510003800000000ff70") + bytes(2) + socket.inet_aton("10.13.37.12") + bytes((224, 0, 0, 18))
    return bytes.fromhex("01005e000012") + VIRTUAL_MAC + b"\x08\x00" + header + bytes(36)


def test_the_service_answers_after_a_takeover_and_keeps_its_source() -> None:
    """A wildcard UDP service answers from the floating address, through the virtual MAC."""
    with Lab() as lab:
        main, client = lab["main"], lab["client"]
        device = set_up(main, floating())
        with main.enter():
            service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            service.bind(("0.0.0.0", 5353))
        with client.enter():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with service, asking:
            service.settimeout(2)
            asking.settimeout(2)
            asking.connect((VIP, 5353))
            order(main, device.take)
            asking.send(b"who")
            question, source = service.recvfrom(64)
            # Bound to the wildcard, the answer's source is chosen by the kernel: a service must say which one it means.
            with main.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
                answering.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                service.close()
                answering.bind((VIP, 5353))
                answering.sendto(question + b"!", source)
            assert asking.recv(64) == b"who!"
        with main.enter():
            device.teardown()


def test_settings_survive_a_crash_of_the_only_virtual_host() -> None:
    with Lab() as lab:
        main = lab["main"]
        before = _state(main)
        set_up(main, floating())  # and no teardown: it crashed
        device = set_up(main, floating(name="carp7"))
        with main.enter():
            assert _given(carpdev()) == (1, 2)
            device.teardown()
        assert _state(main) == before


def test_no_route_of_the_table_is_left_when_the_carpdev_has_no_address() -> None:
    with Lab() as lab:
        main = lab["main"]
        main.run(["ip", "addr", "flush", "dev", "eth0"])
        device = set_up(main, floating(f"{VIP}/24", carpdev="eth0"))
        order(main, device.take)
        with lab["client"].ping(VIP) as pinger:
            assert pinger.wait(3)
        with main.enter():
            device.teardown()
        assert "proto 112" not in main.run("ip rule; ip route show table all", shell=True).stdout


def test_two_virtual_hosts_on_one_carpdev_have_tables_of_their_own() -> None:
    with Lab() as lab, lab["main"].enter():
        one, other = Device(floating(), carpdev()), Device(floating().replace(vhid=7), carpdev())
        assert one.tables != other.tables
        assert Device(floating(), carpdev().replace(index=9)).tables not in (one.tables, other.tables)


def test_two_virtual_hosts_whose_tables_would_be_the_same() -> None:
    # Indexes above 32767 share numbers, evenly spread: see `tables_of`.
    numbers, seen = random.Random(1), dict[int, int]()
    while True:
        index = numbers.randrange(1 << 15, 1 << 31)
        first, second = (seen.setdefault(tables_of(index, VHID), index), VHID), (index, VHID)
        if first != second:
            break
    with Lab() as lab:
        main = lab["main"]
        for name, (index, _vhid) in (("lan1", first), ("lan2", second)):
            main.run(f"ip link add {name} index {index} type veth peer name {name}p; ip link set {name} up", shell=True)
        with main.enter(), VirtualHostLock("carp0", carpdev("lan1"), first[1]):
            running = Device(floating("10.9.0.1/24").replace(vhid=first[1]), carpdev("lan1"), gated=False)
            running.setup()
            other = Device(floating("10.8.0.1/24", name="carp1").replace(vhid=second[1]), carpdev("lan2"), gated=False)
            with pytest.raises(InterfaceError, match=f"carp1 .* vhid {first[1]} on interface {first[0]} has"):
                other.setup()
            assert "carp1" not in _state(main) and "from 10.9.0.1" in _state(main)
            running.teardown()


def test_a_host_with_more_tables_than_a_virtual_host_follows() -> None:
    with Lab() as lab:
        main = lab["main"]
        count = TABLES // 2 + 1
        main.run(["ip", "-batch", "-"], input="".join(_lookup(one) for one in range(count)))
        device = set_up(main, floating(f"{VIP}/24"))
        # The rules that the kernel asks last, here the main table's, have to do without.
        assert device.ways.left_out == {200 + TABLES // 2, 254} and len(device.ways.tables) == TABLES // 2
        # Tables that nobody looks up any longer make room.
        main.run(["ip", "-batch", "-"], input="".join(f"rule del priority {100 + one}\n" for one in range(2)))
        with main.enter():
            assert device.follow(Snapshot()) and device.ways.left_out == set()
            assert len(device.ways.tables) == TABLES // 2
            device.teardown()


def _lookup(number: int) -> str:
    table = 200 + number
    return f"rule add priority {100 + number} lookup {table}\nroute add 11.0.{number}.0/24 dev eth0 table {table}\n"
