"""Traps of Linux, each with the test that pycarp avoids it."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lan import VIP, VIP6, Lan, held, interface, stays, wait_until
from support.wire import PASSPHRASE, Frame

from pycarp import Reason, State, events
from pycarp.lab.namespaces import Frame as Recorded

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
VIRTUAL_MAC = bytes.fromhex("00005e000165")
BOTH = (f"{VIP}/24", f"{VIP6}/64")
MLD_AND_DISCOVERY = {131, 132, 133, 143}


def sent_by(net: Lan, name: str, source: bytes = VIRTUAL_MAC) -> list[Recorded]:
    return [one for one in list(net.capture.frames) if one.port == name and not one.outgoing and one.source == source]


def icmpv6_types(frames: list[Recorded]) -> set[int]:
    types = set()
    for frame in frames:
        if frame.ethertype == 0x86DD:
            header, payload = frame.data[20], frame.data[54:]
            if header == 0:  # hop-by-hop options: MLD has its router alert there
                header, payload = payload[0], payload[8 * (payload[1] + 1) :]
            if header == 58:
                types.add(payload[0])
    return types


def test_a_masters_own_macvlan_hides_no_rival(net: Lan, with_impl: str) -> None:
    # Fault: A rival sends from the virtual MAC, which a macvlan in private mode would hide.
    # Expected: The macvlan is in bridge mode; the MASTER hears the rival and yields.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    shown = net["main"].run(["ip", "-d", "link", "show", "carp101"]).stdout
    assert "macvlan mode bridge" in shown
    net.forget()
    net.inject("client", bytes(Frame(advbase=0, advskew=1, source=net["client"].address, source_mac=VIRTUAL_MAC)))
    change = main.wait(events.StateChanged, after=BACKUP)
    assert (change.reason, change.peer) == (Reason.BETTER, net["client"].address)


@pytest.mark.parametrize("addresses", [(f"{VIP}/24",), BOTH], ids=["ipv4", "both"])
def test_the_macvlan_says_nothing_of_its_own(net: Lan, addresses: tuple[str, ...]) -> None:
    # Fault: A macvlan that is up without addresses sends MLD, DAD and router solicitations.
    # Expected: It is down unless MASTER, and nothing but the MASTER's own reports leaves with the virtual MAC.
    main = net.start("main", advskew=10, addresses=addresses)
    second = net.start("second", advskew=25, addresses=addresses)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    for name, up in (("main", True), ("second", False)):
        device = interface(net[name], "carp101")
        assert device is not None and device.up is up
        assert "addrgenmode none" in net[name].run(["ip", "-d", "link", "show", "carp101"]).stdout
    main.stop()
    second.become(MASTER)
    second.engine.force(101, BACKUP)
    second.become(MASTER)
    for name in ("main", "second"):
        types = icmpv6_types(sent_by(net, name))
        # A report that the address's group is joined is a MASTER's right; what tells of leaving is not there at all.
        assert types <= {136, 135, 143} if VIP6 in str(addresses) else types == set()
        assert not types & {131, 132, 133}
        assert not any(_leaves(frame) for frame in sent_by(net, name))
        assert not any(frame.data[22:38] == bytes(16) and 135 in icmpv6_types([frame]) for frame in sent_by(net, name))


def _leaves(frame: Recorded) -> bool:
    """A multicast listener report of version 2 with a record "changed to including nobody", or one of IGMPv3."""
    if frame.ethertype == 0x86DD and frame.data[20] == 0:
        report = frame.data[62:]
        return report[0] == 143 and report[8] in (3, 6)
    if frame.ethertype == 0x0800 and frame.data[23] == 2:
        report = frame.data[14 + (frame.data[14] & 15) * 4 :]
        return report[0] == 0x22 and report[8] in (3, 6)
    return False


def test_the_parent_neither_answers_nor_asks_for_the_address(net: Lan) -> None:
    # Fault: A client asks for the address; the MASTER sends from it.
    # Expected: ARP replies and requests for it carry the virtual MAC, those of the host its own.
    net.probe(macs=(net["main"].mac,))
    main = net.start("main")
    main.become(MASTER)
    asking = net.capture.wait(lambda one: one.source == VIRTUAL_MAC and one.ethertype == 0x0806)
    assert asking is not None
    with net["main"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((VIP, 0))
        for number in range(60, 64):  # nobody is there: each must be asked for
            sender.sendto(b"hello", (f"10.13.37.{number}", 9))
        wait_until(lambda: len(_requests(net, "main", "10.13.37.6")) >= 4)
    assert {one.source for one in _requests(net, "main", "10.13.37.6")} == {VIRTUAL_MAC}
    # The host's own questions are its own.
    with net["main"].enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("10.13.37.70", 9))
        wait_until(lambda: bool(_requests(net, "main", "10.13.37.70")))
    assert {(one.source, one.data[28:32]) for one in _requests(net, "main", "10.13.37.70")} == {
        (net["main"].mac, socket.inet_aton(net["main"].address))
    }


def _requests(net: Lan, name: str, prefix: str) -> list[Recorded]:
    return [
        one
        for one in list(net.capture.frames)
        if one.port == name
        and not one.outgoing
        and one.ethertype == 0x0806
        and one.data[20:22] == b"\0\1"
        and socket.inet_ntoa(one.data[38:42]).startswith(prefix)
    ]


def test_the_carpdevs_settings_come_back(net: Lan) -> None:
    # Fault: The carpdev has unusual ARP settings before two virtual hosts use it.
    # Expected: They come back with the end of the last virtual host, and not before.
    for setting, value in (("arp_announce", 1), ("arp_ignore", 2)):
        net["main"].run(["sysctl", "-qw", f"net.ipv4.conf.eth0.{setting}={value}"])
    one = net.start("main", vhid=1, addresses=["10.13.37.51/24"])
    two = net.start("main", vhid=2, addresses=["10.13.37.52/24"])
    assert _settings(net) == (2, 2)
    one.stop()
    assert _settings(net) == (2, 2)
    two.stop()
    assert _settings(net) == (1, 2)


def _settings(net: Lan) -> tuple[int, int]:
    found = interface(net["main"], "eth0")
    assert found is not None
    return found.ipv4["arp_announce"], found.ipv4["arp_ignore"]


def test_a_tagged_advert_is_not_ours(net: Lan, with_impl: str) -> None:
    # Fault: Better adverts with a VLAN tag, which the kernel takes out of the frame.
    # Expected: They are not counted and not obeyed; the same advert untagged is.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    before = main.heard()
    better = bytes(Frame(advbase=0, advskew=1, source=net["client"].address))
    for tag in (b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05"):
        net.inject("client", better[:12] + tag + better[12:])
    assert net.capture.wait(lambda one: one.port == "main" and one.outgoing and one.data[12:14] == b"\x88\xa8")
    stays(lambda: main.state() is MASTER, 0.15)
    assert main.heard() == before
    net.inject("client", better)
    main.become(BACKUP)


def test_with_the_interfaces_mac_the_host_keeps_its_own_address(net: Lan) -> None:
    # Fault: With `mac interface` an address of /24 would become primary, and take the host's own with it.
    # Expected: The addresses are /32 and /128; the host's own address stays, and stays the source of its connections.
    main = net.start("main", advskew=10, addresses=BOTH, mac="interface")
    own = {net["main"].address, net["main"].address6}
    main.become(MASTER)
    found = interface(net["main"], "eth0")
    assert found is not None
    assert {str(one.interface) for one in found.addresses if one.ours} == {f"{VIP}/32", f"{VIP6}/128"}
    assert interface(net["main"], "carp101") is None
    assert net.ping().wait(3) and net.ping(VIP6).wait(3)
    assert sent_by(net, "main", VIRTUAL_MAC) == []
    # The host's own connections go on from its own address.
    for version, target in (("-4", net["client"].address), ("-6", net["client"].address6)):
        chosen = net["main"].run(["ip", version, "route", "get", target]).stdout
        assert f"src {own.intersection(chosen.split()).pop()}" in chosen
    main.engine.force(101, BACKUP)
    wait_until(lambda: VIP not in held(net["main"]))
    assert own <= held(net["main"])
    main.become(MASTER)
    main.stop()
    assert own <= held(net["main"])


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_answers_leave_from_the_virtual_mac(net: Lan, rp_filter: int) -> None:
    # Fault: A client connects to the address, with each setting of rp_filter.
    # Expected: All answers leave from the virtual MAC, by the instance's own rule and table.
    for scope in ("all", "default", "eth0"):
        net["main"].run(["sysctl", "-qw", f"net.ipv4.conf.{scope}.rp_filter={rp_filter}"])
    main = net.start("main", addresses=BOTH)
    main.become(MASTER)
    with net["main"].enter():
        server = socket.create_server((VIP, 5300))
    with server:
        with net["client"].enter():
            client = socket.create_connection((VIP, 5300), timeout=3)
        with client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    pingers = [net.ping(VIP), net.ping(VIP6)]
    assert all(pinger.wait(3) for pinger in pingers)
    answers = [
        one
        for one in list(net.capture.frames)
        if one.port == "main"
        and not one.outgoing
        and (one.data[26:30] == socket.inet_aton(VIP) or one.data[22:38] == socket.inet_pton(socket.AF_INET6, VIP6))
    ]
    assert len(answers) > 5
    assert {one.source for one in answers} == {VIRTUAL_MAC}


def test_a_snooping_switch_forwards_to_members(make_lan: Callable[..., Lan]) -> None:
    # Fault: A switch with IGMP and MLD snooping.
    # Expected: Adverts of both families reach the backup, which has joined their groups.
    net = make_lan(snooping=True)
    main = net.start("main", advskew=10, addresses=BOTH)
    main.become(MASTER)
    second = net.start("second", advskew=25, addresses=BOTH)
    wait_until(lambda: second.stats()["ipackets6"] >= 3 and second.stats()["ipackets"] >= 3)
    assert second.state() is BACKUP


def test_the_carpdev_without_an_address(net: Lan) -> None:
    # Fault: The carpdev has no address of its own.
    # Expected: Adverts come from the virtual address, as NetBSD's do, and are understood.
    net["main"].run(["ip", "address", "flush", "dev", "eth0", "scope", "global"])
    main = net.start("main", advskew=10, carpdev="eth0")
    second = net.start("second", advskew=25)
    heard = second.wait(events.PeerHeard)
    assert heard.peer == VIP
    main.become(MASTER)
    assert net.ping().wait(3)
    assert second.state() is BACKUP


def test_tcpdump_understands_what_we_send(net: Lan) -> None:
    # Fault: None: tcpdump reads all adverts of a MASTER that starts and stops.
    # Expected: It finds every field right, a bow-out in each family and key form at the end, and no secret.
    main = net.start("main", advskew=10, addresses=BOTH)
    main.become(MASTER)
    wait_until(lambda: main.stats()["opackets"] >= 4 and main.stats()["opackets6"] >= 4)
    main.stop()
    record = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for one in net.capture.stop():
        if one.port == "main" and not one.outgoing:
            record += struct.pack("=IIII", one.at_ns // 10**9, one.at_ns // 1000 % 10**6, *[len(one.data)] * 2)
            record += one.data
    # Root's tcpdump becomes another user, which root of a user namespace may not: there it is nobody from the start.
    nobody = ["unshare", "--user"] if Path("/proc/self/setgroups").read_text().strip() == "deny" else []
    out = subprocess.run(
        [*nobody, "tcpdump", "-n", "-vv", "-T", "carp", "-r", "-", "proto", "112", "or", "ip6", "proto", "112"],
        input=record,
        capture_output=True,
        check=True,
    ).stdout.decode()
    shown = out.split("CARPv2-advertise 36: ")
    assert len(shown) > 8
    # The last ones, for each family and both forms of the key, say goodbye.
    assert all("vhid=101 advbase=0 advskew=10 authlen=7 counter=" in one for one in shown[1:-4])
    assert all("vhid=101 advbase=255 advskew=255 authlen=7 counter=" in one for one in shown[-4:])
    assert "bad" not in out
    assert PASSPHRASE not in out
